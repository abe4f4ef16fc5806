"""Writes both notebooks: `make docs`. The code is the same, the text is in English or Turkish; a test compares them.

A cell is code, or a pair of texts in Markdown; in the notebook, each paragraph is one line. Outputs are never kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = {"cats_vs_dogs.ipynb": 0, "cats_vs_dogs.tr.ipynb": 1}

CELLS: list[tuple[str, str] | str] = [
    (
        """# Cats and dogs from scratch

This notebook is the bootcamp's project, done with `pati`: photos, augmentation, a model trained from scratch with its
training curves, confusion matrix and report, Grad-CAM, and a comparison with the bootcamp's own network. It uses no
pretrained weights. It runs from top to bottom on Kaggle, on Colab and on your own machine. A GPU is used if there is
one, but is not needed.""",
        """# Sıfırdan kediler ve köpekler

Bu defter, bootcamp projesinin `pati` ile yapılmış hâlidir: fotoğraflar, veri artırma, sıfırdan eğitilen bir model,
eğitim eğrileri, karışıklık matrisi ve raporu, Grad-CAM ve bootcamp'in kendi ağıyla karşılaştırma. Önceden eğitilmiş
ağırlık kullanılmaz. Kaggle'da, Colab'da ve kendi bilgisayarınızda baştan sona çalışır. GPU varsa kullanılır, ama
gerekmez.""",
    ),
    (
        """## Install pati

If pati is installed with what training needs, this cell does nothing. Otherwise it installs a wheel of pati that you
have added to the Kaggle notebook as a dataset, or uploaded to Colab. The PyTorch that Kaggle and Colab come with is
kept. `pip wheel --no-deps .` in a checkout of pati builds the wheel.""",
        """## pati'nin kurulumu

