"""Which tables in and beside a folder or archive say what its photos show.

Where several do, and do not belong together, `read_tables` raises and names the option that decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from pati.data.decode import is_photo_name
from pati.data.sources import allowed
from pati.data.sources.archives import ArchiveLimits, stem
from pati.data.sources.folders import child_store
from pati.data.sources.interface import Files
from pati.data.sources.matching import Disk, Photos, match
from pati.data.sources.source import Columns, Item, Source, plain, split_role
from pati.data.sources.storage import Folder
from pati.data.sources.table_rows import Reading, read_rows
from pati.data.sources.tables import LISTS, SUFFIXES, is_other_table, is_table, read_table
from pati.data.sources.tree import Tree, read_tree
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message
from pati.system.csv_text import Unusable

DEEPEST = 2  # levels of folders below that of the data in which tables are looked for
MOST = 100  # tables that are read; with more, such as one per photo, only those of the top folder
_SPLITS = {"train": 1, "validation": 2, "test": 3}
_MOST_LISTS = 20  # text files that may be lists of photos


@dataclass(frozen=True)
class Place:
    """A folder or archive with photos. `tree`, `store`: its contents, without wrappers; `top`, `whole`: with them.

    `path`: that of the data as a whole; `archived`: a table in it or beside it cannot name files elsewhere.
    """

    path: Path
    top: Files
    whole: Tree
    tree: Tree
    archived: bool

    @property
    def store(self) -> Files:
        """The storage of `tree`."""
        return child_store(self.top, self.tree.path)

    @property
    def beside(self) -> Folder | None:
        """The folder of shards, which may hold tables of what is in them."""
        return Folder(self.path) if self.archived and self.path.is_dir() else None

    def below(self, path: str) -> str:
        """A path in `whole`, relative to `tree` if it is in it."""
        inner = f"{self.tree.path}/" if self.tree.path else ""
        return path[len(inner) :] if f"{path}/".startswith(inner) else path

    @property
    def name(self) -> str:
        """For messages."""
        return self.tree.path or self.tree.name


@dataclass(frozen=True)
class Tables:
    """The tables to use, in one reading, and why others are not used, by name."""

    reading: Reading | None
    refused: dict[str, Unusable]
    more: list[Message] = field(default_factory=list)

    def notes(self) -> list[Message]:
        """Notes on the tables that are not used."""
        return self.more + [
            N_("the table {table} is not used: {reason}", table=name, reason=error.reason)
            for name, error in self.refused.items()
        ]


def read_tables(place: Place, columns: Columns) -> Tables:
    """The tables of a folder that describe its photos, or the one that the user named. Raises `PatiError`."""
    photos = _AllPhotos(place)
    if columns.table is not None:
        store, name = _named(columns.table, place, columns)
        try:
            return Tables(_read(store, name, "", place, photos, columns), {})
        except Unusable as error:
            raise refusal(name, error) from None
    readings, refused = [], {}
    more: list[Message] = []
    for store, folder, name in _candidates(place, columns, more):
        shown = f"{folder}/{name}" if folder else name
        try:
            if is_other_table(name):
                raise Unusable(N_("pati does not read this format"), N_("save it as CSV UTF-8"))
            if "submission" in plain(name):
                raise Unusable(N_("it is a form for predictions"))
            readings.append(_read(store, name, folder, place, photos, columns))
        except Unusable as error:
            if not name.lower().endswith(LISTS) or _lists_photos(store, name):
                refused[shown] = error
    asked = (columns.path, columns.label, columns.split, columns.group)
    if len(refused) == 1 and not readings and any(asked):
        raise refusal(*next(iter(refused.items())))
    return Tables(_of_several(place, readings, refused), refused, more)


def _lists_photos(store: Files, name: str) -> bool:
    """Whether a text file is meant as a table: its first line names a photo."""
    try:
        with store.open(name) as file:
            words = file.read(4096).decode(errors="replace").strip().partition("\n")[0]
    except OSError:
        return False
    return any(map(is_photo_name, re.split(r"[\s,;|]+", words)))


def refusal(name: str, error: Unusable) -> PatiError:
    """The error for a table that the user named, or that is the only one."""
    return PatiError(N_("the table {table} can't be used: {reason}", table=name, reason=error.reason), error.hint)


def with_labels(place: Place, name: str, reading: Reading) -> Source:
    """The photos that a table labels; those without a row are left out and counted."""
    items = reading.items
    tops = {path.partition("/")[0] if "/" in path else "" for path in items}
    roles = {top: split_role(top) for top in tops}
    splits = {item.split for item in items.values()}
    if len(splits) == 1 and None not in splits:  # the splits that are left are pati's to make
        items = {path: replace(item, split=None) for path, item in items.items()}
        reading = replace(reading, table=replace(reading.table, split=None))
    notes = [*_used(reading), *reading.notes]
    if len(splits) == 1 and None not in splits:
        notes.append(
            N_(
                "all rows of {table} belong to the split {split}: pati makes the splits",
                table=reading.shown,
                split=splits.pop(),
            )
        )
    presplit = any(item.split for item in items.values())
    if not presplit and len(roles) > 1 and all(roles.values()) and len({*roles.values()}) == len(roles):
        items = {path: replace(item, split=roles[path.partition("/")[0]]) for path, item in items.items()}
        read = [N_("{folder} ({split})", folder=folder, split=role) for folder, role in sorted(roles.items())]
        notes.append(N_("the splits are read from the folders {folders}", folders=read))
        presplit = True
    without = (path for path in place.tree.walk() if path not in items and is_photo_name(path))
    example = next(without, None)
    if example is not None:
        count = 1 + sum(1 for _ in without)
        notes.append(_without_row(count, example, reading.shown))
    outside = sum(os.path.isabs(path) or path.startswith("../") for path in items)
    if outside:
        notes.append(_outside(outside, reading.shown, place.store.root))
    ordered = tuple(items[path] for path in sorted(items, key=lambda path: path.split("/")))
    return Source(name, place.store.root, ordered, presplit=presplit, notes=tuple(notes))


def with_columns(source: Source, reading: Reading) -> Source:
    """A folder's photos, with the splits and groups of a table, but not its labels. Raises `PatiError`."""
    table = reading.table
    photos = [item for item in source.items if is_photo_name(item.path)]
    missing = [item.path for item in photos if item.path not in reading.items]
    if missing and table.group is not None:
        raise ungrouped(missing, reading)
    items = [
        replace(item, split=row.split or item.split, group=row.group)
        for item in source.items
        for row in [reading.items.get(item.path) or Item(item.path, item.label)]
        if item.path in reading.items or not is_photo_name(item.path)
    ]
    notes = [*source.notes, *_used(replace(reading, table=replace(table, label=()))), *reading.notes]
    if missing:
        notes.append(_without_row(len(missing), missing[0], reading.shown))
    presplit = source.presplit or table.split is not None
    return replace(source, items=tuple(items), presplit=presplit, notes=tuple(notes))


