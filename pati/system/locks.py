"""Locks between processes: held on a file until the process ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from pati.errors import PatiError

if os.name != "nt":
    import fcntl

_LACKING = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # what file systems without locks answer


@contextlib.contextmanager
def locked(path: Path, told: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock on a file, which is made if there is none; with `wait`, after whoever holds it.

    Raises `PatiError(told)` if another process holds it, and `PatiError` where the file system has no locks: two
    processes could work on the same files unseen.
    """
    lock = FileLock(path, timeout=-1 if wait else 0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise PatiError(told, "wait for it, or stop it") from None
    except (OSError, NotImplementedError) as error:  # the latter is filelock's word for a missing flock
        if isinstance(error, OSError) and error.errno not in _LACKING:
            raise  # a full disk, a folder without permission
        raise _no_locks(path, error) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of `locked`. Writes nothing, and disturbs nobody else who asks."""
    if os.name == "nt":
        try:
            if not path.exists():
                return False
            with locked(path, ""):
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
        f"{path.parent} can't be locked ({error}): another process could work on it at the same time unseen",
        "use a folder on a local disk",
    )
