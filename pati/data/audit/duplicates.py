"""Find near duplicates: re-saved, resized, slightly cropped or mirrored copies of a photo.

Works on 32×32 colour thumbnails, in three stages. Each is more precise, and sees fewer pairs:

1. A 77-bit hash: signs of the low frequencies of the grey thumbnail's cosine transform.
   Mirroring flips the sign of the odd horizontal frequencies, so one hash covers both
   orientations. Pairs are compared by a matrix product in tiles (bits as ±1): 77 multiply-adds
   per pair. Up to `MOST_EXACT` photos, these are all pairs; beyond, each photo is compared only
   with those in the cells around it (see `_in_cells`), as the work would grow with the square.
2. Colour difference of the thumbnails shrunk to 8×8: full against full, and full against centre crop.
3. Colour difference after alignment: one photo is cropped (up to a tenth off every side, found
   by a coarse grid and Gauss-Newton steps) so that it fits the other best.

Correlation can't replace the colour difference: photos of different T-shirts on one carpet correlate at 0.98. Knows
nothing of files or classes.
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pati.data.audit.worker import THUMB
from pati.data.columns import Numbers, Slice
from pati.data.mapped import Mapped
from pati.system.machine import cores

_HASH_LIMIT = 24  # bits of 77; unrelated photos differ by 38 ± 5
# Limits on the root mean square difference: grey levels of 255, and fraction of the photo's own deviation.
_WIDE = (40.0, 0.75)  # at 8×8, uncropped: loses no copy, and rules out most pairs before the next step
_COARSE = (26.0, 0.45)  # at 8×8, also against the centre crop: 99.9 % of copies are below 18; shifted ones reach 26
_FINE = (8.5, 0.25)  # aligned: 99.8 % of copies below 8; different photos from 7 (one layout, clothing) or 20 (pets)
_MIDDLE = 0.035  # cropped from every side: half of what a copy may have lost
_MIN_DEVIATION = 3.0  # grey levels; flatter photos have no structure to compare
_LARGEST_CROP = 0.12
MOST_PAIRS = 20_000  # that are aligned, about 1 ms each; photos of one layout give thousands of similar pairs
PAIRS_SHARE = 0.1  # of the photos, in larger sets
MOST_EXACT = 100_000  # photos of which all pairs are compared
_CELL = 500  # photos in a cell, on average
_PROBES = 8  # cells around a photo, and as many around its mirror image
_AT_ONCE = 512  # pairs that are aligned before the groups they form are looked at,
_AHEAD = 8 * _AT_ONCE  # chosen among so many of the most similar ones
_MOST_EACH = 128  # candidates of one photo by its hash: photos of one scene are candidates of all others
_BLOCK = 2048
_CELLS = 12  # finer grids mostly compare resampling noise: the residuals of copies double at 24

_FREQUENCIES = np.array([(u, v) for u in range(12) for v in range(12) if 0 < u + v < 12])


def hashes(thumbs: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.int8]:
    """Thumbnails `(N, 32, 32, 3)` -> hash bits as ±1, `int8 (N, 77)`."""
    transform = _cosine_matrix()
    result = np.empty((len(thumbs), len(_FREQUENCIES)), np.int8)
    for start in range(0, len(thumbs), _BLOCK):
        block = thumbs[start : start + _BLOCK].astype(np.float32) @ np.ones(3, np.float32)  # grey, times 3
        spectrum = transform @ block @ transform.T
        result[start : start + _BLOCK] = np.where(spectrum[:, _FREQUENCIES[:, 0], _FREQUENCIES[:, 1]] >= 0, 1, -1)
    return result


@functools.cache
def _cosine_matrix() -> NDArray[np.float32]:
    rows, columns = np.mgrid[0:12, 0:THUMB]
    matrix: NDArray[np.float32] = np.cos(np.pi * (2 * columns + 1) * rows / (2 * THUMB)).astype(np.float32)
    return matrix


def near_duplicates(
    thumbs: NDArray[np.uint8] | Mapped, rows: Numbers | None = None
) -> tuple[list[tuple[int, int]], int]:
    """Pairs `(i, j)`, i < j, of thumbnails `uint8 (N, 32, 32, 3)` that show the same picture.

    `rows`: those of the thumbnails that are compared, all different; the pairs are of indices into them. Only pairs
    that join something new: of photos that other pairs have joined already, no further pair is compared. Also returns
    how many candidate pairs were skipped because more than `MOST_PAIRS`, or `PAIRS_SHARE` of the photos, would have to
    be aligned: the least similar ones.
    """
    pictures = _Pictures(thumbs if isinstance(thumbs, Mapped) else Mapped([thumbs]), rows)
    parts = list(_close_pictures(pictures))
    pairs, flip, coarse = (np.concatenate(column) for column in zip(*parts, strict=True))
    if pictures.many:  # a pair may be in two cells
        pairs, first = np.unique(pairs, axis=0, return_index=True)
        flip, coarse = flip[first], coarse[first]
    order = np.argsort(coarse, kind="stable")
    alike, skipped = _joining(pictures, pairs[order], flip[order])
    return sorted(alike), skipped


def _in_threads(work: Callable[[int], None], starts: Iterable[int]) -> None:
    """Do it for all of them. In our own threads, not BLAS's: what is between the products takes longer than these."""
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(work, starts):
            pass


