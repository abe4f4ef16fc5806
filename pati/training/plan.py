"""What to do in the time there is: model, sizes, batch, and how the run is paced.

A run by epochs counts steps; one by budget follows the time (see `budget`), so that a slowed machine costs accuracy,
not punctuality. Knows numbers only: no files, no nets.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pati.errors import PatiError
from pati.evaluation import out_of_distribution
from pati.recipe import Recipe, SettledRecipe, Value
from pati.runs.run import BudgetDocument, PlanDocument
from pati.training import budget as budgets
from pati.training.budget import FORWARD, Budget, Pace, closing_seconds

LEARNING_RATES = {"sgd": 0.1, "adamw": 1e-3}
MOMENTA = {"muon": 0.6, "sgd": 0.9, "adamw": 0.9}

MOST_PASSES = 200  # over the validation photos, in a run by budget
VALIDATION_SHARE = 0.03  # of training time goes to looking at validation photos after each epoch,
FEWEST_VALIDATED = 300  # but with fewer photos the curve is only noise

START, REPORT, AUDIT = 3.0, 5.0, 1e-4  # seconds: until a run begins, for its report, and beside reading for each photo

STANDARD = 64  # px: costs are in those of training the net of width 1 on one photo of this size


def cost(size: float, width: float = 1.0, model: str | None = None) -> float:
    """What training on one photo of `size` px costs, by the model fitted to `python -m bench cost`.

    A part goes with the square of the channels alone (the optimiser), one with the pixels alone (augmentation, norms),
    one with both (convolutions). Other models than the house's have a standard of their own.
    """
    by_channels, by_pixels, by_both = COST.get(model or HOUSE, COST[HOUSE])
    return by_channels * width**2 + (size / STANDARD) ** 2 * (by_pixels + by_both * width**2)


def standard(model: str | None) -> str:
    """The model that `model`'s costs are counted in, at width 1."""
    return HOUSE if model is None or model in COST else model


HOUSE = "pati"
COST = {"pati": (0.17, 0.5, 0.24), "pati-deep": (0.26, 0.66, 0.25)}


@dataclass(frozen=True)
class Rung:
    """What to train in the time there is: worth it from so many `passes` of standard cost over the photos on."""

    passes: float
    size: int  # that the photos are scored at
    growth: tuple[float, ...]
    width: float
    crop: float
    learning_rate: float  # of the kernels under muon: longer runs want smaller steps
    model: str = HOUSE
    mirror: bool = True

    def cost(self) -> float:
        """Of one photo, on average over the run."""
        return statistics.mean(cost(self.size * share, self.width, self.model) for share in self.growth)


# Scored a step above the last training size: crops have enlarged what the net has seen by about as much. Multiples of
# 16, so that no pooling leaves out an edge and the explanations' maps lie where they belong.
RUNGS = (
    Rung(0, 64, (1.0,), 1.0, 0.65, 0.12, mirror=False),
    Rung(2.5, 80, (0.8,), 1.0, 0.65, 0.12),
    Rung(5.5, 112, (0.57, 0.86), 1.5, 0.45, 0.06),
    Rung(65, 112, (0.57, 0.86), 1.5, 0.4, 0.06, "pati-deep"),
    Rung(120, 128, (0.5, 0.75, 0.875), 1.5, 0.35, 0.05, "pati-deep"),
    Rung(180, 128, (0.5, 0.75, 0.875), 2.0, 0.35, 0.05, "pati-deep"),
)
LARGEST = max(rung.size for rung in RUNGS)


def rung_for(passes: float) -> Rung:
    """The highest rung that so many passes of standard cost reach."""
    return [rung for rung in RUNGS if rung.passes <= passes][-1]


def rung_for_epochs(epochs: int) -> Rung:
    """The highest rung that so many epochs of its own reach."""
    return [rung for rung in RUNGS if rung.passes <= epochs * rung.cost()][-1]


