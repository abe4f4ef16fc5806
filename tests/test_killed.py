"""`kill -9` in each phase of a run by epochs: the resumed weights' bytes are those of an undisturbed run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.kills import OPTIONS, epochs_done, pati, start, weights

pytestmark = pytest.mark.slow


def packs(cache: Path, pattern: str) -> list[Path]:
    return list(cache.glob(f"packs/{pattern}"))


REACHED: dict[str, Callable[[Path, Path], bool]] = {
    "audit": lambda run, cache: bool(packs(cache, ".*/new/pixels.npy")),
    "pack": lambda run, cache: bool(packs(cache, ".*/new/thumbs.bin")),
    "epoch": lambda run, cache: epochs_done(run) == 1,
    "checkpoint": lambda run, cache: epochs_done(run) == 1 and any((run / "checkpoints").glob(".*.pati-part")),
    "final": lambda run, cache: (run / "predictions.npz").exists(),
}


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
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{phase} was never reached"
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (run / "metrics.json").exists() or phase == "final"
    done = pati("train", "--resume", run)
    assert done.returncode == 0, done.stderr
    assert weights(run) == expected
    assert epochs_done(run) == 3
    assert not packs(cache, ".*")
