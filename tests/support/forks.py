"""Processes that are started and stopped by the dozen: forks of one in which torch is imported already."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

_FORKS = multiprocessing.get_context("spawn" if os.name == "nt" else "forkserver")
if os.name != "nt":
    _FORKS.set_forkserver_preload(["pati.cli", "pati.workflows.train", "pati.workflows.tune", __name__])


class Fork:
    """`python -c script arguments…`, with what of `subprocess.Popen` the tests ask for."""

    def __init__(self, script: str, *arguments: object) -> None:
        self._told = [Path(tempfile.mkdtemp()) / name for name in ("stdout", "stderr")]
        words = list(map(str, arguments))
        self._process = _FORKS.Process(target=_run, args=(script, words, dict(os.environ), Path.cwd(), self._told))
        self._process.start()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """What it wrote to stdout and stderr, once it has ended."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"it has not ended after {timeout} s"
        out, err = (path.read_text(encoding="utf-8") for path in self._told)
        shutil.rmtree(self._told[0].parent)
        return out, err


def _run(script: str, words: list[str], environment: dict[str, str], folder: Path, told: list[Path]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for stream, path in zip((sys.stdout, sys.stderr), told, strict=True):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), stream.fileno())
    sys.argv = ["-c", *words]
    exec(script, {"__name__": "__main__"})
