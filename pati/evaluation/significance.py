"""Significance tests for differences between classifiers."""

from __future__ import annotations

from collections.abc import Sequence


def mcnemar(only_first: int, only_second: int) -> float:
    """p-value of McNemar's test (1947, https://doi.org/10.1007/BF02295996), exact and two-sided.

    `only_first`, `only_second`: photos that only one of two classifiers predicts correctly. If they are equally good,
    the counts follow a binomial distribution with probability one half.
    """
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(min(only_first, only_second), count, 0.5).pvalue) if count else 1.0


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
