"""`pati report`: write a run's report anew."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pati.cli.entry import program
from pati.cli.options import Json, print_json, watching


@program.command(name="report")
def report_(run: Path, /, *, lang: Literal["en", "tr"] | None = None, json: Json = False) -> None:
    """Write a run's report anew, more thoroughly measured than in training. Its photos must be where they were.

    Parameters
    ----------
    run
        A run's folder.
    lang
        The language shown first, that of before if left out; the page has a switch.
    """
    from pati.workflows.report import report_again

    with watching() as listen:
        made, document = report_again(run, language=lang, listen=listen)
    if json:
        print_json(document)
    else:
        print(made.report)
