"""What all storages of photos have in common.

A photo is found by its *address*: whoever knows the address reads the photo without an index of the other ones, so that
worker processes need none. In a folder, and in a zip, the address is the path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from pati.data import decode
from pati.data.columns import Numbers

START = 16  # bytes that tell a file's format
_NONE = "!"  # how addresses begin that lead nowhere; then follows the reason


@dataclass(frozen=True)
class Name:
    """An entry of a folder; a link to a folder is both `folder` and `link`, and `link` any other link too."""

    name: str
    folder: bool
    link: bool = False


class Reader(Protocol):
    """Reads photos by address."""

    def read_at(self, address: str) -> bytes:
        """A photo's bytes, within the limits of `decode`; raises `decode.Unreadable`."""


class Storage(Reader, Protocol):
    """Photos by path, relative to `root`."""

    @property
    def root(self) -> Path:
        """Its path, for display and for `storage.at`.

        Inside an archive, a path that continues into it: photos.zip/train.
        """

    def address(self, relative: str) -> str:
        """Where a photo is; never fails: that it is not there, `read_at` says."""

    def block(self, address: str) -> str:
        """What must be read together: photos with equal answers, in order of address; empty if that is one photo."""

    def read(self, relative: str) -> bytes:
        """A photo's bytes, within the limits of `decode`; raises `decode.Unreadable`."""


class Listed(Protocol):
    """Files that can be listed folder by folder."""

    @property
    def root(self) -> Path:
        """See `Storage`."""

    def names(self) -> list[Name]:
        """Its direct entries, sorted by name."""

    def child(self, name: str) -> Listed:
        """The subfolder `name`."""

    def start(self, relative: str) -> bytes:
        """The first 16 bytes of a file; fewer if it is shorter or can't be read."""


class Files(Storage, Listed, Protocol):
    """A storage of files of any kind in folders."""

    def child(self, name: str) -> Files:
        """The subfolder `name`."""

    def holds(self, relative: str) -> bool:
        """Whether a file or folder of that name exists."""

    def open(self, relative: str) -> IO[bytes]:
        """Open a file for sequential reading; raises `OSError`."""


def nowhere(reason: str) -> str:
    """The address of what can't be read."""
    return f"{_NONE}{reason}"


def require_place(address: str) -> None:
    """Raise `decode.Unreadable` for an address of `nowhere`."""
    if address.startswith(_NONE):
        raise decode.Unreadable(address[len(_NONE) :])


def reading_order(store: Storage, paths: Sequence[str]) -> list[int]:
    """The numbers of the photos in the order in which they are read fastest: as they are, if that makes no difference.

    Where photos lie together in blocks, each block is then read once.
    """
    numbers = list(range(len(paths)))
    if not paths or not any(store.block(store.address(path)) for path in map(paths.__getitem__, numbers[:2])):
        return numbers
    addresses = [store.address(path) for path in paths]
    return sorted(numbers, key=addresses.__getitem__)


def reading_parts(store: Storage, paths: Sequence[str], size: int) -> list[Numbers]:
    """The numbers of the photos in the same order, in parts of `size`, `int64`: a block lies in two parts at most."""
    order = np.array(reading_order(store, paths), np.int64)
    return [order[start : start + size] for start in range(0, len(order), size)]


def add_file(folders: dict[str, dict[str, bool]], name: str) -> None:
    """Add a file, and its parent folders, to `folders`: the entries of each, and whether they are folders."""
    above, _, last = name.rpartition("/")
    folder, is_folder = f"{above}/" if above else "", False
    while folder not in folders:
        folders[folder] = {last: is_folder}
        above, _, last = above.rpartition("/")
        folder, is_folder = f"{above}/" if above else "", True
    folders[folder].setdefault(last, is_folder)
