"""What to do in the time there is: sizes, batch, and how far along the run is.

A run by epochs counts steps; a run by budget reads the clock that is handed to it and
anneals to it, so that a slowed machine costs accuracy, not punctuality. Knows numbers
only: no files, no nets.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pati.errors import PatiError
from pati.recipe import Recipe

LARGEST = 96  # px that pati chooses by itself; more pays only with more minutes

LEARNING_RATES = {"muon": 0.08, "sgd": 0.1, "adamw": 1e-3}
MOMENTA = {"muon": 0.6, "sgd": 0.9, "adamw": 0.9}


@dataclass(frozen=True)
class Plan:
    """How a run is paced: by `epochs`, or by `seconds` of training (one of the two is set)."""

    batch: int
    sizes: tuple[int, ...]
    epochs: int | None
    seconds: float | None

    def progress(self, step: int, steps_per_epoch: int, seconds: float) -> float:
        """Share of the run that is done, 0 to 1, after `step` steps in `seconds` of active training."""
        if self.epochs is not None:
            return min(1.0, step / (self.epochs * steps_per_epoch))
        assert self.seconds is not None
        return min(1.0, seconds / self.seconds)

    def size_at(self, progress: float) -> int:
        """Training size at a point of the run: each size has an equal part of it."""
        return self.sizes[min(int(progress * len(self.sizes)), len(self.sizes) - 1)]


def choose_size(found: Sequence[tuple[int, int]]) -> int:
    """The net's input size for photos of these (width, height): near their short side, 32 to 96 px."""
    if not found:
        return LARGEST
    typical = statistics.median(min(width, height) for width, height in found)
    return min(LARGEST, max(32, round(typical / 16) * 16))


def default_budget(photos: int, size: int) -> float:
    """Seconds for the whole command when the user names none: more for more and larger photos.

    About 5 minutes for 20,000 photos at 96 px, half a minute for 2,000 tiny drawings.
    """
    work = photos * (0.25 + (size / LARGEST) ** 2) / 1.25
    return min(1800.0, max(30.0, round(30 + work * 0.0135, -1)))


def settle(recipe: Recipe, *, photos: int, size: int, mirrored: bool, turned: bool, minimum_size: int) -> Recipe:
    """The recipe with everything that was left open chosen from the data, ready to be written down."""
    if size < minimum_size:
        raise PatiError(
            f"the model {recipe.model!r} needs at least {minimum_size} px, --size is {size}",
            f"use --size {minimum_size} or more, or another --model",
        )
    chosen: dict[str, object] = {"size": size}
    if recipe.epochs is None and recipe.budget is None:
        chosen["budget"] = default_budget(photos, size)
    if recipe.batch is None:
        chosen["batch"] = 128 if photos >= 8000 else 64 if photos >= 1500 else 32 if photos >= 300 else 16
    for name, value in (
        ("flip", 0.5 if mirrored else 0.0),
        ("rotate", 0.0),
        ("crop", 0.65 if turned else 0.8),  # drawings that can't be turned don't bear much cropping either
        ("learning_rate", LEARNING_RATES[recipe.optimizer]),
        ("momentum", MOMENTA[recipe.optimizer]),
    ):
        if getattr(recipe, name) is None:
            chosen[name] = value
    return dataclasses.replace(recipe, **chosen)  # type: ignore[arg-type]


def make(recipe: Recipe, *, photos: int, minimum_size: int, seconds: float | None) -> Plan:
    """The plan of a settled recipe for `photos` training photos; `seconds` are left for training."""
    assert recipe.size is not None
    assert recipe.batch is not None
    sizes = tuple(max(minimum_size, 16, round(recipe.size * share / 16) * 16) for share in recipe.growth)
    # Tiny pictures lose too much when they are shrunk.
    sizes = tuple(min(recipe.size, max(size, min(recipe.size, 32))) for size in sizes)
    return Plan(min(recipe.batch, photos), sizes, recipe.epochs, seconds)
