"""How a run keeps to its budget: the control alone, and on simulated machines."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter

import pytest

from bench.disturbed import Disturbance, Spell, disturbances, failures, simulate
from pati.training.budget import (
    AROUND,
    FORWARD,
    MAX_FORWARD_FACTOR,
    Budget,
    Pace,
    advanced,
    after_other_work,
    after_pass,
    after_python_timing,
    after_step,
    answer_seconds,
    closing_seconds,
    forward,
    report_seconds,
)

BUDGET = Budget(
    100.0, validated=10, answers=100, answer_seconds=0.05, answer_cost=5.0, report=2.0, python=0.002, spare=3.0
)


def run(budget: Budget, step_seconds: list[float], *, photos: int = 10, every: int = 20) -> tuple[list[float], Pace]:
    """Progress after each step, and the pace at the end; a validation pass costs a tenth of a step a photo."""
    pace, progress, history = Pace(), 0.0, []
    for number, taken in enumerate(step_seconds, start=1):
        pace = after_step(pace, budget, taken=taken, photos=photos, photo_cost=1.0)
        progress = advanced(progress, budget, pace, photos=photos)
        history.append(progress)
        if progress >= 1:
            break
        if budget.validated and number % every == 0:
            pace = after_pass(pace, taken=budget.validated * taken / photos / 10, photos=budget.validated)
    return history, pace


def test_progress_follows_the_time() -> None:
    history, pace = run(Budget(100.0), [1.0] * 200)
    assert history[-1] == 1
    assert pace.spent == 100
    assert history[:-1] == pytest.approx([step / 100 for step in range(1, 100)], abs=0.02)


def test_what_follows_training_is_set_aside() -> None:
    _, pace = run(BUDGET, [1.0] * 200)
    closing = 100 * 0.05 + 2 + 3
    assert pace.spent + closing == pytest.approx(100, abs=2)


def test_scoring_is_estimated_by_the_last_validation_passes() -> None:
    """Thought to take 5 s before training, as the machine was busy then; the passes show that it takes half as long."""
    history, pace = run(dataclasses.replace(BUDGET, answer_cost=2.5), [1.0] * 200)
    assert forward(BUDGET, pace) == pytest.approx(0.1)
    answer = 2.5 * 0.1 * 0.1  # cost, in a pass, on this machine
    assert closing_seconds(BUDGET, Pace()) == 10
    assert pace.spent + 100 * answer + 2 + 3 == pytest.approx(100, abs=2)
    assert history[-1] == 1


def test_a_slowed_machine_leaves_more_for_what_follows() -> None:
    _, pace = run(BUDGET, [1.0] * 40 + [2.0] * 100)
    assert pace.spent + 2 * (100 * 0.05) + 2 + 3 == pytest.approx(100, abs=3)


def test_the_report_takes_as_long_as_python_says() -> None:
    """Another program on one of two cores slows training down, and not what one thread does."""
    _, pace = run(BUDGET, [1.0] * 10 + [2.0] * 10)
    assert report_seconds(BUDGET, pace) == 2
    for taken in (0.002, 0.02, 0.006, 0.006, 0.006):
        pace = after_python_timing(pace, taken)
    assert report_seconds(BUDGET, pace) == pytest.approx(6)
    assert report_seconds(BUDGET, after_python_timing(Pace(), 1e-5)) == 1  # however quick


@pytest.mark.parametrize(("stall", "at"), [(8.0, 20), (8.0, 50), (8.0, 75), (20.0, 20), (20.0, 50)])
def test_nothing_final_follows_from_a_stall(stall: float, at: int) -> None:
    steps = [1.0] * 200
    steps[at] = stall
    history, pace = run(BUDGET, steps)
    assert max(after - before for before, after in itertools.pairwise(history) if after < 1) < 0.1
    assert pace.spent == pytest.approx(100 - 10, abs=4)  # what scoring takes is thought to have become a little longer
    assert 1 - history[-2] < 0.1  # the learning rate was near its end before the last step


def test_a_size_whose_cost_is_misjudged_is_no_slower_machine() -> None:
    pace = Pace()
    for _ in range(30):
        pace = after_step(pace, BUDGET, taken=0.1, photos=10, photo_cost=1.0)
    before = closing_seconds(BUDGET, pace)
    for _ in range(AROUND):
        pace = after_step(pace, BUDGET, taken=0.25, photos=10, photo_cost=2.0)
    assert closing_seconds(BUDGET, pace) == pytest.approx(before, rel=0.1)


def test_a_machine_that_slows_down_as_the_size_changes_is_noticed() -> None:
    pace = Pace()
    for _ in range(30):
        pace = after_step(pace, BUDGET, taken=0.1, photos=10, photo_cost=1.0)
    before = answer_seconds(BUDGET, pace)
    for _ in range(AROUND):
        pace = after_step(pace, BUDGET, taken=0.6, photos=10, photo_cost=2.0)
    assert answer_seconds(BUDGET, pace) > 2.5 * before


def test_a_busy_moment_before_training_is_not_believed() -> None:
    """An answer took ten times as long as a forward pass costs by any machine."""
    pace = after_step(Pace(), BUDGET, taken=0.1, photos=10, photo_cost=1.0)
    busy = dataclasses.replace(BUDGET, answer_seconds=10 * BUDGET.answer_cost * FORWARD * pace.step)
    assert answer_seconds(busy, pace) == pytest.approx(MAX_FORWARD_FACTOR * BUDGET.answer_cost * FORWARD * pace.step)
    assert answer_seconds(busy, Pace()) == busy.answer_seconds  # there is nothing to compare with


def test_other_work_counts_and_says_nothing_of_the_pace() -> None:
    _, pace = run(BUDGET, [1.0] * 10)
    later = after_other_work(pace, 30.0)
    assert later.spent == pace.spent + 30
    assert (later.step, later.unit) == (pace.step, pace.unit)
    assert answer_seconds(BUDGET, later) == answer_seconds(BUDGET, pace)


def test_time_between_steps_counts_though_no_step_is_slow() -> None:
    """Two steps in five are slowed fivefold by another program's bursts: the median step knows nothing of them."""
    history, pace = run(Budget(100.0), [0.2, 0.2, 1.0, 0.2, 1.0] * 100)
    assert history[-1] == 1
    assert pace.spent == pytest.approx(100, abs=3)
    assert 1 - history[-2] < 0.05


