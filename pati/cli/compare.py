"""`pati compare`: compare finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, print_json
from pati.errors import PatiError


@program.command
def compare(
    *runs: Path, out: Path | None = None, unpaired: Annotated[bool, Parameter(negative="")] = False, json: Json = False
) -> None:
    """Compare finished runs: scores, costs, and which differences are more than chance.

    Parameters
    ----------
    runs
        Folders of two or more finished runs on the same data and split.
    out
        Where to draw accuracies and training times; its name ends in .png or .svg.
    unpaired
        Compare runs on different data too, without pairing their answers photo by photo: less sure.
    """
    from pati.report import figures
    from pati.system.files import write_bytes
    from pati.terminal.console import console, say
    from pati.terminal.tables import show_comparison
    from pati.workflows import compare as comparing

    kind = out.suffix.lower().removeprefix(".") if out else ""
    if out and kind not in ("png", "svg"):
        raise PatiError(f"--out wants a name that ends in .png or .svg, got {out}", "for example --out compare.png")
    document = comparing.compare(runs, paired=not unpaired)
    if out:
        write_bytes(out, figures.comparison(document["runs"], by_class=document["by_class"], format=kind))
    if json:
        print_json(document)
        return
    show_comparison(document, console(stderr=False))
    for note in comparing.notes(document):
        say(f"note: {note}")
    if out:
        say(f"figure: {out}")
