"""Active time: the seconds in which this process could run.

A laptop that sleeps, a stopped process, a paused container: nothing is done meanwhile, and what is paced by time must
not notice. Where the operating system's clock goes on (as it does for a stopped process everywhere, and for a sleeping
machine on Windows), a suspension shows as a gap between two readings in which the process did not compute either. A
thread reads the clock often enough to tell such a gap from a long wait. Knows nothing of what the time is for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

TICK = 0.25  # seconds between two readings by the thread
SUSPENDED = 2.0  # seconds without a reading: less may be a busy machine
COMPUTED = 0.1  # of a gap: who computed for longer was not suspended, but kept the thread waiting


def _asleep() -> float:
    """Seconds that the machine has slept since it was started and that its monotonic clock left out; 0 if unknown."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


@contextlib.contextmanager
def repeated(seconds: float, work: Callable[[], object], *, name: str) -> Iterator[None]:
    """Inside, a thread of this name does the work once in so many seconds."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            work()

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class Clock:
    """Active seconds, from the origin of `time.perf_counter`; safe to read from any thread.

    `monotonic`, `computed` (processor seconds of this process) and `asleep` are read; tests and simulations hand in
    their own. Suspensions are noticed inside `watched` only: elsewhere a gap between two readings may be a wait.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.perf_counter,  # on Windows `time.monotonic` is too coarse for steps
        computed: Callable[[], float] = time.process_time,
        asleep: Callable[[], float] = _asleep,
    ) -> None:
        self._monotonic, self._computed, self._asleep = monotonic, computed, asleep
        self._lock = threading.Lock()
        self._watchers = 0
        self._left_out = self._slept = 0.0
        self._last = (0.0, 0.0, 0.0)
        self._rate = 1.0  # processor seconds in a second, of late

    def now(self) -> float:
        """The active seconds."""
        with self._lock:
            return self._read()

    def suspended(self) -> float:
        """Seconds of all suspensions that were noticed so far."""
        with self._lock:
            self._read()
            return self._left_out + self._slept

    def _read(self) -> float:
        now, computed, asleep = self._monotonic(), self._computed(), self._asleep()
        if self._watchers:
            gap, busy = now - self._last[0], computed - self._last[1]
            # What it computed before it was suspended: no more than in a tick at the rate of those before.
            if gap > SUSPENDED and busy < COMPUTED * gap + 2 * TICK * self._rate:
                self._left_out += gap - TICK / 2
            elif gap > 0:
                self._rate = max(1.0, busy / gap)
            longest = max(asleep, self._last[2])  # a delay between its two readings makes it too small, never too large
            self._slept += longest - self._last[2]
            self._last = now, computed, longest
        return now - self._left_out

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Inside, suspensions are noticed; may be nested."""
        with self._lock:
            if not self._watchers:
                self._last = self._monotonic(), self._computed(), self._asleep()
            self._watchers += 1
        try:
            with repeated(TICK, self.now, name="clock"):
                yield
        finally:
            with self._lock:
                self._read()
                self._watchers -= 1


_clock = Clock()
now, suspended, watched = _clock.now, _clock.suspended, _clock.watched
