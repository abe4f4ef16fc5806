"""The runs in a folder, each in a row: what can be said of them without reading photos or weights.

A folder that is no run, or whose files are damaged, is a row too, which says why.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message
from pati.runs import learning_curves
from pati.runs.run import LOCK, Run, RunStage
from pati.system import files, locks


class State(StrEnum):
    """The state of a run; `STOPPED`: it can be resumed."""

    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"
    DAMAGED = "damaged"
    OTHER = "not a run"


@dataclass(frozen=True)
class RunSummary:
    """A row; what is not known is None.

    `data`: a path or the name of a dataset; `accuracy`: on the test split, or in a cross-validation with so many
    `folds`, with its 95 % `interval`, in 0..1; `seconds`: active time; `begun`: when, in seconds since 1970; `problem`:
    why a row has the state `DAMAGED`.
    """

    folder: Path
    state: State
    data: str | None = None
    model: str | None = None
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    folds: int | None = None
    seconds: float | None = None
    begun: float | None = None
    problem: Message | None = None


def overview(folder: Path) -> list[RunSummary]:
    """The runs in a folder, or the run that it is: the last begun first, then what is no run and no learning curve.

    Raises `PatiError`.
    """
    if not folder.is_dir():
        raise PatiError(
            N_("the folder {folder} does not exist", folder=folder),
            N_("`pati train` writes to the folder runs where it is started; for others: pati runs FOLDER"),
        )
    if _is_run(folder):
        return [_summary(folder)]
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    rows = [_summary(folder / name) for name in names if not (folder / name / learning_curves.SETTINGS).exists()]
    return sorted(rows, key=lambda row: -(row.begun or 0))


def _is_run(folder: Path) -> bool:
    return os.path.lexists(Run(folder).recipe) or os.path.lexists(Run(folder).state)


def _summary(folder: Path) -> RunSummary:
    try:
        return _read(Run(folder)) if _is_run(folder) else RunSummary(folder, State.OTHER)
    except PatiError as error:
        return RunSummary(folder, State.DAMAGED, problem=error.message)
    except OSError as error:
        return RunSummary(folder, State.DAMAGED, problem=os_reason(error))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        damaged = N_("its files are damaged ({kind}: {error})", kind=type(error).__name__, error=str(error))
        return RunSummary(folder, State.DAMAGED, problem=damaged)


def _read(run: Run) -> RunSummary:
    state, stage = run.read_state(), run.stage
    data, model = state.get("data"), files.read_json(run.recipe).get("model")
    accuracy, interval, folds, seconds = None, None, None, run.read_elapsed()
    if stage is RunStage.DONE or run.metrics.exists():
        document = run.read_metrics()
        scores = document["test"]
        low, high = scores["accuracy_interval"]
        accuracy, interval = _share(scores["accuracy"]), (_share(low), _share(high))
        folds = len(document.get("folds", []))
        seconds = float(document["seconds"]["command"])
    return RunSummary(
        run.folder,
        State.DONE if stage is RunStage.DONE else State.RUNNING if _is_running(run) else State.STOPPED,
        None if data is None else str(data),
        None if model is None else str(model),
        accuracy,
        interval,
        folds,
        seconds,
        run.recipe.stat().st_mtime,  # written once; the other files change when a run is resumed or evaluated
    )


def _is_running(run: Run) -> bool:
    with contextlib.suppress(PatiError, OSError):  # of another user, or without locks
        return locks.is_locked(run.folder / LOCK)
    return False


def _share(value: float) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is no share")
    return float(value)
