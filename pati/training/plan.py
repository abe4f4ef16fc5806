"""Plan a run for the available time: model, sizes, batch size, and schedule.

A run by epochs counts steps; a run by budget follows the time (see `budget`), so that a slower machine costs accuracy,
not punctuality. Knows numbers only: no files, no networks.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from pati.errors import PatiError
from pati.evaluation import out_of_distribution
from pati.locale.messages import N_
from pati.recipe import Recipe, SettledRecipe, Value
from pati.runs.run import BudgetDocument, PlanDocument
from pati.training import budget as budgets
from pati.training.budget import FORWARD, Budget, Pace, closing_seconds

LEARNING_RATES = {"sgd": 0.1, "adamw": 1e-3}
MOMENTA = {"muon": 0.6, "sgd": 0.9, "adamw": 0.9}

FOLDS_SHARE = 0.5  # of the training time in a budget, for all cross-validation folds together;
FOLD_PASSES = 12  # a fold's network is trained for at least so many epochs: else it would be far from the kept one
MOST_PASSES = 200  # validations in a run by budget
MANY_EPOCHS = 25  # from here on, the same photos are seen so often that a stronger augmentation pays
VALIDATION_SHARE = 0.03  # fraction of the training time for validation after each epoch,
FEWEST_VALIDATED = 300  # but with fewer photos the curve would be noise

START, REPORT, AUDIT = 3.0, 5.0, 1e-4  # seconds: to start a run, for its report, and per photo in addition to reading

STANDARD = 64  # px: the unit of cost is training on one photo of this size at width 1


def cost(size: float, width: float = 1.0, model: str | None = None, precision: str = "bfloat16") -> float:
    """Cost of training on one photo of `size` px, by the model fitted to `python -m bench cost`.

    One term is proportional to the square of the width (the optimiser), one to the pixels (augmentation, norms), and
    one to both (convolutions), which weighs more in float32. The unit of cost is pati's network at width 1 and
    `STANDARD` px; models without fitted costs have a unit of their own.
    """
    costs = COST[precision]
    by_channels, by_pixels, by_both = costs.get(model or DEFAULT_MODEL, costs[DEFAULT_MODEL])
    return by_channels * width**2 + (size / STANDARD) ** 2 * (by_pixels + by_both * width**2)


def standard(model: str | None) -> str:
    """The model that defines the unit of cost for `model`, at width 1."""
    return DEFAULT_MODEL if model is None or model in COST["bfloat16"] else model


DEFAULT_MODEL = "pati"
COST = {
    "bfloat16": {"pati": (0.17, 0.5, 0.24), "pati-deep": (0.26, 0.66, 0.25), "pati-thumbnail": (0.26, 2.1, 1.1)},
    "float32": {"pati": (0.09, 0.17, 0.59), "pati-deep": (0.035, 0.34, 0.63), "pati-thumbnail": (0.07, 1.89, 2.5)},
}


@dataclass(frozen=True)
class Tier:
    """A training configuration for runs with time for at least so many `epochs` of it."""

    epochs: float
    size: int  # in px, at inference
    growth: tuple[float, ...]
    width: float
    crop: float
    learning_rate: float  # of the kernels with muon; long runs on many photos need a lower one
    model: str = DEFAULT_MODEL
    mirror: bool = True

    def cost(self, precision: str) -> float:
        """Mean cost per photo over the run."""
        return statistics.mean(cost(self.size * share, self.width, self.model, precision) for share in self.growth)


# Each tier starts where it was better than the one before in the same time, counted in its own epochs: these numbers
# need not rise, since wider networks have fewer epochs in the same time. The size at inference is one step above the
# last training size, since random crops magnify the training photos by about as much. Sizes are multiples of 16, so
# that pooling drops no edge and saliency maps are aligned with the photo.
TIERS = (
    Tier(0, 64, (1.0,), 1.0, 0.65, 0.12, mirror=False),
    Tier(2.7, 80, (0.8,), 1.0, 0.65, 0.12),
    Tier(2.6, 112, (0.57, 0.86), 1.5, 0.45, 0.06),
    Tier(25, 112, (0.57, 0.86), 1.5, 0.4, 0.06, "pati-deep"),
    Tier(38, 128, (0.5, 0.75, 0.875), 1.5, 0.35, 0.05, "pati-deep"),
    Tier(40, 128, (0.5, 0.75, 0.875), 2.0, 0.35, 0.05, "pati-deep"),
)
CENTER_CROP = 0.85
LARGEST = max(tier.size for tier in TIERS)

# Of small images, the usual network would leave 2 × 2 pixels, and small crops too little to see.
SMALL_IMAGES = 48  # px: the largest of them
SMALL_TIERS = (
    Tier(0, SMALL_IMAGES, (1.0,), 1.0, 0.8, 0.12, mirror=False),
    Tier(1.2, SMALL_IMAGES, (1.0,), 1.0, 0.8, 0.12, "pati-thumbnail"),
    Tier(14, SMALL_IMAGES, (1.0,), 2.0, 0.8, 0.12, "pati-thumbnail"),
)

# Runs on fewer photos have fewer steps, and need the rate of short runs.
MANY_PHOTOS, FEWER_PHOTOS_RATE = 8000, 0.12

# Of few photos, larger networks learn no more in the same time, and need more time for each fold.
FEW_PHOTOS = 1500  # in the whole dataset
FEW_TIERS = (
    Tier(0, 64, (1.0,), 1.0, 0.65, 0.12, mirror=False),
    Tier(2.7, 80, (0.8,), 1.0, 0.65, 0.12),
    Tier(8, 96, (0.67, 1.0), 1.0, 0.45, 0.12),
    Tier(40, 96, (0.67, 1.0), 1.0, 0.35, 0.12),
)
FEW_SMALL_TIERS = SMALL_TIERS[:2]


def tiers_for(photos: int, size: int) -> tuple[Tier, ...]:
    """The tiers for so many photos, with images of a size in px."""
    if photos < FEW_PHOTOS:
        return FEW_SMALL_TIERS if size <= SMALL_IMAGES else FEW_TIERS
    return SMALL_TIERS if size <= SMALL_IMAGES else TIERS


def affordable(tiers: Sequence[Tier], passes: float, precision: str) -> Tier:
    """The highest of the tiers affordable with `passes` epochs at standard cost."""
    return [tier for tier in tiers if tier.epochs * tier.cost(precision) <= passes][-1]


@dataclass(frozen=True)
class Plan:
    """The schedule of a run, by `epochs` or by a `budget`.

    `sizes`: training sizes in px, each for an equal part of the run; `costs`: of training on one photo at each size.
    `validated`: photos per validation. `seconds`: planned training time of a budget.
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
        """Inverse of `document`. Raises `KeyError` or `TypeError` for a plan of an older version."""
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
        """As stored in run.json."""
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
        """Training size at this progress."""
        return self.sizes[min(int(progress * len(self.sizes)), len(self.sizes) - 1)]

    def after_step(
        self, pace: Pace, progress: float, *, taken: float, photos: int, size: int, steps: int, steps_per_epoch: int
    ) -> tuple[Pace, float]:
        """Pace and progress (0 to 1) after a step on `photos` photos that took `taken` seconds.

        `steps`: number of steps so far.
        """
        cost = self.costs[self.sizes.index(size)]
        pace = budgets.after_step(pace, self.budget, taken=taken, photos=photos, photo_cost=cost)
        if self.budget is not None:
            return pace, budgets.advanced(progress, self.budget, pace, photos=photos)
        assert self.epochs is not None
        return pace, max(progress, min(1.0, steps / (self.epochs * steps_per_epoch)))

    def validates(self, pace: Pace, progress: float) -> bool:
        """Whether to validate after an epoch; with a budget, not after every short one."""
        if self.budget is None or progress >= 1:
            return True
        return pace.spent - pace.validated_at >= self.budget.seconds / MOST_PASSES

    def left(self, progress: float, seconds: float, pace: Pace) -> float:
        """Seconds until the command ends, from the run's own pace or the budget; `seconds`: training time so far."""
        rest = seconds * (1 - progress) / max(progress, 1e-6)
        if self.budget is not None:
            rest = min(rest + budgets.closing_seconds(self.budget, pace), self.budget.seconds - pace.spent)
        return max(0.0, rest)


