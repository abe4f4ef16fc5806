"""Processes of our own: started out of reach of the terminal, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

# Windows has groups of a console in place of sessions: of another group, Ctrl-C does not reach a process.
_GROUP: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
_NO_CONSOLE: int = getattr(subprocess, "CREATE_NO_WINDOW", 0)


def start(
    words: Sequence[str],
    *,
    stdin: int | IO[bytes],
    stdout: int | IO[bytes],
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process that Ctrl-C in the terminal does not reach; with a `stderr`, neither does the terminal's end."""
    return subprocess.Popen(
        words, stdin=stdin, stdout=stdout, stderr=stderr, env=env, start_new_session=True,
        creationflags=_GROUP if stderr is None else _GROUP | _NO_CONSOLE,
    )  # fmt: skip


def environment() -> dict[str, str]:
    """The variables for a process of ours, which finds this package wherever it is."""
    here = str(Path(__file__).parents[2])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


def end(process: int) -> None:
    """End a process at once, by its number; no error if it has ended already."""
    with contextlib.suppress(OSError):
        os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))  # on Windows, the latter ends it at once