@dataclass(frozen=True)
class Plan:
    """How a run is paced: by `epochs` or by a `budget`.

    `sizes`: in px, each for an equal part of the run, and what training on one photo `costs` at each. `validated`:
    photos looked at after each epoch. `seconds`: that a budget leaves for training, as planned.
    """

    batch: int
    sizes: tuple[int, ...]
    costs: tuple[float, ...]
    validated: int
    epochs: int | None = None
    budget: Budget | None = None
    seconds: float | None = None

    @classmethod
    def from_document(cls, document: PlanDocument) -> Plan:
        """Inverse of `document`. Raises `KeyError` or `TypeError` for a plan of an older pati."""
        budget = document["budget"]
        return cls(
            batch=document["batch"],
            sizes=tuple(document["sizes"]),
            costs=tuple(document["costs"]),
            validated=document["validated"],
            epochs=document["epochs"],
            budget=None if budget is None else Budget(**budget),
            seconds=document["seconds"],
        )

    def document(self) -> PlanDocument:
        """As run.json keeps it."""
        return {
            "batch": self.batch,
            "sizes": list(self.sizes),
            "costs": list(self.costs),
            "validated": self.validated,
            "epochs": self.epochs,
            "budget": None if self.budget is None else cast(BudgetDocument, dataclasses.asdict(self.budget)),
            "seconds": self.seconds,
        }

    def size_at(self, progress: float) -> int:
        """Training size at a point of the run."""
        return self.sizes[min(int(progress * len(self.sizes)), len(self.sizes) - 1)]

    def after_step(
        self, pace: Pace, progress: float, *, taken: float, photos: int, size: int, steps: int, steps_per_epoch: int
    ) -> tuple[Pace, float]:
        """Pace and progress (0 to 1) after a step of so many `photos` that took so many seconds; `steps` in all."""
        cost = self.costs[self.sizes.index(size)]
        pace = budgets.after_step(pace, self.budget, taken=taken, photos=photos, photo_cost=cost)
        if self.budget is not None:
            return pace, budgets.advanced(progress, self.budget, pace, photos=photos)
        assert self.epochs is not None
        return pace, max(progress, min(1.0, steps / (self.epochs * steps_per_epoch)))

    def validates(self, pace: Pace, progress: float) -> bool:
        """Whether to look at the validation photos after an epoch: short ones are many, and a curve has few points."""
        if self.budget is None or progress >= 1:
            return True
        return pace.spent - pace.validated_at >= self.budget.seconds / MOST_PASSES

    def left(self, progress: float, seconds: float, pace: Pace) -> float:
        """Seconds until the command ends, `seconds` after training has begun: by its own pace or by the budget."""
        rest = seconds * (1 - progress) / max(progress, 1e-6)
        if self.budget is not None:
            rest = min(rest + budgets.closing_seconds(self.budget, pace), self.budget.seconds - pace.spent)
        return max(0.0, rest)


def natural_size(found: Sequence[tuple[int, int]]) -> int:
    """The largest useful input size for photos of these (width, height): near their short side, 32 px or more."""
    if not found:
        return LARGEST
    typical = statistics.median(min(width, height) for width, height in found)
    return min(LARGEST, max(32, round(typical / 16) * 16))


def default_budget(photos: int, size: int) -> float:
    """Seconds for the whole command when the user names none: more for more and larger photos.

    About 2 minutes for a handful of photos of 96 px or more, 5 for 20,000 of them, 40 seconds for 2,000 tiny drawings.
    """
    pixels = min(1.0, size / 96) ** 2
    work = photos * (0.25 + pixels) / 1.25
    return min(1800.0, round(30 + 90 * pixels + 0.009 * work, -1))


def training_seconds(budget: float, *, photos: int, reading: float) -> float:
    """About what a budget leaves for training before a photo is read, if one takes `reading` seconds."""
    return max(0.0, budget - overhead(photos=photos, reading=reading))


def overhead(*, photos: int, reading: float) -> float:
    """About what a run takes beside training, if it takes `reading` seconds to read one of its photos."""
    return START + REPORT + photos * (reading + AUDIT)


@dataclass(frozen=True)
class Outline:
    """What a budget will be spent on: seconds, and passes over the training photos; told before any photo is read."""

    reading: float
    training: float
    after: float
    passes: float


