"""Significance tests for differences between classifiers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import Clusters


def mcnemar(only_first: int, only_second: int) -> float:
    """p-value of McNemar's test (1947, https://doi.org/10.1007/BF02295996), exact and two-sided.

    `only_first`, `only_second`: photos that only one of two classifiers predicts correctly. If they are equally good,
    the counts follow a binomial distribution with probability one half.
    """
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(min(only_first, only_second), count, 0.5).pvalue) if count else 1.0


def sign_flips(gains: NDArray[np.int64]) -> float:
    """p-value of McNemar's test where photos come in clusters, exact and two-sided.

    `gains` `(C,)`: by how many photos the first of two classifiers predicts more of a cluster correctly. If they are
    equally good, each gain is as likely as its opposite. With one photo in each cluster, it is `mcnemar`.
    """
    sizes = np.abs(gains[gains != 0])
    ways = np.ones(1)  # probability of each sum of gains with random signs, from -total to total
    for size in sizes.tolist():
        wider = np.zeros(len(ways) + 2 * size)
        wider[: len(ways)] += ways / 2
        wider[2 * size :] += ways / 2
        ways = wider
    total = int(sizes.sum())
    extreme = np.abs(np.arange(-total, total + 1)) >= abs(int(gains.sum()))
    return min(1.0, float(ways[extreme].sum()))


def design_effect(right: NDArray[np.bool_], clusters: Clusters | None) -> float:
    """How many photos of these clusters say as much about the accuracy as one independent photo; at least 1.

    Rao and Scott, 1992, https://doi.org/10.2307/2532311. If all or none are `right` `(N,)`, photos per effective
    cluster.
    """
    if clusters is None:
        return 1.0
    share, count = float(right.mean()), len(clusters)
    if share in (0.0, 1.0) or count == 1:
        return len(right) / clusters.effective()
    deviations = clusters.sums(right.astype(np.float64) - share)
    variance = count / (count - 1) * float((deviations**2).sum()) / len(right)
    return max(1.0, variance / (share * (1 - share)))


def fisher(first: int, of_first: int, second: int, of_second: int) -> float:
    """p-value of Fisher's exact test (1922, https://doi.org/10.2307/2340521) for two proportions, two-sided."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[first, of_first - first], [second, of_second - second]]).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for multiple comparisons (Holm, 1979, https://www.jstor.org/stable/4615733)."""
    corrected, largest = [1.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected
