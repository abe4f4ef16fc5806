"""Runs by budget on simulated machines: is the budget kept, and used, whatever else the machine does?

The control is pati's own (`pati.training.budget` and `plan`, `pati.system.clock`); what the machine takes is recorded
(`python -m bench step_times`), and stretched as if other programs were at work. Nothing is trained.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pati.evaluation import out_of_distribution
from pati.inference import forward
from pati.inference.splits import FEWEST_SCORED
from pati.recipe import Recipe
from pati.report import pages
from pati.system.clock import TICK, Clock
from pati.training import plan
from pati.training.budget import Budget, Pace, after_pass, after_python_timing, answer_seconds, report_seconds
from pati.training.loop import PYTHON_TIMING_SECONDS
from pati.training.optim import one_cycle
from pati.workflows import measure
from pati.workflows.reserve import LEAST_TRAINING, MOMENTS, SCORING_SHARE, TIMED, TIMES, predictions_needed

STEP_TIMES = Path(__file__).parent / "results" / "step_times.json"
MINUTES = (1, 2, 5, 10, 30, 60)
PHOTOS = (200, 5000, 20_000)
SCALES = (0.5, 1.0, 2.0)  # times the recorded seconds
SEEDS = range(4)
# One of two cores held by another program, by how many times as long work takes (LOG.md): a step on two threads; on
# one, once pati has noticed; on one, until it has noticed that the core is free; decoding; what has one thread anyhow.
CONTENDED, FEWER_THREADS, ALONE, DECODING, PYTHON = 4.8, 1.8, 1.73, 1.33, 1.0
NOTICED = 4.0  # seconds until pati has noticed

# Seconds on the machine that the steps were recorded on, beside what is recorded.
START, READING, DRAWING, WRITING, SAVING = 3.0, 0.0006, 2.8, 0.4, 0.05
PIECE = 0.002  # of Python work, see `speed.of_python`

PROBED = {"robustness": 0.9, "explanations": 1.2}  # of what the probes are expected to take

WITHIN = 0.03  # of the budget, before or after its end,
LAST_RATE = 0.05  # of the peak: the learning rate of the last step, where there are many
WITHIN_SLOWED = 0.10  # or after it, where the machine is slowed from a moment in the last tenth on


@dataclass(frozen=True)
class Spell:
    """From one second to another, all work takes `factor` times as long; without one, another program holds a core."""

    begin: float
    end: float
    factor: float | None = None

    def slows(self, work: str, at: float) -> float:
        """How many times as long work of this kind takes at that moment."""
        if self.factor is not None or work != "torch":
            slowed = self.factor or {"decoding": DECODING, "python": PYTHON}[work]
            return slowed if self.begin <= at < self.end else 1.0
        if self.begin <= at < self.end:
            return CONTENDED if at < self.begin + NOTICED else FEWER_THREADS
        late = self.end <= at < self.end + NOTICED and self.end > self.begin + NOTICED
        return ALONE if late else 1.0

    def next_change(self, at: float) -> float:
        """When this becomes other than it is at that moment."""
        moments = (self.begin, self.begin + NOTICED, self.end, self.end + NOTICED)
        return min((moment for moment in moments if moment > at), default=math.inf)


@dataclass(frozen=True)
class Bursts(Spell):
    """Another program holds a core for a second in every three, too short to be noticed."""

    def slows(self, work: str, at: float) -> float:
        held = self.begin <= at < self.end and self._since(at) < 1.0
        return {"torch": CONTENDED, "decoding": DECODING, "python": PYTHON}[work] if held else 1.0

    def next_change(self, at: float) -> float:
        if not self.begin <= at < self.end:
            return super().next_change(at)
        since = self._since(at)
        return min(self.end, at + (1.0 if since < 1.0 else 3.0) - since)

    def _since(self, at: float) -> float:
        """Seconds since the last burst began; rounded, or else floats could come no nearer to the next."""
        return round(at - self.begin, 6) % 3.0


@dataclass(frozen=True)
class Disturbance:
    """What happens to the machine: spells, and one suspension of so many seconds."""

    name: str
    spells: tuple[Spell, ...] = ()
    suspended_at: float = math.inf
    suspended_for: float = 0.0


def disturbances(seconds: float, rng: random.Random) -> list[Disturbance]:
    """Those of a run of so many seconds, at random moments."""

    def spell(length: float) -> Disturbance:
        begin = rng.uniform(0, seconds)
        return Disturbance(f"one core busy for {length:.0f} s", (Spell(begin, begin + length),))

    return [
        Disturbance("none"),
        Disturbance("one core busy from 20 to 50 %", (Spell(0.2 * seconds, 0.5 * seconds),)),
        *map(spell, (5, 15, 60)),
        Disturbance("one core busy in bursts", (Bursts(rng.uniform(0, 0.5 * seconds), seconds * rng.uniform(0.5, 1)),)),
        Disturbance("three times slower for good", (Spell(rng.uniform(0, seconds), math.inf, 3.0),)),
        Disturbance("twice faster after a slow start", (Spell(0, rng.uniform(0, 0.5 * seconds), 2.0),)),
        Disturbance("suspended for 10 min", (), rng.uniform(0, seconds), 600.0),
    ]


class Machine:
    """Works at the recorded speed, but for what disturbs it; counts what was lost to that."""

    def __init__(self, disturbance: Disturbance, scale: float) -> None:
        self.time = self.computed = self.lost = 0.0
        self._disturbance, self.scale = disturbance, scale
        self._suspended = False
        self.clock = Clock(lambda: self.time, lambda: self.computed, lambda: 0.0)

    def factor(self, work: str = "torch") -> float:
        return max((spell.slows(work, self.time) for spell in self._disturbance.spells), default=1.0)

    def work(self, seconds: float, work: str = "torch") -> None:
        """Do what took so many seconds when it was recorded."""
        left = self.scale * seconds
        while left > 1e-9:
            factor, until = self.factor(work), self._next_change()
            taken = min(left * factor, until - self.time)
            self.computed += taken  # first: the clock's thread may read in between
            self.time += taken
            self.lost += taken * (1 - 1 / factor)
            left -= taken / factor
            if self.time >= self._disturbance.suspended_at and not self._suspended:
                self._suspended = True
                self.clock.now()  # as the thread does, a moment before
                self.time += self._disturbance.suspended_for
                self.clock.now()

    def python(self, rng: random.Random) -> float:
        """Seconds that a small piece of Python work takes now."""
        return PIECE * self.scale * self.factor("python") * rng.uniform(0.85, 1.15)

    def _next_change(self) -> float:
        moments = [spell.next_change(self.time) for spell in self._disturbance.spells]
        if not self._suspended and self._disturbance.suspended_at > self.time:
            moments.append(self._disturbance.suspended_at)
        return min(moments, default=math.inf)


@dataclass(frozen=True)
class Tier:
    """What was recorded of one tier: seconds of single steps by size, of a photo in a validation pass by size, and of
    one in scoring."""

    steps: dict[int, list[float]]
    validation: dict[int, float]
    answer: float


@cache
def recorded() -> tuple[float, dict[tuple[str, int, float, int], Tier]]:
    """Standard photos a second, and the tiers by model, size of the answer, width and batch."""
    found = json.loads(STEP_TIMES.read_text(encoding="utf-8"))["result"]
    return found["speed"], {
        (row["model"], row["size"], row["width"], row["batch"]): Tier(
            {int(size): times for size, times in row["steps"].items()},
            {int(size): taken for size, taken in row["validation"].items()},
            row["answer"],
        )
        for row in found["tiers"]
    }


@dataclass(frozen=True)
class Outcome:
    """One simulated run. `seconds`: active ones of the whole command; `training`: of them, for training; `lost`: to the
    disturbance; `last_rate`: of the last step, as a share of the peak; `late`: slowed from the last tenth on;
    `soonest`: when the run could have ended, had training been left off when the machine became slower for good."""

    photos: int
    budget: float
    scale: float
    disturbance: str
    late: bool
    seconds: float
    training: float
    lost: float
    steps: int
    last_rate: float
    soonest: float

    @property
    def miss(self) -> float:
        """How much longer than its budget the run took, as a share of it."""
        return self.seconds / self.budget - 1

    @property
    def kept(self) -> bool:
        return -WITHIN <= self.miss <= (WITHIN_SLOWED if self.late else WITHIN)

    @property
    def possible(self) -> bool:
        """Whether any control could have kept the budget."""
        return self.soonest <= (1 + WITHIN) * self.budget


class TooShort(Exception):
    """The budget is refused, as pati refuses it."""


def simulate(photos: int, budget: float, disturbance: Disturbance, *, scale: float = 1.0, seed: int = 0) -> Outcome:
    """One run. Raises `TooShort`."""
    machine, rng = Machine(disturbance, scale), random.Random(seed)
    with machine.clock.watched():
        return _run(machine, rng, photos, budget, disturbance, scale)


def _run(
    machine: Machine, rng: random.Random, photos: int, budget: float, disturbance: Disturbance, scale: float
) -> Outcome:
    speed, tiers = recorded()
    machine.work(START, "python")
    probed = speed / scale / min(machine.factor(), FEWER_THREADS * machine.factor("python"))  # tried on one thread too
    recipe = plan.settle(
        Recipe(budget=budget), photos=photos, natural=plan.LARGEST, minimum_size=16,
        flip_invariant=True, rotation_invariant=True, precision="float32",
        speed=probed, reading=READING * scale * machine.factor("decoding"),
    )  # fmt: skip
    assert recipe.batch is not None
    assert recipe.model is not None
    assert recipe.size is not None
    assert recipe.width is not None
    tier = tiers[recipe.model, recipe.size, recipe.width, recipe.batch]
    machine.work(photos * READING, "decoding")
    training, validation, testing = round(0.8 * photos), round(0.1 * photos), round(0.1 * photos)

    # As the pipeline plans: timed on few photos, so that the figures are not quite those of later.
    pixels = 4 * TIMED * TIMES
    answer = tier.answer * scale * machine.factor() * rng.uniform(0.9, 1.1)
    ratio = tier.answer / tier.validation[max(tier.validation)] * rng.uniform(0.85, 1.15)
    ratio *= (max(tier.validation) / recipe.size) ** 2  # a validation photo of the scored size
    machine.work(pixels * tier.answer)
    answers, more = predictions_needed(recipe, training, validation, testing)
    probing = measure.probing_seconds(validation, answer, measure.SHARE * budget)
    room = (1 - LEAST_TRAINING) * budget - machine.clock.now() - answers * answer
    if room < 0:
        raise TooShort
    spare = probing + min(more * answer, SCORING_SHARE * budget)
    python = machine.python(rng)
    drawing = min(room, (DRAWING + WRITING) * scale * machine.factor("python") * rng.uniform(0.85, 1.15))
    limits = Budget(
        budget, answers=answers, answer_seconds=answer,
        answer_cost=ratio * plan.cost_of(recipe, recipe.size), report=drawing,
        python=python, spare=min(spare, room - drawing),
    )  # fmt: skip
    paced = plan.make(
        recipe, photos=training, classes=2, validation=validation, minimum_size=16, speed=probed, budget=limits,
        spent=machine.clock.now(),
    )  # fmt: skip

    # As the loop goes.
    began = machine.clock.now()
    pace, progress, steps, last_rate = Pace(spent=began), 0.0, 0, 1.0
    per_epoch = training // paced.batch
    last = looked = began
    while progress < 1:
        position, size = 0, paced.size_at(progress)
        while position < per_epoch and progress < 1:
            size, last_rate = paced.size_at(progress), one_cycle(progress, recipe.warmup)
            machine.work(rng.choice(tier.steps[size]))
            now = machine.clock.now()
            steps, position = steps + 1, position + 1
            pace, progress = paced.after_step(
                pace, progress, taken=now - last, photos=paced.batch, size=size, steps=steps, steps_per_epoch=per_epoch
            )
            last = now
            if now - looked >= PYTHON_TIMING_SECONDS:
                pace, looked = after_python_timing(pace, machine.python(rng)), now
        if not paced.validates(pace, progress):
            continue
        machine.work(paced.validated * tier.validation[size])
        now = machine.clock.now()
        pace = after_pass(pace, taken=now - last, photos=paced.validated)
        last = now
    machine.work(SAVING, "python")
    trained = machine.clock.now() - began

    one = answer_seconds(limits, pace)
    probing = measure.probing_seconds(validation, one, min(limits.spare, measure.SHARE * budget))
    until = budget - report_seconds(limits, pace) - (measure.EXPLAINING + testing) * one - probing
    moments = MOMENTS / recipe.views
    scored = (
        (validation, FEWEST_SCORED, 1.0),
        (min(training, out_of_distribution.PHOTOS), out_of_distribution.FEWEST_PHOTOS, moments),
        (testing, testing, 1.0),
    )
    for count, fewest, cost in scored:
        for start in range(0, count, forward.BATCH):
            if machine.clock.now() > until and start >= fewest:
                break
            machine.work(min(forward.BATCH, count - start) * cost * tier.answer)
    machine.work(measure.EXPLAINING * tier.answer)
    machine.work(DRAWING, "python")
    _probe(machine, tier.answer, budget - pages.WRITING * report_seconds(limits, pace), validation)
    machine.work(WRITING, "python")
    end = machine.clock.now()
    late = any(spell.end >= end and spell.begin >= 0.9 * budget for spell in disturbance.spells)
    least = sum(min(fewest, count) * cost for count, fewest, cost in scored) + measure.EXPLAINING
    least = least * tier.answer + DRAWING + WRITING
    soonest = max(
        (spell.begin + (spell.factor or 1.0) * scale * least for spell in disturbance.spells if spell.end == math.inf),
        default=0.0,
    )
    if disturbance.spells and disturbance.spells[0].begin > began + trained:
        soonest = end
    return Outcome(photos, budget, scale, disturbance.name, late, end, trained, machine.lost, steps, last_rate, soonest)


def _probe(machine: Machine, answer: float, ends: float, validation: int) -> None:
    """What `results.probed` measures: parts of each probe, as long as another one fits."""
    done, each = dict.fromkeys(measure.PROBES, 0), {}
    began = machine.clock.now()
    for share in (True, False):
        for name, probe in measure.PROBES.items():
            each.setdefault(name, probe.answers * answer * machine.scale * machine.factor())
            until = ends - (ends - began) * (1 - probe.share) * share
            photos = min(probe.most, validation)
            while count := measure.next_part(probe, photos, done[name], until - machine.clock.now(), each[name]):
                at = machine.clock.now()
                machine.work(count * probe.answers * answer * PROBED[name])
                done[name] += count
                each[name] = (machine.clock.now() - at) / count


def one_seed(seed: int) -> tuple[list[Outcome], Counter[str]]:
    """All sets, budgets, scales and disturbances with the random moments of one seed."""
    outcomes, refused = [], Counter()
    for photos, minutes, scale in itertools.product(PHOTOS, MINUTES, SCALES):
        seconds = 60.0 * minutes
        rng = random.Random(f"{photos} {minutes} {scale} {seed}")
        for disturbance in disturbances(seconds, rng):
            try:
                outcomes.append(simulate(photos, seconds, disturbance, scale=scale, seed=seed))
            except TooShort:
                refused[f"{photos} photos, {minutes} min, scale {scale}"] += 1
    return outcomes, refused


def failures(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, Outcome]]:
    """What is not as promised, and why."""
    free = {(o.photos, o.budget, o.scale): o for o in outcomes if o.disturbance == "none"}
    for outcome in outcomes:
        if not outcome.kept:
            yield "budget not kept" if outcome.possible else "no control could have kept the budget", outcome
        if outcome.last_rate > max(LAST_RATE, 1.5 / outcome.steps):
            yield "learning rate not at its end", outcome
        undisturbed = free[outcome.photos, outcome.budget, outcome.scale]
        step = undisturbed.training / undisturbed.steps
        if outcome.training < undisturbed.training - outcome.lost - 0.01 * outcome.budget - step - TICK:
            yield "less training than the disturbance took", outcome


def disturbed() -> dict[str, Any]:
    """Every set, budget, scale and disturbance, each with several random moments."""
    with ProcessPoolExecutor() as pool:
        found = list(pool.map(one_seed, SEEDS))
    failed = [(why, outcome) for outcomes, _ in found for why, outcome in failures(outcomes)]
    outcomes = [outcome for outcomes, _ in found for outcome in outcomes]
    rows = {}
    for name in dict.fromkeys(outcome.disturbance for outcome in outcomes):
        some = [outcome for outcome in outcomes if outcome.disturbance == name]
        misses = [100 * outcome.miss for outcome in some]
        rows[name] = {
            "runs": len(some),
            "median_miss_percent": round(statistics.median(misses), 2),
            "least": round(min(misses), 2),
            "largest": round(max(misses), 2),
            "largest_last_rate": round(max(outcome.last_rate for outcome in some), 4),
        }
    return {
        "runs": len(outcomes),
        "refused": dict(sum((refused for _, refused in found), Counter())),
        "failures": dict(Counter(why for why, _ in failed)),
        "failed": [{"why": why, **asdict(outcome), "miss": outcome.miss} for why, outcome in failed[:50]],
        "by_disturbance": rows,
    }
