"""The one error type a user is meant to see.

Knows nothing of terminals: the command line turns it into `error:` and `hint:` lines,
Python users get an ordinary exception.
"""

from __future__ import annotations

import errno

from pati.locale.messages import N_, Message, as_is

# What systems say most often, in the words of POSIX, so that it can be translated.
_REASONS = {
    errno.ENOENT: N_("No such file or directory"),
    errno.EACCES: N_("Permission denied"),
    errno.EPERM: N_("Operation not permitted"),
    errno.EISDIR: N_("Is a directory"),
    errno.ENOTDIR: N_("Not a directory"),
    errno.EROFS: N_("Read-only file system"),
    errno.EIO: N_("Input/output error"),
    errno.ENAMETOOLONG: N_("File name too long"),
    errno.ELOOP: N_("Too many levels of symbolic links"),
    errno.EMFILE: N_("Too many open files"),
    errno.ENOSPC: N_("No space left on device"),
    errno.EADDRINUSE: N_("Address already in use"),
    errno.EADDRNOTAVAIL: N_("Cannot assign requested address"),
}


def os_reason(error: OSError) -> Message:
    """Why the operating system refused."""
    known = _REASONS.get(error.errno or 0)
    return as_is(error.strerror or str(error)) if known is None else known


class PatiError(Exception):
    """A mistake that the user can fix.

    `message` says what was expected and what was found; `hint` says what to do next. A `str`, as a plugin may give, is
    shown as it is in every language.
    """

    def __init__(self, message: Message | str, hint: Message | str | None = None) -> None:
        super().__init__(message, hint)
        self.message = as_is(message) if isinstance(message, str) else message
        self.hint = as_is(hint) if isinstance(hint, str) else hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else str(self.message)


def from_os_error(error: OSError, hint: Message | None = None) -> PatiError:
    """What the operating system refused, such as a full disk or a folder without permission, as the user's to fix."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return PatiError(N_("no space left on the disk: {file}", file=str(error.filename or error)), hint)
    if "usable temporary directory" in str(error):  # Python's words
        return PatiError(
            N_("no folder for temporary files can be written to"), N_("set TMPDIR to a folder that you can write to")
        )
    if error.filename:
        return PatiError(N_("{file}: {reason}", file=str(error.filename), reason=os_reason(error)), hint)
    return PatiError(os_reason(error), hint)


class Interrupted(PatiError):
    """The user stopped the run; everything needed to resume it is on disk."""


class Diverged(PatiError):
    """The loss is no longer a number: these values of the recipe can't be trained with."""
