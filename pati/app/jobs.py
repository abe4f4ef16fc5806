"""Training runs, cleanings and learning curves started from the page: processes that outlive the page and its server.

The process writes its progress to the folder `job` of what it works on (`progress.json`, `output.txt`) and holds a
lock there while it lives, so that every page, also one opened later, can tell. Whoever writes the file `stop` there
asks it to end. Only one runs at a time per folder of runs: two would slow each other down, and neither would keep its
budget.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict, cast

from pati import plugins
from pati.data.sources.archives import stem
from pati.data.sources.source import ColumnsDocument
from pati.errors import PatiError
from pati.locale.messages import N_, Message, MessageDocument
from pati.recipe import Recipe, RecipeDocument
from pati.runs.run import Run, claimed
from pati.system import files, locks, processes, signals

BEGIN_SECONDS = 15.0  # in which a process must have taken its lock
STOP_SECONDS = 60.0  # in which a process must have ended that was asked to
NAME = "progress.json"
STOP = "stop"  # the file whose writing asks the process to end
LEARNING_CURVE = "learning-curve"  # the action, and the name of its folders
_asked: dict[tuple[Path, float], float] = {}  # when this process saw that a job was asked to end
_started: list[subprocess.Popen[bytes]] = []  # by this process, which must hear of their ends


@dataclass(frozen=True)
class Order:
    """What a process is asked to do: `action` train, resume, clean or learning-curve; `folder`: the run, or that of the
    learning curve. The rest as for the verb."""

    action: str
    folder: str
    data: str = ""
    recipe: RecipeDocument = field(default_factory=dict)
    columns: ColumnsDocument = field(default_factory=lambda: ColumnsDocument())
    decisions: str | None = None
    start: str | None = None
    folds: int = 0
    budget: float | None = None
    plugins: list[str] = field(default_factory=lambda: plugins.options()[1::2])  # files at hand when it was ordered

    @property
    def job(self) -> Path:
        """The folder in which the process writes its progress."""
        return job_folder(Path(self.folder), cleaning=self.action == "clean")


class Progress(TypedDict, total=False):
    """The progress of a process: its `action`, see `Order`; `done` of the `total` of a `stage`; `left`: seconds; how it
    `ended`, if it has, and why. Sentences are messages, so that each visitor reads them in their own language."""

    process: int
    action: str
    stage: str
    notes: list[MessageDocument]
    done: float
    total: float | None
    left: float
    epoch: int
    fold: int
    folds: int
    network: int
    networks: int
    ended: str
    error: MessageDocument
    hint: MessageDocument


@dataclass(frozen=True)
class Job:
    """The job of a run. `state`: running, stopped (can be resumed), done, or failed.

    `progress`: the newest that the process has written. `cleaning`: of the run's photos.
    """

    folder: Path
    state: str
    progress: Progress
    cleaning: bool = False

    @property
    def measuring(self) -> bool:
        """Whether it is a learning curve, and no run."""
        return self.progress.get("action") == LEARNING_CURVE

    @property
    def notes(self) -> list[Message]:
        """What a reader of the run should know."""
        return [Message.from_json(note) for note in self.progress.get("notes", [])]

    @property
    def error(self) -> PatiError | None:
        """Why it failed."""
        if "error" not in self.progress:
            return None
        hint = self.progress.get("hint")
        return PatiError(Message.from_json(self.progress["error"]), Message.from_json(hint) if hint else None)


def job_folder(run: Path, *, cleaning: bool = False) -> Path:
    """Where the process that trains the run, or checks its photos, writes its progress."""
    return run / "clean" / "job" if cleaning else Run(run).job


def job(run: Path, *, cleaning: bool = False) -> Job | None:
    """The job of a run, if the page started one."""
    folder = job_folder(run, cleaning=cleaning)
    if not (folder / NAME).exists():
        return None
    _started[:] = [one for one in _started if one.poll() is None]
    alive = _alive(folder)
    try:
        progress = cast(Progress, files.read_json(folder / NAME))
    except (OSError, ValueError):
        progress = {}
    asked = signals.written(folder / STOP)
    if alive and asked is not None and "process" in progress:
        first = _asked.setdefault((folder, asked), time.monotonic())
        if time.monotonic() - first > STOP_SECONDS:
            processes.end(progress["process"])  # it does not react
    ended = progress.get("ended")
    if alive:
        state = "running"
    elif ended is None:
        state = "stopped"  # killed, or the machine went off
    else:
        state = str(ended)
    return Job(run, state, progress, cleaning)


def running(runs: Path) -> Job | None:
    """The job that is running in a folder of runs."""
    for path in [*runs.glob(f"*/job/{NAME}"), *runs.glob(f"*/clean/job/{NAME}")]:
        if _alive(path.parent):
            cleaning = path.parents[1].name == "clean"
            return job(path.parents[2] if cleaning else path.parents[1], cleaning=cleaning)
    return None


def unfinished(runs: Path) -> list[Job]:
    """Runs that the page started and that can be resumed, or failed; the newest first."""
    marks = sorted(runs.glob(f"*/job/{NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
    recent = [one for path in marks if (one := job(path.parents[1])) is not None]
    return [one for one in recent if one.state in ("stopped", "failed")]


def begin(order: Order, runs: Path) -> None:
    """Start the process and see it begin. Raises `PatiError` while another one is running."""
    runs.mkdir(parents=True, exist_ok=True)
    with locks.locked(runs / ".begin.lock", N_("another run is being started"), wait=True):
        other = running(runs)
        if other is not None:
            raise PatiError(N_("{name} is still running", name=other.folder.name), N_("wait until it ends, or stop it"))
        order.job.mkdir(parents=True, exist_ok=True)
        (order.job / STOP).unlink(missing_ok=True)
        files.write_json(order.job / NAME, {"stage": "begin", "action": order.action})
        with (order.job / "output.txt").open("wb") as output:
            process = processes.start(
                [sys.executable, "-m", "pati.app.work", json.dumps(asdict(order))],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        _started.append(process)
        deadline = time.monotonic() + BEGIN_SECONDS
        while not _alive(order.job) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if not _alive(order.job) and "ended" not in files.read_json(order.job / NAME):
            process.kill()
            raise PatiError(
                N_("the process did not start"), N_("its output is in {path}", path=order.job / "output.txt")
            )


def train(
    runs: Path,
    data: str,
    recipe: Recipe,
    *,
    columns: ColumnsDocument | None = None,
    decisions: Path | None = None,
    start: Path | None = None,
) -> Path:
    """Start a training run; returns its folder, which is new. Raises `PatiError`."""
    folder = claimed(runs, stem(Path(data).name))
    order = Order(
        "train",
        str(folder),
        data,
        recipe=recipe.to_json(),
        columns=columns or {},
        decisions=str(decisions) if decisions else None,
        start=str(start) if start else None,
    )
    try:
        begin(order, runs)
    except PatiError:
        shutil.rmtree(folder, ignore_errors=True)  # made by this call, and nothing was begun in it
        raise
    return folder


def learning_curve(runs: Path, data: str, recipe: Recipe) -> Path:
    """Start a learning curve; returns its folder, which is new. Raises `PatiError`."""
    folder = claimed(runs, LEARNING_CURVE)
    try:
        begin(Order(LEARNING_CURVE, str(folder), data, recipe=recipe.to_json()), runs)
    except PatiError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def stop(run: Path, *, cleaning: bool = False) -> None:
    """Ask the process to keep its state and end; it does so after its step. One that does not react is ended."""
    current = job(run, cleaning=cleaning)
    if current is not None and current.state == "running":
        (job_folder(run, cleaning=cleaning) / STOP).write_bytes(b"")


def _alive(folder: Path) -> bool:
    """Whether a process holds the job's lock; one of another user, whose lock can't be opened, is not waited for."""
    try:
        return locks.is_locked(folder / ".lock")
    except PermissionError:
        return False