def outline(
    recipe: SettledRecipe, budget: float, *, photos: int, minimum_size: int, speed: float, reading: float
) -> Outline:
    """Of a settled recipe with a `budget` in seconds; `speed` and `reading`: see `settle`."""
    trained = photos * (1 - recipe.validation - recipe.test)
    views = (photos - trained) * (2 if recipe.mirror else 1) + min(trained, out_of_distribution.PHOTOS)
    after = REPORT + views * FORWARD * cost(recipe.size, recipe.width, recipe.model) / speed
    before = START + photos * (reading + AUDIT)
    training = max(0.0, budget - before - after)
    each = statistics.mean(cost(size, recipe.width, recipe.model) for size in training_sizes(recipe, minimum_size))
    return Outline(before, training, after, training * speed / (trained * each))


def settle(
    recipe: Recipe,
    *,
    photos: int,
    natural: int,
    mirrored: bool,
    turned: bool,
    minimum_size: int,
    precision: str,
    speed: float,
    reading: float,
) -> SettledRecipe:
    """The recipe with everything that was left open chosen from data and machine, ready to be written down.

    `natural`: see `natural_size`. `speed`: photos of standard cost that this machine trains on in a second;
    `reading`: seconds that it takes to read and decode one.
    """
    chosen: dict[str, Value] = {}
    budget = recipe.budget
    if recipe.epochs is None and budget is None:
        budget = chosen["budget"] = default_budget(photos, natural)
    if budget is not None:
        seconds = training_seconds(budget, photos=photos, reading=reading)
        rung = rung_for(seconds * speed / (photos * (1 - recipe.validation - recipe.test)))
    else:
        rung = rung_for_epochs(recipe.epochs or 1)
    if recipe.batch is None:
        chosen["batch"] = 128 if photos >= 8000 else 64 if photos >= 1500 else 32 if photos >= 300 else 16
    for name, value in (
        ("precision", precision),
        ("size", max(minimum_size, min(natural, rung.size))),
        ("growth", rung.growth),
        ("model", rung.model),
        ("width", rung.width if standard(recipe.model) == HOUSE else 1.0),
        ("flip", 0.5 if mirrored else 0.0),
        ("rotate", 0.0),
        ("crop", rung.crop if turned else 0.8),  # drawings that can't be turned don't bear much cropping either
        ("mirror", mirrored and rung.mirror),
        ("learning_rate", LEARNING_RATES.get(recipe.optimizer, rung.learning_rate)),
        ("momentum", MOMENTA[recipe.optimizer]),
    ):
        if getattr(recipe, name) is None:
            chosen[name] = value
    settled = SettledRecipe(**vars(recipe) | chosen)
    if settled.size < minimum_size:
        raise PatiError(
            f"the model {settled.model!r} needs at least {minimum_size} px, --size is {settled.size}",
            f"use --size {minimum_size} or more, or another --model",
        )
    return settled


def training_sizes(recipe: SettledRecipe, minimum_size: int) -> tuple[int, ...]:
    """The sizes in px that a settled recipe trains at, each for an equal part of the run."""
    sizes = tuple(max(minimum_size, 16, round(recipe.size * share / 16) * 16) for share in recipe.growth)
    # Tiny pictures lose too much when they are shrunk.
    return tuple(min(recipe.size, max(size, min(recipe.size, 32))) for size in sizes)


def make(
    recipe: SettledRecipe,
    *,
    photos: int,
    validation: int,
    minimum_size: int,
    speed: float,
    budget: Budget | None,
    spent: float = 0.0,
) -> Plan:
    """The plan of a settled recipe for `photos` training photos, after `spent` seconds of the `budget`.

    `validation` photos are at hand; `speed`: see `settle`.
    """
    sizes = training_sizes(recipe, minimum_size)
    costs = tuple(cost(size, recipe.width, recipe.model) for size in sizes)
    batch = min(recipe.batch, photos)
    if budget is None:
        return Plan(batch, sizes, costs, validation, epochs=recipe.epochs)
    seconds = budget.seconds - spent - closing_seconds(budget, Pace())
    one = statistics.mean(costs) / speed
    passes = min(MOST_PASSES, max(1.0, seconds / (photos * one)))
    affordable = round(VALIDATION_SHARE * seconds / (passes * one * FORWARD))
    validated = min(validation, max(affordable, FEWEST_VALIDATED))
    budget = dataclasses.replace(budget, validated=validated)
    return Plan(batch, sizes, costs, validated, budget=budget, seconds=seconds)
