"""CSV files with one row per photo: its path, and its class, split or group."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from pati.data.decode import is_photo_name
from pati.data.sources.archives import stem
from pati.data.sources.source import SPLITS, Columns, Item, Source
from pati.data.sources.storage import Folder, Storage
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message
from pati.system.files import csv_rows

COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "photo", "img"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "subset", "partition"),
}


@dataclass(frozen=True)
class Table:
    """A CSV's rows by photo path; `columns` maps a role (path, label, split, group) to the name of its column."""

    path: Path
    rows: dict[str, dict[str, str]] = field(repr=False)
    columns: dict[str, str]


def table_in(store: Storage, columns: Columns) -> Table | None:
    """The first table in a folder that describes photos."""
    tables = [entry.name for entry in store.names() if is_table(entry.name)]
    # If there are several CSV files, one may lack a requested column; a single one must have it.
    return next((table for name in tables if (table := read_table(store, name, columns, alone=len(tables) == 1))), None)


def table_beside(path: Path, columns: Columns) -> Table | None:
    """The CSV named like the folder or archive: photos.csv next to photos/ or photos.zip."""
    candidate = path.parent / f"{path.name if path.is_dir() else stem(path.name)}.csv"
    return read_table(Folder(path.parent), candidate.name, columns) if os.path.isfile(candidate) else None


def is_table(name: str) -> bool:
    """Whether the file name is that of a table."""
    return name.lower().endswith((".csv", ".tsv")) and not name.startswith(".")


def read_table(
    store: Storage, name: str, columns: Columns, *, required: bool = False, alone: bool = True
) -> Table | None:
    """The CSV's rows, or None if it lists no photos or has no column that pati uses.

    With `required`, this is an error. With `alone`, a missing requested column is an error too.
    """
    path = store.root / name
    try:
        with store.open(name) as binary, io.TextIOWrapper(binary, newline="", encoding="utf-8-sig") as file:
            header, lines = csv_rows(file.read(), tabs=path.suffix.lower() == ".tsv")
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        if not required and (columns == Columns() or not alone):
            return None  # probably another program's file
        raise PatiError(
            N_("can't read {path}: {error}", path=path, error=error), N_("expected a CSV in UTF-8 with a header row")
        ) from None
    wanted = (columns.path, columns.label, columns.split, columns.group)
    missing = next((name for name in wanted if name is not None and name not in header), None)
    if missing is not None:
        if not alone:
            return None
        raise PatiError(
            N_("{path} has no column {column!r}", path=path, column=missing),
            N_("its columns: {names}", names=header),
        )
    roles = {role: getattr(columns, role) or _usual(header, role) for role in COLUMNS}
    roles["group"] = columns.group
    useful = roles["label"] or roles["split"] or roles["group"]
    if roles["path"] is None or not useful or (required and roles["label"] is None):
        if not required:
            return None
        lacking = "path" if roles["path"] is None else "label"
        raise PatiError(
            N_("{path} has no {role} column; its columns: {names}", path=path, role=lacking, names=header),
            N_(
                "rename the column to {name}, or choose another with --{role}-column",
                name=COLUMNS[lacking][0],
                role=lacking,
            ),
        )
    table = Table(path, {}, {role: name for role, name in roles.items() if name})
    for row in lines:
        key = tidy(row[table.columns["path"]])
        before = table.rows.setdefault(key, row)
        if any(before[name] != row[name] for name in table.columns.values()):
            raise PatiError(
                N_("{path} has two different rows for {photo}", path=path, photo=key), N_("keep one of them")
            )
    return table


def tidy(path: str | None) -> str:
    """Normalise a photo's path from a hand-made table: forward slashes, no surrounding spaces."""
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
            raise PatiError(
                N_("{path}: unknown split {split!r} for {photo}", path=table.path, split=named, photo=path),
                N_("known: {names}", names=SPLITS),
            )
        split = SPLITS[named.lower()]
    group = (row[columns["group"]] or "").strip() or None if "group" in columns else None
    return Item(path, label, split, group)


