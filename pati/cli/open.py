"""`pati open`: a report in the browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from pati.cli.entry import program
from pati.errors import PatiError
from pati.locale.formats import printable
from pati.locale.messages import N_


@program.command(name="open")
def open_(run: Path, /) -> None:
    """Open the report of a run in the browser, and print where it is.

    Parameters
    ----------
    run
        The folder of a run, or of a search by `pati tune`.
    """
    from pati.runs.run import Run, RunStage
    from pati.terminal.console import note, say

    report = Run(run).report
    if not report.is_file():
        done = Run.open(run).stage is RunStage.DONE
        raise PatiError(
            N_("{folder} has no report", folder=run),
            N_("write it again: pati report {folder}", folder=run)
            if done
            else N_("finish the run first: pati train --resume {folder}", folder=run),
        )
    print(printable(str(report)), flush=True)
    if not webbrowser.open(report.resolve().as_uri()):
        say(note(N_("no browser could be opened here: open this file in one")))
