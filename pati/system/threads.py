"""Adapt the number of torch's threads to the load: fewer while other programs use some of the cores.

Threads synchronise many times per step, so sharing one core with another program slows all of them: a busy loop on one
of two cores makes a step 4.8 times slower with two threads, 1.8 times with one (LOG.md).
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Iterator

import torch

from pati.system import machine

BLOCK_SECONDS, BLOCK_STEPS = 1.0, 3  # minimum of a block of steps; its median is used to compare numbers of threads
LONG_BLOCK_SECONDS = 2.0  # a block ends after this time even with fewer steps
FALL = 1.5  # times the lowest time for the same work: at this slowdown, fewer threads are tried
WORSE = 1.3  # times the previous setting's time in a single step: a trial of more threads ends at once
PATIENCE, MOST_PATIENCE = 5.0, 40.0  # seconds between trials, doubled after each one that did not help
HELD = 0.8  # of the threads' processor time: with less, another program is using a core
IDLE = 0.7  # idle cores per thread that was given up, at which all threads are tried again


class Threads:
    """Follows the steps of a run, and tries another number of threads when that may be faster."""

    def __init__(self) -> None:
        self._all = self._now = torch.get_num_threads()
        self._least = math.inf  # lowest seconds per unit of work, with all threads
        self._fewer = 1  # threads to remove in the next trial
        self._before: tuple[int, float] | None = None  # during a trial: the previous number, and its seconds
        self._block: list[float] = []
        self._spent = 0.0  # seconds, in this block
        self._idle, self._computed = machine.idle_seconds(), time.process_time()  # at the start of the block
        self._first = True
        self._waited = self._patience = PATIENCE

    def follow(self, pace: float, taken: float) -> None:
        """Report a step that took `taken` seconds, `pace` seconds per unit of work."""
        self._block.append(pace)
        self._spent += taken
        worse = self._before is not None and self._now > self._before[0] and pace > WORSE * self._before[1]
        enough = len(self._block) >= BLOCK_STEPS or self._spent >= LONG_BLOCK_SECONDS
        if not worse and (self._spent < BLOCK_SECONDS or not enough):
            return
        pace = statistics.median(self._block)
        free, held = self._free_cores(), self._held()
        self._waited += self._spent
        self._block, self._spent = [], 0.0
        if self._now == self._all:
            self._least = min(self._least, pace)
        if self._before is not None:
            self._judge(pace, *self._before)
        elif self._waited >= self._patience and self._now > self._fewer and (self._slow(pace) or held):
            self._try(self._now - self._fewer, pace)
        elif self._now < self._all and self._may_be_free(free):
            self._try(self._all, pace)

    def _held(self) -> bool:
        """Whether other programs used a core during the first block, which has no earlier steps to compare with."""
        computed, before, first = time.process_time(), self._computed, self._first
        self._computed, self._first = computed, False
        return first and computed - before < HELD * self._now * self._spent

    def _slow(self, pace: float) -> bool:
        return pace > FALL * self._least * self._all / self._now

    def _may_be_free(self, free: float | None) -> bool:
        """Whether to try again the cores that were given up.

        After `PATIENCE`; or, if the number of idle cores is known, as soon as enough are idle, unless such trials have
        failed before.
        """
        if free is None:
            return self._waited >= self._patience
        return free >= IDLE * (self._all - self._now) and self._waited >= self._patience - PATIENCE

    def _free_cores(self) -> float | None:
        """Average number of idle cores during the block; None if unknown."""
        idle, before = machine.idle_seconds(), self._idle
        self._idle = idle
        return None if idle is None or before is None else (idle - before) / max(self._spent, 1e-9)

    def _try(self, number: int, pace: float) -> None:
        self._before = self._now, pace
        self._use(number)

    def _judge(self, pace: float, before: int, pace_before: float) -> None:
        lowered = self._now < before
        self._before, self._waited = None, 0.0
        if pace < pace_before:
            self._patience, self._fewer = PATIENCE, 1
            return
        self._patience = min(MOST_PATIENCE, 2 * self._patience)
        if lowered:  # other programs may use more than one core
            self._fewer = 2 * self._fewer if 2 * self._fewer < before else 1
        self._use(before)

    def _use(self, number: int) -> None:
        self._now = number
        torch.set_num_threads(number)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Context manager in which torch has at most as many threads as `machine.cores`; restores their number on exit."""
    number = torch.get_num_threads()
    if number > machine.cores():
        torch.set_num_threads(machine.cores())
    try:
        yield
    finally:
        torch.set_num_threads(number)
