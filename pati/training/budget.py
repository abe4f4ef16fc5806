"""Keep a run within its budget: compute its progress from the timings so far.

Pure functions of recorded timings of steps and validations. They read no clock, run no network and know no machine, so
`python -m bench disturbed` can simulate thousands of runs with this code.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

STEPS = 9  # recent steps, whose median predicts the next one: a single slow step means nothing
STALL = 5.0  # times that median: the part of a step beyond it does not count in the average
PASSES = 3  # recent validations, whose median predicts the cost of a validation photo,
AROUND = 5  # relative to this many steps just before
MEMORY = 6.0  # seconds: the machine's speed is averaged over at least this time,
HORIZON = 0.15  # or over this fraction of the remaining time, as it must predict the duration of scoring
MIN_REPORT_FACTOR = 0.5  # the report takes at least this fraction of what was measured before training
PYTHON_TIMINGS = 5  # recent timings of Python work, whose median predicts the duration of the report
MAX_COST_ERROR = 1.6  # largest factor by which the cost model is off
LEAST = 1e-6  # minimum duration in seconds
MIN_SCHEDULE_SHARE = 0.2  # of the budget: the schedule never runs faster than all of it in this time
FORWARD = 0.24  # cost of a forward pass relative to a training step (bench cost), until one has been timed,
MAX_FORWARD_FACTOR = 2.0  # and then within this factor of it


@dataclass(frozen=True)
class Budget:
    """Seconds for the whole command, and the work that remains after training.

    The unit of cost is training on one photo at standard cost (see `plan.cost`).
    """

    seconds: float
    validated: int = 0  # photos per validation; the last one ends the training
    statistics: float = 0.0  # cost of recomputing the batch norm statistics after training
    answers: int = 0  # minimum number of predictions for scoring,
    answer_seconds: float = 0.0  # seconds per prediction before training, with an untrained network,
    answer_cost: float = 0.0  # and its cost relative to a validation photo at standard cost
    report: float = 0.0  # seconds that the report would have taken before training,
    python: float = 0.0  # and those of a small piece of Python work (see `speed.of_python`)
    spare: float = 0.0  # seconds for measurements on as many photos as fit into them


@dataclass(frozen=True)
class Pace:
    """What has been measured so far.

    `spent`: seconds of the budget; `validated_at`: its value after the last validation. `python`: recent timings of
    Python work, in seconds.

    The other fields are for the current training size, as no cost model is exact. `steps`: seconds per unit of cost of
    recent steps. `passes`: seconds per unit of recent validations, relative to the steps just before. `time` and
    `work`: seconds and units of all steps, with exponentially decaying weights; their ratio is the average time per
    unit. `gross`: like `time`, including validations and checkpoints.

    At the start of this size, a unit took `unit_then` on average, and `unit_before` just before it; a prediction was
    expected to take `answer_then`, which is 0 at the first size.
    """

    spent: float = 0.0
    validated_at: float = 0.0
    answer_then: float = 0.0
    unit_before: float = 0.0
    unit_then: float = 0.0
    photo_cost: float = 0.0
    steps: tuple[float, ...] = ()
    passes: tuple[float, ...] = ()
    python: tuple[float, ...] = ()
    time: float = 0.0
    work: float = 0.0
    gross: float = 0.0

    @property
    def step(self) -> float:
        """Expected seconds per unit of cost in the next steps."""
        return statistics.median(self.steps)

    @property
    def unit(self) -> float:
        """Expected seconds per unit of cost at the end of training."""
        return self.time / self.work if self.work else 0.0


def after_step(pace: Pace, budget: Budget | None, *, taken: float, photos: int, photo_cost: float) -> Pace:
    """The pace after one more step on `photos` photos; `photo_cost`: cost of training on one photo of this size."""
    taken = max(taken, LEAST)  # some clocks have a coarse resolution
    if photo_cost != pace.photo_cost:
        before = pace.step if pace.steps else 0.0
        answer = answer_seconds(budget, replace(pace, time=before, work=1.0)) if budget and pace.steps else 0.0
        pace = Pace(pace.spent, pace.validated_at, answer, before, photo_cost=photo_cost, python=pace.python)
    cost = photos * photo_cost
    steps = (*pace.steps, taken / cost)[-STEPS:]
    counted = min(taken, STALL * statistics.median(steps) * cost)
    left = 0.0 if budget is None else budget.seconds - pace.spent
    kept = math.exp(-counted / max(MEMORY, HORIZON * left))
    return replace(
        pace,
        spent=pace.spent + taken,
        unit_then=_at_first(pace.unit_before, steps) if len(steps) <= AROUND else pace.unit_then,
        steps=steps,
        time=kept * pace.time + counted,
        work=kept * pace.work + cost,
        gross=kept * pace.gross + counted,
    )


def _at_first(before: float, steps: tuple[float, ...]) -> float:
    """Seconds per unit of cost at the start of a size, from its first `steps`.

    `before`: the same at the end of the previous size. If the two differ by more than the cost model can be off, the
    machine's speed must have changed, and `before` is returned.
    """
    first = statistics.median(steps)
    return first if not before or before / MAX_COST_ERROR < first < before * MAX_COST_ERROR else before


def after_pass(pace: Pace, *, taken: float, photos: int) -> Pace:
    """The pace after one more validation on `photos` photos, at the size of the steps before."""
    pace = after_other_work(pace, taken)
    pace = replace(pace, validated_at=pace.spent)
    if not pace.steps:  # the run was resumed at the end of an epoch: there are no steps to compare with
        return pace
    share = max(taken, LEAST) / (photos * pace.photo_cost) / statistics.median(pace.steps[-AROUND:])
    return replace(pace, passes=(*pace.passes, share)[-PASSES:])


def after_other_work(pace: Pace, taken: float) -> Pace:
    """The pace after work that says nothing about the machine's speed."""
    return replace(pace, spent=pace.spent + taken, gross=pace.gross + taken)


