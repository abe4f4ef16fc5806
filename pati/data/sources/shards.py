"""Shards: the files of one kind, `.tar` or `.parquet`, that hold a set of photos together.

The root of a folder of shards is written photos/*.tar, and means all files of this kind in the folder and below.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pati.data import decode
from pati.data.columns import Codes
from pati.data.formats import is_photo_name
from pati.data.sources import allowed
from pati.data.sources.source import Items, Source, plain, split_role
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, NP_, Message

TAR, PARQUET = ".tar", ".parquet"
_DEEPEST = 20  # levels of folders
_TOLD = 5  # shards whose photos without a label are counted one by one


@dataclass(frozen=True)
class Shard:
    """A file. `name`: its path relative to the folder of all; `stamp`: changes when the file does."""

    name: str
    path: Path
    stamp: str

    @property
    def stem(self) -> str:
        """Its name without the suffix."""
        return self.name.rpartition(".")[0] or self.name

    def address(self, place: str) -> str:
        """The address of what lies at `place` in it, which must not contain a bar."""
        return f"{self.name}|{self.stamp}|{place}"


@dataclass(frozen=True)
class Shards:
    """The shards below `folder`; `root`: as it is written, see the module."""

    root: Path
    folder: Path
    all: tuple[Shard, ...]


def stamp(facts: os.stat_result) -> str:
    """What changes when a file does."""
    return f"{facts.st_mtime_ns:x}-{facts.st_size:x}"


def _shard(name: str, path: Path) -> Shard:
    try:
        return Shard(name, path, stamp(path.stat()))
    except OSError as error:
        raise PatiError(N_("can't read {path}: {reason}", path=path, reason=os_reason(error))) from None


def single(path: Path) -> Shards:
    """One file."""
    return Shards(path, path.parent, (_shard(path.name, path),))


def all_in(folder: Path, suffix: str) -> Shards:
    """All files of a kind in a folder and below, in order of name. Raises `PatiError`."""
    names = sorted(_names(folder, suffix), key=lambda name: name.split("/"))
    return Shards(folder / f"*{suffix}", folder, tuple(_shard(name, folder / name) for name in names))


def alone_in(folder: Path) -> bool:
    """Whether a folder holds shards and no files with the names of photos; ends at the first of these."""
    found = False
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        if any(map(is_photo_name, files)):
            return False
        found = found or any(name.lower().endswith((TAR, PARQUET)) for name in files)
    return found


def _names(folder: Path, suffix: str) -> list[str]:
    """As `read_tree`, without hidden folders, and with what links lead to."""
    found, seen = [], {os.path.realpath(folder)}
    for here, folders, files in os.walk(folder, followlinks=True):
        inside = os.path.relpath(here, folder).replace(os.sep, "/")
        above = "" if inside == "." else f"{inside}/"
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith((".", "__MACOSX")) and above.count("/") < _DEEPEST and _new(Path(here, name), seen)
        ]
        found += [
            f"{above}{name}"
            for name in files
            if name.lower().endswith(suffix)
            and not name.startswith(".")
            and os.path.isfile(os.path.join(here, name))
            and allowed.may_read(os.path.join(here, name))
        ]
    return found


def _new(folder: Path, seen: set[str]) -> bool:
    """Whether a folder may be read, and has not been read by another way."""
    real = os.path.realpath(folder)
    if real in seen or not allowed.may_read(real):
        return False
    seen.add(real)
    return True


def of_root(root: Path) -> tuple[Shards, str] | None:
    """The shards of a root, and the rest of it, which continues into them; None for the root of something else."""
    for path in (root, *root.parents):
        for suffix in (TAR, PARQUET):
            if path.name == f"*{suffix}" and path.parent.is_dir():
                return all_in(path.parent, suffix), root.relative_to(path).as_posix()
        if path.is_file():
            return single(path), root.relative_to(path).as_posix()
    return None


class Opened:
    """The shards in a folder, of which the one used last is kept open. Not thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name: str | None = None
        self._file: IO[bytes] | None = None

    @staticmethod
    def place_in(address: str) -> str:
        """The place in an address of `Shard.address`."""
        return address.rsplit("|", 2)[2]

    def at(self, address: str) -> IO[bytes]:
        """The file of an address; raises `decode.Unreadable` if it can't be read, or has changed."""
        name, stamped, _ = address.rsplit("|", 2)
        try:
            if self._file is None or name != self._name:
                self.close()
                path = self._folder / name
                if not allowed.may_read(path):
                    raise PermissionError
                self._file, self._name = open(path, "rb"), name  # noqa: SIM115
            if stamp(os.fstat(self._file.fileno())) != stamped:
                self.close()
                raise decode.Unreadable("changed", N_("{file} has changed since it was opened", file=name))
        except OSError as error:
            self.close()
            raise decode.Unreadable("unreadable", N_("{file}: {reason}", file=name, reason=os_reason(error))) from None
        return self._file

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = self._name = None


