"""Where the best model looks: maps against head boxes, and the checks of every method; and what the 30-minute run says
to photos of something else.

The best model is the one in the package; its maps and checks want a GPU: Score-CAM asks for an answer for each
of hundreds of channels. The pets are not of its dataset: Oxford-IIIT Pet, 97 cats and 51 dogs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

import pati
from bench.command import environment
from bench.runs import KEPT, trained
from pati.data.sources import storage
from pati.evaluation import calibration, curves
from pati.evaluation.intervals import wilson
from pati.explain.cams import explainers
from pati.recipe import Recipe
from pati.report import figures, pictures
from pati.system import machine
from pati.workflows import explanation_tests
from pati.workflows.check import check

SUBJECTS = ("cat", "dog")
SIDE = 112  # px of a picture in docs
CHECKED = 100  # validation photos


def answered(*words: object) -> Any:
    """What a command of pati prints with --json."""
    command = [sys.executable, "-m", "pati", *map(str, words), "--json"]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(command, env=environment(Path(cache)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def best() -> dict[str, Any]:
    """What the model in the package says of itself, and what answers for it here."""
    scores = pati.load().facts["metrics"]
    device = machine.device().type
    return {
        "test_accuracy": scores["accuracy"],
        "interval": scores["accuracy_interval"],
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
    }


def heads() -> dict[str, Any]:
    """All maps against the head boxes: cats and dogs together, and apart."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "pet-heads.zip") as archive:
            archive.extractall(folder)
        table = next(Path(folder).rglob("heads.csv"))
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {"all": answered("explain", "--boxes", table)}
        for subject in SUBJECTS:
            some = table.with_name(f"{subject}.csv")
            with some.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(row for row in rows if row["species"] == subject)
            found[subject] = answered("explain", "--boxes", some)
    return {"model": best(), **found}


def validation_photos() -> Path:
    """A folder of `CHECKED` of the photos that the model's threshold was chosen on; kept, so that it can be carried to
    where the dataset is not."""
    folder = KEPT / "validation"
    if not folder.exists():
        found = check("cats-vs-dogs", Recipe())
        assert found.hash() == pati.load().facts["manifest"], "another split"
        some, place = found.of_split("validation"), storage.at(Path(found.root))
        folder.mkdir(parents=True)
        for entry in some[:: len(some) // CHECKED][:CHECKED]:
            (folder / entry.path.replace("/", "-")).write_bytes(place.read(entry.path))
    return folder


def checks() -> dict[str, Any]:
    """Every method's checks on the same validation photos."""
    photos = validation_photos()
    return {
        "model": best(),
        "methods": {name: answered("explain", photos, "--check", "--method", name) for name in explainers},
    }


def outside() -> dict[str, Any]:
    """How well clothing and digits are told from cats and dogs, and what confidence is worth."""
    run, row = trained("30m-0", "cats-vs-dogs", "--budget", "30m", "--seed", 0)
    strange = {"clothing": Path(os.environ["PATI_MIRROR"]) / "clothing.zip", "digits": "digits"}
    found = {name: answered("eval", run, "--outside", data) for name, data in strange.items()}
    kept = json.loads((run / "metrics.json").read_text())["analysis"]["calibration"]
    names = (
        "temperature",
        "threshold",
        "odd",
        "coverage",
        "coverage_interval",
        "answered_accuracy",
        "answered_interval",
    )
    calibration = {name: kept[name] for name in names}
    calibration |= {f"error_{part}": kept[part]["error"] for part in ("before", "after")}
    return {"model": row, "calibration": calibration, "outside": found}


def included() -> dict[str, Any]:
    """What the confidence of the model in the package is worth on its test photos, and on clothing."""
    made, found = pati.load(), check("cats-vs-dogs", Recipe())
    assert found.hash() == made.facts["manifest"], "another split"
    entries, place = found.of_split("test"), storage.at(Path(found.root))
    answers = list(made.predict_stream(place.read(entry.path) for entry in entries))
    with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "clothing.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        strange = list(made.predict_stream(archive.read(name) for name in names))
    right = np.array([answer.label == entry.label for answer, entry in zip(answers, entries, strict=True)])
    answered = np.array([not answer.unsure for answer in answers])
    bins = calibration.reliability(np.array([answer.confidence for answer in answers]), right)
    familiarity = np.array([answer.ood_p_value for answer in [*answers, *strange]])
    told = curves.curve(familiarity, np.arange(len(familiarity)) < len(answers))
    assert told is not None
    return {
        "photos": len(answers),
        "accuracy": float(right.mean()),
        "calibration_error": calibration.calibration_error(bins),
        "coverage": float(answered.mean()),
        "answered_accuracy": float(right[answered].mean()),
        "answered_interval": wilson(int(right[answered].sum()), int(answered.sum())),
        "clothing": len(strange),
        "roc_area": told.roc_area,
        "roc_interval": told.roc_interval,
        "odd": float(np.mean([answer.out_of_distribution for answer in strange])),
        "unsure": float(np.mean([answer.unsure for answer in strange])),
    }


SHOWN = ("grad-cam", "score-cam", "occlusion")  # the usual one, that which points best, and one of another kind


def picture() -> None:
    """docs/heads.png, by `python -m bench.explanations`: four of the pets with head boxes and maps."""
    made = pati.load()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "pet-heads.zip") as archive:
            archive.extractall(folder)
        rows = explanation_tests.boxes(next(Path(folder).rglob("heads.csv")))
        blocks = []
        for row in rows[18 :: len(rows) // 4][:4]:
            tiles = []
            for method in SHOWN:
                explanation = made.explain(row.path, method=method)
                width = explanation.photo.shape[1]
                for drawn in ([explanation.photo] if not tiles else []) + [pictures.blended(explanation)]:
                    photo = Image.fromarray(drawn)
                    ImageDraw.Draw(photo).rectangle(row.box, outline=(255, 255, 255), width=max(2, width // 80))
                    tiles.append(np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
            blocks.append(tiles)
    labels, cells = [(name, "") for name in ("photo", *SHOWN)], [list(row) for row in zip(*blocks, strict=True)]
    sheet = figures.tiles(labels, [cells], [""] * 4, language="en")
    whole = Image.open(io.BytesIO(sheet)).convert("RGB")
    scale = Image.open(io.BytesIO(pictures.scale()))
    at = (whole.width - scale.width) // 2, whole.height - 2 * scale.height
    whole.paste(scale, at)
    pen = ImageDraw.Draw(whole)
    pen.text((at[0] - 8, at[1] - 2), "0", fill=(34, 34, 34), anchor="ra")
    pen.text((at[0] + scale.width + 8, at[1] - 2), "each map's highest value", fill=(34, 34, 34))
    whole.save(Path(__file__).parent.parent / "docs" / "heads.png", optimize=True)


if __name__ == "__main__":
    picture()
