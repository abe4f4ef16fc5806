"""Stops by a person: Ctrl-C and SIGTERM end a step, then the command, which says how to go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

from pati import plugins
from pati.errors import Interrupted, of_system
from pati.runs.run import Run


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after its step; a second one stops at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {}
    if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def resumable(run: Run) -> Iterator[None]:
    """A stop anywhere inside says how to go on."""
    hint = f"go on with: {plugins.command('train', '--resume', str(run.folder))}"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("what is done so far is kept", hint) from None
    except Interrupted as stop:
        raise Interrupted(stop.message, hint) from None
    except OSError as error:
        raise of_system(error, f"mend that; what is done so far is kept. Then {hint}") from error
