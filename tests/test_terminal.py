"""What a terminal shows of scores."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pati.evaluation import metrics
from pati.events import ClassesCounted, EpochDone, RunOpened
from pati.recipe import Recipe
from pati.runs.history import ClassBalance, Epoch
from pati.terminal.console import duration
from pati.terminal.progress import Watch
from pati.terminal.tables import show_scores
from pati.training.plan import Outline
from tests.support.recipes import settled


def shown(**more: Any) -> str:
    logits = torch.eye(2)[[0, 0, 0, 0, 0, 0, 0, 1]]
    document = metrics.summary(logits, torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), ("cat", "dog")) | more
    screen = Console(file=io.StringIO(), width=100)
    show_scores(document, document.get("balance"), screen)
    return next(line for line in screen.file.getvalue().splitlines() if "accuracy" in line)  # type: ignore[attr-defined]


def test_accuracy_leads_where_classes_are_even() -> None:
    for line in (shown(), shown(balance={"method": "none", "ratio": 1.0, "by_class": False})):
        assert line.startswith("accuracy 87.5 %")
        assert re.search(r", macro F1 0\.795 \(0\.\d{3} to [01]\.\d{3}\)$", line)  # F1 of 12/13 and 2/3


def test_scores_by_class_lead_where_they_are_not() -> None:
    line = shown(balance={"method": "none", "ratio": 3.0, "by_class": True})
    assert re.match(r"macro F1 0\.795 \(.*\), balanced accuracy 75\.0 % \(.*\), accuracy 87\.5 %", line)


@pytest.mark.parametrize("by_class", [True, False])
def test_epochs_show_macro_f1_where_classes_are_uneven(by_class: bool, capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    watch(ClassesCounted(ClassBalance("none", 9.0, by_class), "sampling"))
    watch(
        EpochDone(
            Epoch(
                epoch=1, step=10, progress=0.5, size=32, train_loss=0.5, train_accuracy=0.75, validation_loss=0.6,
                validation_accuracy=0.7, validation_macro_f1=0.654, learning_rate=0.1, photos_per_second=100.0,
                seconds=3.0, left=4.0,
            )
        )
    )  # fmt: skip
    line = capsys.readouterr().err.splitlines()[-1]
    assert ("valid F1 0.654" in line) == by_class
    assert "valid % 70.0" in line


def test_the_first_lines_say_what_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    recipe = settled(Recipe(model="pati", size=112, budget=300.0))
    outline = Outline(reading=12.4, folds=0.0, training=250.0, after=37.6, passes=14.2)
    watch(RunOpened(Path("runs/x-1"), recipe, photos=244, outline=outline, chosen=True))
    assert " ".join(capsys.readouterr().err.split()) == (
        "run: runs/x-1: pati at 112 px, time budget 5 min (chosen for 244 photos; --budget changes it), seed 0 "
        "plan: about 12 s to start and read, 4.2 min of training (epochs: about 14), 38 s to score and report"
    )
    halves = Outline(reading=12.4, folds=125.0, training=125.0, after=37.6, passes=14.2)
    watch(RunOpened(Path("runs/x-1"), recipe, photos=244, outline=halves, chosen=True))
    assert "12 s to start and read, 2.1 min of cross-validation, 2.1 min of training" in capsys.readouterr().err
    watch(RunOpened(Path("runs/x-1"), settled(Recipe(model="pati", size=112, epochs=3)), photos=244))
    assert capsys.readouterr().err.strip() == "run: runs/x-1: pati at 112 px, 3 epochs, seed 0"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (45, "45 s"), (99.4, "99 s"), (150, "2.5 min"), (300, "5 min"), (5990, "99.8 min"), (5999, "1 h 40 min"),
        (7190, "2 h"), (7830, "2 h 10 min"),
    ],
)  # fmt: skip
def test_durations_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told
