"""`pati tune`: search for better recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, RecipeOptions, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED
from pati.errors import PatiError


@program.command
def tune(
    data: str | None = None,
    /,
    *,
    trials: int | None = None,
    budget: str | None = None,
    epochs: int | None = None,
    trial_budget: str | None = None,
    out: Path | None = None,
    search: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Search for better values of a recipe's fields, judged by the validation photos; the test photos wait.

    The same command goes on after any stop, and works beside itself in several processes.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name. May be left out with an --out to go on
        with.
    trials
        How many trials are to be finished, by all processes and starts together.
    budget
        Time for this command, such as 30m or 2h, in place of --trials. The first trial is finished in any case.
    epochs
        Passes over the training photos in each trial.
    trial_budget
        Time for each trial, such as 60s, in place of --epochs. Without both, one that suits the data.
    out
        The search's folder; tune/NAME if left out. One that holds this search already is gone on with.
    search
        Fields of the recipe to search, any number of them; the usual ones if left out.
    """
    from pati.terminal.tables import show_search
    from pati.workflows import tune as search_for

    limit = seconds(budget)
    if data is None:
        if out is None:
            raise PatiError(
                "pati tune wants DATA, or --out with a search to go on with", "pati tune photos/ --trials 20"
            )
        given = any(choice is not None for choice in (epochs, trial_budget, search))
        if given or options != RecipeOptions() or table != TableOptions():
            raise PatiError(
                "a search goes on with its own data and recipe", "leave the other options out, or name DATA"
            )
        with watching() as listen:
            document = search_for.resume(out, trials=trials, budget=limit, started=STARTED, listen=listen)
    else:
        chosen = options.chosen(epochs=epochs, budget=seconds(trial_budget, "--trial-budget"))
        with watching() as listen:
            document = search_for.tune(
                data,
                chosen,
                trials=trials,
                budget=limit,
                fields=search or (),
                out=out,
                columns=table.columns(),
                started=STARTED,
                listen=listen,
            )
    if json:
        print_json(document)
    else:
        show_search(document)
