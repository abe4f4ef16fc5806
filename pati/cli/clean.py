"""`pati clean`: list photos to review."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, Place, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED


@program.command
def clean(
    data: Place,
    run: Path,
    /,
    *,
    folds: int = 0,
    budget: str | None = None,
    out: Path | None = None,
    json: Json = False,
    table: TableOptions = TableOptions(),
) -> None:
    """List photos to review: likely label errors, duplicates across classes and photos unlike the training photos.

    It writes a table and a page to decide in; `pati train --decisions` follows the decisions. The photos are not
    changed.

    Parameters
    ----------
    data
        The data of the run, or other photos of its classes.
    run
        The folder of a run. Its model checks the labels of the photos it was not trained on.
    folds
        Check the labels of the training photos too, by cross-validation with this many folds; 3 is usual.
    budget
        Time for the whole command with --folds, such as 15m. Default: each fold trains for as long as the run did.
    out
        Folder for the table and the page; decisions in it are kept. Default: clean in the folder of the run.
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
