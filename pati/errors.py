"""The one error type a user is meant to see.

Knows nothing of terminals: the command line turns it into `error:` and `hint:` lines,
Python users get an ordinary exception.
"""

from __future__ import annotations


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


class Interrupted(PatiError):
    """The user stopped the run; everything needed to go on is on disk."""


class Diverged(PatiError):
    """The loss is no longer a number: these values of the recipe can't be trained with."""
