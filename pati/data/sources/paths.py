"""The labelled files of a folder, an archive or a table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pati.data.columns import Codes
from pati.data.decode import is_photo_name
from pati.data.sources import allowed, shards, storage
from pati.data.sources.archives import COMPRESSED_TARS, LEFT_OUT, is_archive, is_plain_tar, kind_of, unpacked
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
from pati.data.sources.interface import Files
from pati.data.sources.parquet import all_rows, from_parquet, is_parquet
from pati.data.sources.samples import from_samples, samples_of
from pati.data.sources.shards import Shards
from pati.data.sources.source import Columns, Item, Items, Source
from pati.data.sources.spelling import one_spelling
from pati.data.sources.storage import Folder, Zip
from pati.data.sources.table_rows import Reading
from pati.data.sources.tables import LISTS, SUFFIXES
from pati.data.sources.tars import Merged, Tars
from pati.data.sources.tree import Tree, read_tree
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message, as_is


def open_path(path: Path, columns: Columns = Columns()) -> Source:
    """The source in a folder, archive, table or Parquet file, or in shards. Raises `PatiError`."""
    if path.name.lower().endswith((*SUFFIXES, *LISTS)) and path.is_file():
        if columns.table is not None:
            raise PatiError(N_("{path} is a table itself", path=path), N_("give its photos as DATA, or omit --table"))
        if not allowed.may_read(path):
            raise _outside(path)
        return one_spelling(from_table(path.parent.resolve() / path.name, columns), columns)
    path = path.resolve()
    if not allowed.may_read(path):
        raise _outside(path)
    return one_spelling(_labelled(path, columns), columns)


def _labelled(path: Path, columns: Columns) -> Source:
    """The source at a path that may be read. Raises `PatiError`."""
    if is_parquet(path):
        return from_parquet(path.name, shards.single(path), columns)
    top, notes, archived = _opened(path)
    if isinstance(top, Tars):
        return _from_tars(path, top, columns)
    tree, seen = read_tree(top, path.name)
    place = Place(path, top, tree, unwrapped(tree), archived)
    files = None if archived or tree.photos else _shards_in(path, tree)
    if files and not _table_of_files(place, columns):
        if files.root.name.endswith(shards.PARQUET):
            return from_parquet(path.name, files, columns)
        store = storage.at(files.root)
        assert isinstance(store, Tars)
        return _from_tars(path, store, columns)
    source = _from_files(place, read_tables(place, columns), columns)
    return replace(source, notes=(*notes, *seen, *source.notes))


def _from_files(place: Place, tables: Tables, columns: Columns) -> Source:
    """The source in a folder or archive with photos. Raises `PatiError`."""
    path, tree, reading = place.path, place.whole, tables.reading
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
        _require_decided(place, path.name, reading, columns)
        source = with_labels(place, path.name, reading)
    else:
        source = _by_folders(place, path.name, tables, columns)
    return replace(source, notes=(*source.notes, *tables.notes()))


def _from_tars(path: Path, store: Tars, columns: Columns) -> Source:
    """The photos in tars: samples with their classes, or files in folders. Raises `PatiError`."""
    notes = [*_left_out(store.index.left_out), *store.index.notes]
    samples = samples_of(store) if columns.table is None and columns.classes_level is None else None
    if samples is not None:
        source = from_samples(path.name, store, samples, columns)
        return replace(source, notes=(*notes, *source.notes))
    tree, seen = read_tree(store, path.name)
    if not tree.photos and path.is_dir():
        raise PatiError(
            N_("{path} contains tars, {names}, but no photos in them", path=path,
               names=[shard.name for shard in store.index.shards.all[:5]]),
            N_("expected tars of photos in folders, or of samples (WebDataset)"),
        )  # fmt: skip
    place = Place(path, store, tree, unwrapped(tree), archived=True)
    source = _from_files(place, read_tables(place, columns), columns)
    source = replace(source, notes=(*notes, *seen, *source.notes))
    return source if source.presplit else _split_by_shard(source, store)


def _split_by_shard(source: Source, store: Tars) -> Source:
    """The source with the splits that its shards are named after, if they are."""
    roles = shards.roles(store.index.shards)
    if not any(roles):
        return source
    inside = source.root.relative_to(store.root).as_posix()
    items = source.columns
    numbers = (store.index.paths.find(path if inside == "." else f"{inside}/{path}") for path in items.paths)
    splits = Codes.of(
        split if number is None else roles[store.index.shard[number]]
        for number, split in zip(numbers, items.splits, strict=True)
    )
    items = Items(items.paths, items.labels, splits, items.groups)
    notes = (*source.notes, shards.told(roles, store.index.shards))
    return shards.labelled(source.name, source.root, items, notes)


def _shards_in(folder: Path, tree: Tree) -> Shards | None:
    """The shards in a folder without photos; None if there are none. Raises `PatiError` if it is not clear which."""
    tars, tables = (shards.all_in(folder, suffix) for suffix in (shards.TAR, shards.PARQUET))
    others = [name for name in tree.archives if not name.lower().endswith(shards.TAR)]
    if tars.all and (others or tables.all):
        raise PatiError(
            N_(
                "{path} contains tars, but other archives or Parquet files too: {names}",
                path=folder,
                names=[tars.all[0].name, *others[:2], *(shard.name for shard in tables.all[:2])],
            ),
            N_("give one of them as DATA, or a folder with files of one kind"),
        )
    packed = [name for name in others if name.lower().endswith(COMPRESSED_TARS)]
    if packed and not tables.all:
        raise PatiError(
            N_("{path} contains compressed tars, {names}, which can't be read in place", path=folder, names=packed[:5]),
            N_("decompress them, for example with gunzip, or give one of them as DATA"),
        )
    files = tars if tars.all else tables
    return files if files.all else None


def _table_of_files(place: Place, columns: Columns) -> bool:
    """Whether a table in a folder without photos leads to photos elsewhere."""
    try:
        return any(place.tree.tables) and read_tables(place, columns).reading is not None
    except PatiError:
        return False


def open_without_classes(path: Path) -> Source:
    """All photos in a folder, archive or shards, or those of a table, or a single one. Raises `PatiError`."""
    if path.is_file() and path.name.lower().endswith((*SUFFIXES, *LISTS)):
        return open_path(path, Columns(class_case="keep"))
    path = path.resolve()
    if not allowed.may_read(path):
        raise _outside(path)
    if path.is_file() and is_photo_name(path.name):
        return Source(path.name, path.parent, (Item(path.name, path.name),))
    if is_parquet(path):
        return all_rows(path.name, shards.single(path))
    top, notes, archived = _opened(path)
    tree, seen = read_tree(top, path.name)
    if not archived and not tree.photos and (files := _shards_in(path, tree)):
        if files.root.name.endswith(shards.PARQUET):
            return all_rows(path.name, files)
        tars = storage.at(files.root)
        assert isinstance(tars, Tars)
        top, notes = tars, [*_left_out(tars.index.left_out), *tars.index.notes]
        tree, seen = read_tree(top, path.name)
    tree = unwrapped(tree, tables=False)
    source = without_classes(path.name, child_store(top, tree.path), tree)
    return replace(source, notes=(*notes, *seen, *source.notes))


def holds_photos(path: Path) -> bool:
    """Whether a path is an archive or Parquet by its name, or a folder of shards without photos: no photo itself."""
    if os.path.isfile(path):  # not `path.is_file`, which raises for names that are too long
        return holds_photos_by_name(path)
    return os.path.isdir(path) and shards.alone_in(path)


def holds_photos_by_name(path: Path) -> bool:
    """Whether a file is an archive or Parquet by its name."""
    return is_archive(path) or path.name.lower().endswith(shards.PARQUET)


def _outside(path: Path) -> PatiError:
    return PatiError(N_("{path} is outside the folders that may be read", path=path))


def _opened(path: Path) -> tuple[Files, list[Message], bool]:
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
        opened: Files = top
    elif is_plain_tar(path):
        tars = storage.at(path)
        assert isinstance(tars, Tars)
        opened, left_out = tars, tars.index.left_out
        notes += tars.index.notes
    elif kind == "tar" or is_archive(path):
        folder, left_out = unpacked(path)
        opened = Folder(folder)
    else:
        raise PatiError(
            N_("{path} is neither a folder, an archive, a CSV nor a Parquet file", path=path),
            N_(
                "expected a folder with one folder per class, a .zip or .tar.* of it, a CSV with the columns path and "
                "label, or Parquet files or tars with photos and their labels"
            ),
        )
    return opened, [*_left_out(left_out), *notes], True


def _left_out(counts: Mapping[str, int]) -> list[Message]:
    """Notes on the members that are left out, by reason."""
    return [
        NP_(
            "{n} member of the archive is ignored: {reason}",
            "{n} members of the archive are ignored: {reason}",
            n=count,
            reason=LEFT_OUT.get(reason, as_is(reason)),  # caches of older versions contain sentences
        )
        for reason, count in counts.items()
    ]


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


def _from_folder(name: str, top: Files, tree: Tree, level: int | None) -> Source:
    """The photos with the classes of their folders. Raises `PatiError`."""
    if not isinstance(top, Tars) or not top.index.prefixed:
        return from_folder(name, child_store(top, tree.path), tree, level=level)
    merged = Merged(top)
    whole = unwrapped(read_tree(merged, name)[0], tables=False)
    source = from_folder(name, top, whole, level=level)
    above = f"{whole.path}/" if whole.path else ""
    items = [replace(item, path=merged.path(above + item.path)) for item in source.items]
    return replace(source, items=tuple(sorted(items, key=lambda item: item.path.split("/"))))


def _by_folders(place: Place, name: str, tables: Tables, columns: Columns) -> Source:
    """The photos with the classes of their folders or names. Raises `PatiError`."""
    reading = tables.reading
    tree = unwrapped(place.tree, tables=False) if reading is None else place.tree
    why = [N_("{table}: {reason}", table=table, reason=error.reason) for table, error in tables.refused.items()]
    try:
        source = _from_folder(name, place.top, tree, columns.classes_level)
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
