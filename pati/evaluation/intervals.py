"""95 % confidence intervals of scores, by formula and by bootstrap. Knows no files, networks or splits.

Where photos come in `clusters`, whole clusters are resampled; without them, photos are independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import RESAMPLES, Clusters, majority, resamples

if TYPE_CHECKING:
    import torch

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


def proportion_interval(hits: NDArray[np.bool_], clusters: Clusters | None = None) -> tuple[float, float]:
    """95 % interval of the proportion of `hits` `(N,)`: Wilson's, or percentiles of a cluster bootstrap.

    If all resamples are the same, as when all are hits, Wilson's interval for the effective number of clusters.
    """
    if clusters is None:
        return wilson(int(hits.sum()), len(hits))
    return _percentiles(clusters.means(hits), float(hits.mean()), clusters.effective())


def _percentiles(drawn: NDArray[np.float64], share: float, effective: float) -> tuple[float, float]:
    """The middle 95 % of the resamples of a proportion; Wilson's interval if all are the same."""
    if len(drawn) == 0 or np.ptp(drawn) < 1e-9:
        return wilson(share * effective, effective)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return min(share, float(low)), max(share, float(high))


def difference_interval(
    hits: NDArray[np.bool_], inside: NDArray[np.bool_], clusters: Clusters | None = None
) -> tuple[float, float]:
    """95 % interval of the proportion of `hits` `(N,)` among the photos `inside` minus that among all others."""
    counts = (int((hits & inside).sum()), int(inside.sum()), int((hits & ~inside).sum()), int((~inside).sum()))
    if clusters is None:
        return unpaired_interval(*counts)
    parts = np.stack([clusters.sums(some) for some in (hits & inside, inside, hits & ~inside, ~inside)], 1)
    drawn = np.concatenate(list(clusters.resampled(parts)))
    drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
    values = drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3]
    if len(values) == 0 or np.ptp(values) < 1e-9:
        weight = clusters.effective() / len(hits)
        return _difference((weight * counts[0], weight * counts[1]), (weight * counts[2], weight * counts[3]), 0.0)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


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


