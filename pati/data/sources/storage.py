"""Where a source's files lie: a folder, or a zip that is read where it is. Both are asked in one way.

Names are relative to the place, with forward slashes. Nothing is ever written: whatever the
members of a zip are called or claim, no file outside changes.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pati.data import decode
from pati.data.sources.archives import LINK, TWICE, UNSAFE, ArchiveLimits, safe_name
from pati.errors import PatiError

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks the others in steps without a bound


@dataclass(frozen=True)
class Name:
    """What a folder holds under a name; a link to a folder is both `folder` and `link`."""

    name: str
    folder: bool
    link: bool = False


class Place(Protocol):
    """A folder of files; `root` names it for people and for `at`."""

    @property
    def root(self) -> Path:
        """Where it is; inside a zip, a path that goes through it: photos.zip/train."""

    def names(self) -> list[Name]:
        """What lies directly in it, by name."""

    def child(self, name: str) -> Place:
        """The folder `name` in it."""

    def holds(self, relative: str) -> bool:
        """Whether there is something under that name."""

    def open(self, relative: str) -> IO[bytes]:
        """A file to be read from the start to its end; raises `OSError`."""

    def read(self, relative: str) -> bytes:
        """A photo's bytes, within the limits of `decode`; raises `decode.Unreadable`."""


def at(root: Path) -> Place:
    """The place at `root`: a folder, a zip, or a folder inside a zip. Raises `PatiError` for a zip that is broken."""
    if root.is_dir():
        return Folder(root)
    for path in (root, *root.parents):
        if path.is_file():
            facts = path.stat()
            prefix = "".join(f"{part}/" for part in root.relative_to(path).parts)
            return Zip(path, _index(path, facts.st_mtime_ns, facts.st_size), prefix)
    return Folder(root)  # gone: reading it will say so


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def inside(root: Path, relative: str) -> Path:
    """The file's path; raises `decode.Unreadable` for a symbolic link that leads out of `root`."""
    path = root / relative
    try:
        if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
            raise decode.Unreadable("not-a-file", "a link out of the folder")
    except (OSError, RuntimeError) as error:  # a name that is too long, links that lead in a circle
        raise decode.Unreadable("unreadable", str(error)) from None
    return path


class Folder:
    """A folder of the file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[Name]:
        """See `Place`; raises `PatiError` if the folder can't be read."""
        try:
            with os.scandir(self.root) as found:
                listed = [Name(entry.name, _is_folder(entry), entry.is_symlink()) for entry in found]
        except OSError as error:
            raise PatiError(f"can't read the folder {self.root}: {error.strerror}", "look at its permissions") from None
        return sorted(listed, key=lambda entry: entry.name)

    def child(self, name: str) -> Folder:
        """See `Place`."""
        return Folder(self.root / name)

    def holds(self, relative: str) -> bool:
        """See `Place`."""
        return (self.root / relative).exists()

    def open(self, relative: str) -> IO[bytes]:
        """See `Place`."""
        return (self.root / relative).open("rb")

    def read(self, relative: str) -> bytes:
        """See `Place`. A symbolic link that leads out of the folder is refused."""
        return decode.read(inside(self.root, relative))


@dataclass(frozen=True)
class _Index:
    """A zip's regular files under safe names, folder by folder, and how many members were left out for which reason."""

    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]
    folders: dict[str, dict[str, bool]]
    left_out: dict[str, int]


