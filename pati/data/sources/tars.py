"""Tars that are read in place: one, or all `.tar` files of a folder (shards). Never unpacked, never written.

The index holds the place of each member in a few dozen bytes. Knows nothing of classes.
"""

from __future__ import annotations

import copy
import functools
import io
import os
import re
import tarfile
import threading
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from pati.data import decode
from pati.data.columns import Texts, TextsWriter
from pati.data.formats import is_photo_name
from pati.data.sources.archives import LINK, TWICE, UNSAFE, ArchiveLimits, Quota, TarStream, safe_name, unreadable
from pati.data.sources.interface import START, Name, add_file, nowhere, require_place
from pati.data.sources.lookup import Lookup, hash_of
from pati.data.sources.shards import Opened, Shard, Shards
from pati.data.sources.tables import is_table
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, NP_, Message

_HEADER = 512  # bytes of a header, and the unit of contents
_AT_ONCE = 4096  # bytes that are read
_PLAIN = 1 << 16  # bytes; extended headers up to here are read directly, longer ones by tarfile
# What an extended header must not hold for its member to be read without tarfile.
_UNUSUAL = (b"GNU.sparse", b"size=", b"hdrcharset=", b"linkpath=")
_GLOBAL = ("path", "size", "linkpath", "hdrcharset", "GNU.sparse")  # the global ones that change how members are read
# Names that `safe_name` returns as they are.
_SHORT = 60  # characters, of up to four bytes
_SAFE = re.compile(r"[^/\\.:\0][^/\\:\0]*(?:/[^/\\.:\0][^/\\:\0]*)*").fullmatch

_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Index:
    """The regular files with safe names in some tars, by column, in order of their place.

    `paths`: below the root, which begin with the shard (`prefixed`) if photos of several shards have the same name.
    `left_out`: the number of other members by reason.
    """

    shards: Shards
    shard: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    paths: Lookup
    prefixed: bool
    left_out: dict[str, int]
    notes: tuple[Message, ...]

    def __len__(self) -> int:
        return len(self.shard)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.shard.nbytes + self.offset.nbytes + self.size.nbytes + self.paths.nbytes

    def shard_of(self, number: int) -> Shard:
        """The shard of a member."""
        return self.shards.all[int(self.shard[number])]

    def name(self, number: int) -> str:
        """A member's name in its shard."""
        path = self.paths.name(number)
        return path[len(self.shard_of(number).stem) + 1 :] if self.prefixed else path

    def address(self, number: int) -> str:
        """Where a member's content is."""
        return self.shard_of(number).address(f"{self.offset[number]:015}:{self.size[number]}")


class _Columns:
    """The members of one tar while they are listed."""

    def __init__(self) -> None:
        self.offset, self.size = array("q"), array("q")
        self.names, self.folded = TextsWriter(), array("Q")
        self.left_out: Counter[str] = Counter()

    def add(self, name: str, offset: int, size: int) -> None:
        """Add a regular file; one whose name is not safe is left out and counted."""
        if len(name) > _SHORT or not _SAFE(name):
            safe = safe_name(name)
            if safe is None:
                self.left_out[UNSAFE] += 1
                return
            name = str(safe)
        self.offset.append(offset)
        self.size.append(size)
        self.names.add(name)
        # On many systems, names that differ only in case are the same file.
        self.folded.append(hash_of(name.casefold()))


