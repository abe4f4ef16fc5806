"""Storage of a source's files: a folder, or an archive or Parquet files that are read in place; see `interface`.

Names are relative to the root, with forward slashes. Nothing is ever written: whatever the members of a zip are named
or claim to be, no file outside changes.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import stat
import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pati.data import decode
from pati.data.sources import allowed, parquet, shards, tars
from pati.data.sources.archives import LINK, TWICE, UNSAFE, ArchiveLimits, kind_of, safe_name, unreadable
from pati.data.sources.interface import START, Name, Reader, Storage, add_file
from pati.data.sources.shards import Shards
from pati.data.sources.tars import Index, TarReader, Tars
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_
from pati.system import names

NOT_ALLOWED = N_("outside the folders that may be read")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile decompresses the others in steps of unbounded size


def at(root: Path) -> Storage:
    """The storage at `root`: a folder, an archive, Parquet, or what lies inside of them; see `shards` for the names.

    Raises `PatiError` if it is damaged.
    """
    if root.is_dir():
        return Folder(root)
    found = shards.of_root(root)
    if found is None:
        return Folder(root)  # doesn't exist: reading it will raise
    files, inside = found
    prefix = f"{inside}/" if inside != "." else ""
    match _kind(files):
        case "parquet":
            return parquet.at(files, inside)
        case "tar":
            return Tars(_tar_index(files), prefix)
        case _:
            (file,) = files.all
            return Zip(file.path, _index(file.path, file.stamp), prefix)


def reader(root: Path) -> Reader:
    """The same for a process that gets the addresses from another one, and needs no index of them."""
    found = None if root.is_dir() else shards.of_root(root)
    kind = _kind(found[0]) if found else None
    if found and kind == "parquet":
        return parquet.reader(*found)
    return TarReader(found[0]) if found and kind == "tar" else at(root)


def _kind(files: Shards) -> str | None:
    """The kind of shards: parquet, tar or zip."""
    if not files.all or files.all[0].path != files.root:
        return "parquet" if files.root.name.endswith(shards.PARQUET) else "tar"
    if parquet.is_parquet(files.root):
        return "parquet"
    return "tar" if kind_of(files.root) == "tar" else "zip"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links
        return False


class _ByPath(ABC):
    """A storage in which the address of a photo is its path."""

    @abstractmethod
    def read(self, relative: str) -> bytes:
        """See `Storage`."""

    def address(self, relative: str) -> str:
        """See `Storage`."""
        return relative

    def block(self, address: str) -> str:
        """See `Storage`."""
        return ""

    def read_at(self, address: str) -> bytes:
        """See `Storage`."""
        return self.read(address)


class Folder(_ByPath):
    """A folder in the file system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[Name]:
        """See `Storage`; raises `PatiError` if the folder can't be read."""
        try:
            with os.scandir(names.openable(str(self.root))) as entries:
                listed = [Name(entry.name, _is_folder(entry), entry.is_symlink()) for entry in entries]
        except OSError as error:
            raise PatiError(
                N_("can't read the folder {root}: {reason}", root=self.root, reason=os_reason(error)),
                N_("check its permissions"),
            ) from None
        return sorted(listed, key=lambda entry: entry.name)

    def child(self, name: str) -> Folder:
        """See `Storage`."""
        return Folder(self.root / name)

    def holds(self, relative: str) -> bool:
        """See `Storage`."""
        path = self.root / relative
        return allowed.may_read(path) and os.path.exists(names.openable(str(path)))

    def open(self, relative: str) -> IO[bytes]:
        """See `Storage`."""
        return self._place(relative).open("rb")

    def start(self, relative: str) -> bytes:
        """See `Storage`."""
        try:
            path = self._place(relative)
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block
                return b""
            with path.open("rb") as file:
                return file.read(START)
        except (OSError, ValueError):
            return b""

    def read(self, relative: str) -> bytes:
        """See `Storage`. Links are followed: `read_tree` decides which of them are listed."""
        try:
            return decode.read(self._place(relative))
        except PermissionError:
            raise decode.Unreadable("unreadable", NOT_ALLOWED) from None

    def _place(self, relative: str) -> Path:
        """Where a file lies; raises `PermissionError` if that may not be read, see `allowed`."""
        path = self.root / relative
        if not allowed.may_read(path):
            raise PermissionError(errno.EACCES, str(NOT_ALLOWED), str(path))
        return Path(names.openable(str(path)))


@dataclass(frozen=True)
class _Index:
    """A zip's regular files with safe names, its folders, and the number of members left out for each reason.

    `encoding`: that of the names which are not marked as UTF-8, if there are any beyond ASCII.
    """

    archive: zipfile.ZipFile
    members: dict[str, zipfile.ZipInfo]
    folders: dict[str, dict[str, bool]]
    left_out: dict[str, int]
    encoding: str | None


