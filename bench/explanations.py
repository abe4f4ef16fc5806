"""Where the best model looks: maps against head boxes, the checks of every method, and photos of something else.

The model is the 30-minute run of seed 0. The pets are not of its data set: Oxford-IIIT Pet, 97 cats and 51 dogs.
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
from PIL import Image, ImageDraw

from bench.command import environment
from bench.runs import trained
from pati import evidence
from pati.classifier import Classifier
from pati.data import places
from pati.data.manifest import Manifest
from pati.explain.cams import explainers
from pati.report import figures

SUBJECTS = ("cat", "dog")
SIDE = 112  # px of a picture in docs
CHECKED = 48  # validation photos; Score-CAM takes a second for each


def answered(*words: object) -> Any:
    """What a command of pati prints with --json."""
    command = [sys.executable, "-m", "pati", *map(str, words), "--json"]
    with tempfile.TemporaryDirectory() as cache:
        done = subprocess.run(command, env=environment(Path(cache)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def model() -> tuple[Path, dict[str, Any]]:
    return trained("30m-0", "cats-vs-dogs", "--budget", "30m", "--seed", 0)


def heads() -> dict[str, Any]:
    """All maps against the head boxes: cats and dogs together, and apart."""
    run, row = model()
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "pet-heads.zip") as archive:
            archive.extractall(folder)
        table = next(Path(folder).rglob("heads.csv"))
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        found = {"all": answered("explain", run, "--boxes", table)}
        for subject in SUBJECTS:
            some = table.with_name(f"{subject}.csv")
            with some.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(row for row in rows if row["species"] == subject)
            found[subject] = answered("explain", run, "--boxes", some)
    return {"model": row, **found}


def checks() -> dict[str, Any]:
    """Every method's checks on the same validation photos."""
    run, row = model()
    found = Manifest.read(run / "manifest.jsonl")
    some, place = found.of_split("validation"), places.at(Path(found.root))
    with tempfile.TemporaryDirectory() as folder:
        for entry in some[:: len(some) // CHECKED][:CHECKED]:
            (Path(folder) / entry.path.replace("/", "-")).write_bytes(place.read(entry.path))
        methods = {name: answered("explain", run, folder, "--check", "--method", name) for name in explainers}
    return {"model": row, "methods": methods}


def outside() -> dict[str, Any]:
    """How well clothing and digits are told from cats and dogs, and what confidence is worth."""
    run, row = model()
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


SHOWN = ("grad-cam", "score-cam", "occlusion")  # the usual one, that which points best, and one of another kind


def picture(run: Path) -> None:
    """docs/heads.png, by `python -m bench.explanations RUN`: four of the pets with head boxes and maps."""
    made = Classifier.load(run)
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "pet-heads.zip") as archive:
            archive.extractall(folder)
        rows = evidence.boxes(next(Path(folder).rglob("heads.csv")))
        blocks = []
        for row in rows[18 :: len(rows) // 4][:4]:
            tiles = []
            for method in SHOWN:
                explanation = made.explain(row.path, method=method)
                width = explanation.photo.shape[1]
                for drawn in ([explanation.photo] if not tiles else []) + [figures.blended(explanation)]:
                    photo = Image.fromarray(drawn)
                    ImageDraw.Draw(photo).rectangle(row.box, outline=(255, 255, 255), width=max(2, width // 80))
                    tiles.append(np.asarray(photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)))
            blocks.append(tiles)
    sheet = figures.tiles(
        [(name, "") for name in ("photo", *SHOWN)], [[list(row) for row in zip(*blocks, strict=True)]], [""] * 4
    )
    small = Image.open(io.BytesIO(sheet)).convert("RGB").quantize(256)
    small.save(Path(__file__).parent.parent / "docs" / "heads.png", optimize=True)


if __name__ == "__main__":
    picture(Path(sys.argv[1]))