def ungrouped(missing: Sequence[str], reading: Reading) -> PatiError:
    """That photos have no group."""
    table = reading.table
    return PatiError(
        NP_(
            "{n} photo has no row in {table}, {example}, so it can't be grouped by {column!r}",
            "{n} photos have no row in {table}, for example {example}, so they can't be grouped by {column!r}",
            n=len(missing),
            table=reading.shown,
            example=missing[0],
            column=table.header[table.group or 0],
        ),
        N_("every photo needs a group, otherwise a group could end up in more than one split"),
    )


def from_table(path: Path, columns: Columns) -> Source:
    """The photos that a table lists, which may lie anywhere; rows without a photo are counted. Raises `PatiError`."""
    store, tree = Folder(path.parent), Tree(path.parent.name, "")
    notes: list[Message] = []
    reading = _as_written(store, path.name, columns)
    if reading is None:  # ids, or paths of another machine
        whole, notes = read_tree(store, tree.name)
        place = Place(path, store, whole, whole, archived=False)
        try:
            reading = _read(store, path.name, "", place, _AllPhotos(place), columns)
            if not reading.labelled:
                raise _no_labels(reading.table.header)
        except Unusable as error:
            raise refusal(path.name, error) from None
    source = with_labels(Place(path, store, tree, tree, archived=False), path.name, reading)
    return replace(source, notes=(*notes, *source.notes))


