"""The signals that ask a command to end: Ctrl-C, SIGTERM, and SIGHUP, as when a terminal is closed.

A signal that the process was started to ignore, as by `nohup`, stays ignored.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_STOPS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


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
