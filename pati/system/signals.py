"""The signals that ask a command to end: Ctrl-C, SIGTERM, and SIGHUP or SIGBREAK, as when a terminal is closed.

A signal that the process was started to ignore, as by `nohup`, stays ignored. Windows has no signal by which another
process can ask: there, and everywhere else, a file can (`on_file`).
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from pati.system import clock

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the last two are not known on every system
_STOPS: list[signal.Signals] = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_LOOK = 0.2  # seconds


@contextlib.contextmanager
def on_stop(ask: Callable[[], object]) -> Iterator[None]:
    """Context manager in which each of these signals calls `ask`; without effect outside the main thread.

    Python sets handlers nowhere else.
    """

    def answer(number: int, frame: FrameType | None) -> None:
        leave_lost_terminal()
        ask()

    with contextlib.ExitStack() as after:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: set by a program around Python
                    after.callback(signal.signal, number, signal.signal(number, answer))
        yield


@contextlib.contextmanager
def on_file(path: Path) -> Iterator[None]:
    """Context manager in which SIGTERM comes whenever `path` is written, from any process. Inside `on_stop`."""
    seen: float | None = None

    def look() -> None:
        nonlocal seen
        now = written(path)
        if now is not None and now != seen:
            _thread.interrupt_main(signal.SIGTERM)
        seen = now

    with clock.repeated(_LOOK, look, name="stop file"):
        yield


def written(path: Path) -> float | None:
    """When a file was last written, in seconds as of `time.time`; None if there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def interrupt() -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt


def leave_lost_terminal() -> None:
    """From now on, discard what is written to stdout or stderr if it is a terminal that has been closed.

    Writing to such a terminal raises `OSError`.
    """
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
