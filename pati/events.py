"""What a workflow tells while it is going on: one frozen dataclass an event.

Listeners take an event apart with `match`, ending with `assert_never`, so that a forgotten one is a type error.
Nothing that a workflow does depends on who listens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pati.data.manifest import Manifest
    from pati.recipe import Recipe, SettledRecipe
    from pati.runs.history import Epoch, Evenness
    from pati.training.plan import Outline, Plan
    from pati.workflows.tune_study import Trial


class Stage(StrEnum):
    """What is being done."""

    AUDIT = "audit"
    SPLIT = "split"
    LOOK = "look"
    CONTROL = "control"
    SCORE = "score"
    REPORT = "report"


class Work(StrEnum):
    """What is counted in an `Advanced`."""

    READING = "reading"
    ROBUSTNESS = "robustness"
    EXPLANATIONS = "explanations"


@dataclass(frozen=True)
class RunOpened:
    """A run begins or goes on. `outline`: what its budget will be spent on; `chosen`: the budget was not the user's."""

    folder: Path
    recipe: Recipe
    photos: int | None = None
    outline: Outline | None = None
    chosen: bool = False


@dataclass(frozen=True)
class StageBegan:
    """A part of the command, of so many `photos` where they are counted."""

    stage: Stage
    photos: int | None = None


@dataclass(frozen=True)
class Advanced:
    """So many photos are `done` of a `total`."""

    done: int
    total: int
    work: Work = Work.READING


@dataclass(frozen=True)
class DataRead:
    """The manifest is made; `reused`: of photos that had been decoded before."""

    manifest: Manifest
    reused: bool
    seconds: float


@dataclass(frozen=True)
class ClassesCounted:
    """How even the training photos' classes are, and the balancing method `advised` for that."""

    evenness: Evenness
    advised: str


@dataclass(frozen=True)
class Planned:
    """Training can begin, with so many photos in each split."""

    plan: Plan
    training: int
    validation: int
    test: int


@dataclass(frozen=True)
class TrainingBegan:
    """From this step on; `passed_over`: checkpoints that could not be used, and why."""

    step: int
    epoch: int
    passed_over: tuple[str, ...]


@dataclass(frozen=True)
class StepDone:
    """A step of training. `loss`: the mean of this epoch so far; `left`: seconds until the command ends."""

    step: int
    epoch: int
    progress: float
    size: int
    loss: float
    photos_per_second: float
    seconds: float
    left: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch and its look at the validation photos."""

    epoch: Epoch


@dataclass(frozen=True)
class Noted:
    """Something that a reader of the run should know."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something that may not be as the user thinks."""

    text: str


@dataclass(frozen=True)
class AlreadyFinished:
    """There is nothing left to do in this run."""


@dataclass(frozen=True)
class FoldBegan:
    """One of several trainings, each on the photos of the other folds."""

    number: int
    folds: int
    photos: int
    seconds: float | None


@dataclass(frozen=True)
class SearchBegan:
    """A search over these `fields`: for so many `trials` or a `budget` in seconds, judged by a metric, `score`."""

    folder: Path
    fields: tuple[str, ...]
    score: str
    trials: int | None
    budget: float | None
    recipe: SettledRecipe
    done: int
    validation: int


@dataclass(frozen=True)
class TrialAdvanced:
    """A step of a trial's training."""

    number: int
    progress: float
    left: float


@dataclass(frozen=True)
class TrialDone:
    """A trial has ended; `done` of `trials` have, and the search ends in `left` seconds."""

    trial: Trial
    score: str
    best: Trial | None
    done: int
    trials: int | None
    left: float


TrainingEvent = TrainingBegan | StepDone | EpochDone
Event = (
    RunOpened | StageBegan | Advanced | DataRead | ClassesCounted | Planned | TrainingEvent | Noted | Warned
    | AlreadyFinished | FoldBegan | SearchBegan | TrialAdvanced | TrialDone
)  # fmt: skip
Listen = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listens to nothing."""
