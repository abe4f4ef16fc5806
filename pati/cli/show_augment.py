"""`pati show-augment`: draw what augmentation does."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Assignments, TableOptions, recipe_named
from pati.errors import PatiError


@program.command
def show_augment(
    data: str,
    /,
    *,
    out: Path = Path("augmentations.png"),
    recipe: str | None = None,
    set_: Assignments = None,
    photos: int = 1,
    table: TableOptions = TableOptions(),
) -> None:
    """Draw what augmentation does: each kind at rising strengths, and all that a recipe does, as a PNG.

    Parameters
    ----------
    data
        Folder of class folders, pre-split folder, archive, CSV, or known name.
    out
        Where to write the picture.
    recipe
        A JSON file as a run's recipe.json, or a name from `pati list presets`.
    set_
        field=value of the recipe, any number of them; another seed shows other photos.
    photos
        How many photos stand side by side.
    """
    if out.suffix.lower() != ".png":
        raise PatiError(f"--out {out} would not be known as a picture", "give it a name that ends in .png")
    from pati.system.files import write_bytes
    from pati.workflows import augmentation_preview

    chosen = recipe_named(recipe).updated(set_ or [])
    write_bytes(out, augmentation_preview.picture(data, chosen, photos=photos, columns=table.columns()))
    print(out)
