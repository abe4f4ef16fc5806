"""Time that a run's command has taken, accumulated over all its sessions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pati.runs.run import Run
from pati.system import clock


class Elapsed:
    """Active seconds of a run's command, accumulated over all its sessions."""

    def __init__(self, run: Run, started: float) -> None:
        self._run, self._started = run, started
        self._before = run.read_elapsed()

    def seconds(self) -> float:
        """Seconds so far."""
        return self._before + clock.now() - self._started

    def at(self, seconds: float) -> float:
        """The time by `clock.now` at which this number of seconds will have passed."""
        return self._started - self._before + seconds

    def raise_to(self, seconds: float) -> None:
        """Raise to at least `seconds`, as recorded in a checkpoint.

        The run folder may have lost the newer value, or come from an older version.
        """
        self._before += max(0.0, seconds - self.seconds())

    def reset(self) -> bool:
        """Count only this session from now on; returns whether that drops earlier ones."""
        before, self._before = self._before, 0.0
        return before > 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Context manager that writes the time to the run folder every second, in case the process is killed."""

        def keep() -> None:
            self._run.keep_elapsed(self.seconds())

        try:
            with clock.repeated(1.0, keep, name="elapsed"):
                yield
        finally:
            keep()