def read_index(shards: Shards, limits: ArchiveLimits = ArchiveLimits()) -> Index:
    """Index tars. Raises `PatiError` if one is damaged or beyond `limits`."""
    offsets, sizes, folded, numbers, names = [], [], [], [], list[Texts]()
    left_out: Counter[str] = Counter()
    cut: list[str] = []
    for number, shard in enumerate(shards.all):
        columns = _Columns()
        if not _list_members(shard.path, columns, limits):
            cut.append(shard.name)
        limits.check(shard.path, len(columns.offset), sum(columns.size))
        hashes, column = np.array(columns.folded, np.uint64), columns.names.column()
        keep = _first(hashes)
        columns.left_out[TWICE] += len(column) - len(keep)
        left_out += columns.left_out
        offsets.append(np.array(columns.offset, np.int64)[keep])
        sizes.append(np.array(columns.size, np.int64)[keep])
        names.append(column if len(keep) == len(column) else column.take(keep))
        folded.append(hashes[keep])
        numbers.append(np.full(len(keep), number, np.int32))
    if not shards.all:
        raise PatiError(N_("{root}: there are no such files", root=shards.root), N_("check where the data is"))
    index = Index(
        shards, np.concatenate(numbers), np.concatenate(offsets), np.concatenate(sizes), Lookup.of(Texts.joined(names)),
        prefixed=False, left_out=dict(left_out), notes=_cut_short(cut),
    )  # fmt: skip
    return _prefixed(index) if _ambiguous(index, np.concatenate(folded)) else index


