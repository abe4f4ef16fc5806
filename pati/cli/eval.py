"""`pati eval`: score a trained net again, or elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pati.cli.entry import program
from pati.cli.options import Json, TableOptions, print_json, watching
from pati.errors import PatiError


@program.command(name="eval")
def evaluate(
    run: Path,
    /,
    *,
    split: Literal["train", "validation", "test"] | None = None,
    data: str | None = None,
    outside: str | None = None,
    json: Json = False,
    table: TableOptions = TableOptions(),
) -> None:
    """Score a run's model on one of its splits, or on another labelled set, with a report in the run's folder.

    Parameters
    ----------
    run
        A run's folder.
    split
        Which of the run's splits, test if left out; scoring that one again is counted and said.
    data
        Another folder, archive, CSV or known name with the same classes; test photos of the run among them count as a
        scoring of the test split.
    outside
        A folder, archive or known name of photos of something else: how well are they told from the test photos?
        The run keeps the figures, and its report shows them.
    """
    from pati.terminal.console import console, say
    from pati.terminal.tables import show_outside, show_scores
    from pati.workflows import score as workflow

    if outside is not None:
        if (split, data, table) != (None, None, TableOptions()):
            raise PatiError("--outside shows the model photos of something else", "leave the other options out")
        with watching() as listen:
            found = workflow.outside(run, outside, listen=listen)
        if json:
            print_json(found)
        else:
            show_outside(found)
        return
    if data is not None and split is not None:
        raise PatiError("--split is of the run's own data, --data is another set", "give one of the two")
    if data is None and table != TableOptions():
        raise PatiError("the run's own data has its columns already", "leave them out, or name another set with --data")
    with watching() as listen:
        document = workflow.score(run, split=split or "test", data=data, columns=table.columns(), listen=listen)
    if json:
        print_json(document)
        return
    show_scores(document, document["balance"], console(stderr=False))
    if document["unreadable"]:
        say(f"note: {document['unreadable']} files could not be read and are not counted")
    if document.get("test_scored", 1) > 1:
        some = f"{document['test_photos']} of these are the run's test photos: " * (data is not None)
        say(
            f"note: {some}this test split has now been scored {document['test_scored']} times; "
            "choices made by its score make the score too good"
        )
    if document["trained_on"]:
        say(f"warning: {document['trained_on']} of these photos were trained on, so the score is too good")
    if "report" in document:
        say(f"report: {document['report']}")
