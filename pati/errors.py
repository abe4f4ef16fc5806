"""The one error type a user is meant to see.

Knows nothing of terminals: the command line turns it into `error:` and `hint:` lines,
Python users get an ordinary exception.
"""

from __future__ import annotations

import errno


class PatiError(Exception):
    """A mistake that the user can mend.

    `message` says what was expected and what came; `hint` says what to do next.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


def of_system(error: OSError, hint: str = "") -> PatiError:
    """What the operating system refused, such as a full disk or a folder without permission, as the user's to fix."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return PatiError(f"no room left on the disk: {error.filename or error}", hint)
    told = (error.filename, error.strerror or error)
    return PatiError(": ".join(str(part) for part in told if part), hint)


class Interrupted(PatiError):
    """The user stopped the run; everything needed to go on is on disk."""


class Diverged(PatiError):
    """The loss is no longer a number: these values of the recipe can't be trained with."""
