"""Labels flipped on purpose among the training photos: how many of them `pati clean` ranks first, and at what cost."""

from __future__ import annotations

import csv
import os
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from bench.command import measured
from bench.runs import facts
from pati.data.manifest import Manifest

FLIPPED, FOLDS = 200, 3
FIRST = (200, 400, 800)


def labels(budget: str = "5m", cleaning: str = "15m") -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
            archive.extractall(base)
        photos = sorted(path.relative_to(base).as_posix() for path in base.rglob("*.jpg"))
        truth = {path: Path(path).parent.name for path in photos}
        table, log = base / "photos.csv", base / "log.txt"
        write(table, truth)
        measured(base / "cache", "check", table, "--out", base / "m.jsonl", log=log)
        training = sorted(entry.path for entry in Manifest.read(base / "m.jsonl").of_split("train"))
        flipped = set(random.Random(0).sample(training, FLIPPED))
        write(table, {path: other(label) if path in flipped else label for path, label in truth.items()})
        run = base / "run"
        trained = measured(base / "cache", "train", table, "--budget", budget, "--out", run, log=log) | facts(run)
        cost = measured(base / "cache", "clean", table, run, "--folds", FOLDS, "--budget", cleaning, log=log)
        with (run / "clean" / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if "label" in row["why"].split() and row["split"] == "train"]
        ranked = [row["path"] for row in sorted(rows, key=lambda row: float(row["label_probability"]))]
        print(log.read_text()[-4000:])
    return {
        "flipped": FLIPPED,
        "training_photos": len(training),
        "budget": budget,
        "cleaning_budget": cleaning,
        "folds": FOLDS,
        "run": trained,
        "clean": cost,
        "listed": len(ranked),
        "found_in_first": {str(count): len(flipped & set(ranked[:count])) for count in FIRST},
        "found_at_all": len(flipped & set(ranked)),
    }


def other(label: str) -> str:
    return {"Cat": "Dog", "Dog": "Cat"}[label]


def write(table: Path, labelled: dict[str, str]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label"])
        writer.writerows(sorted(labelled.items()))
