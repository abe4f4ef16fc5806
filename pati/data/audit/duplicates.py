"""Find near duplicates: re-saved, resized, slightly cropped or mirrored copies of a photo.

Works on 32×32 colour thumbnails, in three stages. Each is more precise, and sees fewer pairs:

1. A 77-bit hash: signs of the low frequencies of the grey thumbnail's cosine transform.
   Mirroring flips the sign of the odd horizontal frequencies, so one hash covers both
   orientations. All pairs are compared by a matrix product in tiles (bits as ±1), the only
   quadratic step: 77 multiply-adds per pair.
2. Colour difference of the thumbnails shrunk to 8×8: full against full, and full against centre crop.
3. Colour difference after alignment: one photo is cropped (up to a tenth off every side, found
   by a coarse grid and Gauss-Newton steps) so that it fits the other best.

Correlation can't replace the colour difference: photos of different T-shirts on one carpet correlate at 0.98. Knows
nothing of files or classes.
"""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pati.data.audit.worker import THUMB
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
_AT_ONCE = 512  # pairs that are aligned before the groups they form are looked at,
_AHEAD = 8 * _AT_ONCE  # chosen among so many of the most similar ones
_MOST_EACH = 128  # candidates of one photo by its hash: photos of one scene are candidates of all others
_BLOCK = 2048
_CELLS = 12  # finer grids mostly compare resampling noise: the residuals of copies double at 24

_FREQUENCIES = np.array([(u, v) for u in range(12) for v in range(12) if 0 < u + v < 12])


