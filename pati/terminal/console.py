"""Lines, errors and bars on stderr, and how values are written."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pati.errors import Interrupted, PatiError
from pati.system.files import printable
from pati.system.rounding import percent, rate


def console(*, stderr: bool = True) -> Console:
    """A console on stderr, or stdout for data; honours NO_COLOR."""
    return Console(stderr=stderr, highlight=False)


def say(text: str) -> None:
    """A line on stderr."""
    console().print(printable(text), markup=False, soft_wrap=True)


def fail(error: PatiError) -> None:
    """`error:` (or `stopped:`) and `hint:` lines on stderr."""
    screen = console()
    word = "stopped" if isinstance(error, Interrupted) else "error"
    screen.print(Text.assemble((f"{word}: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        screen.print(Text.assemble(("hint: ", "bold cyan"), error.hint), soft_wrap=True)


@contextlib.contextmanager
def bar(what: str, *, unit: str = "files") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, fed with (done, total)."""
    counts = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counts, TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 5 min, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 5997:  # what is rounded to less than 100 minutes
        return f"{seconds / 60:.1f} min".replace(".0 min", " min")
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


SCORES = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def scored(score: str, value: float) -> str:
    """A score as people write it: an accuracy in per cent, others as they are."""
    return percent(value) if score == "accuracy" else rate(value)


def plain(value: object) -> str:
    """A recipe's value in few letters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
