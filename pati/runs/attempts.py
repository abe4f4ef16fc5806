"""Optional steps at the end of a run, such as a figure: where one fails, the run is finished without it.

A step that takes too much memory may not fail but end the process; a run that is resumed again and again gives it up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pati import plugins
from pati.errors import PatiError
from pati.events import Listen, Warned
from pati.locale.messages import N_, Message, as_is
from pati.runs.run import Run

MOST_KILLS = 3  # a step during which so many processes ended is not tried again
T = TypeVar("T")


class Attempt(Protocol):
    """Makes a step: returns its result, or `instead` if it fails. `name`: in English, as for files."""

    def __call__(self, name: str, step: Callable[[], T], instead: T) -> T:
        """Make it."""


def required(name: str, step: Callable[[], T], instead: T) -> T:
    """The `Attempt` of a step without which its command fails."""
    return step()


@dataclass(frozen=True)
class _Step:
    name: str


class Attempts:
    """The `Attempt` of a run's steps: a failure is a warning that names the command that makes the step again.

    Errors that the user can fix, such as a full disk, are raised. `again`: that command is running now, so it tries
    all steps.
    """

    def __init__(self, run: Run, listen: Listen, *, again: bool = False) -> None:
        self._run, self._listen = run, listen
        begun, ended = (Counter(row["name"] for row in run.rows(kind)) for kind in ("step", "step-end"))
        self._killed = Counter[str]() if again else begun - ended

    def __call__(self, name: str, step: Callable[[], T], instead: T) -> T:
        """See `Attempt`."""
        if self._killed[name] >= MOST_KILLS:
            self._warn(name, N_("the process ended at this step before"))
            return instead
        self._run.append("step", _Step(name))
        try:
            return step()
        except (PatiError, OSError):
            raise
        except Exception as error:  # noqa: BLE001  (whatever a library raises, the training must not be lost)
            self._warn(name, as_is(f"{type(error).__name__}: {error}"))
            return instead
        finally:
            self._run.append("step-end", _Step(name))

    def _warn(self, name: str, why: Message) -> None:
        again = plugins.command("report", str(self._run.folder))
        text = N_("{step} is missing in this report: {why}; to make it again: {again}", step=name, why=why, again=again)
        self._run.note(text)
        self._listen(Warned(text))
