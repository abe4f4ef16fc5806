"""Many names in little memory, found by their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.data.columns import Texts


@dataclass(frozen=True)
class Lookup:
    """Names, numbered from 0. `hashes`: sorted; `order`: the names that they belong to."""

    names: Texts
    hashes: NDArray[np.uint64]
    order: NDArray[np.int32]

    @classmethod
    def of(cls, names: Texts) -> Lookup:
        """Make names findable."""
        hashes = hashes_of(names, len(names))
        order = np.argsort(hashes, kind="stable")
        return cls(names, hashes[order], order.astype(np.int32))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.names.nbytes + self.hashes.nbytes + self.order.nbytes

    def name(self, number: int) -> str:
        """A name."""
        return self.names[number]

    def find(self, name: str) -> int | None:
        """The number of a name; of several equal ones, the first."""
        hashed = np.uint64(hash_of(name))
        at = int(np.searchsorted(self.hashes, hashed))
        while at < len(self.hashes) and self.hashes[at] == hashed:
            if self.name(int(self.order[at])) == name:
                return int(self.order[at])
            at += 1
        return None

    def repeats(self) -> bool:
        """Whether names are equal but for their case."""
        return len(np.unique(hashes_of((name.casefold() for name in self), len(self)))) < len(self)


def hash_of(name: str) -> int:
    """64 bits."""
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def hashes_of(names: Iterable[str], count: int) -> NDArray[np.uint64]:
    """The hashes of `count` names."""
    return np.fromiter(map(hash_of, names), np.uint64, count)
