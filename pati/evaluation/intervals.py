"""95 % confidence intervals of scores, by formula and by bootstrap. Knows no files, networks or splits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

RESAMPLES = 2000
FEWEST = 200  # resamples for very many photos, whose intervals are narrow
_WORK = 10_000_000  # cells of all resamples together: less than a second
_CELLS = 4_000_000  # cells of one array of resamples
_Count = TypeVar("_Count", np.int64, np.float64)
_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


def wilson(hits: float, count: float) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927): stays within 0..1 and is valid for small counts."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding may miss 0 and 1


def paired_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95 % interval of the difference of two proportions on the same photos, from a 2×2 table.

    `both`, `only_first`, `only_second`, `neither`: photos that both, one or none of two classifiers predicted
    correctly. Newcombe (1998, https://doi.org/10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C),
    method 10: combines Wilson's intervals of the two proportions using their correlation.
    """
    count = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    spread = math.sqrt(first * (count - first) * second * (count - second))
    together = both * neither - only_first * only_second
    correlation = (max(together - count / 2, 0) if together > 0 else together) / spread if spread else 0.0
    return _difference((first, count), (second, count), correlation)


def unpaired_interval(first: int, of_first: int, second: int, of_second: int) -> tuple[float, float]:
    """95 % interval of the difference of two proportions on different photos.

    Newcombe (1998, https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<873::AID-SIM779>3.0.CO;2-I), method 10.
    """
    return _difference((first, of_first), (second, of_second), 0.0)


def _difference(first: tuple[int, int], second: tuple[int, int], correlation: float) -> tuple[float, float]:
    shares = [hits / count for hits, count in (first, second)]
    (low, high), (other_low, other_high) = wilson(*first), wilson(*second)
    below, above = shares[0] - low, high - shares[0]
    other_below, other_above = shares[1] - other_low, other_high - shares[1]

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * correlation * one * other + other**2))

    middle = shares[0] - shares[1]
    return max(-1.0, middle - reach(below, other_above)), min(1.0, middle + reach(above, other_below))


def bootstrap_intervals(counts: torch.Tensor, *, seed: int = 0) -> dict[str, NDArray[np.float64]]:
    """95 % intervals of `macro_f1` and `balanced_accuracy`, `(2,)` each, and of each class's `f1`, `(K, 2)`.

    Percentiles of a bootstrap that resamples photos within each class (Efron and Tibshirani, 1993). The predictions in
    a row of the confusion matrix then follow a multinomial distribution, so photos need not be drawn one by one.

    If all or none of a class's photos are predicted correctly, every resample would have the same recall, although few
    photos leave it uncertain. For these classes, the fraction of correct predictions is drawn from its posterior under
    Jeffreys' prior, for the end of the interval that this moves (as in Brown, Cai and DasGupta, 2001,
    https://doi.org/10.1214/ss/1009213286).
    """
    matrix, generator = counts.numpy(), np.random.default_rng(seed)
    support = matrix.sum(1)
    doubted = {2.5: matrix.diagonal() == support, 97.5: matrix.diagonal() == 0}
    low, high = (
        {
            name: np.percentile(drawn, percent, 0)
            for name, drawn in _scores_by_class(*_drawn(matrix, rows, generator), support).items()
        }
        for percent, rows in doubted.items()
    )
    intervals = {}
    for name, point in _scores_by_class(matrix.diagonal()[None], matrix.sum(0)[None], support).items():
        intervals[name] = np.stack([np.minimum(low[name], point[0]), np.maximum(high[name], point[0])], -1)
    return intervals


