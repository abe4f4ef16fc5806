"""Whether properties of the files alone, such as format, size or border, tell the classes apart.

A network may learn such a shortcut (Geirhos et al., 2020, https://doi.org/10.1038/s42256-020-00257-z) and fail on
photos that were collected in another way. Each property is tested on its own, by a naive Bayes classifier in
cross-validation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pati.data.columns import Numbers
from pati.data.entries import Entries, Entry
from pati.data.manifest import Shortcut
from pati.evaluation.intervals import wilson
from pati.locale.messages import N_, NC_, Message

# Properties of files that may tell the classes: see `manifest.Shortcut`.
PROPERTIES = {
    "format": NC_("property of files", "file format"),
    "dimensions": NC_("property of files", "dimensions"),
    "quality": NC_("property of files", "JPEG quality"),
    "mode": NC_("property of files", "colour mode"),
    "camera": NC_("property of files", "camera (EXIF)"),
    "border": NC_("property of files", "border"),
    "brightness": NC_("property of files", "brightness"),
}

FOLDS = 5
MOST_SAMPLED = 100_000  # photos that the following are chosen among
PHOTOS, CLASSES = 3000, 50  # at most so many are used: the largest classes, and an equal number of photos of each
_BINS = 16  # of a property that is a number
_KINDS = 32  # of a property that is a name; rarer ones are taken together
_ALIKE = 6  # levels, of 255, by which the pixels of a border or a grey photo differ at most
_SIGNIFICANT = 2.69  # standard errors above chance: 2.5 % of false alarms over seven properties (Bonferroni)


def find_shortcuts(entries: Sequence[Entry], thumbs: Callable[[Numbers], NDArray[np.uint8]]) -> tuple[Shortcut, ...]:
    """The properties that tell the classes apart better than chance, the most telling first.

    `thumbs`: gives the thumbnails `uint8 (B, 32, 32, 3)` of entries by their index `(B,)`. Photos of one group, and
    duplicates, are in one fold.
    """
    rows = Entries.of(entries)
    some = np.sort(np.argsort(rows.digest, kind="stable")[:MOST_SAMPLED])  # by content, so in random order
    entries = list(rows.take(some))
    chosen, folds, groups = _sample(entries)
    names = sorted({entries[index].label for index in chosen})
    if len(names) < 2:
        return ()
    labels = np.array([names.index(entries[index].label) for index in chosen])
    picked = [entries[index] for index in chosen]
    found = []
    for name, columns in _features(picked, thumbs(some[chosen])).items():
        right = _cross_validated(columns, labels, folds, len(names))
        accuracy, error, trials = _balanced(right, labels, groups, len(names))
        low, high = wilson(accuracy * trials, trials)
        chance = 1 / len(names)
        if low > chance and accuracy - _SIGNIFICANT * error > chance:
            found.append(Shortcut(name, accuracy, low, high, chance))
    return tuple(sorted(found, key=lambda shortcut: -shortcut.accuracy))


def telling_properties(shortcuts: Sequence[Shortcut]) -> Message:
    """What was found, as a sentence; `shortcuts`: one or more, as found by `find_shortcuts`."""
    first = shortcuts[0]
    measured = N_(
        "with {property} alone, {accuracy:percent} are right, 95 % CI {low:percent} to {high:percent}; by guessing, "
        "{chance:percent}",
        property=PROPERTIES[first.name],
        accuracy=first.accuracy,
        low=first.low,
        high=first.high,
        chance=first.chance,
    )
    properties = [PROPERTIES[found.name] for found in shortcuts]
    if first.strong:
        return N_(
            "the files give the classes away, whatever the photos show: {properties} ({measured}). A model can cheat "
            "with this: collect and save the photos of all classes in the same way",
            properties=properties,
            measured=measured,
        )
    return N_(
        "the files of the classes differ a little, whatever the photos show: {properties} ({measured}). A model can "
        "cheat with this: look whether all classes were photographed alike, with the same cameras and from the same "
        "sources",
        properties=properties,
        measured=measured,
    )


def _sample(entries: Sequence[Entry]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the photos that are used, and the fold and the group of each."""
    by_class: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for index, entry in enumerate(entries):
        group = entry.group or entry.duplicate or entry.sha256
        by_class[entry.label].setdefault(group, []).append(index)
    largest = sorted(by_class, key=lambda label: (-len(by_class[label]), label))[:CLASSES]
    numbers: dict[str, int] = {}
    chosen: list[int] = []
    groups: list[int] = []
    for label in largest:
        left = PHOTOS // len(largest)
        for group in sorted(by_class[label]) if len(by_class[label]) > 1 else ():  # by content, so in random order
            used = by_class[label][group][:left]
            chosen += used
            groups += [numbers.setdefault(group, len(numbers))] * len(used)
            left -= len(used)
            if not left:
                break
    place = np.array(groups, np.int64)
    return np.array(chosen, np.int64), place % FOLDS, place


