"""`pati list`: list the catalogues."""

from __future__ import annotations

from typing import Literal

from pati.cli.entry import program
from pati.cli.options import Json, print_json
from pati.locale import catalogues


@program.command(name="list")
def list_(
    what: Literal["models", "augmentations", "metrics", "explainers", "datasets", "presets", "formats", "fields"],
    /,
    *,
    json: Json = False,
) -> None:
    """List what can be chosen: models, augmentations, metrics and so on.

    Parameters
    ----------
    what
        What to list; fields are the recipe fields that --set takes.
    """
    from rich.table import Table
    from rich.text import Text

    from pati.cli import catalogue
    from pati.system import extras
    from pati.terminal.console import put

    with extras.required(f"pati list {what}"):
        rows = catalogue.rows(what, catalogues.SOURCE if json else catalogues.current())
    if json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, summary in rows:
        table.add_row(name, Text(summary))
    put(table)