def _difference(first: tuple[float, float], second: tuple[float, float], correlation: float) -> tuple[float, float]:
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
    hits: NDArray[_Count], predicted: NDArray[_Count], support: NDArray[_Count] | NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Macro F1 and balanced accuracy `(B,)` and F1 `(B, K)` from correct and all predictions by class, `(B, K)`.

    `support`: photos by class, `(K,)` or `(B, K)`.
    """
    f1 = 2 * hits / np.maximum(support + predicted, 1)
    return {
        "macro_f1": f1.sum(1) / np.maximum((support + predicted > 0).sum(1), 1),
        "balanced_accuracy": (hits / np.maximum(support, 1)).sum(1) / np.maximum((support > 0).sum(-1), 1),
        "f1": f1,
    }


def clustered_intervals(
    labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int, clusters: Clusters, *, seed: int = 0
) -> dict[str, NDArray[np.float64]]:
    """As `bootstrap_intervals`, and of each class's `precision` and `recall`, `(K, 2)`; whole clusters are resampled.

    `labels`, `answers` `(N,)`: true and predicted classes. Clusters are resampled within the class of most of their
    photos. For a class that is predicted always or never, or that is one cluster, the fraction of correct predictions
    is drawn as there, for the effective number of its clusters.
    """
    generator = np.random.default_rng(seed)
    support, predicted = clusters.table(labels, classes), clusters.table(answers, classes)
    right = clusters.table(labels, classes, labels == answers)
    total, hits, asked = support.sum(0), right.sum(0), predicted.sum(0)
    known, effective, alone = total + asked > 0, _effective(support), (support > 0).sum(0) == 1
    shares: dict[str, list[NDArray[np.float64]]] = {"recall": [], "precision": []}
    ends: tuple[dict[str, list[NDArray[np.float64]]], ...] = ({}, {})
    tables = np.concatenate([right, support, predicted], 1)
    for totals in clusters.resampled(tables, majority(labels, clusters), seed=seed):
        some, of, answered = np.split(totals, 3, 1)
        for name, count in (("recall", of), ("precision", answered)):
            shares[name].append(np.where(count > 0, some / np.maximum(count, 1), np.nan))
        for end, certain in zip(ends, (hits == total, hits == 0), strict=True):
            moved = some.copy()
            for row in np.flatnonzero((certain | alone) & (total > 0)):
                sure = effective[row] * hits[row] / total[row]
                share = generator.beta(sure + 0.5, effective[row] - sure + 0.5, len(totals))
                moved[:, row] = of[:, row] * share
            gained = moved - some  # taken from, or left to, all other classes alike
            others = (gained.sum(1, keepdims=True) - gained) / max(1, known.sum() - 1)
            for name, values in _scores_by_class(
                moved, np.maximum(answered + gained - others * known, moved), of
            ).items():
                end.setdefault(name, []).append(values)
    intervals = {}
    for name, point in _scores_by_class(hits[None], asked[None], total).items():
        low, high = (np.percentile(np.concatenate(end[name]), q, 0) for end, q in zip(ends, (2.5, 97.5), strict=True))
        intervals[name] = np.stack([np.minimum(low, point[0]), np.maximum(high, point[0])], -1)
    for name, table in (("recall", support), ("precision", predicted)):
        drawn, points = np.concatenate(shares[name]), hits / np.maximum(table.sum(0), 1)
        rows = zip(drawn.T, points, _effective(table), strict=True)
        intervals[name] = np.array([_percentiles(row[~np.isnan(row)], point, count) for row, point, count in rows])
    return intervals


def _effective(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The effective number of clusters (see `Clusters.effective`) in each column of a table `(C, K)`."""
    return np.asarray(table.sum(0) ** 2 / np.maximum((table**2).sum(0), 1))