class _Pictures:
    """N pictures by their thumbnails, with what the first steps need of each.

    `deviation` `float32 (N,)`; `bits` `int8 (N, 77)`; `whole` `(N, 8, 8, 3)`: float32, or uint8 in a file of many.
    Flat pictures, which can't be compared, are left out: `of` are the indices of the others among those given.
    """

    def __init__(self, thumbs: Mapped, rows: Numbers | None) -> None:
        self._thumbs = thumbs
        self._rows = np.arange(len(thumbs)) if rows is None else rows
        deviation = np.empty(len(self), np.float32)

        def measure(start: int) -> None:
            deviation[start : start + _BLOCK] = _deviation(self._block(start))

        _in_threads(measure, range(0, len(self), _BLOCK))
        self.of = np.flatnonzero(deviation >= _MIN_DEVIATION)
        self._rows, self.deviation = self._rows[self.of], deviation[self.of]
        self.many = len(self) > MOST_EXACT
        self.bits = np.empty((len(self), len(_FREQUENCIES)), np.int8)
        self.whole = self._storage()

        def describe(start: int) -> None:
            block = self._block(start)
            self.bits[start : start + _BLOCK] = hashes(block)
            small = _shrunk(block, 0)
            self.whole[start : start + _BLOCK] = np.rint(small) if self.many else small

        _in_threads(describe, range(0, len(self), _BLOCK))

    def __len__(self) -> int:
        return len(self._rows)

    def _storage(self) -> NDArray[np.float32] | NDArray[np.uint8]:
        shape = (len(self), 8, 8, 3)
        if not self.many:
            return np.empty(shape, np.float32)
        with tempfile.TemporaryFile() as file:
            return np.memmap(file, np.uint8, "w+", shape=shape)

    def _block(self, start: int) -> NDArray[np.float32]:
        return self.thumbs(np.arange(start, min(start + _BLOCK, len(self))))

    def thumbs(self, numbers: Numbers) -> NDArray[np.float32]:
        """The thumbnails of these pictures, `(P, 32, 32, 3)`."""
        return self._thumbs.take(self._rows[numbers]).astype(np.float32)


Task = Callable[[], NDArray[np.int64]]  # finds pairs of pictures, `(P, 2)`
Close = tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]


def _close_pictures(pictures: _Pictures) -> Iterator[Close]:
    """Pairs `(P, 2)` of pictures that the first two steps leave, whether mirrored, and their difference at 8×8."""
    yield np.empty((0, 2), np.int64), np.empty(0, bool), np.empty(0, np.float32)  # if there are no others
    tasks = _in_cells(pictures) if pictures.many else _all_pairs(pictures)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:  # as in `_in_threads`
        waiting: deque[Future[Close]] = deque()
        for task in tasks:
            waiting.append(pool.submit(_close_colours, pictures, task))
            if len(waiting) > 4 * cores():
                yield waiting.popleft().result()
        for future in waiting:
            yield future.result()