def _as_written(store: Folder, name: str, columns: Columns) -> Reading | None:
    """A table's items, if at least half of its rows lead to a file, starting from its folder."""
    disk = Disk(store.root)
    try:
        table = read_table(store, name, columns, disk.known)
        rows = there = 0
        for row in table.names():
            rows += 1
            there += disk.known(row)
        return read_rows(table, disk.found) if table.label and there and 2 * there >= rows else None
    except Unusable:
        return None


class _AllPhotos:
    """The photos of a place, or of a folder in it, by name; listed when they are first asked for."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._of: dict[str, Photos] = {}

    def below(self, folder: str) -> Photos:
        if folder not in self._of:
            prefix = f"{folder}/" if folder else ""
            paths = (path for path in self._place.tree.walk() if path.startswith(prefix) and not is_table(path))
            self._of[folder] = Photos(paths)
        return self._of[folder]


def _read(store: Files, name: str, folder: str, place: Place, photos: _AllPhotos, columns: Columns) -> Reading:
    """A table's items. Raises `Unusable` if it does not describe photos of the place, `PatiError` if it does badly."""
    table = read_table(
        store, name, columns, photos.below("").known, folder, ArchiveLimits.files if place.archived else None
    )
    if not (table.label or table.split is not None or table.group is not None):
        raise _no_labels(table.header)
    for within in dict.fromkeys((folder, "")):  # a table's paths start from its own folder, or from that of the data
        matched = match(photos.below(within), table.names, table.shown)
        if matched.rows:
            reading = read_rows(table, matched.found)
            return replace(reading, notes=(*matched.notes, *reading.notes))
    if place.archived or not isinstance(store, Folder):
        return read_rows(table, lambda row: [])
    disk, base = Disk(store.root), store.root.as_posix()
    return read_rows(table, lambda row: [Path(base, path).as_posix() for path in disk.found(row)])


def _no_labels(header: Sequence[str]) -> Unusable:
    return Unusable(
        N_("it has no label column; its columns: {names}", names=list(islice(header, 20))),
        N_("--label-column chooses the column with the classes"),
    )


def _named(table: str, place: Place, columns: Columns) -> tuple[Files, str]:
    """The table that the user named: a file, or one below the data. Raises `PatiError`."""
    path = Path(table)
    if path.is_absolute() and os.path.isfile(path) and allowed.may_read(path):
        return Folder(path.parent.resolve()), path.name
    for store in (place.store, place.top, *filter(None, [place.beside])):
        if not path.is_absolute() and ".." not in path.parts and store.holds(table):
            return child_store(store, path.parent.as_posix()), path.name
    raise PatiError(
        N_("--table {table}: no such file", table=table),
        N_("expected the path of a table, or its path within {root}", root=place.name),
    )


def _candidates(place: Place, columns: Columns, notes: list[Message]) -> list[tuple[Files, str, str]]:
    """The tables in a place, and those beside it that are named like it: their storage, folder and name."""
    found: list[tuple[Files, str, str]] = []
    level = [(place.top, place.whole)]
    for depth in range(len(Path(place.tree.path).parts) + DEEPEST + 1):
        here = [
            (store, place.below(tree.path), name)
            for store, tree in level
            for name in [*tree.tables, *filter(is_other_table, tree.files)]
        ]
        found += here if len(here) <= MOST or not depth else []
        if len(found) > MOST or (len(here) > MOST and depth):
            notes.append(N_("{root} contains more than {n} tables; not all of them are read", root=place.name, n=MOST))
            break
        level = [(store.child(name), folder) for store, tree in level for name, folder in tree.folders.items()]
    if place.beside:
        entries = [entry.name for entry in place.beside.names() if not entry.folder]
        found += [(place.beside, "", name) for name in entries if is_table(name) and place.beside.holds(name)]
    lists = [name for name in place.tree.files if name.lower().endswith(LISTS)]
    found = found[:MOST] + [(place.store, "", name) for name in lists[:_MOST_LISTS]]
    beside = place.path.name if place.path.is_dir() else stem(place.path.name)
    for suffix in SUFFIXES:
        path = place.path.parent / f"{beside}{suffix}"
        if os.path.isfile(path) and allowed.may_read(path):
            found.append((Folder(path.parent), "", path.name))
    return found


