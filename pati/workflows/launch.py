"""Start the processes of a training on this machine, with PyTorch's elastic launcher."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from pati import plugins
from pati.errors import Interrupted, PatiError
from pati.inference.classifier import Classifier
from pati.locale.messages import N_, as_is
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.system import files, processes

STARTED = "PATI_STARTED"  # environment variable: when the command began, by `time.perf_counter`
_INTERRUPTED = 130  # exit code after Ctrl-C or SIGTERM
_ENDED = 30  # seconds that the others have to end, once one has


def default_processes() -> int:
    """One for each GPU; 1 without any."""
    import torch

    return max(1, torch.cuda.device_count())


def launch(words: Sequence[str], count: int, started: float) -> None:
    """Run the command `pati WORDS` in `count` processes that train together; returns when all have ended.

    `started`: when the command began, from which a budget counts. Raises `PatiError` if one was ended from outside;
    where a process has told its error or interruption itself, its exit code as `SystemExit`.
    """
    with tempfile.TemporaryDirectory(prefix="pati-") as folder:
        codes = _run(words, count, started, folder)
    if codes:
        raise _killed(codes) or SystemExit(_code(codes))


def train(data: str, recipe: Recipe, words: Sequence[str], count: int, *, progress: bool) -> Classifier:
    """The classifier that `pati train` trains in `count` processes; `words`: its other options.

    Raises `PatiError`, `Interrupted`.
    """
    from torch.distributed.elastic.multiprocessing import Std

    with tempfile.TemporaryDirectory(prefix="pati-") as folder:
        stored = Path(folder) / "recipe.json"
        files.write_json(stored, recipe.to_json())
        words = [*plugins.options(), "train", data, "--recipe", str(stored), "--json", *words]
        try:
            codes = _run(words, count, time.perf_counter(), folder, redirected=Std.ALL, shown=progress)
        except SystemExit:
            raise Interrupted(N_("everything done so far is saved")) from None
        (first,) = Path(folder).glob("*/attempt_0/0")
        if codes:
            told = (first / "stderr.log").read_text(errors="replace").strip().splitlines()
            error = next((line for line in reversed(told) if line.startswith("error: ")), None)
            said = PatiError(as_is(error.removeprefix("error: "))) if error else SystemExit(_code(codes))
            raise _killed(codes) or said
        document = json.loads((first / "stdout.log").read_text(encoding="utf-8"))
        return Classifier.load(Run.open(document["run"]).model)


def _run(
    words: Sequence[str], count: int, started: float, folder: str, *, redirected: int = 0, shown: bool = True
) -> dict[int, int]:
    """Run it; returns the exit codes of the ranks that failed first, none if all did well.

    `redirected`: which streams of the processes are written to files in `folder`; `shown`: show stderr nevertheless.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.distributed.elastic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logs = DefaultLogsSpecs(
        folder, redirects=Std(redirected), tee=Std.ERR if redirected and shown else Std.NONE, local_ranks_filter={0}
    )
    config = LaunchConfig(
        1, 1, count, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        local_addr="localhost", max_restarts=0, logs_specs=logs, log_line_prefix_template="", shutdown_timeout=_ENDED,
    )  # fmt: skip
    path = processes.environment()["PYTHONPATH"]
    # The number of threads is for each process to choose.
    wanted = {STARTED: repr(started), "PYTHONPATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "pati", *words)
        return {}
    except SignalException:
        raise SystemExit(_INTERRUPTED) from None  # the first process has told
    except ChildFailedError as error:
        return {rank: failure.exitcode for rank, failure in error.failures.items()}
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _code(codes: Mapping[int, int]) -> int:
    """The exit code of the first process, as shells give it."""
    code = codes[min(codes)]
    return code if code > 0 else 128 - code


def _killed(codes: Mapping[int, int]) -> PatiError | None:
    """That a process was ended from outside; None if all ended by themselves, or as the launcher asked them to."""
    for rank, code in sorted(codes.items()):
        if code < 0 and code != -signal.SIGTERM:
            name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
            return PatiError(
                N_("process {rank} of the training was ended from outside ({signal})", rank=rank, signal=name),
                N_(
                    "perhaps the machine ran out of memory; everything done so far is saved: resume the run with "
                    "--resume"
                ),
            )
    return None