def roles(shards: Shards) -> list[str | None]:
    """The split that each shard is named after, itself or its folder: train-00000-of-00005, val/00012.

    None for all if they are not named so, or all alike. Raises `PatiError` if this is not clear.
    """
    words = [set(re.findall(r"[a-z]+", plain(shard.stem))) for shard in shards.all]
    common = set.intersection(*words) if words else set()
    meant = [{role for word in some - common if (role := split_role(word))} for some in words]
    found = [next(iter(some)) if len(some) == 1 else None for some in meant]
    if len(set(found)) < 2:
        return [None] * len(found)
    if None in found or "train" not in found:
        examples = dict(zip(found, shards.all, strict=True))
        seen = [
            N_("{folder} ({split})", folder=shard.name, split=role) if role else shard.name
            for role, shard in examples.items()
        ]
        raise PatiError(
            N_("{root} contains {names}: which are the splits?", root=shards.root, names=seen),
            N_("name all files after train, validation or test, or none of them"),
        )
    return found


def told(found: Sequence[str | None], shards: Shards) -> Message:
    """A note on the splits of `roles`."""
    examples = dict(zip(reversed(found), reversed(shards.all), strict=True))
    read = [
        N_("{folder} ({split})", folder=examples[role].name, split=role)
        for role in ("train", "validation", "test")
        if role in examples
    ]
    return N_("the splits are read from the names of the files, such as {files}", files=read)


def labelled(name: str, root: Path, items: Items, notes: Iterable[Message]) -> Source:
    """A source of items in any order; splits are dropped if all are the same one, so that pati makes the others."""
    splits = set(items.splits.counts())
    presplit = len(splits) > 1
    if splits - {None} and not presplit:
        items = Items(items.paths, items.labels, Codes.all(None, len(items)), items.groups)
    return Source(name, root, items.in_order(), presplit=presplit, notes=tuple(notes))


def ignored(unlabelled: Counter[str]) -> list[Message]:
    """Notes on the number of photos without a label in each shard."""
    notes = [
        NP_(
            "{n} photo in {folder} has no label and is ignored",
            "{n} photos in {folder} have no labels and are ignored",
            n=count,
            folder=shard,
        )
        for shard, count in list(unlabelled.items())[:_TOLD]
    ]
    if len(unlabelled) > _TOLD:
        notes.append(
            NP_(
                "{n} photo has no label and is ignored",
                "{n} photos have no label and are ignored",
                n=unlabelled.total(),
            )
        )
    return notes


def require_different(file: object, names: Sequence[str]) -> None:
    """Raise `PatiError` if a list gives two classes the same name, or one none: they would be taken for one class."""
    twice = next((name for name, count in Counter(names).items() if count > 1 or not name), None)
    if twice is not None:
        raise PatiError(
            N_("{file} names several classes {name!r}", file=file, name=twice), N_("give each class a name of its own")
        )
