"""Clusters: photos that are not independent, such as all photos of one person, or copies of one photo.

Intervals then resample whole clusters (cluster bootstrap; Davison and Hinkley, 1997, section 3.8), since another sample
would have other persons, not other photos of the same ones. Knows no files, networks or splits.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.locale.messages import N_, Message

RESAMPLES = 2000
FEWEST_RESAMPLES = 200  # for very many photos, whose intervals are narrow
FEW = 10  # effective clusters: with fewer, intervals are unreliable
_WORK = 10_000_000  # cells of all resamples together: less than a second
_CELLS = 4_000_000  # cells of one array of resamples

Floats = NDArray[np.float64]


def resamples(cells: int, most: int = RESAMPLES) -> int:
    """The number of resamples of `cells` cells each: `most`, or fewer if that would take long."""
    return max(FEWEST_RESAMPLES, min(most, _WORK // max(1, cells)))


@dataclass(frozen=True, eq=False)
class Clusters:
    """The cluster of each of N photos, `of` `int64 (N,)`, numbered from 0; some have several photos."""

    of: NDArray[np.int64]

    @classmethod
    def named(cls, names: Sequence[Hashable]) -> Clusters | None:
        """Photos with the same name are one cluster; None if all names differ, so that all photos are independent."""
        number: dict[Hashable, int] = {}
        of = np.array([number.setdefault(name, len(number)) for name in names], np.int64)
        return cls(of) if len(number) < len(of) else None

    def __len__(self) -> int:
        """Number of clusters."""
        return int(self.of.max()) + 1

    def take(self, photos: NDArray[np.int64] | NDArray[np.bool_]) -> Clusters | None:
        """The clusters of some photos; None if these are independent."""
        return Clusters.named(self.of[photos].tolist())

    def sums(self, values: Floats | NDArray[np.bool_]) -> Floats:
        """Sums of `values` `(N,)` over each cluster, `(C,)`."""
        return np.asarray(np.bincount(self.of, values, len(self)), np.float64)

    def table(self, columns: NDArray[np.int64], count: int, values: NDArray[np.bool_] | None = None) -> Floats:
        """Number of each cluster's photos in each of `count` columns, `(C, count)`; of those with `values`, if given.

        `columns` `(N,)`: the column of each photo.
        """
        flat = np.bincount(self.of * count + columns, values, len(self) * count)
        return np.asarray(flat.reshape(len(self), count), np.float64)

    def effective(self) -> float:
        """How many clusters of equal size would say as much (Kish, 1965): few, if one of them has most photos."""
        sizes = np.bincount(self.of)
        return float(sizes.sum() ** 2 / (sizes**2).sum())

    def effective_in(self, photos: NDArray[np.bool_]) -> float:
        """The effective number of clusters among some photos."""
        some = self.take(photos)
        return float(photos.sum()) if some is None else some.effective()

    def times(
        self, strata: NDArray[np.int64] | None = None, *, most: int = RESAMPLES, seed: int = 0
    ) -> Iterator[NDArray[np.float32]]:
        """How often each cluster is in each resample, `(B, C)`, in parts to bound memory.

        `strata` `(C,)`: as many clusters are drawn from each stratum as it has.
        """
        wanted, part = resamples(len(self), most), max(1, _CELLS // len(self))
        labels = np.zeros(len(self), np.int64) if strata is None else strata
        # All intervals of a score resample the same clusters, and drawing takes longer than what is done with it.
        draw = _drawn if wanted * len(self) <= _WORK else _drawn.__wrapped__
        for start in range(0, wanted, part):
            yield draw(labels.tobytes(), min(part, wanted - start), start, seed)

    def resampled(self, sums: Floats, strata: NDArray[np.int64] | None = None, *, seed: int = 0) -> Iterator[Floats]:
        """Totals of each resample, `(B, K)`, in parts; `sums`: those of each cluster, `(C, K)`.

        To seven digits; exact for counts up to 16 million.
        """
        narrow = sums.astype(np.float32)
        for times in self.times(strata, seed=seed):
            yield (times @ narrow).astype(np.float64)

    def means(self, values: Floats | NDArray[np.bool_], *, seed: int = 0) -> Floats:
        """Mean of `values` `(N,)` in each resample, `(B,)`."""
        sums = np.stack([self.sums(values), self.sums(np.ones(len(self.of)))], 1)
        return np.concatenate([totals[:, 0] / totals[:, 1] for totals in self.resampled(sums, seed=seed)])


@functools.lru_cache(6)
def _drawn(strata: bytes, count: int, start: int, seed: int) -> NDArray[np.float32]:
    """`count` resamples from number `start` on, `(count, C)`; `strata`: bytes of the stratum of each of C clusters."""
    labels, generator = np.frombuffer(strata, np.int64), np.random.default_rng([seed, start])
    drawn = np.zeros((count, len(labels)), np.float32)
    for label in np.unique(labels):
        place = np.flatnonzero(labels == label)
        # Twice as fast as a multinomial draw of the counts.
        chosen = generator.integers(0, len(place), (count, len(place))) + len(place) * np.arange(count)[:, None]
        drawn[:, place] = np.bincount(chosen.ravel(), minlength=count * len(place)).reshape(count, -1)
    return drawn


def majority(labels: NDArray[np.int64], clusters: Clusters) -> NDArray[np.int64]:
    """The class of most photos of each cluster, `(C,)`: its stratum."""
    return np.asarray(clusters.table(labels, int(labels.max()) + 1).argmax(1), np.int64)


def few_clusters(effective: float) -> Message:
    """That intervals of so few clusters are unreliable."""
    return N_(
        "the photos come in groups that say as much as {count:.1f} groups of equal size: with fewer than {few}, the "
        "intervals are unreliable",
        count=effective,
        few=FEW,
    )
