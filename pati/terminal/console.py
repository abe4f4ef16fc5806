"""Lines, errors and bars on stderr, and how values are written, all in the language of this process."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pati.errors import Interrupted, PatiError
from pati.locale import catalogues, formats
from pati.locale.messages import N_, Message


def console(*, stderr: bool = True) -> Console:
    """A console on stderr, or stdout for data; honours NO_COLOR."""
    return Console(stderr=stderr, highlight=False)


def put(table: Table) -> None:
    """A table on stdout. Where that is no terminal, no row is broken, and no line ends in blanks."""
    screen = console(stderr=False)
    if screen.is_terminal:
        screen.print(table)
        return
    screen.width = 10_000
    with screen.capture() as captured:
        screen.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def say(message: Message) -> None:
    """A line on stderr."""
    show(message, console())


def tell(message: Message) -> None:
    """A line on stdout."""
    print(message)


def show(message: Message, screen: Console, *, style: str = "") -> None:
    """A line on a console, which the terminal itself breaks where it is too long."""
    screen.print(str(message), style=style or None, markup=False, soft_wrap=True)


def indented(message: Message) -> Message:
    """Below another line."""
    return Message("  {message}", {"message": message})


def note(message: Message) -> Message:
    """What a reader should know, as a line."""
    return N_("note: {message}", message=message)


def warning(message: Message) -> Message:
    """What may not be as the user thinks, as a line."""
    return N_("warning: {message}", message=message)


def fail(error: PatiError) -> None:
    """`error:` (or `stopped:`) and `hint:` lines on stderr."""
    screen = console()
    word = N_("stopped:") if isinstance(error, Interrupted) else N_("error:")
    screen.print(Text.assemble((str(word), "bold red"), " ", str(error.message)), soft_wrap=True)
    if error.hint:
        screen.print(Text.assemble((str(N_("hint:")), "bold cyan"), " ", str(error.hint)), soft_wrap=True)


@contextlib.contextmanager
def bar(what: Message, *, unit: str = "files") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, fed with (done, total)."""
    counts = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counts, TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(str(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def percent(share: float) -> str:
    """0.9996 is "> 99.9 %"."""
    return formats.percent(share, catalogues.current())


def percent_number(share: float) -> str:
    """0.9996 is "> 99.9", as below a head that says percent."""
    return formats.percent_number(share, catalogues.current())


def rate(share: float) -> str:
    """0.9996 is "> 0.999"."""
    return formats.rate(share, catalogues.current())


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 5 min, 2 h 10 min."""
    return formats.duration(seconds, catalogues.current())


def number(value: float, form: str = "") -> str:
    """A number in one of Python's formats."""
    return formats.marked(format(value, form), catalogues.current())


def scored(score: str, value: float) -> str:
    """A score as people write it: an accuracy in percent, others as they are."""
    return percent(value) if score == "accuracy" else rate(value)


def plain(value: object) -> str:
    """A recipe's value in few letters."""
    return number(value, ".3g") if isinstance(value, float) else str(value)