def after_python_timing(pace: Pace, python: float) -> Pace:
    """The pace after another timing of Python work, in seconds."""
    return replace(pace, python=(*pace.python, python)[-PYTHON_TIMINGS:])


def forward(budget: Budget, pace: Pace) -> float:
    """Cost of a validation photo relative to a training step.

    Estimated from the last validations at this size and from the expected time of a prediction when the size began; of
    two values the lower one, as a validation may coincide with other load.

    At the first size, the latter is the time of a prediction before training, which may have coincided with load too:
    it is used only until the first validation, and limited to within a factor `MAX_FORWARD_FACTOR` of `FORWARD`.
    """
    before = pace.answer_then or budget.answer_seconds
    if not (before and budget.answer_cost and pace.unit_then):
        return statistics.median_low(pace.passes) if pace.passes else FORWARD
    expected = before / (budget.answer_cost * pace.unit_then)
    if pace.answer_then:
        return statistics.median_low((*pace.passes, expected))
    return statistics.median_low(
        pace.passes or (min(max(expected, FORWARD / MAX_FORWARD_FACTOR), FORWARD * MAX_FORWARD_FACTOR),)
    )


def answer_seconds(budget: Budget, pace: Pace) -> float:
    """Expected seconds per prediction in scoring, at the machine's current speed."""
    return budget.answer_cost * forward(budget, pace) * pace.unit if pace.unit_then else budget.answer_seconds


def report_seconds(budget: Budget, pace: Pace) -> float:
    """Expected seconds for the report.

    One thread draws it, which may have a core to itself while training, on all cores, is slowed by other programs.
    """
    slower = statistics.median(pace.python) / budget.python if pace.python and budget.python else 1.0
    return budget.report * max(MIN_REPORT_FACTOR, slower)


def closing_seconds(budget: Budget, pace: Pace) -> float:
    """Expected seconds for everything after training, at the machine's expected speed then."""
    last_pass = budget.validated * pace.photo_cost * forward(budget, pace) * pace.unit
    recomputing = budget.statistics * forward(budget, pace) * pace.unit
    return (
        last_pass
        + recomputing
        + budget.answers * answer_seconds(budget, pace)
        + report_seconds(budget, pace)
        + budget.spare
    )


def advanced(progress: float, budget: Budget, pace: Pace, *, photos: int) -> float:
    """Progress of the run, 0 to 1, after one more step on `photos` photos.

    The rest of the schedule is spread evenly over the steps that fit into the remaining time. Temporary changes of the
    machine's speed are corrected: with less time than expected the schedule runs faster, with more time slower; but
    never so fast that the learning rate would drop abruptly.
    """
    cost = photos * pace.photo_cost
    left = budget.seconds - pace.spent - closing_seconds(budget, pace)
    left = max(left, MIN_SCHEDULE_SHARE * budget.seconds * (1 - progress))
    # The next step would overshoot the end by more than this one falls short of it, or the budget is long exceeded.
    if left < pace.step * cost / 2 or pace.spent > (1 + MIN_SCHEDULE_SHARE) * budget.seconds:
        return 1.0
    step = max(pace.step, pace.gross / pace.work) * cost  # including what happens between steps
    return progress + (1 - progress) * step / (step + left)
