"""Rows of a run's log about its training: one per epoch, and the class balance."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from pati.evaluation.documents import Balance
from pati.runs.run import Run


@dataclass(frozen=True)
class Epoch:
    """An epoch with its validation, if there are validation photos.

    `seconds`: active training time so far; `left`: remaining seconds of the command. Missing values are NaN: those of
    the validation, and what older runs did not store.
    """

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
        """Append it to the run's log."""
        run.append("epoch", self)

    @property
    def validated(self) -> bool:
        """Whether there are validation values."""
        return not math.isnan(self.validation_loss)


@dataclass(frozen=True)
class ClassBalance:
    """The balancing method of a recipe, and the ratio of training photos in the largest and smallest class.

    `by_class`: whether scores that weight all classes equally are the main ones.
    """

    method: str
    ratio: float
    by_class: bool

    def document(self) -> Balance:
        """As stored in metrics.json."""
        return {"method": self.method, "ratio": self.ratio, "by_class": self.by_class}

    def keep(self, run: Run) -> None:
        """Append it to the run's log, once."""
        run.append_once("balance", self)


@dataclass(frozen=True)
class Reading:
    """How many files were read in how many seconds; `reused`: the decoded photos came from the cache."""

    files: int
    reused: bool
    seconds: float

    def keep(self, run: Run) -> None:
        """Append it to the run's log."""
        run.append("read", self)


def epochs(run: Run) -> list[Epoch]:
    """The epochs trained so far."""
    names = [item.name for item in dataclasses.fields(Epoch)]
    return [Epoch(**{name: row.get(name, float("nan")) for name in names}) for row in run.rows("epoch")]


def leads_by_class(run: Run) -> bool:
    """Whether scores that weight all classes equally are the main ones in this run."""
    return any(row["by_class"] for row in run.rows("balance"))
