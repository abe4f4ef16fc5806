"""How likely a difference is by chance alone."""

from __future__ import annotations

from collections.abc import Sequence


def mcnemar(only_first: int, only_second: int) -> float:
    """p of McNemar's test (1947, https://doi.org/10.1007/BF02295996), exact and two-sided.

    Of the photos that one of two answers right and the other wrong, each is as likely to have as many if neither is
    better: the smaller count is held against a binomial of one half.
    """
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(min(only_first, only_second), count, 0.5).pvalue) if count else 1.0


def fisher(first: int, of_first: int, second: int, of_second: int) -> float:
    """p of Fisher's exact test (1922, https://doi.org/10.2307/2340521) that two shares are the same, two-sided."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[first, of_first - first], [second, of_second - second]]).pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """The values p corrected for their number (Holm, 1979, https://www.jstor.org/stable/4615733): the smallest times
    how many, the next times one less, and so on."""
    corrected, largest = [1.0] * len(values), 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        corrected[index] = largest
    return corrected