def hashes(thumbs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Thumbnails `uint8 (N, 32, 32, 3)` -> hash bits as ±1, `int8 (N, 77)`."""
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


def near_duplicates(thumbs: NDArray[np.uint8]) -> tuple[list[tuple[int, int]], int]:
    """Pairs `(i, j)`, i < j, of thumbnails `uint8 (N, 32, 32, 3)` that show the same picture.

    Only pairs that join something new: of photos that other pairs have joined already, no further pair is compared.
    Also returns how many candidate pairs were skipped because more than `MOST_PAIRS` would have to be aligned: the
    least similar ones.
    """
    deviation = np.concatenate(
        [_deviation(thumbs[at : at + _BLOCK].astype(np.float32)) for at in range(0, len(thumbs), _BLOCK)]
        or [np.empty(0, np.float32)]
    )
    structured = np.flatnonzero(deviation >= _MIN_DEVIATION)
    thumbs, deviation = thumbs[structured], deviation[structured]
    pairs = _close_hashes(hashes(thumbs))
    whole, middle = _shrunk(thumbs, 0), _shrunk(thumbs, _MIDDLE)
    straight, mirrored = _coarse(whole, whole, pairs)
    wide = np.minimum(straight, mirrored) <= _limits(deviation, pairs, _WIDE)
    pairs, straight, mirrored = pairs[wide], straight[wide], mirrored[wide]
    for first, second in ((middle, whole), (whole, middle)):
        others = _coarse(first, second, pairs)
        straight, mirrored = np.minimum(straight, others[0]), np.minimum(mirrored, others[1])
    coarse = np.minimum(straight, mirrored)
    close = np.flatnonzero(coarse <= _limits(deviation, pairs, _COARSE))
    close = close[np.argsort(coarse[close], kind="stable")]
    alike, skipped = _joining(thumbs, deviation, pairs[close], (mirrored < straight)[close])
    return [(int(structured[i]), int(structured[j])) for i, j in sorted(alike)], skipped


def _joining(
    thumbs: NDArray[np.uint8], deviation: NDArray[np.float32], pairs: NDArray[np.int64], flip: NDArray[np.bool_]
) -> tuple[list[tuple[int, int]], int]:
    """The `pairs` that show the same picture and join two groups, tried in this order (Kruskal, 1956).

    N photos of one scene have N² pairs, but are one group after N - 1 of them. Also returns how many pairs were left.
    """
    group, alike, tried = np.arange(len(thumbs)), list[tuple[int, int]](), 0
    while len(pairs) and tried < MOST_PAIRS:
        # One pair for each two groups first: others between the same two will often be superfluous after it.
        ends = np.sort(group[pairs[:_AHEAD]], 1)
        first = np.sort(np.unique(ends, axis=0, return_index=True)[1])
        rest = np.setdiff1d(np.arange(len(ends)), first)
        chosen = np.concatenate([first, rest])[: min(_AT_ONCE, MOST_PAIRS - tried)]
        tried += len(chosen)
        same = _fine(thumbs, pairs[chosen], flip[chosen]) <= _limits(deviation, pairs[chosen], _FINE)
        for i, j in pairs[chosen[same]]:
            if group[i] != group[j]:
                group[group == group[j]] = group[i]
                alike.append((int(i), int(j)))
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


def _close_hashes(bits: NDArray[np.int8]) -> NDArray[np.int64]:
    """Pairs `(P, 2)` within the hash limit, in the same orientation or mirrored."""
    turning = _FREQUENCIES[:, 1] % 2 == 1  # bits that mirroring flips
    fixed, turned = (np.ascontiguousarray(bits[:, part], np.float32) for part in (~turning, turning))
    close = len(_FREQUENCIES) - 2 * _HASH_LIMIT  # a dot product of ±1 is bits − 2 × distance

    def below(top: int) -> NDArray[np.int64]:
        """The pairs of 512 photos from `top` with later ones, the nearest `_MOST_EACH` of each photo."""
        tiles, nearness, rows = [], [], slice(top, top + 512)
        for left in range(top, len(bits), 4096):  # a tile stays in the processor's cache
            columns = slice(left, left + 4096)
            dots = turned[rows] @ turned[columns].T
            np.abs(dots, out=dots)  # the nearer of straight and mirrored
            dots += fixed[rows] @ fixed[columns].T
            if left == top:
                dots[np.tril_indices(len(dots), m=dots.shape[1])] = -np.inf
            near = np.flatnonzero(dots >= close)
            crowded = np.flatnonzero(np.bincount(near // dots.shape[1]) > _MOST_EACH)
            if len(crowded):
                _keep_nearest(dots, crowded)
                near = np.flatnonzero(dots >= close)
            i, j = np.divmod(near, dots.shape[1])
            tiles.append(np.stack([i + top, j + left], 1))
            nearness.append(dots.ravel()[near])
        pairs = np.concatenate(tiles)
        if len(pairs) and np.bincount(pairs[:, 0] - top).max() > _MOST_EACH:  # in all tiles together
            pairs = pairs[np.lexsort((-np.concatenate(nearness), pairs[:, 0]))]
            pairs = pairs[np.arange(len(pairs)) - np.searchsorted(pairs[:, 0], pairs[:, 0]) < _MOST_EACH]
        return pairs

    # Our own threads, not BLAS's: the work between the products takes longer than the products.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(cores()) as pool:
        parts = list(pool.map(below, range(0, len(bits), 512)))
    return np.concatenate(parts) if parts else np.empty((0, 2), np.int64)


def _keep_nearest(dots: NDArray[np.float32], crowded: NDArray[np.int64]) -> None:
    """Leave only the `_MOST_EACH` largest dot products in each of the rows `crowded`."""
    for row in crowded:
        dots[row, np.argpartition(dots[row], -_MOST_EACH)[:-_MOST_EACH]] = -np.inf


def _shrunk(thumbs: NDArray[np.uint8], edge: float) -> NDArray[np.float32]:
    """Thumbnails with a fraction `edge` cropped from every side, at 8×8: `(N, 8, 8, 3)`."""
    crop = np.full((1, 4), edge, np.float32)
    small = np.empty((len(thumbs), 8, 8, 3), np.float32)
    for start in range(0, len(thumbs), _BLOCK):
        small[start : start + _BLOCK] = _cropped(thumbs[start : start + _BLOCK].astype(np.float32), crop, 8)
    return small


def _coarse(
    first: NDArray[np.float32], second: NDArray[np.float32], pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Root mean square difference of `first[i]` and `second[j]`, unmirrored and with one of them mirrored."""
    left, right, turned = (small.reshape(len(small), 8 * 8 * 3) for small in (first, second, second[:, :, ::-1]))
    values = left.shape[1]
    own, others = (np.einsum("nk,nk->n", side, side) / values for side in (left, right))
    squares = np.empty((2, len(pairs)), np.float32)
    for start in range(0, len(pairs), 4096):  # a block stays in the processor's cache
        part = slice(start, start + 4096)
        i, j = pairs[part].T
        mine = left[i]
        for row, side in zip(squares, (right, turned), strict=True):
            row[part] = own[i] + others[j] - 2 / values * np.einsum("pk,pk->p", mine, side[j])
    straight, mirrored = np.sqrt(np.maximum(squares, 0))
    return straight, mirrored


def _fine(thumbs: NDArray[np.uint8], pairs: NDArray[np.int64], flip: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Root mean square difference of each pair, with the best crop of either photo."""
    result = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), 128):
        i, j = pairs[start : start + 128].T
        first, second = thumbs[i].astype(np.float32), thumbs[j].astype(np.float32)
        turned = flip[start : start + 128]
        second[turned] = second[turned, :, ::-1]
        result[start : start + 128] = np.minimum(_aligned(first, second), _aligned(second, first))
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
