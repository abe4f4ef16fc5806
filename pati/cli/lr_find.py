"""`pati lr-find`: find a learning rate."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, RecipeOptions, TableOptions, print_json, watching
from pati.errors import PatiError


@program.command(name="lr-find")
def lr_find(
    data: str,
    /,
    *,
    out: Path = Path("lr-find.png"),
    steps: int = 100,
    json: Json = False,
    options: RecipeOptions = RecipeOptions(),
    table: TableOptions = TableOptions(),
) -> None:
    """Find a learning rate: train a fresh net for some steps at rising rates, and draw its loss.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    out
        Where to draw the curve, a PNG file.
    steps
        Steps of training, 20 or more.
    """
    from pati.report import figures
    from pati.system import files
    from pati.terminal.console import bar, say
    from pati.training.lr_find import search
    from pati.workflows.prepare import prepare

    if out.suffix.lower() != ".png" or out.is_dir():
        raise PatiError(f"--out wants the name of a PNG file, got {out}", "for example --out lr-find.png")
    with watching() as listen:
        ready = prepare(data, options.chosen(), columns=table.columns(), listen=listen)
    with bar("trying rates", unit="steps") as progress:
        found = search(
            ready.net(), ready.training, ready.preprocess, ready.recipe,
            device=ready.device, steps=steps, progress=progress,
        )  # fmt: skip
    files.write_bytes(out, figures.learning_rates(found.rates, found.losses, found.smoothed, found.suggestion))
    if json:
        choices = {name: getattr(ready.recipe, name) for name in ("model", "size", "batch", "optimizer")}
        print_json({"learning_rate": found.suggestion, **choices, **dataclasses.asdict(found), "picture": str(out)})
        return
    say(f"the loss over the learning rate of {ready.recipe.optimizer}, {len(found.rates)} steps: {out}")
    print(f"--set learning_rate={found.suggestion:g}")
