"""How a run keeps to its budget: from what was measured so far to how far along it is.

Pure functions of recorded facts: what steps and validation passes took. No clock is read here, no net is run and no
machine is known, so `python -m bench disturbed` can put thousands of runs on simulated machines through this code.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

STEPS = 9  # whose median tells what the next step takes: one slow step says nothing
STALL = 5.0  # times that median: what a step takes beyond it is no part of what steps take on average
PASSES = 3  # over validation photos, whose median tells what a photo costs there,
AROUND = 5  # in parts of what so many steps just before took
MEMORY = 6.0  # seconds that the machine's pace is averaged over at least,
HORIZON = 0.15  # or this part of the time that is left: it is to tell what scoring will take
QUICKER = 0.5  # times what it was before training, the report is expected to take at least
LOOKS = 5  # at how fast Python is, whose median tells what the report takes
WRONG = 1.6  # times what they are, costs are at most
LEAST = 1e-6  # seconds that anything takes
COOLDOWN = 0.2  # of the budget: a schedule is gone through no faster than the whole of it in this time
FORWARD = 0.25  # of a training step's cost: a forward pass (bench cost), until one has been timed,
UNLIKE = 2.0  # times more or less at most


@dataclass(frozen=True)
class Budget:
    """Seconds for a whole command, and what must still be done in them after training.

    Costs are in those of training on one photo of standard cost (see `plan.cost`).
    """

    seconds: float
    validated: int = 0  # photos of a validation pass; one ends the training
    answers: int = 0  # photos that are scored at least,
    answer_seconds: float = 0.0  # each of which took so long before training, on an untrained net,
    answer_cost: float = 0.0  # and costs so many times what a validation photo of standard cost does
    report: float = 0.0  # seconds that the report would have taken at that moment,
    python: float = 0.0  # and those of a small piece of Python work (see `speed.of_python`)
    spare: float = 0.0  # seconds for what is done on as many photos as then fit in


@dataclass(frozen=True)
class Pace:
    """What was measured so far. `spent`: seconds of the budget, `validated_at`: at the end of the last pass over the
    validation photos. `python`: the last seconds of a small piece of Python work.

    The rest is of the present training size, as no model of costs is exact. `steps`: the last ones' seconds for a unit
    of cost. `passes`: what a unit cost in the last passes over validation photos, in parts of what it cost in the steps
    before. `time` and `work`: seconds and units of all steps, each the less the older it is; their ratio is what a unit
    takes on average. `gross`: the same seconds, and those of passes and checkpoints.

    When this size began, a unit took `unit_then` on average, and just before that `unit_before`; an answer was expected
    to take `answer_then`, which is 0 at the first size.
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
        """Seconds that the next steps take for a unit of cost."""
        return statistics.median(self.steps)

    @property
    def unit(self) -> float:
        """Seconds that steps are expected to take for a unit of cost when training ends."""
        return self.time / self.work if self.work else 0.0


def after_step(pace: Pace, budget: Budget | None, *, taken: float, photos: int, photo_cost: float) -> Pace:
    """The pace with one more step of so many `photos`; `photo_cost`: of training on one of this size."""
    taken = max(taken, LEAST)  # some clocks are coarse
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
    """What a unit takes when a size begins: as long as in its first steps, unless they are so much slower or quicker
    than those of the size `before` that the machine must have changed, not the costs alone."""
    first = statistics.median(steps)
    return first if not before or before / WRONG < first < before * WRONG else before


def after_pass(pace: Pace, *, taken: float, photos: int) -> Pace:
    """The pace with one more pass over so many validation photos, of the size of the steps before."""
    pace = after_other_work(pace, taken)
    pace = replace(pace, validated_at=pace.spent)
    if not pace.steps:  # of a run that went on from its epoch's end: there is nothing to compare with
        return pace
    share = max(taken, LEAST) / (photos * pace.photo_cost) / statistics.median(pace.steps[-AROUND:])
    return replace(pace, passes=(*pace.passes, share)[-PASSES:])


def after_other_work(pace: Pace, taken: float) -> Pace:
    """The pace after something that says nothing of the machine's speed."""
    return replace(pace, spent=pace.spent + taken, gross=pace.gross + taken)


def after_look(pace: Pace, python: float) -> Pace:
    """The pace after a piece of Python work took so many seconds."""
    return replace(pace, python=(*pace.python, python)[-LOOKS:])


def forward(budget: Budget, pace: Pace) -> float:
    """What a photo costs in a validation pass, in parts of what it costs in a step: by the last passes at this size and
    by what an answer was expected to take when it began; the lower one of two, as a pass may meet a busy moment.

    At the first size that is what an answer took before training, maybe in a busy moment too: it counts until the
    first pass, and as far as it is like other machines' (`FORWARD`).
    """
    before = pace.answer_then or budget.answer_seconds
    if not (before and budget.answer_cost and pace.unit_then):
        return statistics.median_low(pace.passes) if pace.passes else FORWARD
    expected = before / (budget.answer_cost * pace.unit_then)
    if pace.answer_then:
        return statistics.median_low((*pace.passes, expected))
    return statistics.median_low(pace.passes or (min(max(expected, FORWARD / UNLIKE), FORWARD * UNLIKE),))


def answer_seconds(budget: Budget, pace: Pace) -> float:
    """What scoring is expected to take for a photo, by the machine as it has become."""
    return budget.answer_cost * forward(budget, pace) * pace.unit if pace.unit_then else budget.answer_seconds


def report_seconds(budget: Budget, pace: Pace) -> float:
    """What the report is expected to take: it is drawn by one thread, which may have a core of its own where training,
    on all of them, is slowed by other programs."""
    slower = statistics.median(pace.python) / budget.python if pace.python and budget.python else 1.0
    return budget.report * max(QUICKER, slower)


def closing_seconds(budget: Budget, pace: Pace) -> float:
    """What follows training, as the machine is expected to be then."""
    last_pass = budget.validated * pace.photo_cost * forward(budget, pace) * pace.unit
    return last_pass + budget.answers * answer_seconds(budget, pace) + report_seconds(budget, pace) + budget.spare


def advanced(progress: float, budget: Budget, pace: Pace, *, photos: int) -> float:
    """How far along the run is, 0 to 1, after one more step, of so many photos.

    What is left of the schedule is spread evenly over the steps for which there is time. No spell of the machine is
    final: where less time is left than thought, the schedule is gone through faster; where more, slower. Never so fast
    that the learning rate would jump to its end.
    """
    cost = photos * pace.photo_cost
    left = budget.seconds - pace.spent - closing_seconds(budget, pace)
    left = max(left, COOLDOWN * budget.seconds * (1 - progress))
    # The next step would end farther from the end than this one did, or the end is long past.
    if left < pace.step * cost / 2 or pace.spent > (1 + COOLDOWN) * budget.seconds:
        return 1.0
    step = max(pace.step, pace.gross / pace.work) * cost  # and what comes between steps
    return progress + (1 - progress) * step / (step + left)
