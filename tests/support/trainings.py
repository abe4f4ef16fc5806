"""A small net on drawn pictures, trained by the loop alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pati import models
from pati.data.loader import Samples
from pati.data.preprocess import Preprocess
from pati.events import EpochDone, StepDone, TrainingEvent
from pati.recipe import Recipe
from pati.runs.history import Epoch
from pati.system.ranks import ALONE, Ranks
from pati.system.threads import Threads
from pati.training import loop, plan
from pati.training.budget import Budget
from tests.support.photos import SHAPES, draw
from tests.support.recipes import settled

CPU = torch.device("cpu")


RECIPE = settled(Recipe(model="scratch", epochs=4, size=32, batch=16, rotate=10, dropout=0.3, width=0.25, hue=0.1))


def samples(first: int, per_class: int) -> Samples:
    pictures = [np.asarray(draw(shape, n, 32)) for n in range(first, first + per_class) for shape in SHAPES]
    labels = torch.arange(len(pictures)) % 3
    return Samples(torch.tensor(np.stack(pictures)), torch.arange(len(pictures)), labels, 3)


TRAINING, VALIDATION = samples(0, 20), samples(100, 5)


def run(folder: Path, recipe: Recipe = RECIPE, *, stop_after: int | None = None, seconds: float | None = None,
        threads: Threads | None = None, preprocess: Preprocess = Preprocess(size=32), ranks: Ranks = ALONE,
        batch: int = 16) -> Any:  # fmt: skip
    options = models.Options(width=recipe.width, dropout=recipe.dropout, drop_path=recipe.drop_path, size=32)
    net = models.build(recipe.model, 3, options, seed=recipe.seed)
    steps = 0
    told: list[TrainingEvent] = []

    def log(event: TrainingEvent) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        told.append(event)

    paced = plan.Plan(
        batch=batch, sizes=(max(16, net.minimum_size), 32), costs=(0.25, 1.0), validated=15, epochs=recipe.epochs,
        budget=None if seconds is None else Budget(seconds, validated=15),
    )  # fmt: skip
    loop.train(
        net, TRAINING, VALIDATION, preprocess, recipe, paced, folder,
        owner="test", device=CPU, threads=threads, log=log, ranks=ranks,
        stopped=lambda: stop_after is not None and steps >= stop_after,
    )  # fmt: skip
    return net.state_dict(), told


def epochs(told: list[TrainingEvent]) -> list[Epoch]:
    return [event.epoch for event in told if isinstance(event, EpochDone)]


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)
