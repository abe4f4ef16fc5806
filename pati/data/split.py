"""Assign photos to train, validation and test, by content and never by order.

A unit is a set of photos that must stay together: duplicates merged with the user's groups. Each unit's split follows
from a hash of the split seed and the unit's own identity, so adding a file moves only the units that it joins. Two
rules apply on top:

- a unit that is too large for its split, more than a fifth of the photos that it is meant to have, goes to train, where
  it can't dominate a score (more, where most photos come in such units);
- a class with at least three units appears in every split. If the hashes leave it out of one, the smallest suitable
  unit is moved there. Adding files can move units only in such small classes.

Knows nothing of files or pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pati.data.columns import Codes, Numbers, Texts

SPLITS = ("train", "validation", "test")
_TRAIN, _VALIDATION, _TEST = range(3)
LARGE = 0.2  # of a split's expected number of photos
FEWEST_TESTED = 150  # units in a test split: with fewer, the score comes from cross-validation
FEW_UNITS = 100  # units in all: with fewer, in `MOST_FOLDS`, as each fold then takes few photos from the training,
MOST_FOLDS, USUAL_FOLDS, FEWEST_FOLDS = 10, 5, 3


@dataclass(frozen=True)
class Unit:
    """Photos that must stay in one split: a stable identity, and the number of photos per class."""

    identity: str
    labels: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Units:
    """U units by column. `identity`: see `Unit`. `classes`: all class names.

    `unit`, `label`, `count` `(L,)`: so many photos of a unit are of a class, by its number; in order of unit.
    """

    identity: Texts
    classes: tuple[str, ...]
    unit: Numbers
    label: Numbers
    count: Numbers

    @classmethod
    def of(cls, units: Sequence[Unit]) -> Units:
        """These units."""
        rows = [(number, label, count) for number, unit in enumerate(units) for label, count in unit.labels]
        labels = Codes.of(label for _, label, _ in rows)
        unit, count = (np.array([row[at] for row in rows], np.int64) for at in (0, 2))
        return cls(Texts.of(unit.identity for unit in units), labels.values, unit, labels.codes.astype(np.int64), count)

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def sizes(self) -> Numbers:
        """Number of photos of each, `(U,)`."""
        return np.bincount(self.unit, self.count, len(self)).astype(np.int64)

    @property
    def holding(self) -> Numbers:
        """Number of units that have photos of each class, `(K,)`."""
        return np.bincount(self.label, minlength=len(self.classes))

    def take(self, chosen: NDArray[np.bool_]) -> Units:
        """The units that are `chosen` `(U,)`."""
        rows = chosen[self.unit]
        number = np.cumsum(chosen) - 1
        return Units(
            self.identity.take(np.flatnonzero(chosen)), self.classes, number[self.unit[rows]], self.label[rows],
            self.count[rows],
        )  # fmt: skip

    def positions(self, seed: int) -> NDArray[np.float64]:
        """A number in 0..1 for each, which depends on the seed and its identity, `(U,)`."""
        return np.fromiter((_position(seed, identity) for identity in self.identity), np.float64, len(self))


def assign(
    units: Units,
    *,
    seed: int,
    validation: float,
    test: float,
    fixed: Mapping[int, str] = MappingProxyType({}),
) -> Numbers:
    """The split of each unit, as its number in `SPLITS`, `(U,)`.

    `validation` and `test` are fractions in 0..1; `fixed`: splits that are decided, by the number of the unit.
    """
    sizes, position = units.sizes, units.positions(seed)
    drawn = np.where(position < test, _TEST, np.where(position < test + validation, _VALIDATION, _TRAIN))
    for number, share in ((_VALIDATION, validation), (_TEST, test)):
        drawn[(drawn == number) & (sizes > _largest(sizes, share))] = _TRAIN
    for unit, name in fixed.items():
        drawn[unit] = SPLITS.index(name)
    _cover_classes(units, drawn, position, fixed)
    return drawn


def _largest(sizes: Numbers, share: float) -> float:
    """The most photos that a unit may have in a split with this share of all.

    `LARGE` of the split's expected number; more, up to all of it, where most photos that fit come in larger units.
    """
    expected = share * int(sizes.sum())
    fitting = np.sort(sizes[sizes <= expected])
    below = np.cumsum(fitting)
    usual = fitting[np.searchsorted(below, below[-1] / 2)] if len(fitting) else 1
    return max(1.0, LARGE * expected, float(usual))


def folds_for(units: int, *, test: float, most: int | None) -> int:
    """Number of folds in which to score so many units; 0 if a test split with a share `test` of them is large enough.

    `most`: how many folds there is time for, or None for any number; 0 folds if these are too few.
    """
    if test * units >= FEWEST_TESTED:
        return 0
    folds = min(units, MOST_FOLDS if units < FEW_UNITS else USUAL_FOLDS)
    if most is None or most >= folds:
        return folds
    return most if most >= FEWEST_FOLDS else 0


def assign_folds(units: Units, folds: int, *, seed: int) -> Numbers:
    """The fold of each unit, 0..folds-1, stratified by class, `(U,)`.

    A unit's class is the label of most of its photos. The units of each class are dealt to the folds in turn, in an
    order determined by hashes.
    """
    rank = np.argsort(np.argsort(np.array(units.classes))) if units.classes else np.empty(0, np.int64)
    # Each unit's row with most photos, and of equal ones, that of the last class, comes last of its rows.
    rows = np.lexsort((rank[units.label], units.count, units.unit))
    last = rows[np.flatnonzero(np.diff(units.unit[rows], append=len(units)))]
    order = np.lexsort((units.positions(seed), rank[units.label[last]]))
    result = np.empty(len(units), np.int64)
    result[order] = np.arange(len(units)) % folds
    return result


def _position(seed: int, identity: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{identity}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cover_classes(units: Units, result: Numbers, position: NDArray[np.float64], fixed: Mapping[int, str]) -> None:
    holding = units.holding
    present = np.zeros((len(units.classes), len(SPLITS)), np.int64)
    np.add.at(present, (units.label, result[units.unit]), 1)
    lacking = np.flatnonzero((holding >= len(SPLITS)) & (present == 0).any(1))
    if not len(lacking):
        return
    first = np.searchsorted(units.unit, np.arange(len(units) + 1))  # where each unit's rows begin
    sizes = units.sizes

    def labels_of(unit: int) -> Numbers:
        return units.label[first[unit] : first[unit + 1]]

    def movable(unit: int) -> bool:
        labels, split = labels_of(unit), result[unit]
        # a class too small for all splits may be removed from one, but not from train
        small = (holding[labels] < len(SPLITS)) & (split != _TRAIN)
        return unit not in fixed and bool(((present[labels, split] > 1) | small).all())

    # Classes with the fewest units first: they have the least choice. Moves can take the last unit of other classes,
    # so all of them are looked at.
    for label in sorted(range(len(units.classes)), key=lambda one: (holding[one], units.classes[one])):
        if holding[label] < len(SPLITS):
            continue
        for split in range(len(SPLITS)):
            if present[label, split]:
                continue
            candidates = [unit for unit in units.unit[units.label == label].tolist() if movable(unit)]
            if not candidates:
                continue
            chosen = min(candidates, key=lambda unit: (sizes[unit], position[unit], units.identity[unit]))
            present[labels_of(chosen), result[chosen]] -= 1
            present[labels_of(chosen), split] += 1
            result[chosen] = split
