"""`pati check`: audit and split, without training."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.cli.options import Json, NearDuplicates, Place, TableOptions, print_json, watching
from pati.errors import PatiError
from pati.locale.messages import N_


@program.command
def check(
    data: Place,
    /,
    *,
    out: Path = Path("manifest.jsonl"),
    group_by: str | None = None,
    near_duplicates: NearDuplicates | None = None,
    decisions: Path | None = None,
    json: Json = False,
    table: TableOptions = TableOptions(),
) -> None:
    """Audit a dataset: unusable files, duplicates, classes, sizes and the split. The photos are not changed.

    Parameters
    ----------
    data
        A folder with one folder per class, a folder of splits, an archive, a folder of tars or Parquet files, a CSV, or
        the name of a built-in dataset.
    out
        Where to write the manifest, one line per file.
    group_by
        CSV column of groups: photos with the same value stay in one split.
    near_duplicates
        What to do with near duplicates: keep each group in one split, only report them, or do not look for them.
        Default: group, except many photos of one scene, as from a fixed camera, that would tie up most of a class or
        several classes.
    decisions
        A CSV of decisions to keep, drop or relabel photos: columns path, sha256 (as in the manifest), decision,
        new_label.
    """
    from pati.data.manifest import is_manifest
    from pati.recipe import Recipe
    from pati.terminal.console import console, say
    from pati.terminal.tables import check_document, show_check
    from pati.workflows import check as workflow

    if (out.exists() and not is_manifest(out)) or (out.parent / "run.json").exists():
        raise PatiError(N_("--out {out} would overwrite another file", out=out), N_("choose another name"))
    with watching() as listen:
        recipe, columns = Recipe(group_by=group_by, near_duplicates=near_duplicates), table.columns()
        manifest = workflow.check(data, recipe, columns=columns, decisions=decisions, listen=listen)
    manifest.write(out)
    if json:
        print_json(check_document(manifest))
    else:
        show_check(manifest, console(stderr=False))
        say(N_("manifest: {path}", path=out))
