"""The pixels of a pack while it is written: a `.npy` file with one row per photo that was decoded, in any order.

Rows are handed out before it is known whether a file is a photo, and taken back if it is not, so that the file is as
large as the kept photos, however many other files there are. Knows nothing of photos.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import numpy as np


class RowFile:
    """A `.npy` file of rows `uint8 (size, size, 3)`; thread-safe. Workers write to its rows by `row_start`."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self._shape = size, size, 3
        self._bytes = size * size * 3
        self._lock = threading.Lock()
        self._free: list[int] = []
        self._rows = 0
        self._header = self._write_header(0)

    def row_start(self, row: int) -> int:
        """The byte at which a row begins."""
        return self._header + row * self._bytes

    def take(self, count: int) -> list[int]:
        """Rows to write to. Raises `OSError` if there is no space for them on the disk."""
        with self._lock:
            more = count - len(self._free)
            if more > 0:
                self._claim(self._rows, more)
                self._free += range(self._rows, self._rows + more)
                self._rows += more
            self._free.sort(reverse=True)
            return [self._free.pop() for _ in range(count)]

    def give_back(self, rows: list[int]) -> None:
        """Rows that were not written to."""
        with self._lock:
            self._free += rows

    def finish(self) -> dict[int, int]:
        """Close the gaps, and flush the file to disk; returns the new numbers of the rows that were moved."""
        count = self._rows - len(self._free)
        gaps = sorted(row for row in self._free if row < count)
        last = sorted({*range(count, self._rows)} - {*self._free})
        with self.path.open("r+b") as file:
            for row, gap in zip(last, gaps, strict=True):
                file.seek(self.row_start(row))
                pixels = file.read(self._bytes)
                file.seek(self.row_start(gap))
                file.write(pixels)
            file.truncate(self.row_start(count))
        self._write_header(count)
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())  # the workers wrote through the page cache
        return dict(zip(last, gaps, strict=True))

    def _claim(self, first: int, count: int) -> None:
        """Allocate rows now: a full disk is an error here, not in the middle of a worker's row."""
        with self.path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), self.row_start(first), count * self._bytes)
            else:
                file.seek(self.row_start(first))
                file.write(bytes(count * self._bytes))

    def _write_header(self, rows: int) -> int:
        """Write the header for so many rows, which is equally long for any number; returns its length."""
        header = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._shape)}
        with contextlib.suppress(FileExistsError):
            self.path.touch(exist_ok=False)
        with self.path.open("r+b") as file:
            np.lib.format.write_array_header_1_0(file, header)
            return file.tell()