def stratified_bootstrap_counts(
    labels: NDArray[np.int64], clusters: Clusters | None = None, *, resamples: int, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """Counts of each photo in a bootstrap within each class, `(B, N)`, with `resamples` rows in total.

    `clusters` are resampled within the class of most of their photos, in fewer resamples if they are many. Yielded in
    parts, so that memory stays bounded.
    """
    if clusters is not None:
        for drawn in clusters.times(majority(labels, clusters), most=resamples, seed=seed):
            yield drawn[:, clusters.of].astype(np.float64)
        return
    generator, part = np.random.default_rng(seed), max(1, _CELLS // len(labels))
    places = [np.flatnonzero(labels == index) for index in np.unique(labels)]
    for start in range(0, resamples, part):
        times = np.zeros((min(part, resamples - start), len(labels)))
        for place in places:
            times[:, place] = generator.multinomial(len(place), np.full(len(place), 1 / len(place)), len(times))
        yield times


def bootstrap_indices(photos: int, *, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Bootstrap indices: photo numbers drawn with replacement, `(B, N)`; yielded in parts to bound memory."""
    generator, part, left = np.random.default_rng(seed), max(1, _CELLS // photos), resamples(photos)
    while left > 0:
        yield generator.integers(0, photos, (min(part, left), photos))
        left -= part


def mean_interval(
    values: NDArray[np.float64],
    bounds: tuple[float, float] = (0.0, 1.0),
    clusters: Clusters | None = None,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the mean of values `(N,)` of photos: percentiles of a bootstrap over photos, or over clusters.

    If all values are equal, all resamples are too, although other values within `bounds` may have gone unseen. The
    interval then contains the means with as large a fraction of them as Wilson's interval allows for 0 of N.
    """
    count = len(values) if clusters is None else clusters.effective()
    if np.ptp(values) < 1e-9:
        unseen, value = wilson(0, count)[1], float(values[0])
        return value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)
    if clusters is None:
        means = np.concatenate([values[numbers].mean(1) for numbers in bootstrap_indices(len(values), seed=seed)])
    elif len(clusters) == 1:
        return bounds
    else:
        means = clusters.means(values, seed=seed)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def crossed_interval(
    values: NDArray[np.float64], bounds: tuple[float, float], clusters: Clusters | None = None
) -> tuple[float, float]:
    """95 % interval of the mean of values `(N, D)` for N photos and D draws; NaN: missing.

    By Student's t: photos and draws each contribute their variance over their count, with Satterthwaite's degrees of
    freedom, which is valid for few of either; clipped to `bounds`. Photos of one of the `clusters` count as one. If all
    values are equal: as `mean_interval`.
    """
    from scipy.stats import t

    known = values[~np.isnan(values)]
    if np.ptp(known) < 1e-9:
        return mean_interval(known[: len(values)], bounds, clusters)
    by_photo, by_draw = np.nanmean(values, 1), np.nanmean(values, 0)
    deviations = by_photo - by_photo.mean()
    if clusters is not None:
        deviations = clusters.sums(deviations)
    parts = [
        (float((those**2).sum()) / count**2 * len(those) / (len(those) - 1), len(those) - 1)
        for those, count in ((deviations, len(by_photo)), (by_draw - by_draw.mean(), len(by_draw)))
        if len(those) > 1
    ]
    if not any(part for part, _ in parts):
        return bounds
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts)
    middle, half = known.mean(), t.ppf(0.975, freedom) * math.sqrt(variance)
    return max(bounds[0], float(middle - half)), min(bounds[1], float(middle + half))


# Measured (LOG.md): `python -m bench folds` counts how often the intervals hold.
FOLDS_WIDER = 1.2  # than over photos alone
PHOTOS_POWER, TIME_POWER = 0.3, 0.15  # of the error in the number of training photos and in the training time


@dataclass(frozen=True)
class KeptModel:
    """How the model that is kept was trained, relative to the networks of the cross-validation that gave the scores.

    `photos`, `time`: number of training photos and of epochs, as multiples of theirs.
    """

    photos: float
    time: float

    def interval(self, value: float, interval: tuple[float, float]) -> tuple[float, float]:
        """The 95 % interval of a score in 0..1, such as the accuracy, for the model that is kept.

        `interval`: over photos, for the networks of the folds, whose score is `value`. It is widened for the chance in
        the trainings: that of cross-validation is too narrow without (Bates, Hastie and Tibshirani, 2021,
        https://arxiv.org/abs/2104.00673). Its upper end allows for fewer errors thanks to more photos and more time,
        by power laws.
        """
        low, high = (value + FOLDS_WIDER * (end - value) for end in interval)
        return max(0.0, low), 1 - self.errors() * (1 - min(1.0, high))

    def loss_interval(self, value: float, interval: tuple[float, float]) -> tuple[float, float]:
        """The same for a loss."""
        low, high = (value + FOLDS_WIDER * (end - value) for end in interval)
        return max(0.0, self.errors() * low), high

    def errors(self) -> float:
        """The errors that may remain, as a fraction of those of the networks of the folds."""
        return float(min(1.0, self.photos**-PHOTOS_POWER * self.time**-TIME_POWER))


def log_loss_interval(
    logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None = None
) -> tuple[float, float]:
    """95 % interval of `log_loss`, which is a mean.

    If every prediction is correct, the upper end also covers the case that as many photos as Wilson's interval allows
    for 0 of N belong to their second most likely class: the cost of a confident error has gone unseen.
    """
    losses = -logits.double().log_softmax(1)
    own, bounds = losses.gather(1, labels[:, None])[:, 0], (losses.min().item(), losses.max().item())
    low, high = mean_interval(own.numpy(), bounds, clusters)
    if (losses.argmin(1) == labels).all():
        second = losses.kthvalue(2, 1).values
        unseen = wilson(0, len(labels) if clusters is None else clusters.effective())[1]
        high = max(high, (own + unseen * (second - own)).mean().item())
    return low, high
