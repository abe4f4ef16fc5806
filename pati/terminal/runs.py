"""What `pati runs` prints."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from rich.table import Table
from rich.text import Text

from pati.locale.formats import printable
from pati.locale.messages import N_, NC_, Message
from pati.report.labels import scored_by
from pati.runs.overview import RunSummary, State
from pati.terminal.console import note, number, percent, percent_number, put, say, tell

STATES = {
    State.RUNNING: NC_("state of a run", "running"),
    State.STOPPED: NC_("state of a run", "stopped"),
    State.DONE: NC_("state of a run", "done"),
    State.DAMAGED: NC_("state of a run", "damaged"),
    State.OTHER: NC_("state of a run", "not a run"),
}
COLOURS = {State.RUNNING: "cyan", State.STOPPED: "yellow", State.DAMAGED: "red", State.OTHER: "dim"}
NONE = "–"


class RunSummaryDocument(TypedDict):
    """A `RunSummary` in JSON; `date`: when it was begun, in local time with its offset; `folds`: 0 for a test split."""

    run: str
    state: str
    data: str | None
    model: str | None
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    folds: int | None
    seconds: float | None
    date: str | None
    problem: Message | None


def document(row: RunSummary) -> RunSummaryDocument:
    """The row for programs."""
    return {
        "run": printable(str(row.folder)),
        "state": row.state.value,
        "data": None if row.data is None else printable(row.data),
        "model": row.model,
        "accuracy": row.accuracy,
        "accuracy_interval": row.interval,
        "folds": row.folds,
        "seconds": row.seconds,
        "date": None if row.begun is None else time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(row.begun)),
        "problem": row.problem,
    }


def show(folder: Path, rows: Sequence[RunSummary]) -> None:
    """A table on stdout; on stderr, why a run could not be read."""
    if not rows:
        tell(N_("no runs in {folder}", folder=folder))
        return
    table = Table(box=None, pad_edge=False)
    heads: tuple[tuple[Message, bool, bool], ...] = (
        (NC_("column of runs", "run"), False, True),
        (NC_("column of runs", "state"), False, False),
        (NC_("column of runs", "accuracy"), True, False),
        (NC_("column of runs", "95 % CI"), True, False),
        (NC_("column of runs", "scored by"), False, False),
        (NC_("column of runs", "min"), True, False),
        (NC_("column of runs", "model"), False, True),
        (NC_("column of runs", "data"), False, True),
        (NC_("column of runs", "begun"), False, False),
    )
    for head, numeric, name in heads:  # names are folded where the terminal is narrow; numbers and dates stay whole
        table.add_column(str(head), justify="right" if numeric else "left", overflow="fold", no_wrap=not name)
    for row in rows:
        table.add_row(*_cells(row))
    put(table)
    for row in rows:
        if row.problem is not None:
            say(note(N_("{run}: {problem}", run=row.folder.name, problem=row.problem)))


def _cells(row: RunSummary) -> list[Text]:
    interval, date = NONE, NONE
    if row.interval is not None:
        low, high = row.interval
        interval = f"{percent_number(low)}–{percent_number(high)}"
    if row.begun is not None:
        date = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.begun))
    return [
        Text(printable(row.folder.name)),
        Text(str(STATES[row.state]), COLOURS.get(row.state, "")),
        Text(NONE if row.accuracy is None else percent(row.accuracy)),
        Text(interval),
        Text(NONE if row.folds is None else str(scored_by(row.folds))),
        Text(NONE if row.seconds is None else number(row.seconds / 60, ".1f")),
        Text(NONE if row.model is None else printable(row.model)),
        Text(NONE if row.data is None else printable(os.path.basename(row.data.rstrip("/\\")) or row.data)),
        Text(date),
    ]
