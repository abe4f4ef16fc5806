"""CSV files with one row a photo: its path, and its class, split or group."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pati.data.decode import is_photo_name
from pati.data.sources.archives import stem
from pati.data.sources.source import SPLITS, Columns, Item, Source
from pati.data.sources.storage import Folder, Place
from pati.errors import PatiError
from pati.system.files import csv_rows

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "photo", "img"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "subset", "partition"),
}


@dataclass(frozen=True)
class Table:
    """A CSV's rows by path, with the columns found; `has_label` etc. say which exist."""

    path: Path
    rows: dict[str, dict[str, str]] = field(repr=False)
    columns: dict[str, str]


def table_in(place: Place, columns: Columns) -> Table | None:
    """The first table in a folder that says anything of photos."""
    found = [entry.name for entry in place.names() if is_table(entry.name)]
    # One CSV among several may lack a column that was asked for; a single one must have it.
    return next((table for name in found if (table := read_table(place, name, columns, alone=len(found) == 1))), None)


def table_beside(path: Path, columns: Columns) -> Table | None:
    """The CSV named like the folder or archive: photos.csv beside photos/ or photos.zip."""
    candidate = path.parent / f"{path.name if path.is_dir() else stem(path.name)}.csv"
    return read_table(Folder(path.parent), candidate.name, columns) if candidate.is_file() else None


def is_table(name: str) -> bool:
    """Whether a file is a table by its name."""
    return name.lower().endswith((".csv", ".tsv")) and not name.startswith(".")


def read_table(
    place: Place, name: str, columns: Columns, *, required: bool = False, alone: bool = True
) -> Table | None:
    """The CSV's rows, or None if it names no photos or nothing that pati uses.

    With `required` that is an error. With `alone`, so is a column that was asked for and is missing.
    """
    path = place.root / name
    try:
        with place.open(name) as binary, io.TextIOWrapper(binary, newline="", encoding="utf-8-sig") as file:
            header, lines = csv_rows(file.read(), tabs=path.suffix.lower() == ".tsv")
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        if not required and (columns == Columns() or not alone):
            return None  # some other program's table
        raise PatiError(f"can't read {path}: {error}", "it should be a UTF-8 CSV with a header line") from None
    wanted = (columns.path, columns.label, columns.split, columns.group)
    missing = next((name for name in wanted if name is not None and name not in header), None)
    if missing is not None:
        if not alone:
            return None
        raise PatiError(f"{path} has no column {missing!r}", f"its columns: {', '.join(header)}")
    found = {role: getattr(columns, role) or _usual(header, role) for role in COLUMNS}
    found["group"] = columns.group
    useful = found["label"] or found["split"] or found["group"]
    if found["path"] is None or not useful or (required and found["label"] is None):
        if not required:
            return None
        lacking = "path" if found["path"] is None else "label"
        raise PatiError(
            f"{path} has no {lacking} column; its columns: {', '.join(header)}",
            f"name it {COLUMNS[lacking][0]}, or say which it is with --{lacking}-column",
        )
    table = Table(path, {}, {role: name for role, name in found.items() if name})
    for row in lines:
        key = tidy(row[table.columns["path"]])
        before = table.rows.setdefault(key, row)
        if any(before[name] != row[name] for name in table.columns.values()):
            raise PatiError(f"{path} has two different rows for {key}", "leave one of them")
    return table


def tidy(path: str | None) -> str:
    """A photo's path as a table that people made names it, with forward slashes."""
    return (path or "").strip().replace("\\", "/").removeprefix("./")


def _usual(header: list[str], role: str) -> str | None:
    lowered = {name.strip().lower(): name for name in header}
    return next((lowered[usual] for usual in COLUMNS[role] if usual in lowered), None)


def _row_item(path: str, label: str, table: Table, row: dict[str, str], split: str | None) -> Item:
    columns = table.columns
    if "label" in columns:
        label = (row[columns["label"]] or "").strip() or label
    if "split" in columns:
        named = (row[columns["split"]] or "").strip()
        if named.lower() not in SPLITS:
            raise PatiError(f"{table.path}: split {named!r} of {path} is unknown", f"known: {', '.join(SPLITS)}")
        split = SPLITS[named.lower()]
    group = (row[columns["group"]] or "").strip() or None if "group" in columns else None
    return Item(path, label, split, group)


def from_table(name: str, root: Path, table: Table) -> Source:
    """The photos that a table names; rows without a class are left out."""
    items = [_row_item(path, "", table, row, None) for path, row in sorted(table.rows.items())]
    unlabelled = sum(not item.label for item in items)
    notes = (f"{unlabelled} rows of {table.path.name} have no label and are left out",) if unlabelled else ()
    kept = tuple(item for item in items if item.label)
    return Source(name, root, kept, presplit="split" in table.columns, notes=notes)


USED = {  # notes on what a table's columns are used for
    "label": "labels come from the column {} of {}",
    "split": "splits come from the column {} of {}",
    "group": "photos are grouped by the column {} of {}",
}


def with_table(source: Source, place: Place, table: Table) -> Source:
    """A folder's photos with labels, splits and groups of the CSV that lies with them."""
    if not source.items:  # a flat folder: the CSV alone says what is what
        inside = any(place.holds(path) for path in table.rows)
        return from_table(source.name, source.root if inside else table.path.parent, table)
    by_path = table.rows
    if not any(item.path in by_path for item in source.items):
        by_path = _by_bare_name(source, table)
    items = []
    missing = []
    for item in source.items:
        row = by_path.get(item.path)
        if row is None and is_photo_name(item.path):
            missing.append(item.path)
        items.append(item if row is None else _row_item(item.path, item.label, table, row, item.split))
    if missing and "group" in table.columns:
        raise PatiError(
            f"{len(missing)} photos have no row in {table.path.name}, for example {missing[0]}, "
            f"so they can't be grouped by {table.columns['group']!r}",
            "every photo needs its group, or photos of one could land on both sides of the split",
        )
    used = [USED[role].format(repr(column), table.path.name) for role, column in table.columns.items() if role in USED]
    notes = [*source.notes, *used]
    if missing:
        notes.append(f"{len(missing)} photos have no row in {table.path.name}; they keep their folder's class")
    presplit = source.presplit or "split" in table.columns
    return Source(source.name, source.root, tuple(items), presplit=presplit, notes=tuple(notes))


def _by_bare_name(source: Source, table: Table) -> dict[str, dict[str, str]]:
    """Rows of a CSV that names files without their folders, where a name is unique on both sides."""
    rows = Counter(path.rsplit("/", 1)[-1] for path in table.rows)
    files = Counter(item.path.rsplit("/", 1)[-1] for item in source.items)
    named = {path.rsplit("/", 1)[-1]: row for path, row in table.rows.items()}
    bare = {item.path: item.path.rsplit("/", 1)[-1] for item in source.items}
    return {path: named[name] for path, name in bare.items() if rows[name] == files[name] == 1}
