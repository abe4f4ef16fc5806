"""Cross-validation on small draws: does the stated interval hold the accuracy of the model that is kept?

Each draw is 100 photos of cats and 100 of dogs, trained with folds, for a few epochs or within a budget; the model is
then scored on 2,000 photos that took no part.
"""

from __future__ import annotations

import itertools
import os
import random
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from bench import small
from pati.evaluation.intervals import wilson
from pati.recipe import Recipe
from pati.report import figures
from pati.system import machine
from pati.workflows.train import train

DRAWS, EACH = 100, 100  # draws, and photos a class in each
BY_EPOCHS = Recipe(epochs=12, size=48, growth=(1.0,), model="pati", width=1.0, batch=32, folds=5)
BY_BUDGET = Recipe(budget=45, folds=5)
BUDGET_DRAWS = 20


def folds(draws: int = DRAWS) -> dict[str, Any]:
    """By epochs: two draws at once."""
    with tempfile.TemporaryDirectory() as folder:
        small.write(Path(folder))
        with ProcessPoolExecutor(machine.cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            rows = list(pool.map(_drawn, itertools.repeat(folder), range(draws), itertools.repeat(BY_EPOCHS)))
    return {"recipe": _changed(BY_EPOCHS), **_summary(rows)}


def folds_budget(draws: int = BUDGET_DRAWS) -> dict[str, Any]:
    """Within a budget, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        small.write(Path(folder))
        rows = [_drawn(folder, number, BY_BUDGET) for number in range(draws)]
    return {"recipe": _changed(BY_BUDGET), **_summary(rows)}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    widths = [row["interval"][1] - row["interval"][0] for row in rows]
    plain = [high - low for low, high in (wilson(row["accuracy"] * row["photos"], row["photos"]) for row in rows)]
    return {
        "draws": len(rows),
        "held": sum(row["interval"][0] <= row["kept"] <= row["interval"][1] for row in rows),
        "median_width": round(statistics.median(widths), 4),
        "of_wilson": round(statistics.median(np.array(widths) / np.array(plain)), 3),
        "mean_accuracy": round(statistics.mean(row["accuracy"] for row in rows), 4),
        "mean_kept": round(statistics.mean(row["kept"] for row in rows), 4),
        "rows": rows,
    }


def _drawn(folder: str, number: int, recipe: Recipe) -> dict[str, Any]:
    """One draw: the score and interval that are stated, and the accuracy of the model that is kept."""
    generator, sets = random.Random(number), Path(folder)
    with tempfile.TemporaryDirectory() as place, _undrawn(), mock.patch.dict(os.environ, PATI_CACHE=f"{place}/cache"):
        for label in sorted((sets / "cats-vs-dogs-1000").iterdir()):
            (Path(place) / "photos" / label.name).mkdir(parents=True)
            for file in generator.sample(sorted(label.iterdir()), EACH):
                os.link(file, Path(place) / "photos" / label.name / file.name)
        recipe = recipe.changed({"seed": number, "split_seed": number})
        result = train(Path(place) / "photos", recipe, out=Path(place) / "run")
    scores, held = result.metrics["test"], sorted((sets / "held" / "cats-vs-dogs").rglob("*.jpg"))
    answers = result.classifier.predict([str(file) for file in held])
    right = [answer.label == file.parent.name for file, answer in zip(held, answers, strict=True)]
    return {
        "draw": number,
        "photos": scores["photos"],
        "accuracy": round(scores["accuracy"], 4),
        "interval": [round(end, 4) for end in scores["accuracy_interval"]],
        "kept": round(sum(right) / len(right), 4),
        "epochs": [result.metrics["folds"][0]["epochs"], result.metrics["epochs"]],
    }


def _undrawn() -> Any:
    """Nobody looks at the figures."""
    return mock.patch.multiple(figures, _svg=lambda figure: "<svg></svg>", _png=lambda figure, **more: b"")


def _changed(recipe: Recipe) -> dict[str, Any]:
    usual = vars(Recipe())
    return {name: value for name, value in vars(recipe).items() if value != usual[name]}