class Zip:
    """A zip, or a folder in it (`prefix`, which ends with a slash)."""

    def __init__(self, path: Path, index: _Index, prefix: str = "") -> None:
        self._path, self._index, self._prefix = path, index, prefix

    @property
    def root(self) -> Path:
        """See `Place`."""
        return self._path / self._prefix

    @property
    def left_out(self) -> dict[str, int]:
        """How many members are not shown, for which reason."""
        return self._index.left_out

    def names(self) -> list[Name]:
        """See `Place`."""
        here = self._index.folders.get(self._prefix, {})
        return [Name(name, folder) for name, folder in sorted(here.items())]

    def child(self, name: str) -> Zip:
        """See `Place`."""
        return Zip(self._path, self._index, f"{self._prefix}{name}/")

    def holds(self, relative: str) -> bool:
        """See `Place`."""
        name = self._prefix + relative
        return name in self._index.members or f"{name}/" in self._index.folders

    def open(self, relative: str) -> IO[bytes]:
        """See `Place`."""
        member = self._index.members.get(self._prefix + relative)
        if member is None:
            raise FileNotFoundError(f"{self.root / relative} is not in the archive")
        try:  # whole, so that a damaged one shows here and not in the middle of the caller's reading
            with self._index.archive.open(member) as file:
                return io.BytesIO(file.read(member.file_size))
        except _BROKEN as error:
            raise OSError(f"damaged in the archive: {error}") from error

    def read(self, relative: str) -> bytes:
        """See `Place`."""
        name = self._prefix + relative
        if decode.is_system_file(name.rsplit("/", 1)[-1]):
            raise decode.Unreadable("system-file")
        member = self._index.members.get(name)
        if member is None:
            raise decode.Unreadable("not-a-file" if f"{name}/" in self._index.folders else "unreadable")
        limit = decode.limits_now().bytes
        if member.file_size > limit:  # zipfile reads no more than is claimed here
            raise decode.Unreadable("too-large", f"{member.file_size:,} bytes, the limit is {limit:,}")
        try:
            with self._index.archive.open(member) as file:
                return file.read(limit)  # not `archive.read`: that unpacks all before it compares with the claim
        except _BROKEN as error:
            raise decode.Unreadable("damaged", f"in the archive: {error}") from None


# What zipfile and its decompressors raise for a member that is not as it should be.
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)


@functools.lru_cache(maxsize=4)
def _index(path: Path, changed: int, size: int) -> _Index:
    """The zip's list of members, read once for each state of the file."""
    return read_index(path)


def read_index(path: Path, limits: ArchiveLimits = ArchiveLimits()) -> _Index:
    """Members that are regular files with safe names. Raises `PatiError` on a limit or a broken or encrypted zip."""
    try:
        archive = zipfile.ZipFile(path)
    except NotImplementedError as error:
        raise PatiError(f"{path} is packed in a way that is not supported: {error}", "unpack it yourself") from error
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise PatiError(f"can't read {path}: {error.strerror}") from error
        raise PatiError(f"{path} is a broken archive: {error}", "download or copy it again") from error
    members: dict[str, zipfile.ZipInfo] = {}
    folders: dict[str, dict[str, bool]] = {"": {}}
    left_out: Counter[str] = Counter()
    taken: set[str] = set()
    claimed = 0
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if member.filename.endswith("/"):
            continue
        safe = safe_name(member.filename)
        if safe is None or kind not in (0, stat.S_IFREG):
            left_out[LINK if safe else UNSAFE] += 1
            continue
        name = str(safe)
        # Names that differ only in case are one file on many systems: the first one stays.
        if name.casefold() in taken:
            left_out[TWICE] += 1
            continue
        if member.flag_bits & 1:
            raise PatiError(f"{path} is encrypted", "unpack it yourself and give the folder")
        if member.compress_type not in _METHODS:
            raise PatiError(
                f"{path} is packed in a way that is not supported", "unpack it yourself and give the folder"
            )
        taken.add(name.casefold())
        members[name] = member
        claimed += member.file_size
        _place_in(folders, name)
    limits.check(path, len(members), claimed)
    return _Index(archive, members, folders, dict(left_out))


def _place_in(folders: dict[str, dict[str, bool]], name: str) -> None:
    """Enter a file, and the folders that lead to it."""
    above, _, last = name.rpartition("/")
    folder, is_folder = f"{above}/" if above else "", False
    while folder not in folders:
        folders[folder] = {last: is_folder}
        above, _, last = above.rpartition("/")
        folder, is_folder = f"{above}/" if above else "", True
    folders[folder].setdefault(last, is_folder)
