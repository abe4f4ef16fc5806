"""Tests that stand for a promise in docs/robustness.md: how many cases each has, and whether all passed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from typing import Any

SUITES = {
    "archives": ("tests/test_archives.py",),
    "downloads": ("tests/test_fetch.py",),
    "kinds": ("tests/test_bad_files.py",),
    "disk_full": ("tests/test_starved.py", "-k", "disk_full"),
    "stops": ("tests/test_starved.py", "-k", "stop_ or stopped_in"),
    "checkpoints": ("tests/test_starved.py", "-k", "passed_over or no_sound"),
    "changed_photos": ("tests/test_starved.py", "-k", "changed_between"),
    "two_processes": ("tests/test_starved.py", "-k", "second_process"),
    "clock": ("tests/test_clock.py",),
    "model_headers": ("tests/test_classifier.py", "-k", "refused or huge_files"),
}


def suites() -> dict[str, Any]:
    return {name: outcome(arguments) for name, arguments in SUITES.items()}


def outcome(arguments: tuple[str, ...]) -> dict[str, Any]:
    started = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    told = subprocess.run(command, capture_output=True, text=True).stdout
    last = told.strip().splitlines()[-1] if told.strip() else ""
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    return {"command": shlex.join(["pytest", *arguments]), **counts, "seconds": round(time.monotonic() - started, 1)}
