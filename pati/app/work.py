"""The process behind the page's runs: `python -m pati.app.work ORDER`, see `jobs`."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # a budget counts from here, before torch is imported

import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from pati.app import jobs  # noqa: E402
from pati.app.jobs import NAME, STOP, Order  # noqa: E402
from pati.errors import Interrupted, PatiError, from_os_error  # noqa: E402
from pati.events import (  # noqa: E402
    Advanced,
    EpochDone,
    Event,
    FoldBegan,
    NetworkBegan,
    Noted,
    Planned,
    StageBegan,
    StepDone,
    Warned,
)  # fmt: skip
from pati.locale.messages import N_, as_is  # noqa: E402
from pati.system import files, locks, signals  # noqa: E402

SECONDS = 0.5  # between two notes of progress


class Progress:
    """Listens to a workflow and keeps its progress in a file, for the page to read."""

    def __init__(self, path: Path, action: str) -> None:
        self._path, self._last = path, 0.0
        self._facts: jobs.Progress = {"process": os.getpid(), "action": action, "stage": "begin", "notes": []}
        self._write()

    def __call__(self, event: Event) -> None:
        """One event of a workflow."""
        match event:
            case StageBegan():
                self._facts |= {"stage": event.stage, "done": 0, "total": event.photos}
            case Planned():
                self._facts |= {"stage": "train", "done": 0.0, "total": 1.0, "fold": 0}
            case FoldBegan():
                self._facts |= {"stage": "train", "fold": event.number, "folds": event.folds}
            case NetworkBegan():
                self._facts |= {"stage": "train", "network": event.number, "networks": event.networks, "total": 1.0}
                self._facts["done"] = (event.number - 1) / event.networks
            case Noted() | Warned():
                self._facts["notes"].append(event.text.to_json())
            case Advanced():
                self._facts |= {"done": event.done, "total": event.total}
            case StepDone() if "networks" in self._facts:
                before = self._facts["network"] - 1
                self._facts["done"] = (before + event.progress) / self._facts["networks"]
            case StepDone():
                self._facts |= {"done": event.progress, "left": event.left, "epoch": event.epoch + 1}
        often = isinstance(event, Advanced | StepDone | EpochDone)
        if not often or time.monotonic() - self._last > SECONDS:
            self._write()

    def end(self, how: str, error: PatiError | None = None) -> None:
        """`how`: done, stopped or failed."""
        self._facts["ended"] = how
        if error is not None:
            self._facts["error"] = error.message.to_json()
            if error.hint is not None:
                self._facts["hint"] = error.hint.to_json()
        self._write()

    def _write(self) -> None:
        self._last = time.monotonic()
        files.write_json(self._path, self._facts)


def main(order: Order) -> None:
    """Do what is ordered, writing its progress."""
    with locks.locked(order.job / ".lock", as_is(""), wait=True), signals.on_stop(signals.interrupt):
        progress = Progress(order.job / NAME, order.action)
        try:
            with signals.on_file(order.job / STOP):
                _do(order, progress)
        except (Interrupted, KeyboardInterrupt):
            progress.end("stopped")
        except PatiError as error:
            progress.end("failed", error)
        except OSError as error:
            progress.end("failed", from_os_error(error))
        except Exception as error:
            reason = as_is(f"{type(error).__name__}: {error}")
            progress.end("failed", PatiError(reason, N_("details are in {path}", path=order.job / "output.txt")))
            raise
        else:
            progress.end("done")


def _do(order: Order, progress: Progress) -> None:
    from pati.data.sources.source import Columns
    from pati.plugins import load_plugin
    from pati.recipe import Recipe
    from pati.workflows import clean, learning_curve
    from pati.workflows.train import resume, train

    for path in order.plugins:
        load_plugin(path)
    folder = Path(order.folder)
    if order.action == "resume":
        resume(folder, started=STARTED, listen=progress)
    elif order.action == "clean":
        clean.clean(
            order.data, folder, folds=order.folds, budget=order.budget, started=STARTED, listen=progress
        )  # fmt: skip
    elif order.action == jobs.LEARNING_CURVE:
        learning_curve.learning_curve(
            order.data, Recipe.from_json(order.recipe), out=folder, columns=Columns(**order.columns), started=STARTED,
            listen=progress,
        )  # fmt: skip
    else:
        train(
            order.data,
            Recipe.from_json(order.recipe),
            out=folder,
            columns=Columns(**order.columns),
            decisions=Path(order.decisions) if order.decisions else None,
            start=order.start,
            started=STARTED,
            listen=progress,
        )


if __name__ == "__main__":
    main(Order(**json.loads(sys.argv[1])))
