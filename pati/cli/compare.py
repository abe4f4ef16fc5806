"""`pati compare`: compare finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, print_json
from pati.errors import PatiError
from pati.locale import catalogues
from pati.locale.messages import N_


@program.command
def compare(
    *runs: Path, out: Path | None = None, unpaired: Annotated[bool, Parameter(negative="")] = False, json: Json = False
) -> None:
    """Compare finished runs: scores, costs, and which differences are significant.

    Parameters
    ----------
    runs
        Folders of two or more finished runs on the same data and split.
    out
        Where to save a plot of accuracies and training times; the name ends in .png or .svg.
    unpaired
        Compare runs on different data too, without pairing their predictions photo by photo: a less powerful test.
    """
    from pati.report import figures
    from pati.system import outputs
    from pati.terminal.console import console, note, say
    from pati.terminal.tables import show_comparison
    from pati.workflows import compare as comparing

    kind = out.suffix.lower().removeprefix(".") if out else ""
    if out and kind not in ("png", "svg"):
        raise PatiError(N_("--out {out} must end in .png or .svg", out=out), N_("for example: --out compare.png"))
    if out:
        outputs.require_free(out)
    document = comparing.compare(runs, paired=not unpaired)
    if out:
        drawn = figures.comparison(
            document["runs"], by_class=document["by_class"], format=kind, language=catalogues.current()
        )
        outputs.write(out, drawn)
    if json:
        print_json(document)
        return
    show_comparison(document, [comparing.verdict(pair) for pair in document["pairs"]], console(stderr=False))
    for text in comparing.notes(document):
        say(note(text))
    if out:
        say(N_("figure: {path}", path=out))