pati, eğitim için gerekenlerle birlikte kuruluysa bu hücre bir şey yapmaz. Değilse, Kaggle defterine veri kümesi olarak
eklediğiniz ya da Colab'a yüklediğiniz pati wheel dosyasını kurar. Kaggle'ın ve Colab'ın birlikte getirdiği PyTorch
olduğu gibi kalır. Wheel dosyasını pati'nin kaynak klasöründe `pip wheel --no-deps .` komutu oluşturur.""",
    ),
    """import importlib.util
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path


def installed(*names):
    return all(importlib.util.find_spec(name) for name in names)


if not installed("pati", "torch", "sklearn", "matplotlib", "jinja2", "safetensors"):
    places = [Path("/kaggle/input"), Path("/content"), Path.cwd()]
    wheels = sorted(wheel for place in places for wheel in place.rglob("pati-*.whl"))
    if not wheels and not installed("pati"):
        raise SystemExit(f"found no pati-*.whl in {', '.join(map(str, places))}: add one, then run this cell again")
    wanted = [f"{wheels[-1] if wheels else 'pati'}[train]"]
    if installed("torch"):  # which fits the GPU and the other packages here
        wanted.append(f"torch=={version('torch')}")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)""",
    (
        """## Settings

The minutes are the time budget for everything: reading, training, scoring and report. On two processor cores, 5
minutes reach about 95 to 97 % accuracy, 1 minute about 90 %.""",
        """## Ayarlar

Dakika sayısı her şeyi kapsayan süre bütçesidir: okuma, eğitim, değerlendirme ve rapor. İki işlemci çekirdeğinde 5
dakika yaklaşık %95–97, 1 dakika yaklaşık %90 doğruluğa ulaşır.""",
    ),
    """MINUTES = 5""",
    (
        """## The photos

On Kaggle, add the dataset *Microsoft Cats vs Dogs* to the notebook. Elsewhere, the photos are downloaded once, or
taken from the folder in the environment variable `PATI_MIRROR`.""",
        """## Fotoğraflar

Kaggle'da deftere *Microsoft Cats vs Dogs* veri kümesini ekleyin. Başka yerlerde fotoğraflar bir kez indirilir ya da
`PATI_MIRROR` ortam değişkenindeki klasörden alınır.""",
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
        """Before training, every file is checked. Broken files are quarantined; duplicates are detected and kept in
the same split.""",
        """Eğitimden önce her dosya denetlenir. Bozuk dosyalar karantinaya alınır; kopyalar bulunur ve aynı bölümde
tutulur.""",
    ),
    """from collections import Counter

found = check(data, pati.Recipe())
print(f"{len(found.kept)} photos kept, {len(found.entries) - len(found.kept)} files quarantined:")
for entry in found.entries:
    if not entry.kept:
        print(f"  {entry.path}: {entry.reason}")
print(f"{len(found.duplicate_groups())} groups of duplicates")
for (label, split), count in sorted(Counter((entry.label, entry.split) for entry in found.kept).items()):
    print(f"  {label:4} {split:10} {count:6}")""",
    (
        """## Augmentation

This figure shows how training augments the photos: one row per kind of augmentation, at increasing strength, and all
of them together at the bottom.""",
        """## Veri artırma

Bu şekil, eğitimin fotoğraflara uyguladığı veri artırmayı gösterir: her tür bir satırda, artan güçlerde; en altta hepsi
birlikte.""",
    ),
    """from pati.workflows import augmentation_preview

Image(augmentation_preview.picture(data, pati.Recipe()), width=900)""",
    (
        """## Training

The model is trained from random weights, within the minutes set above. It is evaluated on the validation photos after
each epoch. The test photos are scored only once, at the end.""",
        """## Eğitim

Model rastgele ağırlıklarla başlar ve yukarıda belirlenen sürede eğitilir. Her dönemden (epoch) sonra doğrulama
fotoğraflarında değerlendirilir. Test fotoğrafları yalnızca bir kez, en sonda puanlanır.""",
    ),
    """clf = pati.train(data, pati.Recipe(budget=60 * MINUTES), out=RUNS / "house", progress=True)""",
    (
        """## Results

The test photos were scored once, with the final weights. The 95 % confidence intervals show how precise the scores are
with this number of photos.""",
        """## Sonuçlar

Test fotoğrafları, son ağırlıklarla bir kez puanlandı. %95 güven aralıkları, skorların bu kadar fotoğrafla ne kadar
kesin olduğunu gösterir.""",
    ),
    """import json

scores = json.loads((RUNS / "house" / "metrics.json").read_text())["test"]
low, high = scores["accuracy_interval"]
print(f"accuracy {scores['accuracy']:.1%} ({low:.1%} to {high:.1%}) of {scores['photos']} photos")
print("class       precision  recall     F1  photos")
for row in scores["per_class"]:  # a class that is never predicted has no precision
    measures = ["-" if row[name] is None else f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
    print("{:10} {:>10} {:>7} {:>6} {:7}".format(row["class"], *measures, row["support"]))""",
    """from pati.report import figures
from pati.runs.history import epochs
from pati.runs.run import Run

language = "LANGUAGE"
display(SVG(figures.curves(epochs(Run(RUNS / "house")), language, by_class=False)))
display(SVG(figures.confusion(scores["confusion"], clf.classes, language)))""",
    (
        """The whole report is one file, with calibration, slices, robustness and the most confident mistakes. Open it
in a browser:""",
        """Raporun tamamı tek bir dosyadır; kalibrasyon, dilimler, dayanıklılık ve en emin olunan yanlışlar da
içindedir. Tarayıcıda açın:""",
    ),
    """FileLink(RUNS / "house" / "report.html")""",
    (
        """## Where does the model look?

These are Grad-CAM maps of the predicted class for some test photos: yellow regions contribute most. The model can also
answer *unsure*: if the calibrated confidence is too low, or if the photo is out-of-distribution, that is, unlike the
training photos.""",
        """## Model nereye bakıyor?

Birkaç test fotoğrafı için tahmin edilen sınıfın Grad-CAM haritaları: en çok katkı veren bölgeler sarıdır. Model *emin
değil* de diyebilir: kalibre edilmiş güven çok düşükse ya da fotoğraf dağılım dışıysa, yani eğitim fotoğraflarına
benzemiyorsa.""",
    ),
    """from pati.data.manifest import Manifest
from pati.data.sources import storage
from pati.report import pictures

place = storage.at(Path(found.root))
tested = Manifest.read(RUNS / "house" / "manifest.jsonl").of_split("test")
for entry in tested[:: max(1, len(tested) // 4)][:4]:
    seen = clf.explain(place.read(entry.path))
    answer = seen.prediction
    print(f"{entry.path}: {answer.label} {100 * answer.confidence:.1f} %{', unsure' if answer.unsure else ''}")
    display(Image(pictures.explanation_page(seen, language=language), width=700))""",
    (
        """The bootcamp saw the maps "mostly on face and ears". Is this true? Maps can be tested: do they change when
the parameters of the network are randomised, and do they highlight the pixels that the prediction depends on better
than a centred Gaussian?""",
        """Bootcamp, haritaları “çoğunlukla yüz ve kulaklarda” görmüştü. Bu doğru mu? Haritalar sınanabilir: Ağın
parametreleri rastgele değiştirilince haritalar da değişiyor mu? Tahminin dayandığı pikselleri ortalanmış bir Gauss
lekesinden daha iyi gösteriyorlar mı?""",
    ),
    """import torch

from pati.explain import checks
from pati.explain.cams import explainers

pixels = torch.stack([torch.tensor(clf.preprocess(place.read(entry.path))) for entry in tested[:16]])
images, classes = clf.explainer_inputs(pixels)
checked = checks.checked(clf.net, explainers["grad-cam"], images, classes)
print("depends on the learned parameters:", {True: "yes", False: "no", None: "not clear"}[checked["depends"]])
for name, measure in checked["measures"].items():
    better = measure["against"]["centre"]["better"]
    verdict = {True: "better", False: "worse", None: "no significant difference"}[better]
    maps, gaussian = measure["method"]["mean"], measure["centre"]["mean"]
    print(f"{name}: {maps:.3f}, centred Gaussian {gaussian:.3f}: {verdict}")""",
    (
        """## Comparison with the bootcamp's network

The bootcamp's network has three blocks of Conv, BatchNorm, ReLU and MaxPool, then Dropout and fully connected
layers. It is trained with the same time budget on the same split. A paired test on the test photos shows whether the
difference is significant.""",
        """## Bootcamp'in ağıyla karşılaştırma

Bootcamp'in ağı, Conv, BatchNorm, ReLU ve MaxPool'dan oluşan üç blok, ardından Dropout ve tam bağlı katmanlardır. Aynı
süre bütçesiyle ve aynı bölmeyle eğitilir. Test fotoğrafları üzerinde eşleştirilmiş bir test, farkın anlamlı olup
olmadığını gösterir.""",
    ),
    """pati.train(data, pati.Recipe(budget=60 * MINUTES, model="scratch"), out=RUNS / "scratch", progress=True)
compared = pati.compare([RUNS / "house", RUNS / "scratch"])
print(compared["pairs"][0]["verdict"])
Image(figures.comparison(compared["runs"], by_class=False, format="png", language=language), width=800)""",
    (
        """## Your own photo

Enter the name of a photo. The model is stored in `model.safetensors`; `pati app RUN` opens a web app to try it.""",
        """## Kendi fotoğrafınız

Bir fotoğrafın adını yazın. Model `model.safetensors` dosyasındadır; `pati app RUN`, onu denemek için bir web
uygulaması açar.""",
    ),
    """PHOTO = None  # "my_cat.jpg"

if PHOTO:
    answer = clf.predict(PHOTO)
    print("unsure" if answer.unsure else answer.label, answer.probabilities)
print("pati app", RUNS / "house")""",
]


def unwrapped(text: str) -> str:
    """A Markdown text with each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def notebook(language: int) -> dict[str, Any]:
    """The notebook in one of the languages, as the JSON of format 4.5."""
    cells: list[dict[str, Any]] = []
    for number, cell in enumerate(CELLS):
        kind = "code" if isinstance(cell, str) else "markdown"
        text = cell.replace("LANGUAGE", ("en", "tr")[language]) if isinstance(cell, str) else unwrapped(cell[language])
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
