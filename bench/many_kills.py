"""100 `kill -9` of one small run by epochs, at random moments and in chosen ones: every time the same bytes."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from pati import models
from pati.recipe import Recipe
from pati.runs import checkpoint
from pati.training.loop import CHECKPOINT_SECONDS
from pati.training.optim import Optimizers
from tests.support.kills import weights
from tests.support.photos import write_shapes
from tests.support.recipes import settled

KILLS, CHAIN = 100, 5  # kills at least, and how many of them one run must bear
OPTIONS = ("--epochs", "12", "--folds", "0", "--size", "48", "--set", "batch=32")
INTERVAL = 0.5  # seconds between checkpoints here: a run must be short to be killed so often
OFTEN = (
    f"import pati.training.loop as loop; loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = {INTERVAL}, 1.0; "
    "from pati.cli import main; main()"
)


def many_kills() -> dict[str, Any]:
    rng = random.Random(0)
    phases: Counter[str] = Counter()
    kills, same, lost = 0, 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        data = write_shapes(base / "shapes", per_class=100)
        started = time.monotonic()
        finish(start(base / "cache", "train", data, *OPTIONS, "--out", base / "whole"))
        whole_seconds = time.monotonic() - started
        expected = weights(base / "whole")
        while kills < KILLS:
            run, cache, borne = base / f"run-{kills}", base / f"cache-{kills}", 0
            while borne < CHAIN:
                resumed = (run / "run.json").exists()
                process = start(cache, *train_or_resume(data, run))
                # Two in five wait for a file that is being written, the others for a moment.
                moment = "writing" if borne in (1, 3) else "any"
                phase = wait(process, run, cache, moment, rng.uniform(0.1, whole_seconds))
                if phase == "after the end":
                    break
                lost = max(lost, age(run)) if phase == "training" else lost
                process.kill()
                process.communicate()
                borne += 1
                phases[phase] += 1
                phases["during a resume"] += resumed
            finish(start(cache, *train_or_resume(data, run)))
            kills += borne
            same += borne * (weights(run) == expected)
    return {
        "command": f"pati train SHAPES {' '.join(OPTIONS)}",
        "kills": kills,
        "same_bytes": same,
        "moments": dict(phases),
        "checkpoint_seconds_here": INTERVAL,
        "oldest_checkpoint_seconds_at_a_kill": round(lost, 2),
        **cost_of_saving(),
    }


def start(cache: Path, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", OFTEN, *map(str, arguments)]
    environment = os.environ | {"PATI_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def train_or_resume(data: Path, run: Path) -> tuple[object, ...]:
    return ("train", "--resume", run) if (run / "run.json").exists() else ("train", data, *OPTIONS, "--out", run)


def finish(process: subprocess.Popen[bytes]) -> None:
    told = process.communicate()[1].decode()
    if process.returncode:
        raise RuntimeError(told)


def wait(process: subprocess.Popen[bytes], run: Path, cache: Path, moment: str, seconds: float) -> str:
    """Until the moment has come, or the process has ended; in which phase the run is then."""
    deadline = time.monotonic() + (60 if moment == "writing" else seconds)
    while process.poll() is None and time.monotonic() < deadline:
        if moment == "writing" and (phase := writing(run, cache)):
            return phase
        time.sleep(0.0005)
    if process.poll() is not None:
        return "after the end"
    if found := writing(run, cache):
        return found
    if any((run / "checkpoints").glob("step-*")):
        return "reporting" if (run / "predictions.npz").exists() else "training"
    return "before the first checkpoint"


def writing(run: Path, cache: Path) -> str:
    with contextlib.suppress(OSError):
        if any((run / "checkpoints").glob(".*.pati-part")):
            return "writing a checkpoint"
        if any(cache.glob("packs/.*/new/pixels.npy")):
            return "writing the pack"
    return ""


def age(run: Path) -> float:
    """Seconds since the newest checkpoint was written."""
    times = []
    for path in (run / "checkpoints").glob("step-*"):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return time.time() - max(times, default=time.time())


def cost_of_saving() -> dict[str, Any]:
    """Share of the training time that checkpoints of the house net take at the default interval."""
    recipe = settled(Recipe(epochs=1), photos=16_000, size=96)
    net = models.build("pati", 2, models.Options(width=1.0))
    optimizers = Optimizers(net, recipe)
    net(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizers.step(0.5)
    tensors = {**net.state_dict(), **{f"o/{name}": value for name, value in optimizers.state().items()}}
    with tempfile.TemporaryDirectory() as folder:
        times = []
        for number in range(7):
            started = time.monotonic()
            checkpoint.save(Path(folder), number, tensors, "{}", owner="bench")
            times.append(time.monotonic() - started)
    seconds = sorted(times)[3]
    return {"save_seconds": round(seconds, 3), "share_of_training": round(seconds / CHECKPOINT_SECONDS, 4)}
