"""Locks between processes: on a file, held until the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pati.errors import PatiError
from pati.locale.messages import N_, Message

if os.name != "nt":
    import fcntl

_LACKING = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # errors of file systems without locks


@contextlib.contextmanager
def locked(path: Path, held: Message, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock on a file, which is created if needed; with `wait`, block until it is free.

    Raises `PatiError(held)` if another process holds it, and `PatiError` if the file system does not support locks, as
    two processes could then work on the same files unnoticed.
    """
    lock = FileLock(path, timeout=-1 if wait else 0, thread_local=False, fallback_to_soft=False)
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
    if os.name == "nt":
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


def _no_locks(path: Path, error: Exception) -> PatiError:
    return PatiError(
        N_(
            "can't lock {folder} ({error}): another process could write to it at the same time",
            folder=path.parent,
            error=error,
        ),
        N_("use a folder on a local disk"),
    )
