"""`pati report`: write a run's report again."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, Place, print_json, watching
from pati.locale import catalogues
from pati.locale.formats import printable


@program.command(name="report")
def report_(run: Path, /, *, data: Place | None = None, json: Json = False) -> None:
    """Write a run's report again, measured more thoroughly than in training. Its photos must still be in place.

    Parameters
    ----------
    run
        The folder of a run.
    data
        Where the data of the run is now, if it has moved; its files must be the same.
    """
    from pati.workflows.report import report_again

    with watching() as listen:
        reported, document = report_again(run, data=data, language=catalogues.requested(), listen=listen)
    if json:
        print_json(document)
    else:
        print(printable(str(reported.report)))
