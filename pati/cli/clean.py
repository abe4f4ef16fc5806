"""`pati clean`: list photos whose labels are to be looked at."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED


@program.command
def clean(
    data: str,
    run: Path,
    /,
    *,
    folds: int = 0,
    budget: str | None = None,
    out: Path | None = None,
    json: Json = False,
    table: TableOptions = TableOptions(),
) -> None:
    """List photos to look at: labels that are likely wrong, pictures in two classes, odd ones. Touches none of them.

    A table and a page to decide in; `pati train --decisions` follows.

    Parameters
    ----------
    data
        The run's data, or other photos of its classes.
    run
        A run's folder. Its net judges the photos that it has not trained on.
    folds
        Judge the training photos too, by so many trainings, each on the others: 3 is usual.
    budget
        Time for the whole command with --folds, such as 15m; without it each training takes as long as the run's.
    out
        Folder for table and page; clean in the run's folder if left out. Decisions in it are kept.
    """
    from pati.terminal.tables import show_clean
    from pati.workflows import clean as cleaning

    limit = seconds(budget)
    with watching() as listen:
        document = cleaning.clean(
            data, run, folds=folds, budget=limit, columns=table.columns(), out=out, started=STARTED, listen=listen
        )
    if json:
        print_json(document)
    else:
        show_clean(document)
