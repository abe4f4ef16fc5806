"""Runs `pati` as a user would, from outside, with a cache of its own, and measures it."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def environment(cache: Path, threads: int | None = None) -> dict[str, str]:
    return os.environ | {"PATI_CACHE": str(cache)} | ({"OMP_NUM_THREADS": str(threads)} if threads else {})


def measured(
    cache: Path,
    *arguments: object,
    log: Path | None = None,
    threads: int | None = None,
    stopped: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Wall seconds and peak resident memory (of the largest process) of one command that must succeed.

    `threads`: that torch computes on; as many as there are cores if left out. `stopped`: after how many seconds the
    process is stopped (SIGSTOP), and for how many.
    """
    command = [sys.executable, "-m", "pati", *map(str, arguments)]
    with (log or Path(os.devnull)).open("ab") as sink:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment(cache, threads), stdout=sink, stderr=sink)
        if stopped is not None:
            for wait, number in zip(stopped, (signal.SIGSTOP, signal.SIGCONT), strict=True):
                time.sleep(wait)
                os.kill(process.pid, number)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}; see {log}")
    return {"seconds": round(seconds, 1), "peak_gb": round(usage.ru_maxrss / 1e6, 2)}


def commit() -> str:
    """The commit that is measured."""
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from pati.runs.run import versions
    from pati.system.machine import cores

    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": cores(), **versions()}
