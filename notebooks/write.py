"""Writes both notebooks: `make docs`. The code is one, the words are in English and Turkish; a test compares them.

A cell is a pair of texts, or code. Outputs are never kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = {"cats_vs_dogs.ipynb": 0, "cats_vs_dogs.tr.ipynb": 1}

CELLS: list[tuple[str, str] | str] = [
    (
        """# Cats and dogs from scratch, honestly

The bootcamp's project, done with `pati`: photos, augmentation, a net trained from zero, its curves, confusion matrix
and
report, Grad-CAM, and a comparison with the bootcamp's own net. No pretrained weights. It runs from top to bottom on
Kaggle,
on Colab, and on your own machine; a GPU is used if there is one, and not needed.""",
        """# Sıfırdan kediler ve köpekler, dürüstçe

Bootcamp projesi, `pati` ile: fotoğraflar, veri artırma, sıfırdan eğitilen bir ağ, eğrileri, karışıklık matrisi ve
raporu,
Grad-CAM ve bootcamp'in kendi ağıyla karşılaştırma. Hazır ağırlık yok. Kaggle'da, Colab'da ve kendi bilgisayarınızda
baştan
sona çalışır; GPU varsa kullanılır, ama gerekmez.""",
    ),
    (
        """## pati itself

Already installed? Then this does nothing. Otherwise it installs a wheel of pati (`pip wheel --no-deps .` in its
checkout
makes one) that you have added to the Kaggle notebook as a data set, or uploaded to Colab.""",
        """## Önce pati

