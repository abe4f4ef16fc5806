"""`pati eval`: score a model again, or on other data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pati.cli.entry import program
from pati.cli.options import Json, Place, TableOptions, print_json, watching
from pati.errors import PatiError
from pati.locale.messages import N_


@program.command(name="eval")
def evaluate(
    run: Path,
    /,
    *,
    split: Literal["train", "validation", "test"] | None = None,
    data: Place | None = None,
    group_by: str | None = None,
    outside: Place | None = None,
    json: Json = False,
    table: TableOptions = TableOptions(),
) -> None:
    """Score a run's model on one of its splits or on other labelled data; the report goes to the folder of the run.

    Parameters
    ----------
    run
        The folder of a run.
    split
        The split of the run. Default: test; how often that was scored is counted and reported.
    data
        Another folder, archive, CSV or built-in dataset with the same classes. If test photos of the run are among its
        photos, also saved again or resized, this counts as a scoring of the test split. If it holds the run's own
        files, moved to another place, the test split of the run is scored.
    group_by
        With --data, CSV column of groups: photos with the same value are not independent.
    outside
        A folder, an archive or a built-in dataset of photos of something else (out of distribution): how well are they
        distinguished from the test photos? The result is saved in the run and shown in its report.
    """
    from pati.terminal.console import console, say
    from pati.terminal.tables import show_caveats, show_outside, show_scores
    from pati.workflows import score as workflow

    if outside is not None:
        if (split, data, group_by, table) != (None, None, None, TableOptions()):
            raise PatiError(N_("--outside cannot be combined with other options"), N_("omit the other options"))
        with watching() as listen:
            scores = workflow.outside(run, outside, listen=listen)
        if json:
            print_json(scores)
        else:
            show_outside(scores)
        return
    if data is not None and split is not None:
        raise PatiError(N_("--split is for the data of the run, --data is for other data"), N_("give one of them only"))
    if data is None and (table != TableOptions() or group_by is not None):
        raise PatiError(
            N_("the columns of the run's own data are known already"), N_("omit them, or give other data with --data")
        )
    with watching() as listen:
        document = workflow.score(
            run, split=split or "test", data=data, columns=table.columns(), group_by=group_by, listen=listen
        )
    if json:
        print_json(document)
        return
    show_scores(document, document["balance"], console(stderr=False))
    show_caveats(document)
    if "report" in document:
        say(N_("report: {path}", path=document["report"]))
