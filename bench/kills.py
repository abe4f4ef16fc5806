"""`kill -9` in each phase of a run by epochs on 2,000 photos; resumed weights against undisturbed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.command import environment, measured

OPTIONS = ("--epochs", "4", "--folds", "0", "--size", "64")
PHOTOS = 2000

# The checkpoint is due every 30 s; a short run needs one more often to be killed behind one.
OFTEN = (
    "import pati.training.loop as loop; loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = 1.0, 1.0; "
    "from pati.cli import main; main()"
)


def epochs(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_text().count('"kind": "epoch"') if log.exists() else 0


PHASES: dict[str, Callable[[Path, Path], bool]] = {
    "audit": lambda run, cache: (run / "run.json").exists() and not any(cache.glob("packs/.*")),
    "pack": lambda run, cache: any(cache.glob("packs/.*/new/pixels.npy")),
    "middle of an epoch": lambda run, cache: epochs(run) == 1 and any((run / "checkpoints").glob("step-*")),
    "checkpoint": lambda run, cache: epochs(run) >= 2 and any((run / "checkpoints").glob(".*.pati-part")),
    "final save": lambda run, cache: (run / "predictions.npz").exists(),
}


def weights(run: Path) -> bytes:
    """The tensors' bytes of the model file, without its header, which holds times."""
    data = (run / "model.safetensors").read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def kills() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        data = base / "photos"
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
            names = [entry for entry in archive.namelist() if entry.endswith(".jpg")]
            for name in names[:: len(names) // PHOTOS]:
                archive.extract(name, data)
        measured(base / "cache", "train", data, *OPTIONS, "--out", base / "whole", log=base / "log.txt")
        expected = weights(base / "whole")
        result = {}
        for phase, reached in PHASES.items():
            cache, run = base / f"cache-{phase}", base / f"run-{phase}"
            command = [sys.executable, "-c", OFTEN, "train", str(data), *OPTIONS, "--out", str(run)]
            with (base / "log.txt").open("ab") as sink:
                process = subprocess.Popen(command, env=environment(cache), stdout=sink, stderr=sink)
            while not reached(run, cache):
                if process.poll() is not None:
                    raise SystemExit(f"{phase}: the run ended before it could be killed")
                time.sleep(0.001)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            left = sorted(path.name for path in (run / "checkpoints").glob("*.safetensors"))
            measured(cache, "train", "--resume", run, log=base / "log.txt")
            result[phase] = {"same_bytes": weights(run) == expected, "checkpoint": left[-1] if left else None}
        return {"command": f"pati train PHOTOS {' '.join(OPTIONS)}", "photos": PHOTOS, "killed": result}
