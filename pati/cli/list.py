"""`pati list`: list the catalogues."""

from __future__ import annotations

from typing import Literal

from pati.cli.entry import program
from pati.cli.options import Json, print_json


@program.command(name="list")
def list_(
    what: Literal["models", "augmentations", "metrics", "explainers", "datasets", "presets", "fields"],
    /,
    *,
    json: Json = False,
) -> None:
    """List what there is to choose from.

    Parameters
    ----------
    what
        The catalogue; fields are those that --set takes.
    """
    from rich.table import Table
    from rich.text import Text

    from pati.cli import catalogue
    from pati.terminal.console import console

    rows = catalogue.rows(what)
    if json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, summary in rows:
        table.add_row(name, Text(summary))
    console(stderr=False).print(table)
