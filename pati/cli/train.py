"""`pati train`: train a net, score it once, write the report."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, RecipeOptions, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED
from pati.errors import PatiError


@program.command
def train(
    data: str | None = None,
    /,
    *,
    budget: str | None = None,
    epochs: int | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    decisions: Path | None = None,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Train from scratch: audit, split, train, score the test split once, report.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    budget
        Time for the whole command, such as 90s, 5m or 1h. Without it and --epochs, one that suits the data.
    epochs
        Passes over the training photos, in place of a budget; such runs resume bit-exactly.
    out
        The run's folder; the next free one in runs/ if left out.
    decisions
        A CSV of photos to keep, drop or relabel, as for `pati check`; the photos themselves stay as they are.
    resume
        A run's folder: go on where it stopped. Takes no other choices.
    """
    from pati.terminal.tables import show_result
    from pati.workflows import train as workflow

    if resume is not None:
        given = any(choice is not None for choice in (data, budget, epochs, out, decisions))
        if given or options != RecipeOptions() or table != TableOptions():
            raise PatiError("--resume goes on with the run's own data and recipe", "leave the other options out")
        with watching() as listen:
            result = workflow.resume(resume, started=STARTED, listen=listen)
    else:
        if data is None:
            raise PatiError(
                "pati train wants DATA: a folder, archive, CSV or known name", "for example: pati train photos/"
            )
        chosen = options.chosen(epochs=epochs, budget=seconds(budget))
        with watching() as listen:
            result = workflow.train(
                data, chosen, out=out, columns=table.columns(), decisions=decisions, started=STARTED, listen=listen
            )
    if json:
        print_json({"run": str(result.run.folder), **result.metrics})
        return
    show_result(result.run, result.metrics)
