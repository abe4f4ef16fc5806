"""Commands that are killed in a given phase, and resumed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import commands
from tests.support.forks import Fork

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
    slowed(pati.data.audit.pool._Process, "inspect", 0.5)
if phase == "pack":
    slowed(pati.system.files, "write_json", 0.2)
if phase == "checkpoint":
    slowed(pati.system.files.os, "fsync", 0.05)
if phase == "final":
    slowed(pati.workflows.measure, "write", 5.0)
from pati.cli import main
main()
"""


def pati(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A command in this process, without figures."""
    with commands.undrawn():
        return commands.pati(*arguments)


def start(phase: str, *arguments: object) -> Fork:
    return Fork(RUNNER, phase, *arguments)


def epochs_done(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_text().count('"kind": "epoch"') if log.exists() else 0


OPTIONS = ("--epochs", "3", "--folds", "0", "--size", "32", "--set", "width=0.25", "dropout=0.2", "batch=8")


def weights(run: Path) -> bytes:
    """The tensors' bytes of the model file, without its header, which holds times."""
    data = (run / "model.safetensors").read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]