def natural_size(sizes: Sequence[tuple[int, int]]) -> int:
    """The largest useful input size for photos of these (width, height): near their short side, 32 px or more."""
    if not sizes:
        return LARGEST
    typical = statistics.median(min(width, height) for width, height in sizes)
    return min(LARGEST, max(32, round(typical / 16) * 16))


def most_folds(recipe: SettledRecipe, *, photos: int, minimum_size: int, speed: float, reading: float) -> int | None:
    """How many cross-validation folds there is time for; None if the recipe has no budget.

    `speed`, `reading`: see `settle`.
    """
    if recipe.budget is None:
        return None
    each = statistics.mean(costs(recipe, minimum_size))
    seconds = FOLDS_SHARE * training_seconds(recipe.budget, photos=photos, reading=reading)
    return int(seconds * speed / (photos * each) / FOLD_PASSES)


def default_budget(photos: int, size: int, *, folds: int = 0) -> float:
    """Seconds for the whole command if the user sets no budget: longer for more and larger photos.

    About 2 minutes for a handful of photos of 96 px or more, 5 minutes for 20,000 of them, 40 seconds for 2,000 tiny
    drawings; with `folds`, so that the model that is kept has as long.
    """
    pixels = min(1.0, size / 96) ** 2
    work = photos * (0.25 + pixels) / 1.25
    seconds = min(1800.0, round(30 + 90 * pixels + 0.009 * work, -1))
    return seconds / (1 - FOLDS_SHARE) if folds else seconds


