"""`pati learning-curve`: would more photos help, or more time?"""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, Place, RecipeOptions, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED


@program.command
def learning_curve(
    data: Place,
    /,
    *,
    budget: str | None = None,
    epochs: int | None = None,
    out: Path | None = None,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Find out whether more photos or more training time would help, from networks trained on parts of the photos.

    It trains networks on an eighth, a quarter, half and all of the photos, each for the same time, and on all of them
    for half as long; fits a curve to their accuracy on photos that they were not trained on; and predicts it for twice
    and four times the photos, and for twice the time. The same command resumes after any interruption.

    Parameters
    ----------
    data
        A folder with one folder per class, a folder of splits, an archive, a folder of tars or Parquet files, a CSV, or
        the name of a built-in dataset.
    budget
        Time for the whole command, such as 10m. Default: one that suits the number of photos.
    epochs
        Passes over all photos for each network, instead of --budget; on parts of them, as many steps.
    out
        Folder for the results. Default: the next free runs/learning-curve-N.
    """
    from pati.terminal.tables import show_learning_curve
    from pati.workflows import learning_curve as curves

    chosen = options.chosen(epochs=epochs, budget=seconds(budget))
    with watching() as listen:
        document = curves.learning_curve(data, chosen, out=out, columns=table.columns(), started=STARTED, listen=listen)
    if json:
        print_json(document)
    else:
        show_learning_curve(document)