Kuruluysa bu hücre bir şey yapmaz. Değilse, Kaggle defterine veri kümesi olarak eklediğiniz ya da Colab'a
yüklediğiniz pati
wheel dosyasını kurar (kaynak klasöründe `pip wheel --no-deps .` komutu bir tane üretir).""",
    ),
    """import importlib.util
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("pati") is None:
    places = [Path("/kaggle/input"), Path("/content"), Path.cwd()]
    wheels = sorted(wheel for place in places for wheel in place.rglob("pati-*.whl"))
    if not wheels:
        raise SystemExit(f"found no pati-*.whl in {', '.join(map(str, places))}: add one, then run this cell again")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", str(wheels[-1])], check=True)""",
    (
        """## Choices

Minutes are for everything: reading, training, scoring, report. On two processor cores 5 minutes reach about 95 to 97
%,
1 minute about 90 %.""",
        """## Seçimler

Dakika her şey içindir: okuma, eğitim, puanlama, rapor. İki işlemci çekirdeğinde 5 dakika yaklaşık %95–97, 1 dakika
%90
doğruluğa ulaşır.""",
    ),
    """MINUTES = 5""",
    (
        """## The photos

On Kaggle, add the data set *Microsoft Cats vs Dogs* to the notebook. Elsewhere they are fetched once, or taken from
the
folder that `PATI_MIRROR` names.""",
        """## Fotoğraflar

Kaggle'da deftere *Microsoft Cats vs Dogs* veri kümesini ekleyin. Başka yerlerde bir kez indirilir ya da `PATI_MIRROR`
değişkenindeki klasörden alınır.""",
    ),
    """import time

from IPython.display import SVG, FileLink, Image

import pati
from pati.data.sources.fetch import fetch
from pati.workflows.check import check

given = sorted(Path("/kaggle/input").rglob("PetImages"))
data = str(given[0]) if given else "cats-vs-dogs"
if not given:
    fetch("cats-vs-dogs")
RUNS = Path("runs") / time.strftime("%Y-%m-%d-%H%M%S")
data""",
    (
        """Before anything is trained, every file is looked at: broken ones are set aside, duplicates found and kept
in one
split.""",
        """Eğitimden önce her dosyaya bakılır: bozuk olanlar ayrılır, kopyalar bulunur ve aynı bölümde tutulur.""",
    ),
    """from collections import Counter

found = check(data, pati.Recipe())
print(f"{len(found.kept)} photos kept, {len(found.entries) - len(found.kept)} files set aside:")
for entry in found.entries:
    if not entry.kept:
        print(f"  {entry.path}: {entry.reason}")
print(f"{len(found.duplicate_groups())} groups of duplicates")
for (label, split), count in sorted(Counter((entry.label, entry.split) for entry in found.kept).items()):
    print(f"  {label:4} {split:10} {count:6}")""",
    (
        """## Augmentation, shown

What the training does to the photos, each kind at rising strengths, and everything together at the bottom.""",
        """## Veri artırma, gözle

Eğitimin fotoğraflara yaptıkları: her biri artan güçlerde, en altta hepsi birlikte.""",
    ),
    """from pati.workflows import augmentation_preview

Image(augmentation_preview.picture(data, pati.Recipe()), width=900)""",
    (
        """## Training

From random weights, in the minutes chosen above. Validation photos are looked at after each epoch; the test photos
wait
until the end and are scored once.""",
        """## Eğitim

Rastgele ağırlıklardan, yukarıda seçilen dakikalarda. Her dönemden sonra doğrulama fotoğraflarına bakılır; test
fotoğrafları
sonuna kadar bekler ve bir kez puanlanır.""",
    ),
    """clf = pati.train(data, pati.Recipe(budget=60 * MINUTES), out=RUNS / "house", progress=True)""",
    (
        """## What came out

The test photos were scored once, by the final weights. The intervals say what so many photos can tell.""",
        """## Sonuç

Test fotoğrafları, son ağırlıklarla bir kez puanlandı. Aralıklar, bu kadar fotoğrafın söyleyebildiğini gösterir.""",
    ),
    """import json

scores = json.loads((RUNS / "house" / "metrics.json").read_text())["test"]
low, high = scores["accuracy_interval"]
print(f"accuracy {scores['accuracy']:.1%} ({low:.1%} to {high:.1%}) of {scores['photos']} photos")
print("class       precision  recall     F1  photos")
for row in scores["per_class"]:  # a class that is never the answer has no precision
    measures = ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
    print("{:10} {:>10} {:>7} {:>6} {:7}".format(row["class"], *measures, row["support"]))""",
    """from pati.report import figures
from pati.report.words import WORDS
from pati.runs.history import epochs
from pati.runs.run import Run

words = WORDS["LANGUAGE"]
display(SVG(figures.curves(epochs(Run(RUNS / "house")), words, by_class=False)))
display(SVG(figures.confusion(scores["confusion"], clf.classes, words)))""",
    (
        """The whole report, with calibration, slices, robustness and the worst mistakes, is one file. Open it in a
browser:""",
        """Kalibrasyon, dilimler, dayanıklılık ve en büyük yanlışlarla bütün rapor tek bir dosyadır. Tarayıcıda
açın:""",
    ),
    """FileLink(RUNS / "house" / "report.html")""",
    (
        """## Where does it look?

Grad-CAM of the answer for some test photos: yellow is where the reasons lie. *Unsure* is an answer too: it comes
where the
calibrated confidence is too low, or the photo is unlike those trained on.""",
        """## Nereye bakıyor?

Birkaç test fotoğrafında yanıtın Grad-CAM haritası: gerekçeler sarı yerlerde. *Emin değil* de bir yanıttır: kalibre
edilmiş
güven düşükse ya da fotoğraf eğitimdekilere benzemiyorsa verilir.""",
    ),
    """from pati.data.manifest import Manifest
from pati.data.sources import storage

place = storage.at(Path(found.root))
tested = Manifest.read(RUNS / "house" / "manifest.jsonl").of_split("test")
for entry in tested[:: max(1, len(tested) // 4)][:4]:
    seen = clf.explain(place.read(entry.path))
    answer = seen.prediction
    print(f"{entry.path}: {answer.label} {100 * answer.confidence:.1f} %{', unsure' if answer.unsure else ''}")
    display(Image(figures.explanation_page(seen), width=700))""",
    (
        """The bootcamp saw the maps rest "mostly on face and ears". Is that so? Maps can be checked: do they change
when the net
forgets what it learnt, and do they point at what the answer rests on better than a blob in the middle?""",
        """Bootcamp, haritaların “çoğunlukla yüz ve kulaklarda” olduğunu görmüştü. Öyle mi? Haritalar sınanabilir: Ağ
öğrendiğini unutunca değişiyorlar mı, yanıtın dayandığı yeri ortadaki bir lekeden daha iyi gösteriyorlar mı?""",
    ),
    """import torch

from pati.explain import checks
from pati.explain.cams import explainers

pixels = torch.stack([torch.tensor(clf.preprocess(place.read(entry.path))) for entry in tested[:16]])
images, classes = clf.asked(pixels)
checked = checks.checked(clf.net, explainers["grad-cam"], images, classes)
print("depends on what was learnt:", {True: "yes", False: "no", None: "can't be told"}[checked["depends"]])
for name, measure in checked["measures"].items():
    better = measure["against"]["centre"]["better"]
    verdict = {True: "better", False: "worse", None: "no difference can be told"}[better]
    maps, blob = measure["method"]["mean"], measure["centre"]["mean"]
    print(f"{name}: {maps:.3f}, a blob in the middle {blob:.3f}: {verdict}")""",
    (
        """## Against the bootcamp's net

Three blocks of Conv, BatchNorm, ReLU, MaxPool, then Dropout and a fully connected layer, for the same minutes, on
the same
split. Whether the difference is more than chance is tested photo by photo.""",
        """## Bootcamp'in ağına karşı

Üç blok Conv, BatchNorm, ReLU, MaxPool, sonra Dropout ve tam bağlı katman; aynı dakikalarda, aynı bölmeyle. Farkın
rastlantıdan fazla olup olmadığı fotoğraf fotoğraf sınanır.""",
    ),
    """pati.train(data, pati.Recipe(budget=60 * MINUTES, model="scratch"), out=RUNS / "scratch", progress=True)
compared = pati.compare([RUNS / "house", RUNS / "scratch"])
print(compared["pairs"][0]["verdict"])
Image(figures.comparison(compared["runs"], by_class=False, format="png"), width=800)""",
    (
        """## A photo of your own

Put the name of a photo in. The model lies in `model.safetensors`; `pati app RUN` opens a page to try it in.""",
        """## Kendi fotoğrafınız

Bir fotoğrafın adını yazın. Model `model.safetensors` dosyasındadır; `pati app RUN` onu denemek için bir sayfa
açar.""",
    ),
    """PHOTO = None  # "my_cat.jpg"

if PHOTO:
    answer = clf.predict(PHOTO)
    print("unsure" if answer.unsure else answer.label, answer.probabilities)
print("pati app", RUNS / "house")""",
]


def notebook(language: int) -> dict[str, Any]:
    """The notebook in one of the languages, as the JSON of format 4.5."""
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(CELLS):
        kind = "code" if isinstance(cell, str) else "markdown"
        text = cell.replace("LANGUAGE", ("en", "tr")[language]) if isinstance(cell, str) else cell[language]
        more: dict[str, Any] = {"execution_count": None, "outputs": []} if kind == "code" else {}
        lines = text.splitlines(keepends=True)
        cells.append({"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": lines} | more)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def text(name: str) -> str:
    """What the file of that name should hold."""
    return json.dumps(notebook(NAMES[name]), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in NAMES:
        (HERE / name).write_text(text(name), encoding="utf-8")