def _close_colours(pictures: _Pictures, task: Task) -> Close:
    """Those of a task's pairs `(P, 2)` that are close at 8×8, whether they are mirrored, and how close they are."""
    pairs = task()
    straight, mirrored = _coarse(pictures.whole, pictures.whole, pairs)
    wide = np.minimum(straight, mirrored) <= _limits(pictures.deviation, pairs, _WIDE)
    pairs, straight, mirrored = pairs[wide], straight[wide], mirrored[wide]
    numbers, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    middle = _shrunk(pictures.thumbs(numbers), _MIDDLE)
    whole = pictures.whole[numbers]
    for first, second in ((middle, whole), (whole, middle)):
        others = _coarse(first, second, places)
        straight, mirrored = np.minimum(straight, others[0]), np.minimum(mirrored, others[1])
    coarse = np.minimum(straight, mirrored)
    close = coarse <= _limits(pictures.deviation, pairs, _COARSE)
    return pairs[close], (mirrored < straight)[close], coarse[close]


def _joining(
    pictures: _Pictures, pairs: NDArray[np.int64], flip: NDArray[np.bool_]
) -> tuple[list[tuple[int, int]], int]:
    """The `pairs` that show the same picture and join two groups, tried in this order (Kruskal, 1956).

    N photos of one scene have N² pairs, but are one group after N - 1 of them. Also returns how many pairs were left.
    The pairs that are returned are of the indices that were given.
    """
    most = max(MOST_PAIRS, round(PAIRS_SHARE * len(pictures)))
    numbers, places = np.unique(pairs, return_inverse=True)
    pairs = places.reshape(pairs.shape)
    group, alike, tried = np.arange(len(numbers)), list[tuple[int, int]](), 0
    while len(pairs) and tried < most:
        # One pair for each two groups first: others between the same two will often be superfluous after it.
        ends = np.sort(group[pairs[:_AHEAD]], 1)
        first = np.sort(np.unique(ends, axis=0, return_index=True)[1])
        rest = np.setdiff1d(np.arange(len(ends)), first)
        chosen = np.concatenate([first, rest])[: min(_AT_ONCE, most - tried)]
        tried += len(chosen)
        tested = numbers[pairs[chosen]]
        same = _fine(pictures, tested, flip[chosen]) <= _limits(pictures.deviation, tested, _FINE)
        for i, j in pairs[chosen[same]]:
            if group[i] != group[j]:
                group[group == group[j]] = group[i]
                alike.append((int(pictures.of[numbers[i]]), int(pictures.of[numbers[j]])))
        open_ = np.ones(len(pairs), bool)
        open_[chosen] = False
        open_ &= group[pairs[:, 0]] != group[pairs[:, 1]]
        pairs, flip = pairs[open_], flip[open_]
    return alike, len(pairs)


def _limits(
    deviation: NDArray[np.float32], pairs: NDArray[np.int64], limit: tuple[float, float]
) -> NDArray[np.float32]:
    """The largest difference allowed for each pair: absolute, and relative to the lower contrast of the two photos."""
    absolute, relative = limit
    limits: NDArray[np.float32] = np.minimum(absolute, relative * deviation[pairs].min(1))
    return limits


