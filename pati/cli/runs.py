"""`pati runs`: the runs in a folder."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, print_json


@program.command
def runs(folder: Path = Path("runs"), /, *, json: Json = False) -> None:
    """List the runs in a folder: data, model, state, accuracy with its 95 % interval, time, and when it was begun.

    Parameters
    ----------
    folder
        The folder of runs.
    """
    from pati.runs.overview import overview
    from pati.terminal.runs import document, show

    rows = overview(folder)
    if json:
        print_json([document(row) for row in rows])
    else:
        show(folder, rows)
