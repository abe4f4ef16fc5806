"""What a user calls DATA -> a list of labelled files.

Folders of class folders, pre-split folders, archives, CSV files and known sets all become
one `Source`. Knows nothing of what is inside the files.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pati.data import places
from pati.data.archives import is_archive, unpacked
from pati.data.decisions import Decision
from pati.data.places import Folder, Place, Zip
from pati.decode import is_photo_name, is_system_file
from pati.errors import PatiError
from pati.registry import Registry
from pati.system.files import cache_folder, csv_rows, scratch_folder, settle_folder

SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
          "validation": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "photo", "img"),
    "label": ("label", "class", "class_name", "category", "target"),
    "split": ("split", "subset", "partition"),
}


@dataclass(frozen=True)
class Item:
    """One labelled file; `path` is relative to the source's root, with forward slashes."""

    path: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Source:
    """A named list of labelled files below `root`, in order of their paths; `places.at(root)` reads them.

    `mirrored`: a photo and its mirror image mean the same, so flips are a sound
    augmentation (false for digits). `turned`: so do small turns. `presplit`: the user's
    own train/val/test folders or CSV column rule. `decisions`: the user's, by path.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    mirrored: bool = True
    turned: bool = True
    presplit: bool = False
    notes: tuple[str, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in natural order: 0, 1, 2, 10."""
        return tuple(sorted({item.label for item in self.items}, key=natural))


@dataclass(frozen=True)
class Columns:
    """Names of CSV columns; None means: found by usual names."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None

    def options(self) -> list[str]:
        """What names them on the command line; a group's column is named by the recipe."""
        named = (("path", self.path), ("label", self.label), ("split", self.split))
        return [part for name, value in named if value is not None for part in (f"--{name}-column", value)]


datasets: Registry[Callable[[Path | None], Source]] = Registry("dataset")


