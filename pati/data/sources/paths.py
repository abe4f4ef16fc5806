"""A folder, an archive or a table on the disk -> its labelled files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pati.data.sources import storage
from pati.data.sources.archives import is_archive, unpacked
from pati.data.sources.folders import descend, from_folder
from pati.data.sources.source import Columns, Source
from pati.data.sources.storage import Folder, Place, Zip
from pati.data.sources.tables import from_table, read_table, table_beside, table_in, with_table
from pati.errors import PatiError


def open_path(path: Path, columns: Columns = Columns()) -> Source:
    """The source in a folder, archive or CSV file."""
    path = path.resolve()
    name = path.name
    if path.suffix.lower() in (".csv", ".tsv") and not path.is_dir():
        table = read_table(Folder(path.parent), name, columns, required=True)
        assert table is not None
        return from_table(name, path.parent, table)
    left_out: dict[str, int] = {}
    top: Place
    if path.is_dir():
        top = Folder(path)
    elif path.suffix.lower() == ".zip":
        zipped = storage.at(path)
        assert isinstance(zipped, Zip)
        top, left_out = zipped, zipped.left_out
    elif is_archive(path):
        folder, left_out = unpacked(path)
        top = Folder(folder)
    else:
        raise PatiError(
            f"{path} is neither a folder, an archive nor a CSV file",
            "give a folder with one folder a class, a .zip or .tar.* of it, or a CSV with path and label",
        )
    notes = tuple(f"{count} members of the archive are left out: {reason}" for reason, count in left_out.items())
    place = descend(top)
    table = table_in(place, columns) or table_beside(path, columns)
    if table is None and columns.group is not None:
        raise PatiError(
            f"no CSV with a column {columns.group!r} lies in or beside {path}",
            "grouping needs a CSV with one row a photo: its path and that column",
        )
    source = from_folder(name, place)
    source = replace(source, notes=notes + source.notes)
    return source if table is None else with_table(source, place, table)
