"""Interruptions by the user: Ctrl-C and SIGTERM finish the current step, then end the command with a hint to resume."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from pati import plugins
from pati.errors import Interrupted, from_os_error
from pati.locale.messages import N_
from pati.runs.run import Run


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Context manager in which Ctrl-C and SIGTERM ask the loop to stop after its step; a second one interrupts it."""
    requested = threading.Event()

    def ask(number: int, frame: object) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()

    before = {}
    if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def resumable(run: Run) -> Iterator[None]:
    """Context manager that turns an interruption into `Interrupted` with a hint on how to resume."""
    hint = N_("resume it with: {again}", again=plugins.command("train", "--resume", str(run.folder)))
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(N_("everything done so far is saved"), hint) from None
    except Interrupted as stop:
        raise Interrupted(stop.message, hint) from None
    except OSError as error:
        raise from_os_error(error, N_("fix this; everything done so far is saved. Then {hint}", hint=hint)) from error
