"""`pati train`: train a model, score it once, write the report."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Json, Place, RecipeOptions, TableOptions, print_json, seconds, watching
from pati.cli.start import STARTED
from pati.errors import PatiError
from pati.locale.messages import N_


@program.command
def train(
    data: Place | None = None,
    /,
    *,
    budget: str | None = None,
    epochs: int | None = None,
    folds: int | None = None,
    out: Path | None = None,
    start: Annotated[Path | None, Parameter(name="--from")] = None,
    weights: str | None = None,
    resume: Path | None = None,
    moved: Annotated[Place | None, Parameter(name="--data")] = None,
    decisions: Path | None = None,
    processes: int | None = None,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Train from scratch, or from an earlier model: audit, split, train, score the test split once, report.

    Parameters
    ----------
    data
        A folder with one folder per class, a folder of splits, an archive, a folder of tars or Parquet files, a CSV, or
        the name of a built-in dataset.
    budget
        Time for the whole command, such as 90s, 5m or 1h. Default, without --epochs: one that suits the data.
    epochs
        Passes over the training photos, instead of a budget; such runs resume bit-exactly.
    folds
        Number of cross-validation folds for the score, or 0 for a test split. Default: folds if a test split would
        have too few photos. For each fold, a network is trained on the other folds and predicts this one; the final
        model is then trained on all photos. Of a budget, the folds take half of the training time. Not with --from or
        --weights.
    out
        The folder of the run. Default: the next free one in runs/.
    decisions
        A CSV of decisions to keep, drop or relabel photos, as for `pati check`; the photos themselves are not changed.
    processes
        Processes that train together on this machine, see docs/many-machines.md. Default: one for each GPU. For several
        machines, start this command with torchrun instead.
    start
        An earlier model to start from, instead of random weights: the folder of a run, a model file, or cats-vs-dogs,
        the included model. Classes may be added or removed. Photos that the model of a run was trained on are never
        scored; with a model file alone, pati cannot know which photos these are.
    weights
        With --model timm/NAME: a file of pretrained weights (safetensors) to start from, or the word pretrained to let
        timm download them. By default, training starts from random weights.
    resume
        The folder of a run to resume. It takes no other options but --data and --processes.
    moved
        With --resume: where the data of the run is now, if it has moved; its files must be the same.
    """
    from pati.system import ranks as several
    from pati.terminal.tables import show_result
    from pati.workflows import launch
    from pati.workflows import train as workflow
    from pati.workflows.follow import follow

    if processes is not None and processes < 1:
        raise PatiError(N_("--processes is {n}, expected 1 or more", n=processes))
    if resume is not None:
        given = any(choice is not None for choice in (data, budget, epochs, folds, out, decisions, start, weights))
        if given or options != RecipeOptions() or table != TableOptions():
            raise PatiError(N_("--resume uses the run's own data and recipe"), N_("omit the other options"))
    elif moved is not None:
        raise PatiError(N_("--data is for --resume, where the data has moved"), N_("name the data without --data"))
    elif data is None:
        raise PatiError(
            N_("pati train requires DATA: a folder, an archive, a CSV or a built-in dataset"),
            N_("for example: pati train photos/"),
        )
    count = processes or launch.default_processes()
    if count > 1 and not several.started():
        launch.launch(sys.argv[1:], count, STARTED)
        return
    started = float(os.environ.get(launch.STARTED, STARTED))
    with several.joined() as ranks:
        if not ranks.first:
            follow(ranks)
            return
        with watching() as listen:
            if resume is not None:
                result = workflow.resume(resume, data=moved, started=started, listen=listen, ranks=ranks)
            else:
                assert data is not None
                chosen = options.chosen(epochs=epochs, budget=seconds(budget))
                if folds is not None:
                    chosen = chosen.changed({"folds": folds})
                result = workflow.train(
                    data, chosen, out=out, columns=table.columns(), decisions=decisions, start=start, weights=weights,
                    started=started, listen=listen, ranks=ranks,
                )  # fmt: skip
    if json:
        print_json({"run": str(result.run.folder), **result.metrics})
        return
    show_result(result.run, result.metrics)
