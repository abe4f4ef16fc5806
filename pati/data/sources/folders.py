"""Folders of class folders, with or without folders for splits above them."""

from __future__ import annotations

from pati.data.decode import is_photo_name, is_system_file
from pati.data.sources.source import SPLITS, Item, Source
from pati.data.sources.storage import Place
from pati.data.sources.tables import is_table
from pati.errors import PatiError


def descend(place: Place) -> Place:
    """Through folders that hold one folder and no photos: where archives put their top folder."""
    while True:
        visible = [entry for entry in place.names() if not entry.name.startswith((".", "__MACOSX"))]
        folders = [entry for entry in visible if entry.folder]
        if len(folders) != 1 or any(is_photo_name(entry.name) or is_table(entry.name) for entry in visible):
            return place
        inner = place.child(folders[0].name)
        if not any(entry.folder or is_table(entry.name) for entry in inner.names()):
            return place  # a single class folder, not a wrapper
        place = inner


def from_folder(name: str, place: Place) -> Source:
    """A class for each folder; below folders named as splits, if all are."""
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
