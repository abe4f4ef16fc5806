"""Columns of a table with a row per photo: a few bytes a row, where Python's objects take hundreds.

Knows nothing of photos.
"""

from __future__ import annotations

from abc import abstractmethod
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from operator import eq
from typing import TYPE_CHECKING, Generic, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", bound=Hashable)
Row = TypeVar("Row")
Numbers = NDArray[np.int64]
if TYPE_CHECKING:
    Slice = slice[int | None, int | None, int | None]
else:
    Slice = slice


_BLOCK = 4096  # rows that are made into objects at once


class Table(Sequence[Row]):
    """N rows by column: an object is made of a row when it is asked for."""

    __slots__ = ()

    @abstractmethod
    def made(self, rows: Numbers) -> Iterator[Row]:
        """The objects of these rows, in their order."""

    @abstractmethod
    def take(self, rows: Numbers | NDArray[np.bool_]) -> Self:
        """A table of these rows, in their order."""

    @overload
    def __getitem__(self, row: int) -> Row: ...
    @overload
    def __getitem__(self, row: Slice) -> Self: ...
    def __getitem__(self, row: int | Slice) -> Row | Self:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        (found,) = self.made(np.arange(len(self))[[row]])
        return found

    def __iter__(self) -> Iterator[Row]:
        for at in range(0, len(self), _BLOCK):
            yield from self.made(np.arange(at, min(at + _BLOCK, len(self))))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(eq, self, other))

    __hash__ = None  # type: ignore[assignment]


class TextsWriter:
    """Adds one string of a `Texts` after the other; they need not be valid Unicode."""

    def __init__(self) -> None:
        self._block, self._ends = bytearray(), array("q")

    def add(self, text: str) -> None:
        """Add a string."""
        self._block += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._block))

    def column(self) -> Texts:
        """The strings so far."""
        return Texts(bytes(self._block), np.array(self._ends, np.int64))


class Texts(Sequence[str]):
    """Strings of any length, such as paths, in one block of bytes."""

    __slots__ = ("_block", "_ends")

    def __init__(self, block: bytes, ends: Numbers) -> None:
        self._block, self._ends = block, ends

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """These strings."""
        writer = TextsWriter()
        for text in texts:
            writer.add(text)
        return writer.column()

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:  # type: ignore[override]  # no slices
        row = range(len(self))[row]
        start = self._ends[row - 1] if row else 0
        return self._block[start : self._ends[row]].decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        start, block = 0, self._block
        for at in range(0, len(self), _BLOCK):
            for end in self._ends[at : at + _BLOCK].tolist():
                yield block[start:end].decode("utf-8", "surrogatepass")
                start = end

    def take(self, rows: Numbers) -> Texts:
        """The strings of these rows, in their order."""
        return Texts.of(self[row] for row in rows.tolist())

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The rows of all parts, one after the other."""
        starts = np.cumsum([0, *(len(part._block) for part in parts)])
        ends = [part._ends + start for part, start in zip(parts, starts, strict=False)]
        return cls(b"".join(part._block for part in parts), np.concatenate(ends or [np.empty(0, np.int64)]))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return len(self._block) + self._ends.nbytes


class CodesWriter(Generic[Value]):
    """Adds one value of a `Codes` after the other."""

    def __init__(self) -> None:
        self._number: dict[Value, int] = {}
        self._codes = array("i")

    def add(self, value: Value) -> None:
        """Add a value."""
        self._codes.append(self._number.setdefault(value, len(self._number)))

    def column(self) -> Codes[Value]:
        """The values so far."""
        return Codes(tuple(self._number), np.array(self._codes, np.int32))


class Codes(Generic[Value]):
    """Values that many rows share, such as classes: each row holds a number, `codes` `int32 (N,)`, into `values`.

    The values are different from each other; see `numbered` for those that may not be.
    """

    __slots__ = ("codes", "values")

    def __init__(self, values: tuple[Value, ...], codes: NDArray[np.int32]) -> None:
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, column: Iterable[Value]) -> Codes[Value]:
        """The column with these values."""
        writer = CodesWriter[Value]()
        for value in column:
            writer.add(value)
        return writer.column()

    @classmethod
    def numbered(cls, values: Iterable[Value], codes: NDArray[np.int32]) -> Codes[Value]:
        """The column of these numbers of values, of which several may be equal."""
        number: dict[Value, int] = {}
        first = np.array([number.setdefault(value, len(number)) for value in values], np.int32)
        return cls(tuple(number), first[codes] if len(codes) else codes)

    @classmethod
    def all(cls, value: Value, count: int) -> Codes[Value]:
        """A column of equal values."""
        return cls((value,), np.zeros(count, np.int32))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> Value:
        return self.values[int(self.codes[row])]

    def __iter__(self) -> Iterator[Value]:
        for at in range(0, len(self), _BLOCK):
            yield from (self.values[code] for code in self.codes[at : at + _BLOCK].tolist())

    def take(self, rows: Numbers) -> Codes[Value]:
        """The values of these rows, in their order."""
        return Codes(self.values, self.codes[rows])

    def equal(self, *values: Value) -> NDArray[np.bool_]:
        """Which rows have one of these values, `(N,)`."""
        return np.isin(self.codes, [code for code, value in enumerate(self.values) if value in values])

    def counts(self) -> dict[Value, int]:
        """How many rows have each value, in the order in which the values occur first."""
        present, first, counts = np.unique(self.codes, return_index=True, return_counts=True)
        order = np.argsort(first)
        return {self.values[present[at]]: int(counts[at]) for at in order.tolist()}

    def changed(self, rows: Numbers | NDArray[np.bool_], values: Iterable[Value] | Codes[Value]) -> Codes[Value]:
        """The column with other values in some rows: one for each of `rows`, in their order."""
        new = values if isinstance(values, Codes) else Codes.of(values)
        number = {value: code for code, value in enumerate(self.values)}
        translated = np.array([number.setdefault(value, len(number)) for value in new.values], np.int32)
        codes = self.codes.copy()
        codes[rows] = translated[new.codes] if len(new) else 0
        return Codes(tuple(number), codes)

    @classmethod
    def joined(cls, parts: Sequence[Codes[Value]]) -> Codes[Value]:
        """The rows of all parts, one after the other."""
        number: dict[Value, int] = {}
        codes = []
        for part in parts:
            translated = np.array([number.setdefault(value, len(number)) for value in part.values], np.int32)
            codes.append(translated[part.codes] if len(part) else part.codes)
        return cls(tuple(number), np.concatenate(codes) if codes else np.empty(0, np.int32))
