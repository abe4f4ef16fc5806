"""Folders with one subfolder per class, optionally below one folder per split."""

from __future__ import annotations

from pati.data.decode import is_photo_name, is_system_file
from pati.data.sources.source import SPLITS, Item, Source
from pati.data.sources.storage import Storage
from pati.data.sources.tables import is_table
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message


def descend(store: Storage) -> Storage:
    """Skip wrapper folders, as archives often have: those that contain one folder and no photos."""
    while True:
        visible = [entry for entry in store.names() if not entry.name.startswith((".", "__MACOSX"))]
        folders = [entry for entry in visible if entry.folder]
        if len(folders) != 1 or any(is_photo_name(entry.name) or is_table(entry.name) for entry in visible):
            return store
        inner = store.child(folders[0].name)
        if not any(entry.folder or is_table(entry.name) for entry in inner.names()):
            return store  # a single class folder, not a wrapper
        store = inner


def from_folder(name: str, store: Storage) -> Source:
    """One class per subfolder; if the top folders are named like splits, one class per subfolder of each split."""
    notes: list[Message] = []
    top = [entry for entry in store.names() if entry.folder and not _hidden(entry.name, notes)]
    splits = {entry.name: SPLITS[entry.name.lower()] for entry in top if entry.name.lower() in SPLITS}
    if "train" in splits.values() and len(set(splits.values())) > 1:
        others = [entry.name for entry in top if entry.name not in splits and _holds_files(store.child(entry.name))]
        if others:
            raise PatiError(
                N_(
                    "{root} contains the splits {splits} and also {others}: splits or classes?",
                    root=store.root,
                    splits=splits,
                    others=others[:3],
                ),
                N_("remove the other folders, or move the class folders into a folder of their own"),
            )
        top = [entry for entry in top if entry.name in splits]
    else:
        splits = {}
    items: list[Item] = []
    for entry in top:
        folder = store.child(entry.name)
        if splits:
            for inner in folder.names():
                if inner.folder and not _hidden(inner.name, notes):
                    relative = f"{entry.name}/{inner.name}"
                    items += _walk(folder.child(inner.name), relative, inner.name, splits[entry.name], notes)
        else:
            items += _walk(folder, entry.name, entry.name, None, notes)
    loose = sum(not entry.folder and not is_system_file(entry.name) for entry in store.names())
    if loose and items:
        notes.append(
            NP_(
                "{n} file beside the class folders has no class and is ignored",
                "{n} files beside the class folders have no class and are ignored",
                n=loose,
            )
        )
    return Source(name, store.root, tuple(items), presplit=bool(splits), notes=tuple(notes))


def _holds_files(store: Storage) -> bool:
    names = store.names()
    if any(not entry.folder for entry in names):
        return True
    return any(_holds_files(store.child(entry.name)) for entry in names if not entry.link)


def _hidden(name: str, notes: list[Message]) -> bool:
    if not name.startswith((".", "__MACOSX")):
        return False
    notes.append(N_("the folder {name} is hidden and is ignored", name=name))
    return True


def _walk(store: Storage, relative: str, label: str, split: str | None, notes: list[Message]) -> list[Item]:
    items: list[Item] = []
    for entry in store.names():
        path = f"{relative}/{entry.name}"
        if entry.folder and not entry.link:
            if is_photo_name(entry.name):
                items.append(Item(path, label, split))  # so that the audit reports that it is not a photo
            if not _hidden(entry.name, notes):
                items += _walk(store.child(entry.name), path, label, split, notes)
        else:
            items.append(Item(path, label, split))
    return items
