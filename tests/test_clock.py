"""Active time: suspensions are left out, waits and work are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pati.system.clock import SUSPENDED, TICK, Clock


class Machine:
    """Three clocks, set by hand."""

    def __init__(self) -> None:
        self.time, self.computed, self.asleep = 100.0, 5.0, 7.0
        self.clock = Clock(lambda: self.time, lambda: self.computed, lambda: self.asleep)

    def passes(self, seconds: float, *, computed: float = 0.0, asleep: float = 0.0) -> float:
        """How much the active time has grown by."""
        before = self.clock.now()
        self.time += seconds
        self.computed += computed
        self.asleep += asleep
        return self.clock.now() - before


@pytest.mark.parametrize("seconds", [8.0, 90.0, 86_400.0])
def test_a_suspension_is_left_out(seconds: float) -> None:
    machine = Machine()
    with machine.clock.watched():
        assert machine.passes(seconds) < TICK
        assert machine.clock.suspended() == pytest.approx(seconds, abs=TICK)
        assert machine.passes(1.0) == pytest.approx(1)
    assert machine.passes(1.0) == pytest.approx(1)  # what was left out stays so


def test_a_busy_machine_and_a_process_that_computes_are_not_suspended() -> None:
    machine = Machine()
    with machine.clock.watched():
        assert machine.passes(SUSPENDED - 0.1) == pytest.approx(SUSPENDED - 0.1)
        assert machine.passes(30.0, computed=30.0) == pytest.approx(30)  # one thread kept all others waiting
        assert machine.clock.suspended() == 0


def test_outside_a_gap_between_two_readings_is_a_wait() -> None:
    assert Machine().passes(3600.0) == pytest.approx(3600)


def test_sleep_that_the_clock_has_left_out_is_told_once() -> None:
    machine = Machine()
    with machine.clock.watched():
        assert machine.passes(0.5, computed=0.5, asleep=600.0) == pytest.approx(0.5)
        machine.passes(0.5, computed=0.5, asleep=-0.01)  # a reading that was delayed
        machine.passes(0.5, computed=0.5, asleep=0.01)
        assert machine.clock.suspended() == pytest.approx(600)


def test_watching_may_be_nested() -> None:
    machine = Machine()
    with machine.clock.watched():
        with machine.clock.watched():
            pass
        assert machine.passes(8.0) < TICK


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that stops a process")
def test_a_stopped_process_has_no_time(tmp_path: Path) -> None:
    code = """
import sys, time
from pati.system import clock
with clock.watched():
    began, at = clock.now(), time.monotonic()
    print("ready", flush=True)
    while time.monotonic() - at < 4.5:
        time.sleep(0.05)
    print(clock.now() - began, clock.suspended(), flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        process.send_signal(signal.SIGCONT)
        active, suspended = map(float, process.stdout.readline().split())
    assert suspended == pytest.approx(3, abs=0.8)
    assert active + suspended == pytest.approx(4.5, abs=0.5)


def test_no_duration_comes_from_the_clock_on_the_wall() -> None:
    """It can be set."""
    assert not [path for path in Path("pati").rglob("*.py") if "time.time()" in path.read_text()]