def training_seconds(budget: float, *, photos: int, reading: float) -> float:
    """Estimated training time within a budget, before any photo is read; `reading`: seconds per photo."""
    return max(0.0, budget - overhead(photos=photos, reading=reading))


def overhead(*, photos: int, reading: float) -> float:
    """Estimated time of a run outside training; `reading`: seconds per photo."""
    return START + REPORT + photos * (reading + AUDIT)


@dataclass(frozen=True)
class Outline:
    """The estimated use of a budget in seconds, and the number of epochs (`passes`); reported before reading.

    `folds`: seconds of cross-validation; 0 without.
    """

    reading: float
    folds: float
    training: float
    after: float
    passes: float


def outline(
    recipe: SettledRecipe, budget: float, *, photos: int, folds: int, minimum_size: int, speed: float, reading: float
) -> Outline:
    """The outline of a settled recipe with a `budget` in seconds; `folds`, `speed` and `reading`: see `settle`."""
    trained = training_photos(recipe, photos, folds)
    views = (photos - trained) * recipe.views + min(trained, out_of_distribution.PHOTOS)
    after = REPORT + views * FORWARD * cost_of(recipe, recipe.size) / speed
    before = START + photos * (reading + AUDIT)
    rest = max(0.0, budget - before - after)
    validating = FOLDS_SHARE * rest if folds else 0.0
    training = rest - validating
    each = statistics.mean(costs(recipe, minimum_size))
    return Outline(before, validating, training, after, training * speed / (trained * each))


def training_photos(recipe: Recipe, photos: int, folds: int) -> float:
    """Expected number of training photos: with `folds`, the model that is kept is trained on all."""
    return photos if folds else photos * (1 - recipe.validation - recipe.test)