def natural(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sort key in which numbers count as numbers: 2 before 10. The text itself settles ties: 1 and 01."""
    parts = (part for part in re.split(r"(\d+)", text) if part)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts), text


def find(data: str | os.PathLike[str], columns: Columns = Columns()) -> Source:
    """The source that DATA names: a path or one of `datasets`. Raises `PatiError`."""
    text = os.fspath(data)
    path = Path(text).expanduser()
    if not path.exists():
        if text in datasets:
            if columns != Columns():
                raise PatiError(f"the known set {text} has no CSV, so there are no columns to choose or group by")
            return datasets[text](None)
        near = "" if os.sep in text else f"known sets: {', '.join(datasets)}"
        raise PatiError(f"there is no file, folder or known set {text!r}", near)
    return open_path(path, columns)


def open_path(path: Path, columns: Columns = Columns()) -> Source:
    """The source in a folder, archive or CSV file."""
    path = path.resolve()
    name = path.name
    if path.suffix.lower() in (".csv", ".tsv") and not path.is_dir():
        table = _read_table(Folder(path.parent), name, columns, required=True)
        assert table is not None
        return _from_table(name, path.parent, table)
    left_out: dict[str, int] = {}
    top: Place
    if path.is_dir():
        top = Folder(path)
    elif path.suffix.lower() == ".zip":
        zipped = places.at(path)
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
    place = _descend(top)
    table = _table_in(place, columns) or _table_beside(path, columns)
    if table is None and columns.group is not None:
        raise PatiError(
            f"no CSV with a column {columns.group!r} lies in or beside {path}",
            "grouping needs a CSV with one row a photo: its path and that column",
        )
    source = _from_folder(name, place)
    source = replace(source, notes=notes + source.notes)
    return source if table is None else _with_table(source, place, table)


# Folders -----------------------------------------------------------------------------


def _descend(place: Place) -> Place:
    """Through folders that hold one folder and no photos: where archives put their top folder."""
    while True:
        visible = [entry for entry in place.names() if not entry.name.startswith((".", "__MACOSX"))]
        folders = [entry for entry in visible if entry.folder]
        if len(folders) != 1 or any(is_photo_name(entry.name) or _is_table(entry.name) for entry in visible):
            return place
        inner = place.child(folders[0].name)
        if not any(entry.folder or _is_table(entry.name) for entry in inner.names()):
            return place  # a single class folder, not a wrapper
        place = inner


def _from_folder(name: str, place: Place) -> Source:
    notes: list[str] = []
    top = [entry for entry in place.names() if entry.folder and not _hidden(entry.name, notes)]
    splits = {entry.name: SPLITS[entry.name.lower()] for entry in top if entry.name.lower() in SPLITS}
    if "train" in splits.values() and len(set(splits.values())) > 1:
        others = [entry.name for entry in top if entry.name not in splits and _holds_files(place.child(entry.name))]
        if others:
            raise PatiError(
                f"{place.root} has {', '.join(splits)} and also {', '.join(others[:3])}: are these splits or classes?",
                "take the other folders away, or put the class folders alone into one folder",
            )
        top = [entry for entry in top if entry.name in splits]
    else:
        splits = {}
    items: list[Item] = []
    for entry in top:
        folder = place.child(entry.name)
        if splits:
            for inner in folder.names():
                if inner.folder and not _hidden(inner.name, notes):
                    relative = f"{entry.name}/{inner.name}"
                    items += _walk(folder.child(inner.name), relative, inner.name, splits[entry.name], notes)
        else:
            items += _walk(folder, entry.name, entry.name, None, notes)
    loose = sum(not entry.folder and not is_system_file(entry.name) for entry in place.names())
    if loose and items:
        notes.append(f"{loose} files beside the class folders have no class and are left out")
    return Source(name, place.root, tuple(items), presplit=bool(splits), notes=tuple(notes))


def _holds_files(place: Place) -> bool:
    names = place.names()
    if any(not entry.folder for entry in names):
        return True
    return any(_holds_files(place.child(entry.name)) for entry in names if not entry.link)


def _hidden(name: str, notes: list[str]) -> bool:
    if not name.startswith((".", "__MACOSX")):
        return False
    notes.append(f"folder {name} is hidden and is left out")
    return True


def _walk(place: Place, relative: str, label: str, split: str | None, notes: list[str]) -> list[Item]:
    items: list[Item] = []
    for entry in place.names():
        path = f"{relative}/{entry.name}"
        if entry.folder and not entry.link:
            if is_photo_name(entry.name):
                items.append(Item(path, label, split))  # for the audit to say that it is none
            if not _hidden(entry.name, notes):
                items += _walk(place.child(entry.name), path, label, split, notes)
        else:
            items.append(Item(path, label, split))
    return items


# CSV ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A CSV's rows by path, with the columns found; `has_label` etc. say which exist."""

    path: Path
    rows: dict[str, dict[str, str]] = field(repr=False)
    columns: dict[str, str]


def _table_in(place: Place, columns: Columns) -> _Table | None:
    found = [entry.name for entry in place.names() if _is_table(entry.name)]
    # One CSV among several may lack a column that was asked for; a single one must have it.
    return next((table for name in found if (table := _read_table(place, name, columns, alone=len(found) == 1))), None)


def _table_beside(path: Path, columns: Columns) -> _Table | None:
    """The CSV named like the folder or archive: photos.csv beside photos/ or photos.zip."""
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    candidate = path.parent / f"{stem}.csv"
    return _read_table(Folder(path.parent), candidate.name, columns) if candidate.is_file() else None


def _is_table(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv")) and not name.startswith(".")


def _read_table(
    place: Place, name: str, columns: Columns, *, required: bool = False, alone: bool = True
) -> _Table | None:
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
    table = _Table(path, {}, {role: name for role, name in found.items() if name})
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


def _row_item(path: str, label: str, table: _Table, row: dict[str, str], split: str | None) -> Item:
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


def _from_table(name: str, root: Path, table: _Table) -> Source:
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


def _with_table(source: Source, place: Place, table: _Table) -> Source:
    """A folder's photos with labels, splits and groups of the CSV that lies with them."""
    if not source.items:  # a flat folder: the CSV alone says what is what
        inside = any(place.holds(path) for path in table.rows)
        return _from_table(source.name, source.root if inside else table.path.parent, table)
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


def _by_bare_name(source: Source, table: _Table) -> dict[str, dict[str, str]]:
    """Rows of a CSV that names files without their folders, where a name is unique on both sides."""
    rows = Counter(path.rsplit("/", 1)[-1] for path in table.rows)
    files = Counter(item.path.rsplit("/", 1)[-1] for item in source.items)
    named = {path.rsplit("/", 1)[-1]: row for path, row in table.rows.items()}
    bare = {item.path: item.path.rsplit("/", 1)[-1] for item in source.items}
    return {path: named[name] for path, name in bare.items() if rows[name] == files[name] == 1}


# Known sets --------------------------------------------------------------------------


def mirror() -> Path | None:
    """Folder with data sets already at hand, from `$PATI_MIRROR`."""
    folder = os.environ.get("PATI_MIRROR")
    return Path(folder).expanduser() if folder else None


def locate(name: str, suffixes: tuple[str, ...] = (".zip",)) -> Path | None:
    """A known set's archive or folder in the mirror or the download cache."""
    for base in (mirror(), cache_folder() / "datasets"):
        for candidate in [base / name, *(base / f"{name}{suffix}" for suffix in suffixes)] if base else []:
            if candidate.exists():
                return candidate
    return None


@datasets.register("cats-vs-dogs")
def cats_vs_dogs(given: Path | None) -> Source:
    """Microsoft Cats vs Dogs: 25,000 photos of two classes; `pati fetch cats-vs-dogs` gets it."""
    path = given or locate("cats-vs-dogs")
    if path is None:
        raise PatiError(
            "cats-vs-dogs is not on this machine",
            "run `pati fetch cats-vs-dogs`, or set PATI_MIRROR to a folder with cats-vs-dogs.zip",
        )
    source = open_path(path)
    return Source("cats-vs-dogs", source.root, source.items, presplit=source.presplit, notes=source.notes)


@datasets.register("digits")
def digits(given: Path | None) -> Source:
    """Handwritten digits: 1,797 grey 8×8 pictures of 0 to 9 that come with scikit-learn."""
    folder = given or cache_folder() / "datasets" / "digits"
    if not folder.is_dir():
        _write_digits(folder)
    source = open_path(folder)
    # A mirrored 2 is no digit, and a turned 6 is a 9.
    return Source("digits", source.root, source.items, mirrored=False, turned=False, notes=source.notes)


def _write_digits(folder: Path) -> None:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    with scratch_folder(folder) as temporary:
        bunch = load_digits()
        for index, (picture, target) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            path = temporary / "new" / str(target) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.clip(np.rint(picture * (255 / 16)), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(path)
        settle_folder(temporary / "new", folder)
