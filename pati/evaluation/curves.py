"""ROC and precision-recall curves of one class against the rest, with areas and their intervals.

Functions of numbers alone: scores `float64 (N,)`, higher for the class, and whether each photo belongs to it, `bool
(N,)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import Clusters, majority, resamples
from pati.evaluation.intervals import wilson

RESAMPLES = 1000
FEW = 10  # photos: resamples of fewer vary too little
_CELLS = 4_000_000  # cells of one array of resamples

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """ROC and precision-recall curves, from the highest threshold down, `(T,)` each; areas with 95 % intervals.

    `precision` is 1 where there are no predictions. `average_precision` is the sum of precisions weighted by the
    increase in recall, without interpolation.
    """

    false_rate: Floats
    recall: Floats
    precision: Floats
    roc_area: float
    roc_interval: tuple[float, float]
    average_precision: float
    average_precision_interval: tuple[float, float]


def curve(
    scores: Floats, positive: NDArray[np.bool_], clusters: Clusters | None = None, *, seed: int = 0
) -> Curve | None:
    """The curves of one class; None unless there are photos of the class and of others.

    Intervals: percentiles of a bootstrap within the class and within the rest (Efron and Tibshirani, 1993). If every
    resample is the same, as for a perfect ranking, or if the class or the rest has fewer than `FEW` photos, Wilson's
    interval of a proportion of that many photos is used. `clusters` are resampled, and counted, as a whole.
    """
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, truth = scores[order], positive[order]
    first = np.append(0, np.flatnonzero(np.diff(ordered)) + 1)  # equal scores can't be told apart
    own, others = (np.add.reduceat(part.astype(np.int64), first) for part in (truth, ~truth))
    hits, false = (np.append(0, np.cumsum(part)) for part in (own, others))
    areas = _areas(own[None], others[None])
    if clusters is None:
        parts, fewer = _drawn(own, others, seed), float(min(hits[-1], false[-1]))
    else:
        parts = _drawn_clusters(truth, first, Clusters(clusters.of[order]), seed)
        fewer = min(clusters.effective_in(some) for some in (positive, ~positive))
    drawn = [np.concatenate(values) for values in zip(*parts, strict=True)]
    (roc, roc_interval), (average, average_interval) = (
        (float(area[0]), _middle(values, float(area[0]), fewer)) for area, values in zip(areas, drawn, strict=True)
    )
    precision = np.where(hits + false > 0, hits / np.maximum(hits + false, 1), 1.0)
    return Curve(false / false[-1], hits / hits[-1], precision, roc, roc_interval, average, average_interval)


def _drawn(own: Counts, others: Counts, seed: int) -> Iterator[tuple[Floats, Floats]]:
    """Areas of resampled photos, in parts to bound memory; `own` and `others` `(T,)`: counts by threshold."""
    # Merge adjacent thresholds without photos of the class: for a rare class, few remain.
    first = np.flatnonzero(np.append(True, (own[1:] > 0) | (own[:-1] > 0)))
    own, others = np.add.reduceat(own, first), np.add.reduceat(others, first)
    wanted = resamples(len(own), RESAMPLES)
    generator, part = np.random.default_rng(seed), max(1, _CELLS // len(own))
    for start in range(0, wanted, part):
        count = min(part, wanted - start)
        yield _areas(*(_resampled(counts, count, generator) for counts in (own, others)))


def _drawn_clusters(
    positive: NDArray[np.bool_], first: NDArray[np.int64], clusters: Clusters, seed: int
) -> Iterator[tuple[Floats, Floats]]:
    """The same of resampled clusters, within those of mostly the class and within the rest; `first`: see `curve`."""
    most = resamples(len(positive), RESAMPLES)
    for drawn in clusters.times(majority(positive.astype(np.int64), clusters), most=most, seed=seed):
        for times in np.array_split(drawn, max(1, len(drawn) * len(positive) // _CELLS)):
            photos = times[:, clusters.of]
            own, others = (np.add.reduceat(photos * some, first, 1) for some in (positive, ~positive))
            usable = (own.sum(1) > 0) & (others.sum(1) > 0)
            yield _areas(own[usable], others[usable])


def _resampled(counts: Counts, times: int, generator: np.random.Generator) -> Counts:
    """Bootstrap counts of the photos by threshold, `(B, T)`, with the same total."""
    there, total = np.flatnonzero(counts), counts.sum()
    drawn = np.zeros((times, len(counts)), np.int64)
    drawn[:, there] = generator.multinomial(total, counts[there] / total, times)
    return drawn


def _areas(own: Counts | Floats, others: Counts | Floats) -> tuple[Floats, Floats]:
    """Areas under the ROC curve (trapezoidal) and average precisions `(B,)`, from counts by threshold, `(B, T)`.

    Integers are summed and divided once, so that a perfect ranking has an area of exactly 1.
    """
    hits, false = np.cumsum(own, 1), np.cumsum(others, 1)
    total, rest = hits[:, -1], false[:, -1]
    roc = (others * (2 * hits - own)).sum(1) / (2 * total * rest)
    return roc, (own * (hits / np.maximum(hits + false, 1))).sum(1) / total


def _middle(drawn: Floats, area: float, photos: float) -> tuple[float, float]:
    if not len(drawn):
        return wilson(area * photos, photos)
    low, high = map(float, np.percentile(drawn, [2.5, 97.5]))
    return (low, high) if low < high and photos >= FEW else wilson(area * photos, photos)