def _first(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The numbers of the first ones of equal hashes, in order."""
    return np.sort(np.unique(hashes, return_index=True)[1]).astype(np.int64)


def _ambiguous(index: Index, folded: NDArray[np.uint64]) -> bool:
    """Whether photos or tables of several shards have the same name."""
    _, places, counts = np.unique(folded, return_inverse=True, return_counts=True)
    several = np.flatnonzero(counts[places] > 1)
    return any(is_photo_name(name) or is_table(name) for name in map(index.name, several.tolist()))


def _prefixed(index: Index) -> Index:
    """The index with paths that begin with the shard."""
    names = Texts.of(f"{index.shard_of(number).stem}/{name}" for number, name in enumerate(index.paths))
    return replace(index, paths=Lookup.of(names), prefixed=True)


def _cut_short(shards: Sequence[str]) -> tuple[Message, ...]:
    if not shards:
        return ()
    return (
        NP_(
            "{n} tar has no end mark and may be incomplete: {names}",
            "{n} tars have no end mark and may be incomplete: {names}",
            n=len(shards),
            names=list(shards[:5]),
        ),
    )


def _list_members(path: Path, columns: _Columns, limits: ArchiveLimits) -> bool:
    """Add the members of a tar to `columns`; returns whether the tar has its end mark. Raises `PatiError`."""
    try:
        with open(path, "rb", buffering=0) as file:
            return _Headers(path, cast(IO[bytes], file), columns, limits).read()
    except _DAMAGED as error:
        raise unreadable(path, error) from error


class _Headers:
    """Reads the headers of a tar: the usual ones directly, ten times as fast as tarfile, which reads all others."""

    def __init__(self, path: Path, file: IO[bytes], columns: _Columns, limits: ArchiveLimits) -> None:
        self._path, self._file, self._columns, self._limits = path, file, columns, limits
        self._end = os.fstat(file.fileno()).st_size
        self._globals: dict[str, str] = {}
        self._buffer, self._begin = b"", 0

    def read(self) -> bool:
        """See `_list_members`."""
        at = begin = members = 0  # `begin`: of a member with its extended header
        path = ""  # by its extended header
        while True:
            header = self._part(at, _HEADER)
            if not header.strip(b"\0"):
                if at == 0 and not header:
                    raise tarfile.ReadError("it is empty")
                if begin < at:
                    raise tarfile.ReadError("its last member is missing")
                return len(header) == _HEADER
            kind, size, start = header[156:157], self._plain_size(header), at + _HEADER
            if self._globals or size < 0 or kind not in (b"0", b"\0", b"5", b"x") or (kind == b"x" and begin < at):
                at = self._by_tarfile(begin)
            elif kind == b"x":
                extended = _path_in(self._part(start, size)) if size <= _PLAIN else None
                if extended is not None:
                    path, at = extended, start + _padded(size)
                    continue
                at = self._by_tarfile(begin)
            else:
                name = path or _named(header)
                at = start
                if kind == b"0" or (kind == b"\0" and not name.endswith("/")):
                    self._require_complete(start + size)
                    self._columns.add(name, start, size)
                    at += _padded(size)
            begin, path = at, ""
            members += 1
            if members > 2 * self._limits.files:
                self._limits.check(self._path, members, 0)

    def _part(self, at: int, count: int) -> bytes:
        """Some bytes of the file, fewer at its end; an extended header and what follows it are read at once."""
        start = at - self._begin
        if not 0 <= start <= len(self._buffer) - count:
            self._file.seek(at)
            self._buffer, self._begin, start = self._file.read(max(count, _AT_ONCE)), at, 0
        return self._buffer[start : start + count]

    def _plain_size(self, header: bytes) -> int:
        """The size in a usual header with a correct checksum; -1 for any other."""
        try:
            size, checksum = int(header[124:136].strip(b" \0") or b"0", 8), int(header[148:156].strip(b" \0"), 8)
        except ValueError:
            return -1
        right = len(header) == _HEADER and sum(header) - sum(header[148:156]) + 256 == checksum
        return size if right and not header[124] & 0x80 else -1

    def _require_complete(self, end: int) -> None:
        if end > self._end:
            raise tarfile.ReadError(f"its last member ends after {end:,} bytes, the file after {self._end:,}")

    def _by_tarfile(self, at: int) -> int:
        """Add the member at `at`; returns where the next one begins."""
        self._file.seek(at)
        bounded = cast(IO[bytes], TarStream(self._file, Quota(self._path, self._limits)))
        tarred = tarfile.TarFile(
            fileobj=bounded, mode="r", format=tarfile.PAX_FORMAT, pax_headers=self._globals, encoding="utf-8",
            errors="surrogateescape",
        )  # fmt: skip
        member = tarred.next()
        if member is None or tarred.offset <= at:
            raise tarfile.ReadError(f"the header at byte {at:,} is invalid")
        self._globals = {key: value for key, value in tarred.pax_headers.items() if key.startswith(_GLOBAL)}
        if member.isreg() and member.sparse is None:
            self._require_complete(member.offset_data + member.size)
            self._columns.add(member.name, member.offset_data, member.size)
        elif not member.isdir():
            self._columns.left_out[LINK] += 1
        return tarred.offset


def _named(header: bytes) -> str:
    """The name in a header."""
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    return _text(prefix + b"/" + name if prefix else name)


def _text(name: bytes) -> str:
    """The bytes of a name, which need not be valid UTF-8, as tarfile decodes them."""
    return name.decode("utf-8", "surrogateescape")


def _path_in(records: bytes) -> str | None:
    """The path in an extended header (POSIX.1-2001, pax); empty without one, None for headers of other contents."""
    if any(word in records for word in _UNUSUAL):
        return None
    at, path = 0, ""
    while at < len(records):
        length, space, _ = records[at : at + 20].partition(b" ")
        if not space or not length.isdigit() or int(length) < 5:
            return None if records[at:].strip(b"\0") else path
        key, equals, value = records[at + len(length) + 1 : at + int(length) - 1].partition(b"=")
        if not equals or at + int(length) > len(records):
            return None
        if key == b"path":
            path = _text(value)
        at += int(length)
    return path


def _padded(size: int) -> int:
    return -(-size // _HEADER) * _HEADER


class TarReader:
    """Reads members by address. Thread-safe."""

    def __init__(self, shards: Shards) -> None:
        self._files = Opened(shards.folder)
        self._lock = threading.Lock()

    def read_at(self, address: str) -> bytes:
        """See `interface.Reader`."""
        require_place(address)
        offset, size = map(int, self._files.place_in(address).split(":"))
        limit = decode.limits_now().bytes
        if size > limit:
            raise decode.Unreadable("too-large", decode.over_bytes(size, limit))
        return self.part(address, offset, size)

    def part(self, address: str, offset: int, size: int) -> bytes:
        """Some bytes of the shard of an address; raises `decode.Unreadable`."""
        with self._lock:
            file = self._files.at(address)
            try:
                file.seek(offset)
                data = file.read(size)
            except OSError as error:
                raise decode.Unreadable("unreadable", os_reason(error)) from None
        if len(data) < size:
            raise decode.Unreadable("damaged", N_("the archive ends before the photo does"))
        return data


class Tars:
    """Tars, or a folder in them (`prefix`, which ends with a slash)."""

    def __init__(self, index: Index, prefix: str = "", above: Tars | None = None) -> None:
        self.index, self._prefix = index, prefix
        self._top = above or self
        self._reader: TarReader = above._reader if above else TarReader(index.shards)

    @property
    def root(self) -> Path:
        """See `Storage`."""
        return self.index.shards.root / self._prefix

    @functools.cached_property
    def _folders(self) -> dict[str, dict[str, bool]]:
        folders: dict[str, dict[str, bool]] = {"": {}}  # not kept in the index: it takes much more memory
        for path in self.index.paths:
            add_file(folders, path)
        return folders

    def names(self) -> list[Name]:
        """See `Files`."""
        here = self._top._folders.get(self._prefix, {})
        return [Name(name, folder) for name, folder in sorted(here.items())]

    def child(self, name: str) -> Tars:
        """See `Files`."""
        return Tars(self.index, f"{self._prefix}{name}/", self._top)

    def holds(self, relative: str) -> bool:
        """See `Files`."""
        name = self._prefix + relative
        return self.index.paths.find(name) is not None or f"{name}/" in self._top._folders

    def open(self, relative: str) -> IO[bytes]:
        """See `Files`."""
        number = self.index.paths.find(self._prefix + relative)
        if number is None:
            raise FileNotFoundError(f"{self.root / relative} is not in the archive")
        return io.BytesIO(self.content(number))

    def start(self, relative: str) -> bytes:
        """See `Files`."""
        number = self.index.paths.find(self._prefix + relative)
        try:
            return b"" if number is None else self.content(number, START)
        except OSError:
            return b""

    def content(self, number: int, most: int | None = None) -> bytes:
        """The first `most` bytes of a member, by its number; None: all. Raises `OSError`."""
        size = int(self.index.size[number])
        try:
            return self._reader.part(
                self.index.address(number), int(self.index.offset[number]), size if most is None else min(most, size)
            )
        except decode.Unreadable as error:
            raise OSError(str(error)) from None

    def address(self, relative: str) -> str:
        """See `Storage`."""
        name = self._prefix + relative
        if decode.is_system_file(name):
            return nowhere("system-file")
        number = self.index.paths.find(name)
        return nowhere("unreadable") if number is None else self.index.address(number)

    def block(self, address: str) -> str:
        """See `Storage`."""
        return ""

    def read_at(self, address: str) -> bytes:
        """See `Storage`."""
        return self._reader.read_at(address)

    def read(self, relative: str) -> bytes:
        """See `Storage`."""
        return self.read_at(self.address(relative))


class Merged:
    """Tars whose paths begin with the shard, as if their folders were one: for what the folders mean.

    The name of each file begins with its shard here, after which follows a NUL; `path` undoes this.
    """

    def __init__(self, tars: Tars) -> None:
        self._tars, self._prefix = tars, ""
        self._folders: dict[str, dict[str, bool]] = {"": {}}
        for number in range(len(tars.index)):
            folder, slash, last = tars.index.name(number).rpartition("/")
            add_file(self._folders, f"{folder}{slash}{tars.index.shard[number]}\0{last}")

    def path(self, relative: str) -> str:
        """The path in the tars of a file here."""
        folder, slash, last = relative.rpartition("/")
        shard, _, last = last.partition("\0")
        return f"{self._tars.index.shards.all[int(shard)].stem}/{folder}{slash}{last}"

    @property
    def root(self) -> Path:
        """See `Files`."""
        return self._tars.root

    def names(self) -> list[Name]:
        """See `Files`."""
        return [Name(name, folder) for name, folder in sorted(self._folders.get(self._prefix, {}).items())]

    def child(self, name: str) -> Merged:
        """See `Files`."""
        inner = copy.copy(self)
        inner._prefix = f"{self._prefix}{name}/"
        return inner

    def start(self, relative: str) -> bytes:
        """See `Files`."""
        return self._tars.start(self.path(self._prefix + relative))