def from_table(name: str, root: Path, table: Table) -> Source:
    """The photos listed in a table; rows without a label are left out."""
    items = [_row_item(path, "", table, row, None) for path, row in sorted(table.rows.items())]
    unlabelled = sum(not item.label for item in items)
    notes: tuple[Message, ...] = ()
    if unlabelled:
        notes = (
            NP_(
                "{n} row of {table} has no label and is ignored",
                "{n} rows of {table} have no label and are ignored",
                n=unlabelled,
                table=table.path.name,
            ),
        )
    kept = tuple(item for item in items if item.label)
    return Source(name, root, kept, presplit="split" in table.columns, notes=notes)


def _used(role: str, column: str, table: str) -> Message:
    """A note that says what a table's column is used for."""
    if role == "label":
        return N_("labels are read from column {column!r} of {table}", column=column, table=table)
    if role == "split":
        return N_("splits are read from column {column!r} of {table}", column=column, table=table)
    return N_("photos are grouped by column {column!r} of {table}", column=column, table=table)


def with_table(source: Source, store: Storage, table: Table) -> Source:
    """A folder's photos with labels, splits and groups from its CSV."""
    if not source.items:  # a flat folder: only the CSV has the labels
        inside = any(store.holds(path) for path in table.rows)
        return from_table(source.name, source.root if inside else table.path.parent, table)
    by_path = table.rows
    if not any(item.path in by_path for item in source.items):
        by_path = _by_bare_name(source, table)
    items: list[Item] = []
    missing: list[str] = []
    left_out: list[str] = []
    for item in source.items:
        row = by_path.get(item.path)
        if row is None and not item.label:
            left_out += [item.path] if is_photo_name(item.path) else []
            continue
        if row is None and is_photo_name(item.path):
            missing.append(item.path)
        items.append(item if row is None else _row_item(item.path, item.label, table, row, item.split))
    if missing and "group" in table.columns:
        raise PatiError(
            NP_(
                "{n} photo has no row in {table}, {example}, so it can't be grouped by {column!r}",
                "{n} photos have no row in {table}, for example {example}, so they can't be grouped by {column!r}",
                n=len(missing),
                table=table.path.name,
                example=missing[0],
                column=table.columns["group"],
            ),
            N_("every photo needs a group, otherwise a group could end up in more than one split"),
        )
    roles = ("label", "split", "group")
    used = [_used(role, column, table.path.name) for role, column in table.columns.items() if role in roles]
    notes = [*source.notes, *used]
    if missing:
        notes.append(
            NP_(
                "{n} photo has no row in {table}; it keeps the class of its folder",
                "{n} photos have no row in {table}; they keep the class of their folder",
                n=len(missing),
                table=table.path.name,
            )
        )
    if left_out:
        notes.append(
            NP_(
                "{n} photo has no row in {table} and is left out, {example}",
                "{n} photos have no row in {table} and are left out, for example {example}",
                n=len(left_out),
                table=table.path.name,
                example=left_out[0],
            )
        )
    presplit = source.presplit or "split" in table.columns
    return Source(source.name, source.root, tuple(items), presplit=presplit, notes=tuple(notes))


def _by_bare_name(source: Source, table: Table) -> dict[str, dict[str, str]]:
    """Rows of a CSV that lists file names without folders, where a name is unique on both sides."""
    rows = Counter(path.rsplit("/", 1)[-1] for path in table.rows)
    files = Counter(item.path.rsplit("/", 1)[-1] for item in source.items)
    named = {path.rsplit("/", 1)[-1]: row for path, row in table.rows.items()}
    bare = {item.path: item.path.rsplit("/", 1)[-1] for item in source.items}
    return {path: named[name] for path, name in bare.items() if rows[name] == files[name] == 1}
