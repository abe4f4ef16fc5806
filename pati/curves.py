"""ROC and precision-recall curves of one class against the rest, their areas, and intervals of these.

Functions of numbers alone: scores `float64 (N,)`, higher for the class, and whether each photo is of it, `bool (N,)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.metrics import resampled, wilson

RESAMPLES = 1000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """From the strictest threshold to none at all, `(T,)` each; areas with their 95 % intervals.

    `precision` is 1 before anything is answered. `average_precision` is the sum of precisions weighted by the rise of
    recall, without interpolation.
    """

    false_rate: Floats
    recall: Floats
    precision: Floats
    roc_area: float
    roc_interval: tuple[float, float]
    average_precision: float
    average_precision_interval: tuple[float, float]


def curve(scores: Floats, positive: NDArray[np.bool_], *, seed: int = 0) -> Curve | None:
    """The curve of one class; None unless there are photos of it and others.

    Intervals: percentiles of a bootstrap that draws within the class and within the rest (Efron and Tibshirani, 1993).
    Of a perfect ranking every draw is perfect too: there they are those of as many right answers as there are photos
    of the class, or of the rest where these are fewer (Wilson).
    """
    if positive.all() or not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, truth = scores[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal scores can't be told apart

    def counted(times: Floats) -> tuple[Floats, Floats]:
        """Weighted photos `(B, N)` -> true and false positives `(B, T + 1)`."""
        found = (np.cumsum(times * part, 1)[:, last] for part in (truth, ~truth))
        hits, false = (np.concatenate([np.zeros((len(times), 1)), part], 1) for part in found)
        return hits, false

    hits, false = counted(np.ones((1, len(scores))))
    areas = _areas(hits, false)
    drawn = [_areas(*counted(times)) for times in resampled(truth, resamples=RESAMPLES, seed=seed)]
    (roc, average), (roc_drawn, average_drawn) = areas, map(np.concatenate, zip(*drawn, strict=True))
    fewer = int(min(truth.sum(), (~truth).sum()))
    perfect = wilson(fewer, fewer) if roc[0] == 1 else None
    return Curve(
        false_rate=false[0] / false[0, -1],
        recall=hits[0] / hits[0, -1],
        precision=_precision(hits, false)[0],
        roc_area=float(roc[0]),
        roc_interval=perfect or _middle(roc_drawn),
        average_precision=float(average[0]),
        average_precision_interval=perfect or _middle(average_drawn),
    )


def _precision(hits: Floats, false: Floats) -> Floats:
    answered = hits + false
    return np.where(answered > 0, hits / np.maximum(answered, 1), 1.0)


def _areas(hits: Floats, false: Floats) -> tuple[Floats, Floats]:
    """Areas under the ROC curve (trapezoids) and average precisions, `(B,)` each."""
    recall, rate = hits / hits[:, -1:], false / false[:, -1:]
    roc = (np.diff(rate) * (recall[:, 1:] + recall[:, :-1]) / 2).sum(1)
    return roc, (np.diff(recall) * _precision(hits, false)[:, 1:]).sum(1)


def _middle(drawn: Floats) -> tuple[float, float]:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
