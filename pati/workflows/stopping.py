"""Interruptions: Ctrl-C, SIGTERM and SIGHUP finish the current step, then end the command with a hint to resume."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from pati import plugins
from pati.errors import Interrupted, from_os_error
from pati.locale.messages import N_
from pati.runs.run import Run
from pati.system import signals


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Context manager in which these signals ask the loop to stop after its step; a second one interrupts it."""
    requested = threading.Event()

    def ask() -> None:
        if requested.is_set():
            signals.interrupt()
        requested.set()

    with signals.on_stop(ask):
        yield requested.is_set


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
