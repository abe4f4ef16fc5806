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
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

SPLITS = ("train", "validation", "test")
LARGE = 0.2  # of a split's expected number of photos
FEWEST_TESTED = 150  # units in a test split: with fewer, the score comes from cross-validation
FEW_UNITS = 100  # units in all: with fewer, in `MOST_FOLDS`, as each fold then takes few photos from the training,
MOST_FOLDS, USUAL_FOLDS, FEWEST_FOLDS = 10, 5, 3


@dataclass(frozen=True)
class Unit:
    """Photos that must stay in one split: a stable identity, and the number of photos per class."""

    identity: str
    labels: tuple[tuple[str, int], ...]

    @property
    def size(self) -> int:
        """Number of photos."""
        return sum(count for _, count in self.labels)


def assign(
    units: Sequence[Unit],
    *,
    seed: int,
    validation: float,
    test: float,
    fixed: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Unit identity -> split. `validation` and `test` are fractions in 0..1; `fixed`: splits that are decided."""
    shares = {"validation": validation, "test": test}
    most = {name: _largest(units, share) for name, share in shares.items()}
    position = {unit.identity: _position(seed, unit.identity) for unit in units}
    result = {}
    for unit in units:
        at = position[unit.identity]
        drawn = "test" if at < test else "validation" if at < test + validation else "train"
        result[unit.identity] = drawn if unit.size <= most.get(drawn, unit.size) else "train"
    result |= fixed
    _cover_classes(units, result, position, fixed)
    return result


def _largest(units: Sequence[Unit], share: float) -> float:
    """The most photos that a unit may have in a split with this share of all.

    `LARGE` of the split's expected number; more, up to all of it, where most photos that fit come in larger units.
    """
    expected = share * sum(unit.size for unit in units)
    fitting = sorted(unit.size for unit in units if unit.size <= expected)
    half = sum(fitting) / 2
    usual = next((size for size, below in zip(fitting, itertools.accumulate(fitting), strict=True) if below >= half), 1)
    return max(1.0, LARGE * expected, usual)


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


def assign_folds(units: Sequence[Unit], folds: int, *, seed: int) -> dict[str, int]:
    """Unit identity -> fold in 0..folds-1, stratified by class.

    A unit's class is the label of most of its photos. The units of each class are dealt to the folds in turn, in an
    order determined by hashes.
    """
    mostly: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        label, _ = max(unit.labels, key=lambda pair: (pair[1], pair[0]))
        mostly[label].append(unit.identity)
    ordered = [
        identity
        for label in sorted(mostly)
        for identity in sorted(mostly[label], key=lambda name: _position(seed, name))
    ]
    return {identity: number % folds for number, identity in enumerate(ordered)}


def _position(seed: int, identity: str) -> float:
    digest = hashlib.sha256(f"{seed}\0{identity}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cover_classes(
    units: Sequence[Unit], result: dict[str, str], position: dict[str, float], fixed: Mapping[str, str]
) -> None:
    holding: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        for label, _ in unit.labels:
            holding[label].append(unit)
    present: Counter[tuple[str, str]] = Counter()
    for unit in units:
        for label, _ in unit.labels:
            present[label, result[unit.identity]] += 1
    # Classes with the fewest units first: they have the least choice.
    for label in sorted(holding, key=lambda name: (len(holding[name]), name)):
        if len(holding[label]) < len(SPLITS):
            continue
        for split in SPLITS:
            if present[label, split]:
                continue
            movable = [
                unit
                for unit in holding[label]
                if unit.identity not in fixed
                and all(
                    present[other, result[unit.identity]] > 1
                    # a class too small for all splits may be removed from one, but not from train
                    or (len(holding[other]) < len(SPLITS) and result[unit.identity] != "train")
                    for other, _ in unit.labels
                )
            ]
            if not movable:
                continue
            chosen = min(movable, key=lambda u: (u.size, position[u.identity], u.identity))
            for other, _ in chosen.labels:
                present[other, result[chosen.identity]] -= 1
                present[other, split] += 1
            result[chosen.identity] = split
