"""The labelled files of a folder, an archive or a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pati.data.decode import is_photo_name
from pati.data.sources import allowed, storage
from pati.data.sources.archives import LEFT_OUT, is_archive, kind_of, unpacked
from pati.data.sources.folder_tables import (
    Place,
    Tables,
    from_table,
    read_tables,
    ungrouped,
    with_columns,
    with_labels,
)
from pati.data.sources.folders import child_store, from_folder, unwrapped, without_classes
from pati.data.sources.source import Columns, Item, Source
from pati.data.sources.spelling import one_spelling
from pati.data.sources.storage import Folder, Storage, Zip
from pati.data.sources.table_rows import Reading
from pati.data.sources.tables import LISTS, SUFFIXES
from pati.data.sources.tree import read_tree
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message, as_is


def open_path(path: Path, columns: Columns = Columns()) -> Source:
    """The source in a folder, archive or CSV file. Raises `PatiError`."""
    if path.name.lower().endswith((*SUFFIXES, *LISTS)) and path.is_file():
        if columns.table is not None:
            raise PatiError(N_("{path} is a table itself", path=path), N_("give its photos as DATA, or omit --table"))
        if not allowed.may_read(path):
            raise _outside(path)
        return one_spelling(from_table(path.parent.resolve() / path.name, columns), columns)
    path = path.resolve()
    if not allowed.may_read(path):
        raise _outside(path)
    name = path.name
    top, notes, archived = _opened(path)
    tree, seen = read_tree(top, name)
    inner = unwrapped(tree)
    place = Place(path, top, tree, inner, archived)
    tables = read_tables(place, columns)
    reading = tables.reading
    if reading is None and tree.archives and not tree.photos:
        raise PatiError(
            N_("{path} contains archives, {names}, but no photos", path=path, names=tree.archives[:5]),
            N_("unpack them into the folder, or give one of them as DATA"),
        )
    if reading is None and columns.group is not None:
        raise PatiError(
            N_("no CSV with a column {group!r} in or beside {path}", group=columns.group, path=path),
            N_("grouping needs a CSV with one row per photo, holding its path and this column"),
        )
    if reading is not None and reading.labelled and columns.classes_level is None:
        _require_decided(place, name, reading, columns)
        source = with_labels(place, name, reading)
    else:
        source = _by_folders(place, name, tables, columns)
    return one_spelling(replace(source, notes=(*notes, *seen, *source.notes, *tables.notes())), columns)


def open_without_classes(path: Path) -> Source:
    """All photos in a folder or archive, or those of a CSV file, or a single one. Raises `PatiError`."""
    if path.is_file() and path.name.lower().endswith((*SUFFIXES, *LISTS)):
        return open_path(path, Columns(class_case="keep"))
    path = path.resolve()
    if not allowed.may_read(path):
        raise _outside(path)
    if path.is_file() and is_photo_name(path.name):
        return Source(path.name, path.parent, (Item(path.name, path.name),))
    top, notes, _ = _opened(path)
    tree, seen = read_tree(top, path.name)
    tree = unwrapped(tree, tables=False)
    source = without_classes(path.name, child_store(top, tree.path), tree)
    return replace(source, notes=(*notes, *seen, *source.notes))


def _outside(path: Path) -> PatiError:
    return PatiError(N_("{path} is outside the folders that may be read", path=path))


def _opened(path: Path) -> tuple[Storage, list[Message], bool]:
    """The storage of a folder or archive, what of it was left out, and whether it is an archive."""
    if path.is_dir():
        return Folder(path), [], False
    notes: list[Message] = []
    if (kind := kind_of(path)) == "zip" or (kind is None and path.suffix.lower() == ".zip"):
        top = storage.at(path)
        assert isinstance(top, Zip)
        left_out = top.left_out
        if top.encoding not in (None, "utf-8"):
            notes.append(
                N_(
                    "the names in {path} are not marked as UTF-8; they are read as {encoding}",
                    path=path.name,
                    encoding=top.encoding,
                )
            )
        opened: Storage = top
    elif kind == "tar" or is_archive(path):
        folder, left_out = unpacked(path)
        opened = Folder(folder)
    else:
        raise PatiError(
            N_("{path} is neither a folder, an archive nor a CSV file", path=path),
            N_(
                "expected a folder with one folder per class, a .zip or .tar.* of it, or a CSV with the "
                "columns path and label"
            ),
        )
    ignored = [
        NP_(
            "{n} member of the archive is ignored: {reason}",
            "{n} members of the archive are ignored: {reason}",
            n=count,
            reason=LEFT_OUT.get(reason, as_is(reason)),  # caches of older versions contain sentences
        )
        for reason, count in left_out.items()
    ]
    return opened, [*ignored, *notes], True


def _require_decided(place: Place, name: str, reading: Reading, columns: Columns) -> None:
    """Raise `PatiError` if a table labels the lesser part of the photos, and the folders of all may be classes."""
    without = [path for path in place.tree.walk() if path not in reading.items and is_photo_name(path)]
    if not without:
        return
    try:
        classes = from_folder(name, place.store, unwrapped(place.tree, tables=False)).classes
    except PatiError:
        return
    if len(classes) < 2:
        return
    if columns.group is not None:
        raise ungrouped(without, reading)
    if len(without) > len(reading.items) and columns.table is None and columns.label is None:
        raise PatiError(
            NP_(
                "{table} labels {n} photo of {total}, but the folders name classes too: {folders}",
                "{table} labels {n} photos of {total}, but the folders name classes too: {folders}",
                n=len(reading.items),
                table=reading.shown,
                total=len(reading.items) + len(without),
                folders=classes[:6],
            ),
            N_(
                "--table {table} reads the classes from the table and leaves out the other photos; --classes-level 1 "
                "reads them from the folders",
                table=reading.shown,
            ),
        )


def _by_folders(place: Place, name: str, tables: Tables, columns: Columns) -> Source:
    """The photos with the classes of their folders or names. Raises `PatiError`."""
    reading = tables.reading
    tree = unwrapped(place.tree, tables=False) if reading is None else place.tree
    why = [N_("{table}: {reason}", table=table, reason=error.reason) for table, error in tables.refused.items()]
    try:
        source = from_folder(name, child_store(place.top, tree.path), tree, level=columns.classes_level)
    except PatiError as error:
        if not why:
            raise
        message = N_("{message}; tables that are not used: {reasons}", message=error.message, reasons=why)
        first = next((one.hint for one in tables.refused.values() if one.hint), None)
        raise PatiError(
            message, N_("{hint}; or: {other}", hint=first, other=error.hint) if first else error.hint
        ) from None
    # The names of files don't decide where a table may say something else.
    folders = sorted({item.label for item in source.items if item.label in item.path.split("/")[:-1]})
    if len(folders) < 2 and why and columns.classes_level is None:
        hint = next((error.hint for error in tables.refused.values() if error.hint), None)
        if folders:
            message = N_(
                "the folders of {root} name {classes} only, and none of its tables can be used: {reasons}",
                root=place.name,
                classes=folders,
                reasons=why,
            )
        elif source.items:
            message = N_(
                "the photos in {root} lie in no class folders, and none of its tables can be used: {reasons}",
                root=place.name,
                reasons=why,
            )
            hint = hint or N_("if the names of the files are the classes, move the tables elsewhere")
        else:
            message = N_("no photos found in {root}; tables that are not used: {reasons}", root=place.name, reasons=why)
        raise PatiError(message, hint)
    if reading is None:
        return source
    if reading.labelled:
        note = N_("the labels of {table} are not used: --classes-level chooses the folders", table=reading.shown)
        source = replace(source, notes=(*source.notes, note))
    if reading.table.split is None and reading.table.group is None:
        return source
    return with_columns(source, reading)
