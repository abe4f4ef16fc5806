"""Active time: the seconds during which this process could run.

When a laptop sleeps, a process is stopped or a container paused, no work is done, so time-based schedules must ignore
that time. If the operating system's clock continues (for a stopped process everywhere, for a sleeping machine on
Windows), a suspension appears as a gap between two readings in which the process used no processor time. A thread reads
the clock often enough to tell such a gap from a long wait. Knows nothing of what the time is used for.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

TICK = 0.25  # seconds between two readings by the thread
SUSPENDED = 2.0  # seconds without a reading; shorter gaps may come from a busy machine
COMPUTED = 0.1  # of a gap: a process that computed for longer was not suspended, but delayed the thread


def _asleep() -> float:
    """Seconds of sleep since boot that the monotonic clock did not count; 0 if unknown."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


@contextlib.contextmanager
def repeated(seconds: float, work: Callable[[], object], *, name: str) -> Iterator[None]:
    """Context manager that calls `work` every `seconds` seconds in a thread named `name`."""
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
    """Active seconds, with the origin of `time.perf_counter`; thread-safe.

    `monotonic`, `computed` (processor seconds of this process) and `asleep` are the sources of time, which tests and
    simulations replace. Suspensions are detected only inside `watched`: elsewhere a gap between two readings may be a
    wait.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.perf_counter,  # on Windows, `time.monotonic` is too coarse for steps
        computed: Callable[[], float] = time.process_time,
        asleep: Callable[[], float] = _asleep,
    ) -> None:
        self._monotonic, self._computed, self._asleep = monotonic, computed, asleep
        self._lock = threading.Lock()
        self._watchers = 0
        self._left_out = self._slept = 0.0
        self._last = (0.0, 0.0, 0.0)
        self._rate = 1.0  # recent processor seconds per second

    def now(self) -> float:
        """Active seconds."""
        with self._lock:
            return self._read()

    def suspended(self) -> float:
        """Total seconds of all detected suspensions."""
        with self._lock:
            self._read()
            return self._left_out + self._slept

    def _read(self) -> float:
        now, computed, asleep = self._monotonic(), self._computed(), self._asleep()
        if self._watchers:
            gap, busy = now - self._last[0], computed - self._last[1]
            # Before the suspension it computed at most for a tick, at its recent rate.
            if gap > SUSPENDED and busy < COMPUTED * gap + 2 * TICK * self._rate:
                self._left_out += gap - TICK / 2
            elif gap > 0:
                self._rate = max(1.0, busy / gap)
            longest = max(asleep, self._last[2])  # a delay between its two readings can only make it too small
            self._slept += longest - self._last[2]
            self._last = now, computed, longest
        return now - self._left_out

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Context manager in which suspensions are detected; may be nested."""
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
