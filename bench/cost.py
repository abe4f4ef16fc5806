"""What a training step costs by size and width: the figures that the planner's constants come from.

Fits `plan.COST`, `budget.FORWARD`, `speed.LOOP_SHARE` and `speed.READ_SHARE`, and says how far off the fit is. In the
number format that is faster on this processor, or in float32.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F

from pati import models
from pati.data import pack
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.inference.classifier import Classifier
from pati.recipe import Recipe
from pati.system import machine
from pati.training import plan, speed
from pati.training.augment import Draws, augment
from pati.training.optim import Optimizers
from tests.support.recipes import settled

BATCH = 128
SIZES, WIDTHS = (48, 64, 80, 96, 128, 160), (1.0, 1.5, 2.0)
SIZES_OF = {"pati-thumbnail": (32, 48)}


def median_seconds(work: Callable[[], object], repeats: int = 7) -> float:
    work()  # the first time is slower
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def cost(precision: str | None = None) -> dict[str, Any]:
    machine.keep_blocks()
    precision = precision or machine.faster_precision()
    rows = {
        model: [of(model, size, width, precision) for width in WIDTHS for size in SIZES_OF.get(model, SIZES)]
        for model in plan.COST[precision]
    }
    standard = next(row for row in rows[plan.DEFAULT_MODEL] if row["size"] == plan.STANDARD and row["width"] == 1.0)
    fits = {model: fit(found, standard["step"]) for model, found in rows.items()}
    bare = speed.of_training(None, precision, torch.device("cpu")) / speed.LOOP_SHARE
    with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:2000:20]
        photos = [archive.read(name) for name in names]
    return {
        "precision": precision,
        "batch": BATCH,
        "rows": rows,
        "COST": {model: found for model, (found, _) in fits.items()},
        "largest_error_of_fit": {model: error for model, (_, error) in fits.items()},
        "FORWARD": round(statistics.median(row["predict"] / row["step"] for row in chain(*rows.values())), 2),
        "LOOP_SHARE": round(1 / standard["step"] / bare, 2),
        "READ_SHARE": round(speed.of_reading(photos) * speed.READ_SHARE / reading(), 2),
    }


def fit(rows: list[dict[str, Any]], standard: float) -> tuple[list[float], float]:
    """The three parts of `plan.cost`, and the largest relative error."""
    pixels = np.array([(row["size"] / plan.STANDARD) ** 2 for row in rows])
    widths = np.array([row["width"] for row in rows])
    measured = np.array([row["step"] / standard for row in rows])
    terms = np.stack([widths**2, pixels, pixels * widths**2], 1) / measured[:, None]  # relative errors count
    fitted = np.linalg.lstsq(terms, np.ones(len(rows)), rcond=None)[0]
    return [round(float(value), 3) for value in fitted], round(float(np.abs(terms @ fitted - 1).max()), 3)


def of(model: str, size: int, width: float, precision: str) -> dict[str, Any]:
    """Seconds for one photo: a step of the loop, and a prediction without its mirror image."""
    recipe = settled(Recipe(model=model, epochs=1, size=size, width=width, batch=BATCH), photos=16_000)
    preprocess = Preprocess(size=size)
    net = models.build(model, 2, models.Options(width=width))
    optimizers = Optimizers(net, recipe)
    pixels = torch.randint(0, 256, (BATCH, size, size, 3), dtype=torch.uint8)
    targets = F.one_hot(torch.arange(BATCH) % 2).float()

    def step() -> None:
        images = augment(pixels, Draws(0, 0, torch.arange(BATCH)), recipe, preprocess, size)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = net(images)
        F.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
        optimizers.step(0.5)

    taken = median_seconds(step) / BATCH
    made = Classifier(net, preprocess, ["cat", "dog"], mirror=False, facts={}, precision=precision)
    return {"size": size, "width": width, "step": taken, "predict": median_seconds(lambda: made.logits(pixels)) / BATCH}


def reading() -> float:
    """Seconds a photo of cats-vs-dogs takes to be read into a new pack, by all cores."""
    with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, PATI_CACHE=cache):
        source = find_source("cats-vs-dogs")
        started = time.monotonic()
        pack.open_or_build(source, Preprocess(size=plan.STANDARD))
        return (time.monotonic() - started) / len(source.items)
