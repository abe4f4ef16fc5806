"""Writes both notebooks: `make docs`. The text is in English or Turkish; a test compares the code, which differs in the
language alone.

A cell is code, or a pair of texts in Markdown; in the notebook, each paragraph is one line. Outputs are never kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = {"cats_vs_dogs.ipynb": 0, "cats_vs_dogs.tr.ipynb": 1}
LANGUAGES = ("en", "tr")

CELLS: list[tuple[str, str] | str] = [
    (
        """# Cats and dogs from scratch

A bootcamp is a short, intensive course. This notebook is the project of one on deep learning, done with `pati`: photos,
augmentation, a model trained from scratch with its training curves, confusion matrix and report, Grad-CAM, and a
comparison with the bootcamp's own network. It uses no pretrained weights. It runs from top to bottom on Kaggle, on
Colab and on your own machine. A GPU is used if there is one, but is not needed.""",
        """# Sıfırdan kediler ve köpekler

Bootcamp, kısa ve yoğun bir kurstur. Bu not defteri, bir derin öğrenme bootcamp'inin projesinin `pati` ile yapılmış
hâlidir: fotoğraflar, veri artırma, sıfırdan eğitilen bir model,
eğitim eğrileri, karışıklık matrisi ve raporu, Grad-CAM ve bootcamp'in kendi ağıyla karşılaştırma. Önceden eğitilmiş
ağırlık kullanılmaz. Kaggle'da, Colab'da ve kendi bilgisayarınızda baştan sona çalışır. GPU varsa kullanılır, ama
gerekmez.""",
    ),
    (
        """## Settings

The language is that of everything that pati says. The minutes are the time budget for everything: reading, training,
scoring and report. On two processor cores, 5 minutes reach about 95 to 97 % accuracy, 1 minute about 90 %.""",
        """## Ayarlar

Dil, pati'nin yazdığı her şeyin dilidir. Dakika sayısı her şeyi kapsayan süre bütçesidir: okuma, eğitim, değerlendirme
ve rapor. İki işlemci çekirdeğinde 5 dakika yaklaşık %95–97, 1 dakika yaklaşık %90 doğruluğa ulaşır.""",
    ),
    """import os

LANGUAGE = "en"
MINUTES = 5
os.environ["PATI_LANG"] = LANGUAGE""",
    (
        """## Install pati

If pati is installed with what training needs, this cell does nothing. Otherwise it installs a wheel of pati that you
have added to the Kaggle notebook as a dataset, or uploaded to Colab. The PyTorch that Kaggle and Colab come with is
kept. `pip wheel --no-deps .` in a checkout of pati builds the wheel. If the cell stops with a
`FileNotFoundError`, add the wheel and run it again.""",
        """## pati'nin kurulumu

pati, eğitim için gerekenlerle birlikte kuruluysa bu hücre bir şey yapmaz. Değilse, Kaggle not defterine veri kümesi
olarak eklediğiniz ya da Colab'a yüklediğiniz pati wheel dosyasını kurar. Kaggle'ın ve Colab'ın birlikte getirdiği
PyTorch olduğu gibi kalır. Wheel dosyasını pati'nin kaynak klasöründe `pip wheel --no-deps .` komutu oluşturur. Hücre
`FileNotFoundError` ile durursa wheel dosyasını ekleyip yeniden çalıştırın.""",
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
        raise FileNotFoundError(f"pati-*.whl: {', '.join(map(str, places))}")
    wanted = [f"{wheels[-1] if wheels else 'pati'}[train]"]
    if installed("torch"):  # which fits the GPU and the other packages here
        wanted.append(f"torch=={version('torch')}")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)""",
    (
        """## The photos

On Kaggle, add the dataset *Microsoft Cats vs Dogs* to the notebook. Elsewhere, the photos are downloaded once, or
taken from the folder in the environment variable `PATI_MIRROR`.""",
        """## Fotoğraflar

Kaggle'da not defterine *Microsoft Cats vs Dogs* veri kümesini ekleyin. Başka yerlerde fotoğraflar bir kez indirilir ya
da `PATI_MIRROR` ortam değişkenindeki klasörden alınır.""",
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
    """from pati.terminal.console import console
from pati.terminal.tables import show_check

found = check(data, pati.Recipe())
screen = console(stderr=False)
show_check(found, screen)""",
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
with this number of photos. Precision is the share of the photos predicted as a class that belong to it; recall is the
share of the photos of a class that are predicted as it.""",
        """## Sonuçlar

Test fotoğrafları, son ağırlıklarla bir kez puanlandı. %95 güven aralıkları, puanların bu kadar fotoğrafla ne kadar
kesin olduğunu gösterir. Kesinlik (precision), bir sınıf olarak tahmin edilen fotoğraflardan gerçekten o sınıftan
olanların payıdır; duyarlılık (recall), bir sınıfın fotoğraflarından o sınıf olarak tahmin edilenlerin payıdır.""",
    ),
    """import json

from pati.terminal.tables import show_scores

scores = json.loads((RUNS / "house" / "metrics.json").read_text())["test"]
show_scores(scores, None, screen)""",
    """from pati.report import figures
from pati.runs.history import epochs
from pati.runs.run import Run

display(SVG(figures.curves(epochs(Run(RUNS / "house")), LANGUAGE, by_class=False)))
display(SVG(figures.confusion(scores["confusion"], clf.classes, LANGUAGE)))""",
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
    print(entry.path)
    display(Image(pictures.explanation_page(seen, language=LANGUAGE), width=700))""",
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
from pati.terminal.explanations import show_checked

pixels = torch.stack([torch.tensor(clf.preprocess(place.read(entry.path))) for entry in tested[:16]])
images, classes = clf.explainer_inputs(pixels)
checked = checks.checked(clf.net, explainers["grad-cam"], images, classes)
show_checked({**checked, "method": "grad-cam", "unreadable": 0}, screen)""",
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
    """from pati.terminal.tables import show_comparison
from pati.workflows.compare import verdict

pati.train(data, pati.Recipe(budget=60 * MINUTES, model="scratch"), out=RUNS / "scratch", progress=True)
compared = pati.compare([RUNS / "house", RUNS / "scratch"])
show_comparison(compared, [verdict(pair) for pair in compared["pairs"]], screen)
Image(figures.comparison(compared["runs"], by_class=False, format="png", language=LANGUAGE), width=800)""",
    (
        """## Your own photo

Enter the name of a photo. The model is stored in `model.safetensors`; `pati app RUN` opens a web app to try it. A
question mark means that the model is unsure.""",
        """## Kendi fotoğrafınız

Bir fotoğrafın adını yazın. Model `model.safetensors` dosyasındadır; `pati app EĞİTİM`, onu denemek için bir web
uygulaması açar. Soru işareti, modelin emin olmadığını gösterir.""",
    ),
    """from pati.terminal import predictions

PHOTO = None  # "cat.jpg"
if PHOTO:
    predictions.table([clf.predict(PHOTO)], clf.classes)
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
        text = (
            cell.replace('LANGUAGE = "en"', f'LANGUAGE = "{LANGUAGES[language]}"')
            if isinstance(cell, str)
            else unwrapped(cell[language])
        )
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
