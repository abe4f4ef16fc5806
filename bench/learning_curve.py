"""How well `pati learning-curve` predicts: from a quarter of the photos, the accuracy with all of them.

Of each draw of 2,000 photos, a random quarter is measured by the command. Networks of the same recipe are then trained
on all 2,000, for as many steps as those of the quarter, and scored on 2,000 other photos. The trainings are short, on
small copies, so that 30 draws take about half an hour.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import random
import statistics
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import torch

from bench.command import commit
from bench.runs import KEPT
from pati.data import decode, loader
from pati.data.loader import Samples
from pati.data.sources import storage
from pati.data.sources.source import Columns, Item, Source
from pati.events import silent
from pati.inference.splits import all_logits
from pati.recipe import Recipe
from pati.workflows.fit import fit
from pati.workflows.learning_curve import Settings, learning_curve
from pati.workflows.opening import open_data
from pati.workflows.prepare import Prepared, prepare

QUARTER, TIMES, HELD_BACK = 500, 4, 2000
FEWEST = 60  # photos of a class in the whole set: a rarer one would have hardly any in a quarter
SEEDS = (1, 2)  # of the networks on all photos
DRAWS = 15  # of each set
RECIPE = Recipe(epochs=24, model="pati", size=32, width=0.5, growth=(1.0,), batch=32)


def learning_curves(draws: int = DRAWS) -> dict[str, Any]:
    sets = ("cats-vs-dogs", str(Path(os.environ["PATI_MIRROR"]) / "clothing.zip"))
    wanted = [(name, seed) for seed in range(draws) for name in sets]
    context, cores = multiprocessing.get_context("spawn"), os.sched_getaffinity(0)
    waiting = context.Queue()
    for core in cores:
        waiting.put(core)
    with ProcessPoolExecutor(len(cores), context, initializer=take_core, initargs=(waiting,)) as pool:
        rows = list(pool.map(one, *zip(*wanted, strict=True)))
    errors = [row["predicted"] - row["truth"] for row in rows]
    return {
        "recipe": f"{RECIPE.epochs} epochs at {RECIPE.size} px, width {RECIPE.width}, batches of {RECIPE.batch}",
        "photos": {"quarter": QUARTER, "all": TIMES * QUARTER, "held_back": HELD_BACK},
        "mean_absolute_error": round(statistics.mean(map(abs, errors)), 4),
        "mean_error": round(statistics.mean(errors), 4),
        "held": sum(row["interval"][0] <= row["truth"] <= row["interval"][1] for row in rows),
        "of": len(rows),
        "mean_width": round(statistics.mean(row["interval"][1] - row["interval"][0] for row in rows), 4),
        "draws": rows,
    }


def take_core(waiting: Queue[int]) -> None:
    """Each process computes on a core of its own."""
    os.sched_setaffinity(0, {waiting.get()})
    torch.set_num_threads(1)


def one(name: str, seed: int) -> dict[str, Any]:
    """A draw: the prediction, and the truth; kept, so that a measurement that was cut goes on."""
    kept = KEPT / f"learning-curve-{commit()}" / f"{Path(name).stem}-{seed}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(measured(name, seed)))
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def measured(name: str, seed: int) -> dict[str, Any]:
    source = open_data(name, Recipe(), Columns())
    order = drawn(source, seed)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        whole = order[: TIMES * QUARTER]
        write(source, random.Random(seed).sample(whole, QUARTER), base / "quarter")
        write(source, whole, base / "all" / "train")
        write(source, order[-HELD_BACK:], base / "all" / "test")
        document = learning_curve(base / "quarter", RECIPE, out=base / "curve", listen=silent)
        settings = Settings.read(base / "curve")
        assert settings is not None
        epochs = round((RECIPE.epochs or 1) / TIMES)
        recipe = settings.recipe.changed({"epochs": epochs, "folds": 0})
        truths = [
            scored(prepare(base / "all", recipe.changed({"seed": number}), listen=silent), base / str(number))
            for number in SEEDS
        ]
    prediction = document["more_photos"][-1]
    return {
        "set": source.name,
        "seed": seed,
        "points": [[row["photos"], row["length"], round(row["accuracy"], 4)] for row in document["points"]],
        "now": round(document["now"]["accuracy"], 4),
        "predicted": round(prediction["accuracy"], 4),
        "interval": [round(end, 4) for end in prediction["interval"]],
        "truth": round(statistics.mean(truths), 4),
        "truths": [round(truth, 4) for truth in truths],
    }


def drawn(source: Source, seed: int) -> list[Item]:
    """The photos in a random order in which each class is spread evenly, without rare classes."""
    generator = random.Random(seed)
    counts = Counter(item.label for item in source.items)
    usual = [
        item
        for item in source.items
        if counts[item.label] >= FEWEST and not decode.is_system_file(Path(item.path).name)
    ]
    place: Counter[str] = Counter()
    keyed = []
    for item in generator.sample(usual, len(usual)):
        place[item.label] += 1
        keyed.append((place[item.label] / (counts[item.label] + 1), len(keyed), item))
    return [item for _, _, item in sorted(keyed, key=lambda row: row[:2])]


def write(source: Source, items: list[Item], folder: Path) -> None:
    """Copies of the photos, in a folder for each class."""
    store = storage.at(source.root)
    for number, item in enumerate(items):
        target = folder / item.label / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(store.read(item.path))


def scored(ready: Prepared, checkpoints: Path) -> float:
    """Accuracy on the test photos of a network trained on all others."""
    manifest = ready.manifest
    entries = [*manifest.of_split("train"), *manifest.of_split("validation")]
    everything = dataclasses.replace(
        ready,
        training=loader.samples(ready.packed, manifest, entries),
        validation=ready.validation.take(torch.zeros(0, dtype=torch.int64)),
    ).trained_on(torch.arange(len(entries)))
    net, _ = fit(everything, checkpoints, owner="", seconds=None, stopped=lambda: False, log=silent)
    held: Samples = loader.samples(ready.packed, manifest, manifest.of_split("test"))
    right = all_logits(everything.classifier(net), held).argmax(1) == held.labels
    return float(right.double().mean())
