"""The events that workflows report while they run, one frozen dataclass per event.

Listeners dispatch with `match` and end with `assert_never`, so that a forgotten event is a type error. Listeners cannot
change what a workflow does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pati.locale.messages import Message

if TYPE_CHECKING:
    from pati.data.manifest import Manifest
    from pati.evaluation.documents import Ancestor, FoldFacts
    from pati.recipe import Recipe, SettledRecipe
    from pati.runs.history import ClassBalance, Epoch
    from pati.training.plan import Outline, Plan
    from pati.workflows.tune_study import Trial


class Stage(StrEnum):
    """The current stage of a command."""

    AUDIT = "audit"
    SPLIT = "split"
    INSPECT = "look"
    CONTROL = "control"
    SCORE = "score"
    REPORT = "report"
    EXPORT = "export"


class Work(StrEnum):
    """What an `Advanced` event counts."""

    READING = "reading"
    ROBUSTNESS = "robustness"
    EXPLANATIONS = "explanations"


@dataclass(frozen=True)
class RunOpened:
    """A run starts or resumes. `outline`: the planned use of its budget; `chosen`: whether pati chose the budget.

    `lineage`: the models that it starts from, the last one first.
    """

    folder: Path
    recipe: Recipe
    photos: int | None = None
    outline: Outline | None = None
    chosen: bool = False
    lineage: tuple[Ancestor, ...] = ()


@dataclass(frozen=True)
class StageBegan:
    """A stage of the command begins; `photos`: how many it will process, where that is known."""

    stage: Stage
    photos: int | None = None


@dataclass(frozen=True)
class Advanced:
    """`done` of `total` photos have been processed."""

    done: int
    total: int
    work: Work = Work.READING


@dataclass(frozen=True)
class DataRead:
    """The manifest is ready; `reused`: the decoded photos came from the cache."""

    manifest: Manifest
    reused: bool
    seconds: float


@dataclass(frozen=True)
class ClassesCounted:
    """Class balance of the training photos, and the balancing method `advised` for it."""

    class_balance: ClassBalance
    advised: str


@dataclass(frozen=True)
class Planned:
    """Training can begin; with the number of photos in each split."""

    plan: Plan
    training: int
    validation: int
    test: int


@dataclass(frozen=True)
class TrainingBegan:
    """Training starts at this step. `skipped`: why newer checkpoints were skipped."""

    step: int
    epoch: int
    skipped: tuple[Message, ...]


@dataclass(frozen=True)
class StepDone:
    """One training step. `loss`: running mean over the current epoch; `left`: seconds until the command ends."""

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
    """An epoch and its validation are finished."""

    epoch: Epoch


@dataclass(frozen=True)
class Noted:
    """Something that a reader of the run should know."""

    text: Message


@dataclass(frozen=True)
class Warned:
    """Something that may not be as the user expects."""

    text: Message


@dataclass(frozen=True)
class AlreadyFinished:
    """The run is complete; there is nothing left to do."""


@dataclass(frozen=True)
class FoldsPlanned:
    """The score will come from cross-validation.

    `tested`: about how many photos a test split would have; `chosen`: pati chose the number of `folds`.
    """

    folds: int
    tested: int
    chosen: bool


@dataclass(frozen=True)
class FoldBegan:
    """The training run of one cross-validation fold starts, on the photos of the other folds."""

    number: int
    folds: int
    photos: int
    seconds: float | None


@dataclass(frozen=True)
class FoldDone:
    """A cross-validation fold has been predicted."""

    number: int
    folds: int
    facts: FoldFacts


@dataclass(frozen=True)
class NetworkBegan:
    """The training run of one of the networks of a learning curve starts; `seconds`: None for epochs."""

    number: int
    networks: int
    photos: int
    seconds: float | None


@dataclass(frozen=True)
class SearchBegan:
    """A hyperparameter search over `fields` starts, limited by `trials` or by a `budget` in seconds.

    `score` is the name of the metric that is maximised.
    """

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
    """One training step of a trial."""

    number: int
    progress: float
    left: float


@dataclass(frozen=True)
class TrialDone:
    """A trial has finished; `done` of `trials` have, and the search ends in `left` seconds."""

    trial: Trial
    score: str
    best: Trial | None
    done: int
    trials: int | None
    left: float


TrainingEvent = TrainingBegan | StepDone | EpochDone
Event = (
    RunOpened | StageBegan | Advanced | DataRead | ClassesCounted | Planned | TrainingEvent | Noted | Warned
    | AlreadyFinished | FoldsPlanned | FoldBegan | FoldDone | NetworkBegan | SearchBegan | TrialAdvanced | TrialDone
)  # fmt: skip
Listen = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore the event."""
