"""Training in two processes: kills at random moments, accuracy against one process, and seconds."""

from __future__ import annotations

import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.command import environment
from bench.kills import weights
from tests.support.browser import free_port
from tests.support.kills import epochs_done
from tests.support.photos import write_shapes
from tests.test_ranks import ended, ranks_of

KILLS, SEEDS = 30, 3
SMALL = ("--epochs", "8", "--folds", "0", "--size", "16", "--set", "batch=8", "--near-duplicates", "off")
DIGITS = ("digits", "--epochs", "8", "--folds", "0", "--size", "32")


def start(cache: Path, *words: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "pati", "train", *map(str, words)]
    return subprocess.Popen(
        command, env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def finished(cache: Path, *words: object) -> float:
    started = time.monotonic()
    if start(cache, *words).wait():
        raise SystemExit(f"pati train {' '.join(map(str, words))} failed")
    return time.monotonic() - started


def ranks() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        return {"kills": _kills(base), "machines": _machines(base), **_compared(base)}


def _kills(base: Path) -> dict[str, Any]:
    """Rank 0, rank 1 and the launcher in turns: seconds until all have ended, and whether the resumed weights agree."""
    shapes = write_shapes(base / "shapes", per_class=20)
    seconds = finished(base / "cache", shapes, "--out", base / "whole", "--processes", "2", *SMALL)
    expected, rng = weights(base / "whole"), random.Random(0)
    took, same, left = [], 0, 0
    for number in range(KILLS):
        run = base / f"run-{number}"
        process = start(base / "cache", shapes, "--out", run, "--processes", "2", *SMALL)
        time.sleep(rng.uniform(0.1, 0.95) * seconds)
        found = ranks_of(process.pid)
        victim = [*found, process.pid][number % 3] if len(found) == 2 else process.pid
        at = time.monotonic()
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:  # it has finished before
            continue
        left += not ended([*found, process.pid], 60)
        took.append(time.monotonic() - at)
        process.wait()
        if (run / "run.json").exists():
            finished(base / "cache", "--resume", run, "--processes", "2")
            same += weights(run) == expected
        else:
            same += 1  # nothing had begun
    return {"kills": len(took), "seconds_at_most": round(max(took), 1), "left_behind": left, "same_weights": same}


def _machines(base: Path) -> dict[str, float]:
    """Two launchers, as on two machines: seconds until all have ended after a part of the second one was killed."""
    result = {}
    for victims in ("rank", "launcher", "machine"):
        run, words = base / f"machines-{victims}", ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
        words += ["--rdzv-endpoint", f"127.0.0.1:{free_port()}", "-m", "pati", "train", str(base / "shapes")]
        command = [sys.executable, "-P", "-m", "torch.distributed.run", *words, "--out", str(run), *SMALL]
        launchers = [
            subprocess.Popen(
                command, env=environment(base / f"cache-{machine}"), stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True,
            )
            for machine in ("one", "two")
        ]  # fmt: skip
        while not epochs_done(run):
            if any(launcher.poll() is not None for launcher in launchers):
                raise SystemExit("a launcher ended before training began")
            time.sleep(0.1)
        first, second = ([launcher.pid, *ranks_of(launcher.pid)] for launcher in launchers)
        at = time.monotonic()
        for process in {"rank": second[1:], "launcher": second[:1], "machine": second}[victims]:
            os.kill(process, signal.SIGKILL)
        result[victims] = round(time.monotonic() - at, 1) if ended([*first, *second], 60) else math.inf
        for launcher in launchers:
            launcher.wait()
    return result


def _compared(base: Path) -> dict[str, Any]:
    """The accuracy on digits of one and two processes by seed, and the seconds of a whole run."""
    result: dict[str, Any] = {}
    for processes in (1, 2):
        accuracy, seconds = [], []
        for seed in range(SEEDS):
            run = base / f"digits-{processes}-{seed}"
            seconds.append(finished(base / "cache", *DIGITS, "--seed", seed, "--out", run, "--processes", processes))
            accuracy.append(_accuracy(run))
        result[f"{processes} processes"] = {
            "accuracy": accuracy, "mean": round(statistics.mean(accuracy), 4),
            "seconds": [round(one, 1) for one in seconds],
        }  # fmt: skip
    return result


def _accuracy(run: Path) -> float:
    from pati.runs.run import Run

    return round(Run.open(run).read_metrics()["validation"]["accuracy"], 4)
