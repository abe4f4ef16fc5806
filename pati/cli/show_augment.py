"""`pati show-augment`: draw what augmentation does."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Assignments, Place, TableOptions, recipe_named
from pati.errors import PatiError
from pati.locale.formats import printable
from pati.locale.messages import N_


@program.command
def show_augment(
    data: Place,
    /,
    *,
    out: Path = Path("augmentations.png"),
    recipe: str | None = None,
    set_: Assignments = None,
    photos: int = 1,
    table: TableOptions = TableOptions(),
) -> None:
    """Show what augmentation does: each kind at rising strength, and everything a recipe does, as a PNG.

    Parameters
    ----------
    data
        A folder with one folder per class, a folder of splits, an archive, a folder of tars or Parquet files, a CSV, or
        the name of a built-in dataset.
    out
        Where to save the picture.
    recipe
        A JSON file such as the recipe.json of a run, or a name from `pati list presets`.
    set_
        Recipe fields to change, as field=value, any number of them; another seed shows other photos.
    photos
        Number of photos side by side.
    """
    if out.suffix.lower() != ".png":
        raise PatiError(N_("--out {out} is not the name of a PNG file", out=out), N_("choose a name that ends in .png"))
    from pati.system import outputs
    from pati.workflows import augmentation_preview

    outputs.require_free(out)
    chosen = recipe_named(recipe).updated(set_ or [])
    outputs.write(out, augmentation_preview.picture(data, chosen, photos=photos, columns=table.columns()))
    print(printable(str(out)))
