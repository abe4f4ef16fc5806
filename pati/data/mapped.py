"""`Mapped`: rows of bytes in files that may be larger than memory."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pati.data.columns import Numbers, Slice

_RELEASE = 256_000_000  # bytes mapped, after which their memory is returned
_AROUND = 1_000_000  # bytes that Linux may map around the one that is asked for, if they are in its cache


class Mapped:
    """The rows of several arrays `uint8 (n, …)` as one, `(N, …)`; of files, only rows that are asked for are read.

    What was read from a file stays in memory until the system needs it, and counts as memory of this process. It is
    returned after every `_RELEASE` bytes; if it is needed again soon, it is still in the system's cache.
    """

    def __init__(self, parts: Sequence[NDArray[np.uint8]]) -> None:
        self.parts = [part for part in parts if len(part)] or list(parts[:1])
        self._starts = np.cumsum([0, *map(len, self.parts)])
        self._read = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of rows, and the shape of one."""
        return (len(self), *self.parts[0].shape[1:])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: int | Slice | Sequence[int] | Numbers) -> NDArray[np.uint8]:
        """A copy of a row, or of several rows in their order."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        numbers = np.asarray(rows, np.int64)
        result = self.take(np.where(numbers < 0, numbers + len(self), numbers).reshape(-1))
        return result if numbers.ndim else result[0]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return map(self.__getitem__, range(len(self)))

    def take(self, rows: Numbers) -> NDArray[np.uint8]:
        """A copy of these rows `(B,)`, in their order: `(B, …)`; raises `IndexError`."""
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"expected rows from 0 to {len(self) - 1}")
        result = np.empty((len(rows), *self.shape[1:]), np.uint8)
        step = max(1, _RELEASE // max(_AROUND, result[:1].nbytes))
        for start in range(0, len(rows), step):
            self._copy(rows[start : start + step], result[start : start + step])
            self._read += min(step, len(rows) - start)
            if self._read >= step:
                self._release()
        return result

    def _copy(self, rows: Numbers, result: NDArray[np.uint8]) -> None:
        if len(self.parts) == 1:
            np.take(self.parts[0], rows, axis=0, out=result, mode="clip")  # "raise" would copy once more
            return
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part).tolist():
            inside = part == number
            result[inside] = self.parts[number][rows[inside] - self._starts[number]]

    def _release(self) -> None:
        self._read = 0
        for part in self.parts:
            pages = part.base if isinstance(part.base, mmap.mmap) else getattr(part, "_mmap", None)
            if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                with contextlib.suppress(OSError, ValueError):
                    pages.madvise(mmap.MADV_DONTNEED)