def _deviation(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square distance of images `(P, S, S, 3)` from their own mean colour, `(P,)`."""
    flat = pictures.reshape(len(pictures), -1, 3)
    colour = np.einsum("pkc->pc", flat) / flat.shape[1]
    power = np.einsum("pkc,pkc->p", flat, flat) / (3 * flat.shape[1])
    result: NDArray[np.float32] = np.sqrt(np.maximum(power - (colour**2).mean(1), 0))
    return result


_TURNING = _FREQUENCIES[:, 1] % 2 == 1  # bits that mirroring flips
_CLOSE = len(_FREQUENCIES) - 2 * _HASH_LIMIT  # a dot product of ±1 is bits − 2 × distance


class _Bits(NamedTuple):
    """Hash bits as ±1, `float32`: those that mirroring flips, and the others."""

    fixed: NDArray[np.float32]
    turned: NDArray[np.float32]

    @classmethod
    def of(cls, bits: NDArray[np.int8]) -> _Bits:
        """Bits `int8 (N, 77)`."""
        return cls(*(np.ascontiguousarray(bits[:, part], np.float32) for part in (~_TURNING, _TURNING)))

    def nearness(self, other: _Bits) -> NDArray[np.float32]:
        """Dot products `(N, M)` with other ones, of the nearer orientation."""
        dots = self.turned @ other.turned.T
        np.abs(dots, out=dots)  # the nearer of straight and mirrored
        dots += self.fixed @ other.fixed.T
        return dots

    def rows(self, rows: Slice) -> _Bits:
        """Those of some pictures."""
        return _Bits(self.fixed[rows], self.turned[rows])


def _all_pairs(pictures: _Pictures) -> Iterator[Task]:
    """Finds the pairs `(P, 2)` within the hash limit, in the same orientation or mirrored, in rows of 512 pictures."""
    bits = _Bits.of(pictures.bits)

    def below(top: int) -> NDArray[np.int64]:
        """The pairs of 512 photos from `top` with later ones, the nearest `_MOST_EACH` of each photo."""
        tiles, nearness, rows = [], [], slice(top, top + 512)
        for left in range(top, len(pictures), 4096):  # a tile stays in the processor's cache
            dots = bits.rows(rows).nearness(bits.rows(slice(left, left + 4096)))
            if left == top:
                dots[np.tril_indices(len(dots), m=dots.shape[1])] = -np.inf
            i, j = _nearest(dots)
            tiles.append(np.stack([i + top, j + left], 1))
            nearness.append(dots[i, j])
        pairs = np.concatenate(tiles)
        if len(pairs) and np.bincount(pairs[:, 0] - top).max() > _MOST_EACH:  # in all tiles together
            pairs = pairs[np.lexsort((-np.concatenate(nearness), pairs[:, 0]))]
            pairs = pairs[np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0]) < _MOST_EACH]
        return pairs

    return (functools.partial(below, top) for top in range(0, len(pictures), 512))


def _nearest(dots: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the dot products within the hash limit, at most `_MOST_EACH` of a row; changes `dots`."""
    near = np.flatnonzero(dots >= _CLOSE)
    crowded = np.flatnonzero(np.bincount(near // dots.shape[1]) > _MOST_EACH)
    if len(crowded):
        _keep_nearest(dots, crowded)
        near = np.flatnonzero(dots >= _CLOSE)
    return np.divmod(near, dots.shape[1])


def _in_cells(pictures: _Pictures) -> Iterator[Task]:
    """Finds most of these pairs, in cells: those of pictures of which one is nearest to a centre near the other.

    The centres are pictures, chosen at random; pictures are near by their colours at 8×8 (an inverted file with several
    probes, as in Sivic & Zisserman, 2003). These are integers, whose products are exact in any order, so that the pairs
    do not depend on the processor.
    """
    count, flat = len(pictures), pictures.whole.reshape(len(pictures), -1)
    chosen = np.sort(np.random.default_rng(0).choice(count, count // _CELL, replace=False))
    centres = flat[chosen].astype(np.float32)
    lengths = (centres.astype(np.int64) ** 2).sum(1)
    cell = np.empty(count, np.int32)
    around = np.empty((count, 2 * _PROBES), np.int32)

    def place(start: int) -> None:
        """Set the cell, and the cells around, of a block of pictures."""
        block = pictures.whole[start : start + _BLOCK].astype(np.float32)
        for number, turned in enumerate((block, block[:, :, ::-1])):
            dots = turned.reshape(len(block), -1) @ centres.T
            distance = lengths - 2 * dots.astype(np.int64)
            near = np.argpartition(distance, _PROBES, axis=1)[:, :_PROBES]
            around[start : start + len(block), number * _PROBES : (number + 1) * _PROBES] = near
            if number == 0:
                cell[start : start + len(block)] = distance.argmin(1)

    _in_threads(place, range(0, count, _BLOCK))
    members, ends = _listed(cell, len(centres))
    visitors, far = _listed(around.ravel(), len(centres))

    def within(number: int) -> NDArray[np.int64]:
        """The pairs of pictures in a cell with those near its centre."""
        inside = members[ends[number] : ends[number + 1]]
        near = np.unique(visitors[far[number] : far[number + 1]] // (2 * _PROBES))
        mine, parts = _Bits.of(pictures.bits[inside]), [np.empty((0, 2), np.int64)]
        for start in range(0, len(near), 512):
            some = near[start : start + 512]
            dots = _Bits.of(pictures.bits[some]).nearness(mine)
            dots[some[:, None] == inside] = -np.inf
            i, j = _nearest(dots)
            parts.append(np.stack([some[i], inside[j]], 1))
        return np.sort(np.concatenate(parts), 1)

    return (functools.partial(within, number) for number in range(len(centres)))


def _listed(codes: NDArray[np.int32], count: int) -> tuple[Numbers, Numbers]:
    """The indices of `codes` in order of code, and where those of each code 0..count-1 begin, and the last ones end."""
    order = np.argsort(codes, kind="stable")
    return order, np.searchsorted(codes, np.arange(count + 1), sorter=order)


def _keep_nearest(dots: NDArray[np.float32], crowded: NDArray[np.int64]) -> None:
    """Leave only the `_MOST_EACH` largest dot products in each of the rows `crowded`."""
    for row in crowded:
        dots[row, np.argpartition(dots[row], -_MOST_EACH)[:-_MOST_EACH]] = -np.inf


def _shrunk(thumbs: NDArray[np.float32], edge: float) -> NDArray[np.float32]:
    """Thumbnails with a fraction `edge` cropped from every side, at 8×8: `(N, 8, 8, 3)`."""
    crop = np.full((1, 4), edge, np.float32)
    small = np.empty((len(thumbs), 8, 8, 3), np.float32)
    for start in range(0, len(thumbs), _BLOCK):
        small[start : start + _BLOCK] = _cropped(thumbs[start : start + _BLOCK], crop, 8)
    return small


def _coarse(
    first: NDArray[np.float32] | NDArray[np.uint8],
    second: NDArray[np.float32] | NDArray[np.uint8],
    pairs: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Root mean square difference of `first[i]` and `second[j]`, unmirrored and with one of them mirrored."""
    values = 8 * 8 * 3
    squares = np.empty((2, len(pairs)), np.float32)
    for start in range(0, len(pairs), 4096):  # a block stays in the processor's cache
        part = slice(start, start + 4096)
        i, j = pairs[part].T
        left, right = (side[numbers].astype(np.float32, copy=False) for side, numbers in ((first, i), (second, j)))
        lengths = sum(np.einsum("prck,prck->p", side, side) for side in (left, right))
        for row, side in zip(squares, (right, right[:, :, ::-1]), strict=True):
            row[part] = (lengths - 2 * np.einsum("prck,prck->p", left, side)) / values
    straight, mirrored = np.sqrt(np.maximum(squares, 0))
    return straight, mirrored


def _fine(pictures: _Pictures, pairs: NDArray[np.int64], flip: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean square difference of each pair, with the best crop of either photo."""
    result = np.empty(len(pairs), np.float32)

    def align(start: int) -> None:
        i, j = pairs[start : start + 128].T
        first, second = pictures.thumbs(i), pictures.thumbs(j)
        turned = flip[start : start + 128]
        second[turned] = second[turned, :, ::-1]
        result[start : start + 128] = np.minimum(_aligned(first, second), _aligned(second, first))

    _in_threads(align, range(0, len(pairs), 128))
    return result


def _resampler(low: NDArray[np.float32], high: NDArray[np.float32], cells: int = _CELLS) -> NDArray[np.float32]:
    """Area resampling of lines of 32 pixels, cropped by fractions `low`, `high` `(P,)`: `(P, cells, 32)`."""
    at = np.linspace(0, 1, cells + 1, dtype=np.float32)
    edges = THUMB * (low[:, None] + (1 - low - high)[:, None] * at)
    pixel = np.arange(THUMB, dtype=np.float32)
    overlap = np.minimum(edges[:, 1:, None], pixel + 1) - np.maximum(edges[:, :-1, None], pixel)
    matrices: NDArray[np.float32] = np.clip(overlap, 0, None) / np.diff(edges)[:, :, None]
    return matrices


def _cropped(pictures: NDArray[np.float32], crop: NDArray[np.float32], cells: int = _CELLS) -> NDArray[np.float32]:
    """Crop `(P, 32, 32, 3)` by fractions `(P or 1, 4)` off top, bottom, left, right: `(P, cells, cells, 3)`."""
    rows = _resampler(crop[:, 0], crop[:, 1], cells)
    columns = _resampler(crop[:, 2], crop[:, 3], cells)
    count = len(pictures)
    halfway = (rows @ pictures.reshape(count, THUMB, -1)).reshape(count, cells, THUMB, 3)
    result: NDArray[np.float32] = columns[:, None] @ halfway
    return result


def _aligned(whole: NDArray[np.float32], part: NDArray[np.float32]) -> NDArray[np.float32]:
    """Difference of `part` from the crop of `whole` that fits it best; both `(P, 32, 32, 3)` -> `(P,)`."""
    crop, least = _best_of_grid(whole, part)
    promising = np.flatnonzero(least <= 3 * _FINE[0])
    if len(promising):
        least[promising] = _refined(whole[promising], part[promising], crop[promising])
    return least


def _best_of_grid(
    whole: NDArray[np.float32], part: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The best of 81 crops `(P, 4)`, fractions off top, bottom, left, right, and its difference `(P,)`."""
    count = len(whole)
    small = _cropped(part, np.zeros((1, 4), np.float32))
    best = np.full(count, np.inf, np.float32)
    crop = np.zeros((count, 4), np.float32)
    edges = [np.array(pair, np.float32) for pair in itertools.product((0.0, 0.05, 0.1), repeat=2)]
    lines = [_resampler(edge[:1], edge[1:])[0] for edge in edges]
    for rows, vertical in zip(lines, edges, strict=True):
        halfway = (rows @ whole.reshape(count, THUMB, -1)).reshape(count, _CELLS, THUMB, 3)
        for columns, horizontal in zip(lines, edges, strict=True):
            difference = ((columns @ halfway - small) ** 2).mean((1, 2, 3))
            better = difference < best
            crop[better] = np.concatenate([vertical, horizontal])
            best[better] = difference[better]
    return crop, np.sqrt(best)


def _refined(whole: NDArray[np.float32], part: NDArray[np.float32], crop: NDArray[np.float32]) -> NDArray[np.float32]:
    """Smallest difference while Gauss-Newton steps refine the four edges of the crop."""
    count, step = len(whole), np.float32(0.01)
    target = _cropped(part, np.zeros((1, 4), np.float32))
    least = np.full(count, np.inf, np.float32)
    unit = np.eye(4, dtype=np.float32)
    for _ in range(4):
        now = _cropped(whole, crop)
        residual = (target - now).reshape(count, -1)
        least = np.minimum(least, np.sqrt((residual**2).mean(1)))
        moved = [(_cropped(whole, crop + step * edge) - now).reshape(count, -1) / step for edge in unit]
        gradients = np.stack(moved, axis=1)  # of the crop's pixels with respect to each edge
        normal = gradients @ gradients.transpose(0, 2, 1)
        normal += 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * unit + 1e-6
        move = np.linalg.solve(normal, gradients @ residual[:, :, None])[:, :, 0]
        crop = np.clip(crop + move, 0, _LARGEST_CROP).astype(np.float32)
    return least