class Zip(_ByPath):
    """A zip, or a folder in it (`prefix`, which ends with a slash)."""

    def __init__(self, path: Path, index: _Index, prefix: str = "") -> None:
        self._path, self._index, self._prefix = path, index, prefix

    @property
    def root(self) -> Path:
        """See `Storage`."""
        return self._path / self._prefix

    @property
    def left_out(self) -> dict[str, int]:
        """Number of members left out, by reason."""
        return self._index.left_out

    @property
    def encoding(self) -> str | None:
        """The encoding of the members' names that are not marked as UTF-8; None if there are none beyond ASCII."""
        return self._index.encoding

    def names(self) -> list[Name]:
        """See `Storage`."""
        here = self._index.folders.get(self._prefix, {})
        return [Name(name, folder) for name, folder in sorted(here.items())]

    def child(self, name: str) -> Zip:
        """See `Storage`."""
        return Zip(self._path, self._index, f"{self._prefix}{name}/")

    def holds(self, relative: str) -> bool:
        """See `Storage`."""
        name = self._prefix + relative
        return name in self._index.members or f"{name}/" in self._index.folders

    def open(self, relative: str) -> IO[bytes]:
        """See `Storage`."""
        member = self._index.members.get(self._prefix + relative)
        if member is None:
            raise FileNotFoundError(f"{self.root / relative} is not in the archive")
        try:  # read in full, so that damage raises here and not while the caller reads
            with self._index.archive.open(member) as file:
                return io.BytesIO(file.read(member.file_size))
        except _BROKEN as error:
            raise OSError(f"damaged in the archive: {error}") from error

    def start(self, relative: str) -> bytes:
        """See `Storage`."""
        member = self._index.members.get(self._prefix + relative)
        try:
            if member is None:
                return b""
            with self._index.archive.open(member) as file:
                return file.read(START)
        except _BROKEN:
            return b""

    def read(self, relative: str) -> bytes:
        """See `Storage`."""
        name = self._prefix + relative
        if decode.is_system_file(name.rsplit("/", 1)[-1]):
            raise decode.Unreadable("system-file")
        member = self._index.members.get(name)
        if member is None:
            raise decode.Unreadable("not-a-file" if f"{name}/" in self._index.folders else "unreadable")
        limit = decode.limits_now().bytes
        if member.file_size > limit:  # zipfile never reads more than this claimed size
            raise decode.Unreadable("too-large", decode.over_bytes(member.file_size, limit))
        try:
            with self._index.archive.open(member) as file:
                return file.read(limit)  # not `archive.read`: it decompresses everything before checking the size
        except _BROKEN as error:
            raise decode.Unreadable("damaged", N_("inside the archive: {error}", error=error)) from None


# What zipfile and its decompressors raise for a corrupt member.
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)


@functools.lru_cache(maxsize=4)
def _index(path: Path, stamp: str) -> _Index:
    """The zip's index, read once per path, modification time and size."""
    return read_index(path)


@functools.lru_cache(maxsize=4)
def _tar_index(files: Shards) -> Index:
    """The tars' index, likewise."""
    return tars.read_index(files)


def read_index(path: Path, limits: ArchiveLimits = ArchiveLimits()) -> _Index:
    """Index a zip's regular files with safe names. Raises `PatiError` if it is broken, encrypted or beyond `limits`."""
    try:
        archive = zipfile.ZipFile(path)
    except NotImplementedError as error:
        raise PatiError(
            N_("{path} uses an unsupported compression method: {error}", path=path, error=error),
            N_("unpack it yourself"),
        ) from error
    except _BROKEN as error:
        raise unreadable(path, error) from error
    members: dict[str, zipfile.ZipInfo] = {}
    folders: dict[str, dict[str, bool]] = {"": {}}
    left_out: Counter[str] = Counter()
    taken: set[str] = set()
    claimed = 0
    encoding = _encoding(archive.infolist())
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        named = _named(member, encoding)
        if named.endswith(("/", "\\")):
            continue
        safe = safe_name(named)
        if safe is None or kind not in (0, stat.S_IFREG):
            left_out[LINK if safe else UNSAFE] += 1
            continue
        name = str(safe)
        # On many systems, names that differ only in case are the same file: keep the first one.
        if name.casefold() in taken:
            left_out[TWICE] += 1
            continue
        if member.flag_bits & 1:
            raise PatiError(N_("{path} is encrypted", path=path), N_("unpack it yourself and give the folder"))
        if member.compress_type not in _METHODS:
            raise PatiError(
                N_("{path} uses an unsupported compression method", path=path),
                N_("unpack it yourself and give the folder"),
            )
        taken.add(name.casefold())
        members[name] = member
        claimed += member.file_size
        add_file(folders, name)
    limits.check(path, len(members), claimed)
    return _Index(archive, members, folders, dict(left_out), encoding)


# The letters of Turkish in the code page of Turkish Windows consoles, which Explorer's zips use.
_TURKISH = "ÇçĞğİıÖöŞşÜüâîû".encode("cp857")


def _raw(member: zipfile.ZipInfo) -> bytes:
    """The bytes of a name that is not marked as UTF-8, as zipfile decodes it, if they are beyond ASCII; else none."""
    if member.flag_bits & 0x800 or member.orig_filename.isascii():
        return b""
    return member.orig_filename.encode("cp437")


def _encoding(members: list[zipfile.ZipInfo]) -> str | None:
    """The encoding in which the names that are not marked as UTF-8 are text."""
    names = b"".join(map(_raw, members))
    if not names:
        return None
    try:
        names.decode()
        return "utf-8"
    except UnicodeDecodeError:
        pass
    if all(byte < 128 or byte in _TURKISH for byte in names):
        return "cp857"
    codecs = ("cp437", "cp850", "cp857")
    return next((codec for codec in codecs if _is_text(names.decode(codec, "replace"))), "cp437")


def _is_text(text: str) -> bool:
    return all(letter.isascii() or (letter.isalpha() and letter not in "ƒªº") for letter in text)


def _named(member: zipfile.ZipInfo, encoding: str | None) -> str:
    """A member's name: by its Unicode extra field (0x7075), else by its mark, else in `encoding`."""
    extra, at = member.extra, 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 0x7075 and size > 5:
            with contextlib.suppress(UnicodeDecodeError):
                return extra[at + 9 : at + 4 + size].decode()
        at += 4 + size
    raw = _raw(member)
    return raw.decode(encoding, "replace") if raw and encoding else member.filename
