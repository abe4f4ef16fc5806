"""How many threads a run on a budget computes on while other programs hold cores."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from pati.system import machine, threads
from pati.system.threads import Threads


class Machine:
    """Some cores, of which other programs hold some; one thread trains on a photo in a second."""

    def __init__(self, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.used = cores
        self.history: list[int] = []
        monkeypatch.setattr(torch, "get_num_threads", lambda: self.used)
        monkeypatch.setattr(torch, "set_num_threads", self.use)
        monkeypatch.setattr(machine, "idle_seconds", lambda: self.idle)
        monkeypatch.setattr(threads.time, "process_time", lambda: self.computed)
        self.idle: float | None = None
        self.computed = 0.0

        self.cores, self.held, self.throttled = cores, 0, 1.0

    def use(self, number: int) -> None:
        self.used = number

    def pace(self) -> float:
        contended = self.used > self.cores - self.held
        return self.throttled * (5.0 if contended else 1.0) / self.used

    def run(self, threads: Threads, seconds: float) -> float:
        """Photos trained on in that time, in steps of 0.2 photos."""
        spent, photos = 0.0, 0.0
        while spent < seconds:
            self.history.append(self.used)
            taken = 0.2 * self.pace()
            if self.idle is not None:
                self.idle += taken * max(0, self.cores - self.held - self.used)
            self.computed += taken * min(self.used, self.cores - self.held + 0.5 * (self.held > 0))
            threads.follow(self.pace(), taken)
            spent, photos = spent + taken, photos + 0.2
        return photos / spent


def trained(cores: int, monkeypatch: pytest.MonkeyPatch, *, told: bool = False) -> tuple[Machine, Threads]:
    """A machine that has trained for ten undisturbed seconds; `told`: it tells how long its cores were idle."""
    machine = Machine(cores, monkeypatch)
    machine.idle = 0.0 if told else None
    followed = Threads()
    machine.run(followed, 10)
    return machine, followed


def test_a_free_machine_keeps_all_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(4, monkeypatch)
    assert machine.run(Threads(), 100) == pytest.approx(4)
    assert set(machine.history) == {4}


def test_a_core_that_others_hold_is_given_back_and_taken_again_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, followed = trained(2, monkeypatch)
    machine.held = 1
    assert machine.run(followed, 5) > 0.4  # two threads: 0.4
    assert machine.run(followed, 60) > 0.9  # now and then it is tried whether the core is free
    assert 1 in machine.history[-20:]
    machine.held = 0
    machine.run(followed, threads.MOST_PATIENCE + 2)
    assert machine.run(followed, 20) == pytest.approx(2)


def test_a_core_that_is_held_from_the_start_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(2, monkeypatch)
    machine.held = 1
    followed = Threads()
    machine.run(followed, 5)
    assert machine.used == 1


@pytest.mark.parametrize(("cores", "held"), [(8, 1), (8, 3), (8, 4), (16, 8)])
def test_several_cores_are_given_back(cores: int, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, followed = trained(cores, monkeypatch)
    machine.held = held
    machine.run(followed, 120)
    assert machine.run(followed, 100) > 0.45 * cores  # contended: 0.2


def test_threads_that_are_not_to_blame_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, followed = trained(2, monkeypatch)
    machine.throttled = 3.0
    machine.run(followed, 100)
    assert machine.history.count(1) < 0.1 * len(machine.history)


def test_a_short_disturbance_is_over_after_a_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    machine, followed = trained(2, monkeypatch)
    machine.held = 1
    machine.run(followed, 3)
    machine.held = 0
    machine.run(followed, threads.PATIENCE + 3)
    assert machine.used == 2


def test_the_number_is_restored() -> None:
    before = torch.get_num_threads()
    with threads.restored():
        torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before


def test_no_trial_is_needed_where_idle_cores_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, followed = trained(2, monkeypatch, told=True)
    busy.held = 1
    busy.run(followed, 6)
    busy.history.clear()
    assert busy.run(followed, 60) == pytest.approx(1)
    assert set(busy.history) == {1}
    busy.held = 0
    busy.run(followed, 4)
    assert busy.run(followed, 20) == pytest.approx(2)


def test_idle_cores_that_are_no_help_are_tried_ever_more_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, followed = trained(2, monkeypatch, told=True)
    busy.held = 1
    busy.run(followed, 6)
    monkeypatch.setattr(
        machine, "idle_seconds", lambda: 1e3 * len(busy.history)
    )  # of cores that this process may not use
    busy.history.clear()
    assert busy.run(followed, 200) > 0.9
    assert busy.history.count(2) < 20


@pytest.mark.parametrize(("cores", "held"), [(8, 1), (8, 3), (8, 4)])
def test_several_cores_are_given_back_where_idle_ones_are_known(
    cores: int, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, followed = trained(cores, monkeypatch, told=True)
    busy.held = held
    busy.run(followed, 60)
    assert busy.run(followed, 60) > 0.45 * cores
    busy.held = 0
    busy.run(followed, 30)
    assert busy.run(followed, 20) == pytest.approx(cores)


def test_the_machine_tells_how_long_its_cores_were_idle() -> None:
    before = machine.idle_seconds()
    if before is None:
        assert not sys.platform.startswith("linux")
        return
    time.sleep(0.1)
    after = machine.idle_seconds()
    assert after is not None
    assert before <= after
