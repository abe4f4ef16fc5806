"""Unpack tar archives safely, and limits on the contents of archives.

Only regular files are written, only below the target folder, and only within fixed limits on number, size and
compression ratio. Members left out are counted by reason. A zip is not unpacked but read in place (`storage`). Knows
nothing of photos.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pati.errors import PatiError, os_reason
from pati.locale.messages import N_
from pati.system import names
from pati.system.files import cache_folder, publish_folder, read_json, scratch_folder, sha256_file, write_json

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
COMPRESSED_TARS = SUFFIXES[2:]
_USTAR = b"ustar"  # in the first header of a tar, of all formats since 1988
_LARGEST_HEADER = 1 << 24  # bytes; tarfile reads a header in full
_BLOCK = 1 << 20
_DEEPEST = 200  # folders: photos that lie so deep are not read, and deeper trees are hard to remove

# Why a member is left out.
LINK, UNSAFE, TWICE = "link", "unsafe", "twice"
LEFT_OUT = {
    LINK: N_("links, devices or other members that are not regular files"),
    UNSAFE: N_("names that point outside the folder, or are too long or too deep"),
    TWICE: N_("names that occur twice, perhaps in another case"),
}


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits on the number of files, unpacked bytes, and the ratio of unpacked to archive bytes."""

    files: int = 2_000_000
    bytes: int = 200_000_000_000
    ratio: int = 200

    def quota(self, archive: Path) -> int:
        """Bytes that this archive may unpack to."""
        return min(self.bytes, max(archive.stat().st_size, 1_000_000) * self.ratio)

    def check(self, archive: Path, files: int, size: int) -> None:
        """Raises `PatiError` if the archive exceeds a limit."""
        if files > self.files:
            raise PatiError(N_("{archive} contains more than {files:,} files", archive=archive, files=self.files))
        if size > self.quota(archive):
            raise PatiError(
                N_(
                    "{archive} unpacks to over {ratio} times its size or {bytes:,} bytes",
                    archive=archive,
                    ratio=self.ratio,
                    bytes=self.bytes,
                ),
                N_("if you trust it, unpack it yourself and give the folder"),
            )


