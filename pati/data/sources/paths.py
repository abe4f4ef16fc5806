"""The labelled files of a folder, an archive or a table."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from pathlib import Path

from pati.data.sources import allowed, storage
from pati.data.sources.archives import LEFT_OUT, is_archive, kind_of, unpacked
from pati.data.sources.folders import child_store, from_folder, unwrapped
from pati.data.sources.source import Columns, Source
from pati.data.sources.storage import Folder, Storage, Zip
from pati.data.sources.tables import from_table, read_table, table_beside, table_in, with_table
from pati.data.sources.tree import read_tree
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, as_is


def open_path(path: Path, columns: Columns = Columns()) -> Source:
    """The source in a folder, archive or CSV file. Raises `PatiError`."""
    path = path.resolve()
    name = path.name
    if not allowed.may_read(path):
        raise PatiError(N_("{path} is outside the folders that may be read", path=path))
    if path.suffix.lower() in (".csv", ".tsv") and not path.is_dir():
        table = read_table(Folder(path.parent), name, columns, required=True)
        assert table is not None
        return readable(one_spelling(from_table(name, path.parent, table)))
    left_out: dict[str, int] = {}
    top: Storage
    if path.is_dir():
        top = Folder(path)
    elif (kind := kind_of(path)) == "zip" or (kind is None and path.suffix.lower() == ".zip"):
        zipped = storage.at(path)
        assert isinstance(zipped, Zip)
        top, left_out = zipped, zipped.left_out
    elif kind == "tar" or is_archive(path):
        folder, left_out = unpacked(path)
        top = Folder(folder)
    else:
        raise PatiError(
            N_("{path} is neither a folder, an archive nor a CSV file", path=path),
            N_(
                "expected a folder with one folder per class, a .zip or .tar.* of it, or a CSV with the "
                "columns path and label"
            ),
        )
    notes = tuple(
        NP_(
            "{n} member of the archive is ignored: {reason}",
            "{n} members of the archive are ignored: {reason}",
            n=count,
            reason=LEFT_OUT.get(reason, as_is(reason)),  # caches of older versions contain sentences
        )
        for reason, count in left_out.items()
    )
    if isinstance(top, Zip) and top.encoding not in (None, "utf-8"):
        text = N_(
            "the names in {path} are not marked as UTF-8; they are read as {encoding}", path=name, encoding=top.encoding
        )
        notes = (*notes, text)
    tree, seen = read_tree(top, name)
    inner = unwrapped(tree)
    table = table_in(child_store(top, inner.path), columns) or table_beside(path, columns)
    if table is None and tree.archives and not tree.photos:
        raise PatiError(
            N_("{path} contains archives, {names}, but no photos", path=path, names=tree.archives[:5]),
            N_("unpack them into the folder, or give one of them as DATA"),
        )
    if table is None:
        inner = unwrapped(inner, tables=False)
    store = child_store(top, inner.path)
    if table is None and columns.group is not None:
        raise PatiError(
            N_("no CSV with a column {group!r} in or beside {path}", group=columns.group, path=path),
            N_("grouping needs a CSV with one row per photo, holding its path and this column"),
        )
    labelled = table is not None and "label" in table.columns
    source = from_folder(name, store, inner, level=columns.classes_level, table=labelled)
    source = replace(source, notes=(*notes, *seen, *source.notes))
    return readable(one_spelling(source if table is None else with_table(source, store, table)))


def readable(source: Source) -> Source:
    """Leave out photos outside the folders that may be read, as a table can name them, with a note."""
    if allowed.folders() is None or not source.root.is_dir():
        return source
    items = tuple(item for item in source.items if allowed.may_read(source.root / item.path))
    if len(items) == len(source.items):
        return source
    note = NP_(
        "{n} photo is ignored: it lies outside the folders that may be read",
        "{n} photos are ignored: they lie outside the folders that may be read",
        n=len(source.items) - len(items),
    )
    return replace(source, items=items, notes=(*source.notes, note))


def one_spelling(source: Source) -> Source:
    """Join classes whose names are the same but for their Unicode form, as from a Mac and a PC."""
    spelled: dict[str, str] = {}
    joined: dict[str, None] = {}
    for label in source.classes:  # NFC if it occurs, else as written
        composed = unicodedata.normalize("NFC", label)
        if composed in spelled:
            joined[composed] = None
        spelled[composed] = composed if composed == label else spelled.get(composed, label)
    if not joined:
        return source
    items = (replace(item, label=spelled[unicodedata.normalize("NFC", item.label)]) for item in source.items)
    note = N_("classes whose names are written in two Unicode forms are joined: {names}", names=list(joined))
    return replace(source, items=tuple(items), notes=(*source.notes, note))
