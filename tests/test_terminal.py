"""What a terminal shows of scores."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
import torch
from rich.console import Console

from pati import metrics, terminal


def shown(**more: Any) -> str:
    logits = torch.eye(2)[[0, 0, 0, 0, 0, 0, 0, 1]]
    document = metrics.summary(logits, torch.tensor([0, 0, 0, 0, 0, 0, 1, 1]), ("cat", "dog")) | more
    screen = Console(file=io.StringIO(), width=100)
    terminal.show_scores(document, screen)
    return screen.file.getvalue().splitlines()[-1]  # type: ignore[attr-defined]


def test_accuracy_leads_where_classes_are_even() -> None:
    for line in (shown(), shown(balance={"method": "none", "ratio": 1.0, "by_class": False})):
        assert line.startswith("accuracy 87.5 %")
        assert re.search(r", macro F1 0\.795 \(0\.\d{3} to [01]\.\d{3}\)$", line)  # F1 of 12/13 and 2/3


def test_scores_by_class_lead_where_they_are_not() -> None:
    line = shown(balance={"method": "none", "ratio": 3.0, "by_class": True})
    assert re.match(r"macro F1 0\.795 \(.*\), balanced accuracy 75\.0 % \(.*\), accuracy 87\.5 %", line)


@pytest.mark.parametrize("by_class", [True, False])
def test_epochs_show_macro_f1_where_classes_are_uneven(by_class: bool, capsys: pytest.CaptureFixture[str]) -> None:
    watch = terminal.Watch()
    watch({"kind": "balance", "method": "none", "advised": "sampling", "ratio": 9.0, "by_class": by_class})
    watch(
        {
            "kind": "epoch", "epoch": 1, "size": 32, "train_loss": 0.5, "train_accuracy": 0.75, "validation_loss": 0.6,
            "validation_accuracy": 0.7, "validation_macro_f1": 0.654, "photos_per_second": 100.0, "seconds": 3.0,
            "left": 4.0,
        }
    )  # fmt: skip
    line = capsys.readouterr().err.splitlines()[-1]
    assert ("valid F1 0.654" in line) == by_class
    assert "valid % 70.0" in line