def kind_of(path: Path) -> str | None:
    """zip or tar by a file's content; None for anything else. Raises `PatiError` for archives that pati can't read."""
    if not path.is_file():  # reading a pipe would block
        return None
    with path.open("rb") as file:
        start = file.read(512)
    if start[257:262] == _USTAR:  # before zip, which is recognised by its end: that of a tar may be a zip in it
        return "tar"
    if zipfile.is_zipfile(path):
        return "zip"
    if start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")):
        return "tar"
    if re.search(r"\.(z\d\d|(zip|7z|rar)\.\d{3}|part\d+\.rar)$", path.name, re.IGNORECASE):
        raise PatiError(
            N_("{path} is one part of a split archive, which pati can't read", path=path),
            N_("unpack it yourself and give the folder"),
        )
    if start.startswith(b"PK\3\4"):
        raise PatiError(
            N_("the archive {path} is damaged: its end is missing", path=path), N_("download or copy it again")
        )
    for mark, name in ((b"Rar!", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7z")):
        if start.startswith(mark):
            raise PatiError(
                N_("{path} is a {format} archive, which pati can't read", path=path, format=name),
                N_("unpack it yourself and give the folder"),
            )
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise PatiError(
            N_("{path} is a web page, not an archive", path=path),
            N_("the download did not work: open the address in a browser and download the file again"),
        )
    return None


def is_plain_tar(path: Path) -> bool:
    """Whether a file is a tar without compression, by its content."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(512)[257:262] == _USTAR
    except OSError:
        return False


def is_archive(path: Path) -> bool:
    """Whether the name has the suffix of a supported archive."""
    return path.name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """A dataset's name without the suffix of an archive or table: my.photos for my.photos.tar.gz."""
    ends = sorted((*SUFFIXES, ".csv", ".tsv", ".parquet"), key=len, reverse=True)
    end = next((end for end in ends if name.lower().endswith(end)), "")
    return name[: len(name) - len(end)].strip(".") or "data"


def unpacked(archive: Path, limits: ArchiveLimits = ArchiveLimits()) -> tuple[Path, dict[str, int]]:
    """The folder with a tar's files, and the number of members left out for each reason.

    Unpacked once into the cache, keyed by the archive's content.
    """
    slot = cache_folder() / "unpacked" / f"{archive.name.split('.')[0][:40]}-{sha256_file(archive)[:16]}"
    if not slot.is_dir():
        with scratch_folder(slot) as temporary:
            new = temporary / "new"
            (new / "files").mkdir(parents=True)
            write_json(new / "left-out.json", unpack(archive, new / "files", limits))
            if hasattr(os, "sync"):
                os.sync()  # for thousands of files, one global flush is cheaper than one per file
            publish_folder(new, slot)
    return slot / "files", read_json(slot / "left-out.json")


def unpack(archive: Path, folder: Path, limits: ArchiveLimits = ArchiveLimits()) -> dict[str, int]:
    """Write a tar's regular files below `folder`; returns the number of members left out for each reason.

    Raises `PatiError` for a broken archive, or beyond `limits`.
    """
    left_out: Counter[str] = Counter()
    taken: set[str] = set()
    created: set[Path] = set()
    quota = Quota(archive, limits)
    try:
        for name, open_member in _tar_members(archive, Quota(archive, limits)):
            relative = safe_name(name)
            if open_member is None or relative is None:
                left_out[LINK if open_member is None else UNSAFE] += 1
                continue
            relative = PurePosixPath(*map(names.here, relative.parts))
            # On many systems, names that differ only in case or Unicode form are the same file: keep the first one.
            if names.same_file(str(relative)) in taken:
                left_out[TWICE] += 1
                continue
            taken.add(names.same_file(str(relative)))
            limits.check(archive, len(taken), 0)
            target = Path(names.openable(str(folder / relative)))
            if target.parent not in created:
                target.parent.mkdir(parents=True, exist_ok=True)
                created.add(target.parent)
            with open_member() as source, target.open("xb") as file:
                while block := source.read(_BLOCK):
                    quota.take(len(block))
                    file.write(block)
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # often that of writing
            raise PatiError(N_("can't unpack {archive}: {reason}", archive=archive, reason=os_reason(error))) from error
        raise unreadable(archive, error) from error
    return dict(left_out)


def unreadable(path: Path, error: Exception) -> PatiError:
    """That an archive can't be read, or is damaged."""
    if isinstance(error, OSError) and error.errno is not None:
        return PatiError(N_("can't read {path}: {reason}", path=path, reason=os_reason(error)))
    return PatiError(
        N_("the archive {path} is damaged: {error}", path=path, error=error), N_("download or copy it again")
    )


class Quota:
    """The number of bytes that an archive may still unpack to."""

    def __init__(self, archive: Path, limits: ArchiveLimits) -> None:
        self._archive, self._limits = archive, limits
        self._taken, self._room = 0, limits.quota(archive)

    def take(self, count: int) -> None:
        """Use `count` bytes; raises `PatiError` if they exceed the limit."""
        self._taken += count
        if self._taken > self._room:
            self._limits.check(self._archive, 0, self._taken)


def _tar_members(archive: Path, quota: Quota) -> Iterator[tuple[str, Callable[[], IO[bytes]] | None]]:
    """Name and opener of every member except folders; the opener is None for anything but a regular file.

    The tar may be compressed; `quota` limits its whole stream, including skipped members.
    """
    with _decompressed(archive) as stream:
        bounded = cast(IO[bytes], TarStream(stream, quota))  # implements only the methods that tarfile uses
        with tarfile.open(fileobj=bounded, mode="r:") as tarred:
            while (member := tarred.next()) is not None:
                tarred.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                if not member.isdir():
                    yield member.name, partial(_content, tarred, member) if member.isreg() else None


class TarStream:
    """A tar's decompressed bytes for `tarfile`: checked against the limit before decompression; headers are bounded."""

    def __init__(self, stream: IO[bytes], quota: Quota) -> None:
        self._stream = stream
        self._room = quota
        self._claimed = 0

    def read(self, count: int) -> bytes:
        """As of a file."""
        if not 0 <= count <= _LARGEST_HEADER:
            raise tarfile.ReadError(f"a header claims {count:,} bytes")
        self._claim(self._stream.tell() + count)
        return self._stream.read(count)

    def seek(self, position: int) -> int:
        """As of a file."""
        self._claim(position)
        return self._stream.seek(position)

    def tell(self) -> int:
        """As of a file."""
        return self._stream.tell()

    def _claim(self, position: int) -> None:
        if position > self._claimed:
            self._room.take(position - self._claimed)
            self._claimed = position


@contextlib.contextmanager
def _decompressed(archive: Path) -> Iterator[IO[bytes]]:
    with archive.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        openers: tuple[tuple[bytes, Callable[[IO[bytes]], object]], ...] = (
            (b"\x1f\x8b", gzip.open),
            (b"BZh", bz2.open),
            (b"\xfd7zXZ\0", lzma.open),
        )
        opener = next((opener for mark, opener in openers if start.startswith(mark)), None)
        if opener is None:
            yield file
        else:
            with cast(contextlib.AbstractContextManager[IO[bytes]], opener(file)) as stream:
                yield stream


def _content(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tarred.extractfile(member)
    if file is None:
        raise tarfile.TarError("a member without content")
    return file


def safe_name(name: str) -> PurePosixPath | None:
    """A member's name as a path below the target, or None if it would point outside."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or not parts or ".." in parts or "\0" in name or ":" in parts[0]:
        return None
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(name) > 4000 or len(parts) > _DEEPEST:
        return None
    return PurePosixPath(*parts)
