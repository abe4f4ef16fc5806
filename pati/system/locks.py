"""Locks between processes: on a file, held until the process ends, however it ends.

Unlike the numbers of processes, locks are seen from any container that shares the files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pati.errors import PatiError
from pati.locale.messages import N_, Message
from pati.system import trees

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

MARK = ".used"  # a file of a folder in a cache, locked by those who use the folder
_PATIENCE = 0.0 if fcntl else 0.5  # seconds: on Windows, `is_locked` holds the lock for a moment
_LACKING = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # errors of file systems without locks


@contextlib.contextmanager
def locked(path: Path, held: Message, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock on a file, which is created if needed; with `wait`, block until it is free.

    Raises `PatiError(held)` if another process holds it, and `PatiError` if the file system does not support locks, as
    two processes could then work on the same files unnoticed.
    """
    lock = FileLock(path, timeout=-1 if wait else _PATIENCE, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise PatiError(held, N_("wait until it ends, or stop it")) from None
    except (OSError, NotImplementedError) as error:  # filelock raises the latter if flock is missing
        if isinstance(error, OSError) and error.errno not in _LACKING:
            raise  # a full disk, a folder without permission
        raise _no_locks(path, error) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of `locked`. Writes nothing, and does not disturb other processes that ask."""
    if fcntl is None:
        try:
            if not path.exists():
                return False
            with locked(path, N_("the file is locked")):
                return False
        except PatiError:
            return True
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        raise _no_locks(path, error) from error
    finally:
        os.close(handle)
    return False


def discard(path: Path) -> None:
    """Remove the file of a lock, which may be held; on Windows, it stays for as long as it is."""
    with contextlib.suppress(OSError):
        path.unlink()


class Use:
    """The use of a folder by this process, which ends with `close`, with this object, or with the process."""

    def __init__(self, handle: int) -> None:
        self._handle: int | None = handle

    def close(self) -> None:
        """End it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    __del__ = close


def use(folder: Path) -> Use | None:
    """Use a folder with a file `MARK` in it, so that `remove_unused` keeps it; any number of processes may.

    Returns None if there is no such folder, or not any more. On file systems without locks, every folder is kept.
    """
    try:
        handle = os.open(folder / MARK, os.O_RDONLY)
    except FileNotFoundError:
        return None
    used = Use(handle)
    if fcntl is not None:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
        except OSError as error:
            if error.errno not in _LACKING:
                raise
        if os.fstat(handle).st_nlink == 0:  # removed while this waited
            return None
    return used


def remove_unused(folder: Path) -> None:
    """Remove a folder with a file `MARK`, unless a process uses it. Never raises."""
    with contextlib.suppress(OSError):
        if fcntl is None:
            (folder / MARK).unlink()  # Windows refuses this while a process has it open
            trees.remove(folder)
            return
        with (folder / MARK).open("rb") as mark:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            trees.remove(folder)


def _no_locks(path: Path, error: Exception) -> PatiError:
    return PatiError(
        N_(
            "can't lock {folder} ({error}): another process could write to it at the same time",
            folder=path.parent,
            error=error,
        ),
        N_("use a folder on a local disk"),
    )