def _features(entries: Sequence[Entry], thumbs: NDArray[np.uint8]) -> dict[str, list[NDArray[np.int64]]]:
    """Each property as columns of bin numbers."""
    red, green, blue = (thumbs[..., channel].astype(np.float32) for channel in range(3))
    grey = (red + green + blue) / 3
    colourless = np.maximum(abs(red - green), abs(green - blue)).max((1, 2)) <= _ALIKE
    sides = (grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1])
    inner = (grey[:, 1, 1:-1], grey[:, -2, 1:-1], grey[:, 1:-1, 1], grey[:, 1:-1, -2])
    # A border is uniform, or at least brighter or darker than what is next to it.
    uniform = sum((np.ptp(side, axis=1) <= _ALIKE).astype(np.int64) for side in sides)
    step = np.mean([side[:, 1:-1].mean(1) - near.mean(1) for side, near in zip(sides, inner, strict=True)], axis=0)
    width = np.array([entry.width for entry in entries], np.float64)
    height = np.array([entry.height for entry in entries], np.float64)
    return {
        "format": [_kinds([entry.properties.format for entry in entries])],
        "dimensions": [
            _kinds([f"{entry.width}×{entry.height}" for entry in entries]),
            _bins(width * height),
            _bins(width / height),
        ],
        "quality": [_bins(np.array([entry.properties.quality for entry in entries], np.float64))],
        "mode": [
            _kinds([f"{entry.properties.mode} {plain}" for entry, plain in zip(entries, colourless, strict=True)])
        ],
        "camera": [_kinds([entry.properties.camera for entry in entries])],
        "border": [np.asarray(uniform, np.int64), _bins(step)],
        "brightness": [_bins(grey.mean((1, 2)))],
    }


def _kinds(values: Sequence[str]) -> NDArray[np.int64]:
    """Names as numbers; those of too few photos as one."""
    kinds, codes, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
    common = np.argsort(-counts, kind="stable")[: _KINDS - 1]
    numbers = np.full(len(kinds), len(common))
    numbers[common] = np.arange(len(common))
    return numbers[codes]


def _bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers by their quantiles; few different ones stay apart."""
    different = np.unique(values)
    if len(different) <= _BINS:
        return np.searchsorted(different, values)
    return np.searchsorted(np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1])), values, side="right")


def _cross_validated(
    columns: Sequence[NDArray[np.int64]], labels: NDArray[np.int64], folds: NDArray[np.int64], classes: int
) -> NDArray[np.bool_]:
    """Whether naive Bayes, with all classes equally likely, predicts each photo's class from the other folds."""
    right = np.zeros(len(labels), bool)
    for fold in range(FOLDS):
        held = folds == fold
        scores = np.zeros((held.sum(), classes))
        for column in columns:
            counts = np.zeros((column.max() + 1, classes))
            np.add.at(counts, (column[~held], labels[~held]), 1)
            scores += np.log((counts + 0.5) / (counts.sum(0) + 0.5 * len(counts)))[column[held]]
        right[held] = scores.argmax(1) == labels[held]
    return right


def _balanced(
    right: NDArray[np.bool_], labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int
) -> tuple[float, float, float]:
    """The balanced accuracy, its standard error, and the number of independent photos with the same error.

    The error is that of a mean over groups of photos (Taylor linearisation, as in survey sampling).
    """
    counts = np.bincount(labels, minlength=classes)
    recall = np.bincount(labels, right, classes) / counts
    accuracy = float(recall.mean())
    parts = (right - recall[labels]) / (classes * counts[labels])
    totals = np.bincount(groups, parts)
    number = len(np.unique(groups))
    error = float(np.sqrt(number / max(1, number - 1) * (totals**2).sum()))
    spread = accuracy * (1 - accuracy)
    return accuracy, error, min(float(number), spread / error**2) if error > 1e-12 and spread > 1e-12 else float(number)
