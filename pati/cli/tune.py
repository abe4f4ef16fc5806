"""`pati tune`: search for better recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, Place, RecipeOptions, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED
from pati.errors import PatiError
from pati.locale.messages import N_


@program.command
def tune(
    data: Place | None = None,
    /,
    *,
    trials: int | None = None,
    budget: str | None = None,
    epochs: int | None = None,
    trial_budget: str | None = None,
    out: Path | None = None,
    storage: str | None = None,
    search: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Search for better hyperparameters, scored on the validation photos; the test photos are not used.

    The same command resumes after any interruption, and can run in several processes at once.

    Parameters
    ----------
    data
        A folder with one folder per class, a folder of splits, an archive, a folder of tars or Parquet files, a CSV, or
        the name of a built-in dataset. Not needed to resume the search in --out.
    trials
        Number of trials to finish, counted over all processes and restarts.
    budget
        Time for this command, such as 30m or 2h, instead of --trials. The first trial is always finished.
    epochs
        Passes over the training photos in each trial.
    trial_budget
        Time for each trial, such as 60s, instead of --epochs. Default, without --epochs: one that suits the data.
    out
        The folder of the search; a search that is already in it is resumed. Default: tune/NAME.
    storage
        Database server that holds the trials, for a search on several machines, as in
        postgresql://user@host/database; the study has the name of the folder. Default: a file in --out.
    search
        Recipe fields to search, any number of them. Default: the usual ones.
    """
    from pati.terminal.tables import show_search
    from pati.workflows import tune as search_for

    limit = seconds(budget)
    if data is None:
        if out is None:
            raise PatiError(
                N_("pati tune requires DATA, or --out with a search to resume"),
                N_("for example: pati tune photos/ --trials 20"),
            )
        given = any(choice is not None for choice in (epochs, trial_budget, search))
        if given or options != RecipeOptions() or table != TableOptions():
            raise PatiError(
                N_("a search resumes with its own data and recipe"), N_("omit the other options, or give DATA")
            )
        with watching() as listen:
            document = search_for.resume(
                out, trials=trials, budget=limit, storage=storage, started=STARTED, listen=listen
            )
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
                storage=storage,
                columns=table.columns(),
                started=STARTED,
                listen=listen,
            )
    if json:
        print_json(document)
    else:
        show_search(document)