def _drawn(
    matrix: NDArray[np.int64], doubted: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correct predictions and all predictions by class, `(B, K)`, of photos resampled within each class.

    For `doubted` classes, the fraction of correct predictions is drawn under Jeffreys' prior.
    """
    support = matrix.sum(1)
    known = support + matrix.sum(0) > 0
    hits, predicted = np.zeros((2, RESAMPLES, len(matrix)))
    elsewhere = np.zeros((RESAMPLES, 1))
    for row in np.flatnonzero(support):
        count, right, answered = support[row], matrix[row, row], np.flatnonzero(matrix[row])
        if not doubted[row]:
            drawn = generator.multinomial(count, matrix[row, answered] / count, RESAMPLES)
            hits[:, row] = drawn[:, answered == row].sum(1)
            predicted[:, answered] += drawn
            continue
        hits[:, row] = count * generator.beta(right + 0.5, count - right + 0.5, RESAMPLES)
        predicted[:, row] += hits[:, row]
        wrong = count - hits[:, [row]]
        if right:  # all are correct: nothing indicates which classes errors would be predicted as
            elsewhere += wrong / max(1, known.sum() - 1)
            predicted[:, [row]] -= wrong / max(1, known.sum() - 1)
        else:
            predicted[:, answered] += wrong * matrix[row, answered] / count
    return hits, predicted + elsewhere * known


def _scores_by_class(
    hits: NDArray[_Count], predicted: NDArray[_Count], support: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Macro F1 and balanced accuracy `(B,)` and F1 `(B, K)` from correct and all predictions by class, `(B, K)`."""
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return {
        "macro_f1": f1.sum(1) / np.maximum((support + predicted > 0).sum(1), 1),
        "balanced_accuracy": (hits / np.maximum(support, 1)).sum(1) / max(1, (support > 0).sum()),
        "f1": f1,
    }


def stratified_bootstrap_counts(
    labels: NDArray[np.int64], *, resamples: int, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Counts of each photo in a bootstrap within each class, `(B, N)`, with `resamples` rows in total.

    Yielded in parts, so that memory stays bounded.
    """
    generator, part = np.random.default_rng(seed), max(1, _CELLS // len(labels))
    places = [np.flatnonzero(labels == index) for index in np.unique(labels)]
    for start in range(0, resamples, part):
        times = np.zeros((min(part, resamples - start), len(labels)))
        for place in places:
            times[:, place] = generator.multinomial(len(place), np.full(len(place), 1 / len(place)), len(times))
        yield times


def resamples(cells: int, most: int = RESAMPLES) -> int:
    """The number of resamples of `cells` cells each: `most`, or fewer if that would take long."""
    return max(FEWEST, min(most, _WORK // cells))


def bootstrap_indices(photos: int, *, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Bootstrap indices: photo numbers drawn with replacement, `(B, N)`; yielded in parts to bound memory."""
    generator, part, left = np.random.default_rng(seed), max(1, _CELLS // photos), resamples(photos)
    while left > 0:
        yield generator.integers(0, photos, (min(part, left), photos))
        left -= part


def mean_interval(
    values: NDArray[np.float64], bounds: tuple[float, float] = (0.0, 1.0), *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean of values `(N,)` of photos: percentiles of a bootstrap over photos.

    If all values are equal, all resamples are too, although other values within `bounds` may have gone unseen. The
    interval then contains the means with as large a fraction of them as Wilson's interval allows for 0 of N.
    """
    count = len(values)
    if np.ptp(values) < 1e-9:
        unseen, value = wilson(0, count)[1], float(values[0])
        return value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    means = np.concatenate([values[numbers].mean(1) for numbers in bootstrap_indices(count, seed=seed)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def crossed_interval(values: NDArray[np.float64], bounds: tuple[float, float]) -> tuple[float, float]:
    """95 % interval of the mean of values `(N, D)` for N photos and D draws; NaN: missing.

    By Student's t: photos and draws each contribute their variance over their count, with Satterthwaite's degrees of
    freedom, which is valid for few of either; clipped to `bounds`. If all values are equal: as `mean_interval`.
    """
    from scipy.stats import t

    known = values[~np.isnan(values)]
    if np.ptp(known) < 1e-9:
        return mean_interval(known[: len(values)], bounds)
    parts = [
        (np.var(means, ddof=1) / len(means), len(means) - 1)
        for means in (np.nanmean(values, 1), np.nanmean(values, 0))
        if len(means) > 1
    ]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    middle, half = known.mean(), t.ppf(0.975, freedom) * math.sqrt(variance)
    return max(bounds[0], float(middle - half)), min(bounds[1], float(middle + half))


def log_loss_interval(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """95 % interval of `log_loss`, which is a mean.

    If every prediction is correct, the upper end also covers the case that as many photos as Wilson's interval allows
    for 0 of N belong to their second most likely class: the cost of a confident error has gone unseen.
    """
    losses = -logits.double().log_softmax(1)
    own, bounds = losses[torch.arange(len(labels)), labels], (losses.min().item(), losses.max().item())
    low, high = mean_interval(own.numpy(), bounds)
    if (losses.argmin(1) == labels).all():
        second, unseen = losses.kthvalue(2, 1).values, wilson(0, len(labels))[1]
        high = max(high, (own + unseen * (second - own)).mean().item())
    return low, high
