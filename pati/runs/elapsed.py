"""How long a run's command has taken, over all its sittings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pati.runs.run import Run
from pati.system import clock


class Elapsed:
    """Active seconds of a run's command, over all its sittings."""

    def __init__(self, run: Run, started: float) -> None:
        self._run, self._started = run, started
        self._before = run.read_elapsed()

    def seconds(self) -> float:
        """So far."""
        return self._before + clock.now() - self._started

    def at(self, seconds: float) -> float:
        """When so many seconds will have passed, by `clock.now`."""
        return self._started - self._before + seconds

    def raise_to(self, seconds: float) -> None:
        """It has been so long at least, by a checkpoint: the folder may have lost it, or be of an older pati."""
        self._before += max(0.0, seconds - self.seconds())

    def begin_anew(self) -> bool:
        """Count this sitting alone; whether earlier ones are left out by that."""
        before, self._before = self._before, 0.0
        return before > 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, the run's folder is told every second: a process that is killed can't."""

        def keep() -> None:
            self._run.keep_elapsed(self.seconds())

        try:
            with clock.repeated(1.0, keep, name="elapsed"):
                yield
        finally:
            keep()