def settle(
    recipe: Recipe,
    *,
    photos: int,
    natural: int,
    flip_invariant: bool,
    rotation_invariant: bool,
    minimum_size: int,
    precision: str,
    speed: float,
    reading: float,
    folds: int = 0,
) -> SettledRecipe:
    """Choose every open field of the recipe from the data and the machine.

    `folds`: expected number of cross-validation folds. `natural`: see `natural_size`. `speed`: training throughput of
    this machine in photos/s at standard cost; `reading`: seconds to read and decode one photo. Raises `PatiError` if
    the size is below the model's minimum.
    """
    chosen: dict[str, Value] = {}
    tiers = tiers_for(photos, recipe.size or natural)
    budget = recipe.budget
    if recipe.epochs is None and budget is None:
        budget = chosen["budget"] = default_budget(photos, natural, folds=folds)
    if budget is not None:
        seconds = training_seconds(budget, photos=photos, reading=reading) * (1 - FOLDS_SHARE if folds else 1)
        passes = seconds * speed / training_photos(recipe, photos, folds)
        tier = affordable(tiers, passes, precision)
        epochs = passes / tier.cost(precision)
    else:
        epochs = recipe.epochs or 1
        tier = [tier for tier in tiers if tier.epochs <= epochs][-1]
    rate = tier.learning_rate if photos >= MANY_PHOTOS else max(tier.learning_rate, FEWER_PHOTOS_RATE)
    if recipe.batch is None:
        chosen["batch"] = 128 if photos >= MANY_PHOTOS else 64 if photos >= FEW_PHOTOS else 32
    for name, value in (
        ("precision", precision),
        ("size", max(minimum_size, min(natural, tier.size))),
        ("growth", tier.growth),
        ("model", tier.model),
        ("width", tier.width if standard(recipe.model) == DEFAULT_MODEL else 1.0),
        ("flip", 0.5 if flip_invariant else 0.0),
        ("rotate", 0.0),
        (
            "crop",
            tier.crop if rotation_invariant else 0.8,
        ),  # drawings that can't be rotated don't tolerate much cropping either
        # Rotation and shear are among its operations.
        ("policy", "trivial" if epochs >= MANY_EPOCHS and rotation_invariant else "none"),
        ("mirror", flip_invariant and tier.mirror),
        # Random crops magnify the training photos, so a magnified view is as familiar.
        ("center_crop", CENTER_CROP if flip_invariant and tier.mirror and recipe.mirror is None else 1.0),
        ("learning_rate", LEARNING_RATES.get(recipe.optimizer, rate)),
        ("momentum", MOMENTA[recipe.optimizer]),
    ):
        if getattr(recipe, name) is None:
            chosen[name] = value
    settled = SettledRecipe(**vars(recipe) | chosen)
    if settled.size < minimum_size:
        raise PatiError(
            N_(
                "the model {model!r} needs at least {minimum_size} px, --size is {size}",
                model=settled.model,
                minimum_size=minimum_size,
                size=settled.size,
            ),
            N_("use --size {minimum_size} or more, or another --model", minimum_size=minimum_size),
        )
    return settled


def training_sizes(recipe: SettledRecipe, minimum_size: int) -> tuple[int, ...]:
    """Training sizes of a settled recipe in px, each for an equal part of the run."""
    sizes = tuple(max(minimum_size, 16, round(recipe.size * share / 16) * 16) for share in recipe.growth)
    # Downscaling tiny images loses too much.
    return tuple(min(recipe.size, max(size, min(recipe.size, 32))) for size in sizes)


def cost_of(recipe: SettledRecipe, size: int) -> float:
    """Cost of training the recipe's network on one photo of `size` px."""
    return cost(size, recipe.width, recipe.model, recipe.precision)


def costs(recipe: SettledRecipe, minimum_size: int) -> tuple[float, ...]:
    """The cost at each of the `training_sizes`."""
    return tuple(cost_of(recipe, size) for size in training_sizes(recipe, minimum_size))


def statistics_photos(photos: int, classes: int) -> int:
    """Number of training photos from which the batch norm statistics of predictions are computed after training."""
    return min(photos, 256 + 100 * classes, 2048)  # of two classes 256 are nearly enough, of 17 they are too few


def make(
    recipe: SettledRecipe,
    *,
    photos: int,
    classes: int,
    validation: int,
    minimum_size: int,
    speed: float,
    budget: Budget | None,
    spent: float = 0.0,
) -> Plan:
    """The plan for `photos` training photos of `classes` classes, after `spent` seconds of the `budget`.

    `validation`: number of validation photos; `speed`: see `settle`.
    """
    sizes = training_sizes(recipe, minimum_size)
    each = costs(recipe, minimum_size)
    batch = min(recipe.batch, photos)
    if budget is None:
        return Plan(batch, sizes, each, validation, epochs=recipe.epochs)
    seconds = budget.seconds - spent - closing_seconds(budget, Pace())
    one = statistics.mean(each) / speed
    passes = min(MOST_PASSES, max(1.0, seconds / (photos * one)))
    within = round(VALIDATION_SHARE * seconds / (passes * one * FORWARD))
    validated = min(validation, max(within, FEWEST_VALIDATED))
    recomputing = recipe.views * statistics_photos(photos, classes) * cost_of(recipe, recipe.size)
    budget = dataclasses.replace(budget, validated=validated, statistics=recomputing)
    return Plan(batch, sizes, each, validated, budget=budget, seconds=seconds)
