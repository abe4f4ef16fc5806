"""Accuracy on values of a split: small and large photos, narrow and wide, dark and bright, blurred and sharp.

Functions of numbers alone: a property `float64 (N,)` of each photo and whether it was predicted correctly, `bool (N,)`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import Part
from pati.evaluation.intervals import difference_interval, proportion_interval

PARTS = 4
FEW = 30  # photos: with fewer, a part says little

Floats = NDArray[np.float64]


def brightness(photos: Iterable[NDArray[np.uint8]]) -> Floats:
    """Mean grey value of photos `uint8 (H, W, 3)`, from 0 to 1, `(N,)`."""
    return np.array([_grey(photo).mean() / 255 for photo in photos])


def sharpness(photos: Iterable[NDArray[np.uint8]]) -> Floats:
    """Standard deviation of the Laplacian of the grey values, 0 or more, `(N,)`: low if a photo is blurred or empty."""
    values = []
    for photo in photos:
        grey = _grey(photo) / 255
        middle = grey[1:-1, 1:-1]
        values.append((grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle).std())
    return np.array(values)


def _grey(photo: NDArray[np.uint8]) -> Floats:
    return np.asarray(photo @ np.array([0.299, 0.587, 0.114]), np.float64)


def parts(values: Floats, right: NDArray[np.bool_], count: int = PARTS, clusters: Clusters | None = None) -> list[Part]:
    """Accuracy and its 95 % interval in `count` parts of about equal size, by increasing value.

    Equal values stay together, so there may be fewer parts, and none if all values are equal. `few` marks parts with
    fewer photos than `FEW`; `difference`: to the accuracy on all other photos.
    """
    order = np.argsort(values, kind="stable")
    changes = np.flatnonzero(np.diff(values[order])) + 1  # where another value begins
    if not len(changes):
        return []
    wanted = np.arange(1, count) * len(values) / count
    cuts = sorted({int(changes[np.abs(changes - place).argmin()]) for place in wanted})
    rows: list[Part] = []
    for inside in np.split(order, cuts):
        hits, others = int(right[inside].sum()), len(values) - len(inside)
        other_hits = int(right.sum()) - hits
        rows.append(
            {
                "low": float(values[inside].min()),
                "high": float(values[inside].max()),
                "photos": len(inside),
                "accuracy": hits / len(inside),
                "interval": list(proportion_interval(right[inside], clusters and clusters.take(inside))),
                "difference": hits / len(inside) - other_hits / others,
                "difference_interval": list(
                    difference_interval(right, np.isin(np.arange(len(values)), inside), clusters)
                ),
                "few": len(inside) < FEW,
            }
        )
    return rows
