"""`kill -9` in each phase of a run by epochs: the resumed weights' bytes are those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import write_shapes

# A checkpoint every step, and slow enough that each phase can be hit.
RUNNER = """
import sys, time
import pati.training.loop, pati.workflows.measure, pati.system.files, pati.data.audit.pool, pati.report.figures
# Nobody looks at figures here, and drawing them takes a third of such a training.
pati.report.figures._svg, pati.report.figures._png = lambda figure: "<svg></svg>", lambda figure, **more: b""
pati.training.loop.CHECKPOINT_SECONDS, pati.training.loop.CHECKPOINT_SHARE = 0.0, float("inf")

def slowed(module, name, seconds):
    before = getattr(module, name)
    def slow(*arguments, **options):
        time.sleep(seconds)
        return before(*arguments, **options)
    setattr(module, name, slow)

phase = sys.argv.pop(1)
if phase == "audit":
    slowed(pati.data.audit.pool._Process, "look", 0.5)
if phase == "pack":
    slowed(pati.system.files, "write_json", 0.2)
if phase == "checkpoint":
    slowed(pati.system.files.os, "fsync", 0.05)
if phase == "final":
    slowed(pati.workflows.measure, "write", 5.0)
from pati.cli import main
main()
"""


def start(phase: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(phase, *arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def command(phase: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", RUNNER, phase, *map(str, arguments)]


def epochs_done(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_text().count('"kind": "epoch"') if log.exists() else 0


def packs(cache: Path, pattern: str) -> list[Path]:
    return list(cache.glob(f"packs/{pattern}"))


REACHED: dict[str, Callable[[Path, Path], bool]] = {
    "audit": lambda run, cache: bool(packs(cache, ".*/new/pixels.npy")),
    "pack": lambda run, cache: bool(packs(cache, ".*/new/thumbs.bin")),
    "epoch": lambda run, cache: epochs_done(run) == 1,
    "checkpoint": lambda run, cache: epochs_done(run) == 1 and any((run / "checkpoints").glob(".*.part")),
    "final": lambda run, cache: (run / "predictions.npz").exists(),
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    base = tmp_path_factory.mktemp("undisturbed")
    data = write_shapes(base / "shapes", per_class=40)
    process = start("none", "train", data, *OPTIONS, "--out", base / "run")
    process.communicate(timeout=300)
    assert process.returncode == 0
    return data, weights(base / "run")


OPTIONS = ("--epochs", "3", "--size", "32", "--set", "width=0.25", "dropout=0.2", "batch=8")


def weights(run: Path) -> bytes:
    """The tensors' bytes of the model file, without its header, which holds times."""
    data = (run / "model.safetensors").read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


@pytest.mark.parametrize("phase", list(REACHED))
def test_killed_and_resumed(
    phase: str, undisturbed: tuple[Path, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, expected = undisturbed
    cache, run = tmp_path / "cache", tmp_path / "run"
    monkeypatch.setenv("PATI_CACHE", str(cache))
    process = start(phase, "train", data, *OPTIONS, "--out", run)
    deadline = time.monotonic() + 120
    while not REACHED[phase](run, cache):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline, f"{phase} was never reached"
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (run / "metrics.json").exists() or phase == "final"
    done = subprocess.run([sys.executable, "-m", "pati", "train", "--resume", str(run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert weights(run) == expected
    assert epochs_done(run) == 3
    assert not packs(cache, ".*")
