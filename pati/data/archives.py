"""Archives unpacked by our own walk over their members.

Only regular files are written, only below the target folder, and only within stated limits
on count, size and ratio. Knows nothing of photos.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from pati.errors import PatiError
from pati.files import cache_folder, sha256_file, sync_folder

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")


@dataclass(frozen=True)
class ArchiveLimits:
    """What is refused: numbers of files, unpacked bytes, and unpacked bytes an archive byte."""

    files: int = 2_000_000
    bytes: int = 200_000_000_000
    ratio: int = 200


def is_archive(path: Path) -> bool:
    """Whether the name is that of an archive pati unpacks."""
    return path.name.lower().endswith(SUFFIXES)


def unpacked(archive: Path, limits: ArchiveLimits = ArchiveLimits()) -> Path:
    """Folder with the archive's files; unpacked once into the cache, keyed by the archive's content."""
    target = cache_folder() / "archives" / f"{archive.name.split('.')[0][:40]}-{sha256_file(archive)[:16]}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent))
        try:
            unpack(archive, temporary, limits)
            if hasattr(os, "sync"):
                os.sync()  # thousands of files: one flush of all is cheaper than one each
            try:
                temporary.rename(target)
            except OSError:
                if not target.is_dir():  # another process was faster: its copy is as good
                    raise
            sync_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def unpack(archive: Path, folder: Path, limits: ArchiveLimits = ArchiveLimits()) -> None:
    """Write the archive's regular files below `folder`; raises `PatiError` on a limit or a broken archive."""
    room = min(limits.bytes, max(archive.stat().st_size, 1_000_000) * limits.ratio)
    taken: set[str] = set()
    made: set[Path] = set()
    try:
        for name, open_member in _members(archive):
            relative = safe_name(name)
            # Names that differ only in case are one file on many systems: the first one stays.
            if relative is None or str(relative).casefold() in taken:
                continue
            taken.add(str(relative).casefold())
            if len(taken) > limits.files:
                raise PatiError(f"{archive} holds more than {limits.files:,} files")
            target = folder / relative
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            with open_member() as source, target.open("xb") as file:
                while block := source.read(1 << 20):
                    room -= len(block)
                    if room < 0:
                        raise PatiError(
                            f"{archive} unpacks to over {limits.ratio} times its size or {limits.bytes:,} bytes",
                            "if you trust it, unpack it yourself and give the folder",
                        )
                    file.write(block)
    except NotImplementedError as error:
        raise PatiError(f"{archive} is packed in a way that is not supported: {error}", "unpack it yourself") from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
            RuntimeError) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise PatiError(f"can't unpack {archive}: {error.strerror}") from error
        raise PatiError(f"{archive} is a broken archive: {error}", "download or copy it again") from error


def _members(archive: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                kind = (entry.external_attr >> 16) & 0o170000
                if not entry.is_dir() and kind in (0, 0o100000):
                    yield entry.filename, partial(zipped.open, entry)
    else:
        with tarfile.open(archive) as tarred:
            for member in tarred:
                if member.isreg():
                    yield member.name, partial(_content, tarred, member)


def _content(tarred: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tarred.extractfile(member)
    if file is None:
        raise tarfile.TarError("a member without content")
    return file


def safe_name(name: str) -> PurePosixPath | None:
    """A member's name as a path that stays below the target, or None for one that would leave it."""
    path = PurePosixPath(name.replace("\\", "/"))
    parts = [part for part in path.parts if part != "."]
    if path.is_absolute() or not parts or ".." in parts or "\0" in name or ":" in parts[0]:
        return None
    if any(len(os.fsencode(part)) > 255 for part in parts) or len(name) > 4000:
        return None
    return PurePosixPath(*parts)