def test_a_coarse_clock_ends_a_run() -> None:
    _, pace = run(Budget(10.0), [0.0, 0.0, 0.0, 0.0156] * 3000)
    assert 10 < pace.spent < 12.1


def test_a_pass_with_no_step_before_it_only_takes_time() -> None:
    pace = after_pass(Pace(spent=3.0), taken=1.0, photos=10)
    assert (pace.spent, pace.validated_at, pace.passes) == (4.0, 4.0, ())


SETS = [(200, 300.0), (5000, 300.0), (20_000, 600.0)]


@pytest.mark.slow
@pytest.mark.parametrize(("photos", "budget"), SETS)
def test_budgets_are_kept_and_used_on_simulated_machines(photos: int, budget: float) -> None:
    outcomes = [
        simulate(photos, budget, disturbance, scale=0.5, seed=seed)
        for seed in range(2)
        for disturbance in disturbances(budget, random.Random(seed))
    ]
    assert not [why for why, _ in failures(outcomes)]
    assert Counter(outcome.disturbance for outcome in outcomes)["none"] == 2


def test_a_simulated_suspension_does_not_count() -> None:
    free = simulate(5000, 120.0, Disturbance("none"), scale=0.5)
    for at in (4.0, 60.0, 112.0):  # while reading, training, scoring
        slept = simulate(5000, 120.0, Disturbance("suspended", (), at, 600.0), scale=0.5)
        assert slept.seconds == pytest.approx(free.seconds, abs=1)
        assert slept.training == pytest.approx(free.training, abs=1)


def test_a_simulated_spell_slows_the_machine() -> None:
    spell = Spell(40.0, 70.0)
    busy = simulate(5000, 120.0, Disturbance("busy", (spell,)), scale=0.5)
    free = simulate(5000, 120.0, Disturbance("none"), scale=0.5)
    assert busy.steps < free.steps
    assert busy.lost > 10
    assert busy.kept
