"""Whole trainings and predictions, as commands."""

from __future__ import annotations

import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from bench.command import measured
from pati import pipeline
from pati.recipe import Recipe

KEPT = Path("runs") / "bench"
SEEDS = (0, 1, 2)


def facts(run: Path) -> dict[str, Any]:
    """What a finished run says of itself."""
    document = json.loads((run / "metrics.json").read_text())
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "test_accuracy": round(document["test"]["accuracy"], 4),
        "interval": [round(value, 4) for value in document["test"]["accuracy_interval"]],
        "macro_f1": round(document["test"]["macro_f1"], 4),
        "test_photos": document["test"]["photos"],
        "validation_accuracy": round(document["validation"]["accuracy"], 4),
        "epochs": document["epochs"],
        "read_seconds": next(row["seconds"] for row in rows if row["kind"] == "read"),
        "training_seconds": document["seconds"]["training"],
    }


def trained(name: str, *arguments: object) -> tuple[Path, dict[str, Any]]:
    """A training with an empty cache; its run stays in runs/bench for the measurements that use it."""
    run = KEPT / name
    shutil.rmtree(run, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        cost = measured(Path(cache), "train", *arguments, "--out", run, log=KEPT / f"{name}.txt")
    return run, cost | facts(run)


def budget() -> dict[str, Any]:
    rows = [trained(f"budget-{seed}", "cats-vs-dogs", "--budget", "5m", "--seed", seed)[1] for seed in SEEDS]
    return {
        "command": "pati train cats-vs-dogs --budget 5m --seed N",
        "mean_test_accuracy": round(statistics.mean(row["test_accuracy"] for row in rows), 4),
        "seeds": {str(seed): row for seed, row in zip(SEEDS, rows, strict=True)},
    }


def notebook() -> dict[str, Any]:
    """The bootcamp notebook's recipe on the same split, three epochs, from the unpacked photos to its last score."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
            archive.extractall(base)
        pipeline.check(base / "PetImages", Recipe()).write(base / "manifest.jsonl")
        command = [sys.executable, "-m", "bench.notebook", base / "PetImages", base / "manifest.jsonl", 3]
        done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    return {"recipe": "bench/notebook.py", "epochs": [json.loads(line) for line in done.stdout.splitlines()]}


def demo_sets() -> dict[str, Any]:
    mirror = Path(os.environ["PATI_MIRROR"])
    return {
        "digits": trained("digits", "digits")[1],
        "clothing": trained("clothing", mirror / "clothing.zip", "--group-by", "sender_id")[1],
    }


def originals() -> dict[str, Any]:
    """Agreement of originals and copies, and photos a second beyond the start, by the 5-minute model of seed 0."""
    model = KEPT / "budget-0"
    if not (model / "model.safetensors").exists():
        trained("budget-0", "cats-vs-dogs", "--budget", "5m", "--seed", 0)
    mirror = Path(os.environ["PATI_MIRROR"])
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("originals", "cats-vs-dogs"):
            with zipfile.ZipFile(mirror / f"{name}.zip") as archive:
                archive.extractall(base)
        pairs = list(csv.DictReader((base / "originals" / "matches.csv").open()))
        large = answers(model, [base / row["original"] for row in pairs])
        small = answers(model, [base / "PetImages" / row["petimages"] for row in pairs])
        one, many = [], []
        for _ in range(3):  # in turn, so that a slow spell of the machine hits both
            one.append(timed(model, [base / pairs[0]["original"]]))
            many.append(timed(model, [base / row["original"] for row in pairs]))
    seconds = statistics.median(many) - statistics.median(one)
    same = sum(a == b for a, b in zip(large, small, strict=True))
    return {
        "photos": len(pairs),
        "same_prediction": round(same / len(pairs), 4),
        "start_seconds": round(statistics.median(one), 2),
        "photos_per_second_after_start": round((len(pairs) - 1) / seconds),
    }


def answers(model: Path, photos: list[Path]) -> list[str]:
    command = [sys.executable, "-m", "pati", "predict", str(model), "-", "--format", "csv"]
    listed = "\n".join(map(str, photos))
    done = subprocess.run(command, input=listed, capture_output=True, text=True, check=True)
    return [row["prediction"] for row in csv.DictReader(done.stdout.splitlines())]


def timed(model: Path, photos: list[Path]) -> float:
    started = time.monotonic()
    answers(model, photos)
    return time.monotonic() - started


def startup() -> dict[str, Any]:
    times = []
    for _ in range(11):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "pati", "--help"], capture_output=True, check=True)
        times.append(time.monotonic() - started)
    return {
        "command": "pati --help",
        "median_seconds": round(statistics.median(times), 3),
        "max_seconds": round(max(times), 3),
    }