def _of_several(place: Place, readings: list[Reading], refused: dict[str, Unusable]) -> Reading | None:
    """The reading to use of all that fit. Raises `PatiError` if that is not clear."""
    labelled = [reading for reading in readings if reading.labelled]
    if labelled:
        for reading in readings:
            if not reading.labelled:
                refused[reading.shown] = Unusable(N_("another table names the classes"))
        return labelled[0] if len(labelled) == 1 else _joined(place, labelled)
    if len(readings) > 1:
        raise _undecided(place, readings)
    return readings[0] if readings else None


def _joined(place: Place, readings: list[Reading]) -> Reading:
    """Tables named like splits, such as train.csv and test.csv, as one. Raises `PatiError` if they are not."""
    readings = sorted(readings, key=lambda reading: _SPLITS.get(_role(reading) or "", 0))
    roles = [_role(reading) for reading in readings]
    paths = [path for reading in readings for path in reading.items]
    if None in roles or len({*roles}) < len(roles) or "train" not in roles or len({*paths}) < len(paths):
        raise _undecided(place, readings)
    items = {
        path: replace(item, split=item.split or role)
        for reading, role in zip(readings, roles, strict=True)
        for path, item in reading.items.items()
    }  # a column of splits counts more than the name of a table
    read = [
        N_("{folder} ({split})", folder=reading.shown, split=role)
        for reading, role in zip(readings, roles, strict=True)
    ]
    notes = [N_("the splits are read from the tables {tables}", tables=read)]
    shown = ", ".join(reading.shown for reading in readings)
    return Reading(readings[0].table, shown, items, (*notes, *(note for reading in readings for note in reading.notes)))


def _role(reading: Reading) -> str | None:
    """The split that a table is named after, itself or its folder."""
    return split_role(reading.table.name.rpartition(".")[0]) or split_role(reading.table.folder.rpartition("/")[2])


def _undecided(place: Place, readings: Sequence[Reading]) -> PatiError:
    """That several tables fit."""
    seen = [
        NP_(
            "{table} ({n:,} photo; columns {columns})",
            "{table} ({n:,} photos; columns {columns})",
            n=len(reading.items),
            table=reading.shown,
            columns=list(reading.table.header[:6]),
        )
        for reading in readings[:10]
    ]
    return PatiError(
        N_("{root} contains several tables of its photos: {tables}", root=place.name, tables=seen),
        N_(
            "--table {table} chooses one; tables named like splits (train.csv, test.csv) are read together if no "
            "photo is in two of them",
            table=readings[0].shown,
        ),
    )


def _used(reading: Reading) -> list[Message]:
    """Notes that say what a table's columns are used for."""
    table, notes = reading.table, []
    names = [table.header[column] for column in table.label]
    if len(names) == 1:
        notes.append(N_("labels are read from column {column!r} of {table}", column=names[0], table=reading.shown))
    elif names:
        notes.append(
            N_("labels are read from the columns {names} of {table}, one per class", names=names, table=reading.shown)
        )
    if table.split is not None:
        column = table.header[table.split]
        notes.append(N_("splits are read from column {column!r} of {table}", column=column, table=reading.shown))
    if table.group is not None:
        column = table.header[table.group]
        notes.append(N_("photos are grouped by column {column!r} of {table}", column=column, table=reading.shown))
    return notes


def _without_row(count: int, example: str, table: str) -> Message:
    return NP_(
        "{n} photo has no row in {table} and is left out, {example}",
        "{n} photos have no row in {table} and are left out, for example {example}",
        n=count,
        table=table,
        example=example,
    )


def _outside(count: int, table: str, root: Path) -> Message:
    return NP_(
        "{n} photo of {table} lies outside {root}",
        "{n} photos of {table} lie outside {root}",
        n=count,
        table=table,
        root=root,
    )
