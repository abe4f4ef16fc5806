"""What a run's log keeps of its training: one row an epoch, and how even the classes were."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from pati.evaluation.documents import Balance
from pati.runs.run import Run


@dataclass(frozen=True)
class Epoch:
    """An epoch and its look at the validation photos. `seconds` of active training so far, `left` of the command; of
    older runs some are not known: not a number."""

    epoch: int
    step: int
    progress: float
    size: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    validation_macro_f1: float
    learning_rate: float
    photos_per_second: float
    seconds: float
    left: float

    def keep(self, run: Run) -> None:
        """Add it to the run's log."""
        run.append("epoch", self)


@dataclass(frozen=True)
class Evenness:
    """How a recipe balances classes, and how many times as many training photos the largest has as the smallest.

    `by_class`: whether scores that count all classes alike should lead.
    """

    method: str
    ratio: float
    by_class: bool

    def document(self) -> Balance:
        """As metrics.json keeps it."""
        return {"method": self.method, "ratio": self.ratio, "by_class": self.by_class}

    def keep(self, run: Run) -> None:
        """Add it to the run's log, once."""
        run.append_once("balance", self)


@dataclass(frozen=True)
class Reading:
    """How many files were read in how many seconds; `reused`: an earlier audit's decoded photos were used again."""

    files: int
    reused: bool
    seconds: float

    def keep(self, run: Run) -> None:
        """Add it to the run's log."""
        run.append("read", self)


def epochs(run: Run) -> list[Epoch]:
    """The epochs so far."""
    names = [item.name for item in dataclasses.fields(Epoch)]
    return [Epoch(**{name: row.get(name, float("nan")) for name in names}) for row in run.rows("epoch")]


def leads_by_class(run: Run) -> bool:
    """Whether scores that count all classes alike lead in this run."""
    return any(row["by_class"] for row in run.rows("balance"))
