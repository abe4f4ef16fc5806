"""The run folder: the names of its files, and the state of the run.

Knows names and JSON, not their meaning.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack, cast

from pati import plugins
from pati.errors import Interrupted, PatiError, os_reason
from pati.evaluation.documents import RunDocument
from pati.locale.messages import N_, Message, MessageDocument
from pati.plugins import PluginState
from pati.recipe import Recipe
from pati.system import files, locks, machine
from pati.system.version import VERSION

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from pati.data.sources.source import ColumnsDocument

FORMAT = 2
LOCK = ".lock"  # locked by the process that works on the run; the mere existence of the file means nothing


class RunStage(StrEnum):
    """The stages of a run, in order."""

    STARTED = "started"
    TRAINING = "training"
    SCORED = "scored"
    DONE = "done"


class BudgetDocument(TypedDict):
    """See `pati.training.budget.Budget`."""

    seconds: float
    validated: int
    statistics: NotRequired[float]
    answers: int
    answer_seconds: float
    answer_cost: float
    report: float
    python: float
    spare: float


class PlanDocument(TypedDict):
    """See `pati.training.plan.Plan`."""

    batch: int
    sizes: list[int]
    costs: list[float]
    validated: int
    epochs: int | None
    budget: BudgetDocument | None
    seconds: float | None


class RunFacts(TypedDict, total=False):
    """The fields of run.json except the stage.

    `speed`: of the machine at the start, see `pati.training.speed`; `most_folds`: see `workflows.prepare.Settled`;
    `threads`: of torch at the start; `processes`: that trained together then; `start`: the SHA-256 of what it started
    from, see `pati.runs.start`; `test_scored`: how often test photos were scored; `folds_until`: seconds of the command
    after which the training of the folds ends; `language`: the one that the report shows first.
    """

    format: int
    test_scored: int
    versions: dict[str, str]
    data: str
    columns: ColumnsDocument
    speed: float
    most_folds: int | None
    threads: int
    processes: int
    start: str
    plugins: dict[str, PluginState]
    plan: PlanDocument
    folds_until: float
    language: str


class RunState(RunFacts, total=False):
    """The contents of run.json."""

    stage: str


@dataclass(frozen=True)
class Note:
    """Something that a reader of the run should know."""

    text: MessageDocument


@dataclass(frozen=True)
class _Scoring:
    data: str
    test_photos: int
    time: int
    weights: str  # hash of the scored network


@dataclass(frozen=True)
class Run:
    """The folder of one training run."""

    folder: Path

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.json"

    @property
    def state(self) -> Path:
        return self.folder / "run.json"

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.jsonl"

    @property
    def decisions(self) -> Path:
        return self.folder / "decisions.csv"

    @property
    def start(self) -> Path:
        return self.folder / "start.json"

    @property
    def start_weights(self) -> Path:
        return self.folder / "start.safetensors"

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def elapsed(self) -> Path:
        return self.folder / "elapsed.txt"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.npz"

    @property
    def folds(self) -> Path:
        """Cross-validation folds: predictions and networks."""
        return self.folder / "folds"

    def fold_model(self, fold: int) -> Path:
        """The network that was not trained on the photos of a fold, numbered from 0."""
        return self.folds / f"{fold + 1}.safetensors"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.json"

    @property
    def model(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def card(self) -> Path:
        return self.folder / "model-card.md"

    @property
    def figures(self) -> Path:
        return self.folder / "figures"

    @property
    def job(self) -> Path:
        """Files of the web app about the process that works on the run."""
        return self.folder / "job"

    @classmethod
    def claim(cls, folder: Path | None, name: str) -> Run:
        """The folder for a new run; None picks runs/NAME-1, -2, … Raises `PatiError` if it can't be used."""
        if folder is None:
            return cls(claimed(Path("runs"), name))
        if folder.is_file():
            raise PatiError(N_("--out {folder} is a file, expected a folder", folder=folder))
        run = cls(folder)
        if not (folder / LOCK).exists():
            run._require_free()  # before creating a lock file in a folder that is not ours
        try:
            folder.mkdir(parents=True, exist_ok=True)
            writable = os.access(folder, os.W_OK)
        except OSError as error:
            raise PatiError(
                N_("can't create {folder}: {reason}", folder=folder, reason=os_reason(error)),
                N_("choose another folder with --out"),
            ) from None
        if not writable:
            raise PatiError(N_("can't write to {folder}", folder=folder), N_("choose another folder with --out"))
        return run

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Lock the run for this process; raises `PatiError` if another process has locked it."""
        return locks.locked(self.folder / LOCK, N_("another process is using {folder}", folder=self.folder))

    def begin(
        self, recipe: Recipe, given: Mapping[Path, bytes] = MappingProxyType({}), **facts: Unpack[RunFacts]
    ) -> None:
        """Write the initial files of a run, with the contents of those that were `given`.

        Raises `PatiError` if the folder contains a run or other files.
        """
        for leftover in self._require_free():
            leftover.unlink(missing_ok=True)
        files.write_json(self.recipe, recipe.to_json())
        for path, data in given.items():
            files.write_bytes(path, data)
        self._write({"format": FORMAT, "stage": RunStage.STARTED, "test_scored": 0, "versions": versions(), **facts})

    @contextlib.contextmanager
    def discarded_if_refused(self) -> Iterator[None]:
        """Context manager that removes the run if it can't be trained, as with one class only: nothing was made yet.

        The folder of a job of the web app stays: the page shows why it ended.
        """
        try:
            yield
        except Interrupted:
            raise
        except PatiError:
            if not self.trained() and not self.job.exists():
                for path in self._own() | {self.folder / LOCK}:
                    with contextlib.suppress(OSError):
                        path.unlink()
                with contextlib.suppress(OSError):
                    self.folder.rmdir()
            raise

    def _own(self) -> set[Path]:
        """The files that a run has before it is trained."""
        return {
            self.recipe, self.state, self.manifest, self.decisions, self.start, self.start_weights, self.log,
            self.elapsed,
        }  # fmt: skip

    def _require_free(self) -> list[Path]:
        """Leftovers of an earlier start that never came to training; raises `PatiError` for anything else."""
        if self.trained():
            again = plugins.command("train", "--resume", str(self.folder))
            raise PatiError(
                N_("{folder} already contains a run", folder=self.folder),
                N_("resume it with: {again}; or choose another folder with --out", again=again),
            )
        own = self._own() if self.recipe.exists() else set()
        here = [path for path in self.folder.glob("*") if path.name != LOCK and path != self.job]
        strange = sorted(path.name for path in here if path not in own and not files.is_unfinished(path))
        if strange:
            raise PatiError(
                N_("--out {folder} is not empty ({names})", folder=self.folder, names=strange[:3]),
                N_("choose a new or empty folder"),
            )
        return here

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The folder of an existing run; raises `PatiError` for anything else."""
        run = cls(Path(folder))
        if not run.recipe.is_file() or not run.state.is_file():
            raise PatiError(
                N_("{folder} is not the folder of a run", folder=folder),
                N_("expected a folder written by `pati train`"),
            )
        return run

    def trained(self) -> bool:
        """Whether the folder contains training that a new start would lose."""
        if self.checkpoints.exists() or self.folds.exists() or self.model.exists():
            return True
        return self.state.exists() and self.stage is not RunStage.STARTED

    def read_metrics(self) -> RunDocument:
        """The contents of metrics.json of a finished run; raises `PatiError` if it is damaged or missing."""
        with self.reading_scores():
            return cast(RunDocument, dict(json.loads(self.metrics.read_text(encoding="utf-8"))))

    @contextlib.contextmanager
    def reading_scores(self) -> Iterator[None]:
        """Turn errors from reading a damaged metrics.json or predictions.npz into `PatiError`."""
        try:
            yield
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise PatiError(
                N_("can't read the scores of {folder}: {error}", folder=self.folder, error=error),
                N_("metrics.json or predictions.npz is damaged"),
            ) from None

    def read_state(self) -> RunState:
        """The contents of run.json. Raises `PatiError`."""
        try:
            document = json.loads(self.state.read_text(encoding="utf-8"))
            version = document["format"]
            if version != FORMAT:
                newer = isinstance(version, int) and version > FORMAT
                raise PatiError(
                    N_(
                        "{path} has format {version}, this pati reads {format}",
                        path=self.state,
                        version=repr(version),
                        format=FORMAT,
                    ),
                    N_("update pati") if newer else N_("resume it with the version that started it, or train it again"),
                )
            return cast(RunState, dict(document))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PatiError(N_("can't read {path}: {error}", path=self.state, error=error)) from None

    @property
    def stage(self) -> RunStage:
        """The current stage."""
        return RunStage(self.read_state()["stage"])

    def enter(self, stage: RunStage, **changes: Unpack[RunFacts]) -> None:
        """Set the stage and other fields of run.json. A resumed run repeats steps, but never goes back a stage."""
        order = list(RunStage)
        now, then = order.index(self.stage), order.index(stage)
        if then > now + 1:
            raise ValueError(f"a run at the stage {self.stage} can't come to {stage}")
        self._write({**self.read_state(), **changes, "stage": order[max(now, then)]})

    def note(self, text: Message) -> None:
        """Log something that a reader of the run should know, once."""
        self.append_once("note", Note(text.to_json()))

    def update(self, **changes: Unpack[RunFacts]) -> None:
        """Set fields of run.json."""
        self._write({**self.read_state(), **changes})

    def _write(self, state: RunState) -> None:
        files.write_json(self.state, state)

    def read_elapsed(self) -> float:
        """Active seconds of the run's command over all its sessions, as last written by `keep_elapsed`."""
        with contextlib.suppress(OSError, ValueError):
            seconds = float(self.elapsed.read_text(encoding="utf-8"))
            if math.isfinite(seconds):
                return max(0.0, seconds)
        return 0.0

    def keep_elapsed(self, seconds: float) -> None:
        """Write how long the run's command has taken so far, for the case that the process is killed."""
        with contextlib.suppress(OSError):  # training continues on a full disk
            files.replace_text(self.elapsed, f"{seconds:.2f}\n")

    def append(self, kind: str, facts: DataclassInstance) -> None:
        """Append a row to log.jsonl, on a new line even if a full disk truncated the last one."""
        row = {"kind": kind, **{name: value for name, value in asdict(facts).items() if value == value}}  # without NaN
        with self.log.open("ab+") as file:
            torn = False
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
            file.write(b"\n" * torn + json.dumps(row).encode() + b"\n")

    def append_once(self, kind: str, facts: DataclassInstance) -> None:
        """The same, unless the log already contains this row."""
        if {"kind": kind, **asdict(facts)} not in self.rows(kind):
            self.append(kind, facts)

    def count_scoring(self, data: str, photos: int, weights: str) -> int:
        """Log that `photos` test photos were scored as part of `data`, by a network with the hash `weights`.

        Returns how often this has been done.
        """
        times = int(self.read_state()["test_scored"]) + 1
        self.append("scoring", _Scoring(data, photos, times, weights))
        self.update(test_scored=times)
        return times

    def has_counted(self, weights: str) -> bool:
        """Whether a scoring by these weights, or by unknown ones of an older version, has been logged and counted."""
        logged = [int(row.get("time", 0)) for row in self.rows("scoring") if row.get("weights", weights) == weights]
        return bool(logged) and min(logged) <= int(self.read_state()["test_scored"])

    def rows(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Rows of log.jsonl, optionally of one kind; truncated lines are skipped."""
        lines = []
        for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []:
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if kind is None or row.get("kind") == kind:
                lines.append(row)
        return lines

    def rewind(self, epochs: int) -> None:
        """Remove the log's rows of all epochs after the first `epochs`, which will be trained again."""
        rows = [row for row in self.rows() if row.get("kind") != "epoch" or row["epoch"] <= epochs]
        files.write_text(self.log, "".join(json.dumps(row) + "\n" for row in rows))


def claimed(runs: Path, name: str) -> Path:
    """Create the first free folder NAME-N in `runs`; safe against other processes doing the same."""
    number, name = 1, files.shortened(name)
    while True:
        folder = runs / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise PatiError(
                N_("can't create {folder}: {reason}", folder=folder, reason=os_reason(error)),
                N_("choose another folder with --out"),
            ) from None


def versions(processes: int = 1) -> dict[str, str]:
    """Versions of the libraries that affect a run's results, and the machine, with the processes that train."""
    names = ["torch", "numpy", "pillow", "simplejpeg", "pi-heif", "safetensors"]
    names += ["timm"] if importlib.util.find_spec("timm") else []  # its networks depend on its version
    installed = {"pati": VERSION}  # pati may run without being installed
    for name in names:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return installed | {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {machine.cores()} cores"
        + (f", {processes} processes" if processes > 1 else ""),
    }
