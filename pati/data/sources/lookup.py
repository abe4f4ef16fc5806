"""Many names in little memory: their bytes one after the other, found by their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Lookup:
    """Names, numbered from 0. `names`: their bytes, of which number i ends before `ends[i]`.

    `hashes`: sorted; `order`: the names that they belong to.
    """

    names: bytes
    ends: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    order: NDArray[np.int32]

    @classmethod
    def of(cls, names: bytes, ends: NDArray[np.int64]) -> Lookup:
        """Make names findable."""
        hashes = hashes_of(_each(names, ends), len(ends))
        order = np.argsort(hashes, kind="stable")
        return cls(names, ends, hashes[order], order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.ends)

    def __iter__(self) -> Iterator[str]:
        return map(text, _each(self.names, self.ends))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return len(self.names) + self.ends.nbytes + self.hashes.nbytes + self.order.nbytes

    def name(self, number: int) -> str:
        """A name."""
        return text(self.names[self.ends[number - 1] if number else 0 : self.ends[number]])

    def find(self, name: str) -> int | None:
        """The number of a name; of several equal ones, the first."""
        hashed = np.uint64(hash_of(raw(name)))
        at = int(np.searchsorted(self.hashes, hashed))
        while at < len(self.hashes) and self.hashes[at] == hashed:
            if self.name(int(self.order[at])) == name:
                return int(self.order[at])
            at += 1
        return None

    def repeats(self) -> bool:
        """Whether names are equal but for their case."""
        return len(np.unique(hashes_of((raw(name.casefold()) for name in self), len(self)))) < len(self)


def _each(names: bytes, ends: NDArray[np.int64]) -> Iterator[bytes]:
    start = 0
    for end in ends.tolist():
        yield names[start:end]
        start = end


def hash_of(name: bytes) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "little")


def hashes_of(names: Iterable[bytes], count: int) -> NDArray[np.uint64]:
    """The hashes of `count` names."""
    return np.fromiter(map(hash_of, names), np.uint64, count)


def text(name: bytes) -> str:
    """Bytes of a name as text; inverse of `raw`."""
    return name.decode("utf-8", "surrogateescape")


def raw(name: str) -> bytes:
    """The bytes of a name, which need not be valid UTF-8."""
    return name.encode("utf-8", "surrogateescape")
