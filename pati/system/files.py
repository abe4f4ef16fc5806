"""Atomic writing of files, and the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

from pati.system import locks, trees

T = TypeVar("T")

CACHE_TAG = "CACHEDIR.TAG"
_LARGE = 1_000_000  # characters of JSON that nobody reads; indentation would make them several times as many
UNFINISHED = ".pati-part"  # the end of the names of files that are being written
_IN_USE = {5, 32}  # errors of Windows: access denied, sharing violation
_PATIENCE = 2.0  # seconds in which others, such as a virus scanner, close a file


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that appears at `path` only if the block ends without an error.

    A temporary file next to the target is flushed to disk and renamed, then the folder is flushed: after a power
    failure there is either the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of our own, which no file of a user has, and which is short enough wherever the target's name is.
    handle, name = tempfile.mkstemp(prefix=f".{shortened(path.name, 60)}.", suffix=UNFINISHED, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp creates private files; give the result ordinary permissions.
        with contextlib.suppress(OSError):  # of a disk without permissions, such as that of a camera
            temporary.chmod(0o666 & ~_umask())
        move(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def move(new: Path, path: Path) -> None:
    """Rename `new` to `path`, in place of a file that is there."""
    patiently(lambda: new.replace(path))


def patiently(work: Callable[[], T]) -> T:
    """Do it again for a while if a file is in use: on Windows, one that is open can't be renamed or removed."""
    ends = time.monotonic() + _PATIENCE
    while True:
        try:
            return work()
        except PermissionError as error:
            if getattr(error, "winerror", None) not in _IN_USE or time.monotonic() > ends:
                raise
            time.sleep(0.02)


def is_unfinished(path: Path) -> bool:
    """Whether the file was left by a process killed while writing with `atomic`."""
    return path.name.startswith(".") and path.name.endswith(UNFINISHED)


def shortened(name: str, limit: int = 120) -> str:
    """A name for a file of at most `limit` bytes; a longer one is cut, and ends with its hash to stay unique."""
    encoded = os.fsencode(name)
    if len(encoded) <= limit:
        return name
    mark = "-" + hashlib.sha256(encoded).hexdigest()[:8]
    return encoded[: limit - len(mark)].decode("utf-8", "ignore") + mark


@contextlib.contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A temporary folder next to `target`, removed at the end, together with those left by killed processes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_relative_to(cache_folder()):
        mark_cache(cache_folder())
    for leftover in target.parent.glob(".*"):
        locks.remove_unused(leftover)
    while True:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        (temporary / locks.MARK).touch()
        used = locks.use(temporary)
        if used is not None:  # or else another process has just taken it for a leftover
            break
    try:
        yield temporary
    finally:
        used.close()
        trees.remove(temporary)


def publish_folder(new: Path, target: Path) -> None:
    """Rename the complete folder `new` to `target`; if another process was first, its folder is kept."""
    try:
        patiently(lambda: new.rename(target))
    except OSError:
        if not target.is_dir():
            raise
    sync_folder(target.parent)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk; no-op where folders can't be opened, as on Windows."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic(path) as file:
        file.write(data)


def replace_text(path: Path, text: str) -> None:
    """Write a short `text` to `path`, atomically except for a power failure.

    For frequent writes, as every second: `write_text` flushes the disk each time.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    temporary.write_text(text, encoding="utf-8")
    move(temporary, path)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Write `value` to `path` as ASCII JSON (file names need not be valid UTF-8), atomically; indented unless large."""
    compact = json.dumps(value, allow_nan=False)
    write_text(path, (compact if len(compact) > _LARGE else json.dumps(value, indent=2, allow_nan=False)) + "\n")


def finite(document: object) -> object:
    """A JSON document with null for each number that JSON does not have: NaN and the infinities."""
    if isinstance(document, float):
        return document if math.isfinite(document) else None
    if isinstance(document, dict):
        return {name: finite(value) for name, value in document.items()}
    return [finite(value) for value in document] if isinstance(document, list | tuple) else document


def read_json(path: Path) -> Any:
    """Read a JSON file; raises `OSError` or `ValueError`."""
    return json.loads(patiently(lambda: path.read_text(encoding="utf-8")))


def contents(path: Path, most: int) -> bytes | None:
    """The bytes of a regular file; None for anything else, such as a pipe, and for more than `most` bytes."""
    facts = path.stat()
    return path.read_bytes() if stat.S_ISREG(facts.st_mode) and facts.st_size <= most else None


def sha256_file(path: Path) -> str:
    """Hex SHA-256 digest of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Folder for files that can be recreated: `$PATI_CACHE`, else in the user's cache folder."""
    chosen = os.environ.get("PATI_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home() / ".cache") / "pati"


def home() -> Path:
    """The user's folder; where there is none, as in some containers, a folder of this user for temporary files."""
    named = os.path.expanduser("~")
    if named != "~":
        return Path(named)
    folder = _temporary_home()
    # For other libraries, and the processes of this one; Windows asks for the second.
    os.environ.update(HOME=str(folder), USERPROFILE=str(folder))
    return folder


def spare_home() -> None:
    """Give matplotlib a folder if it can't write to the user's: it would warn of this at every start."""
    if not os.access(home(), os.W_OK):
        os.environ.setdefault("MPLCONFIGDIR", str(_temporary_home() / "matplotlib"))


def _temporary_home() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else 0  # on Windows, each user has a folder for temporary files
    folder = Path(tempfile.gettempdir()) / f"pati-{user}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if hasattr(os, "getuid") and folder.lstat().st_uid != user:  # somebody else's, who could change what lies there
        folder = Path(tempfile.mkdtemp(prefix="pati-"))
    return folder


def mark_cache(folder: Path) -> None:
    """Mark a folder as a cache, for backup programs and for `read_tree` (https://bford.info/cachedir)."""
    with contextlib.suppress(OSError):
        if not (folder / CACHE_TAG).exists():
            (folder / CACHE_TAG).write_text("Signature: 8a477f597d28d172789f06886806bc55\n# The cache of pati.\n")


def is_text(name: str) -> bool:
    """Whether a file name is valid text: on some systems it may be arbitrary bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
