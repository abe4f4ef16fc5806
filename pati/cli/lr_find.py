"""`pati lr-find`: find a learning rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, Place, RecipeOptions, TableOptions, print_json, watching
from pati.errors import PatiError
from pati.locale import catalogues
from pati.locale.messages import N_, NP_


@program.command(name="lr-find")
def lr_find(
    data: Place,
    /,
    *,
    out: Path = Path("lr-find.png"),
    steps: int = 100,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Find a learning rate: train a new network for some steps at rising rates, and plot the loss.

    Parameters
    ----------
    data
        A folder with one folder per class, a folder of splits, an archive, a folder of tars or Parquet files, a CSV, or
        the name of a built-in dataset.
    out
        Where to save the plot, a PNG file.
    steps
        Number of training steps, 20 or more.
    """
    from pati.report import figures
    from pati.system import outputs
    from pati.terminal.console import bar, say
    from pati.training.lr_find import search
    from pati.workflows.prepare import prepare

    if out.suffix.lower() != ".png":
        raise PatiError(N_("--out {out} is not the name of a PNG file", out=out), N_("for example: --out lr-find.png"))
    outputs.require_free(out)
    with watching() as listen:
        ready = prepare(data, options.chosen(), columns=table.columns(), listen=listen)
    with bar(N_("learning rates"), unit="steps") as progress:
        result = search(
            ready.net(), ready.training, ready.preprocess, ready.recipe,
            device=ready.device, steps=steps, progress=progress,
        )  # fmt: skip
    drawn = figures.learning_rates(
        result.rates, result.losses, result.smoothed, result.suggestion, language=catalogues.current()
    )
    outputs.write(out, drawn)
    if json:
        choices = {name: getattr(ready.recipe, name) for name in ("model", "size", "batch", "optimizer")}
        print_json({"learning_rate": result.suggestion, **choices, **dataclasses.asdict(result), "picture": str(out)})
        return
    say(
        NP_(
            "loss against the learning rate of {optimizer}, {n} step: {path}",
            "loss against the learning rate of {optimizer}, {n} steps: {path}",
            n=len(result.rates),
            optimizer=ready.recipe.optimizer,
            path=out,
        )
    )
    print(f"--set learning_rate={result.suggestion:g}")
