"""The folders below a storage, listed once: photos, tables and subfolders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pati.data.formats import is_no_photo_name, is_photo_name, starts_like_photo
from pati.data.sources import allowed
from pati.data.sources.archives import SUFFIXES
from pati.data.sources.interface import Listed, Name
from pati.data.sources.tables import is_table
from pati.locale.messages import N_, NP_, Message
from pati.system.files import CACHE_TAG

DEEPEST = 100  # levels of folders
STRAYS = 10_000  # files without a photo's extension that are read, in case they are photos all the same


@dataclass
class Tree:
    """A folder. `files`: names of those that may be photos; `photos`: how many of these there are in it and below.

    `archives`, of the top folder only: the archives in it and below, by path.
    """

    name: str
    path: str  # relative to the top, without a slash at the end
    files: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    folders: dict[str, Tree] = field(default_factory=dict)
    photos: int = 0
    archives: list[str] = field(default_factory=list)

    def filled(self) -> list[Tree]:
        """The subfolders with photos in them or below, in order."""
        return [folder for folder in self.folders.values() if folder.photos]

    def irrelevant(self) -> bool:
        """Whether it contains only files that are no photos by their names, such as notes, code or tables; or none."""
        return not self.photos and all(is_no_photo_name(path) for path in self.walk())

    def walk(self) -> Iterator[str]:
        """The files in it and below, relative to this folder, folder by folder."""
        waiting = [self]
        while waiting:
            folder = waiting.pop()
            inner = folder.path[len(self.path) :].lstrip("/")
            for name in folder.files:
                yield f"{inner}/{name}" if inner else name
            waiting += reversed(folder.folders.values())


def read_tree(top: Listed, name: str) -> tuple[Tree, list[Message]]:
    """List everything below `top`, and say what was left out. Raises `PatiError` if a folder cannot be read.

    Hidden folders, and pati's own runs and caches, are left out, and so are links to anything that may not be read, see
    `allowed`; other links are followed wherever they lead.
    """
    root = Tree(name, "")
    notes: list[Message] = []
    strays: Counter[str] = Counter()
    links = _Links(top.root)
    opened = clouded = 0
    order, waiting = [root], [(top, root, top.names())]
    while waiting:
        store, folder, entries = waiting.pop()
        inner: list[tuple[Listed, Tree, list[Name]]] = []
        for entry in entries:
            path = f"{folder.path}/{entry.name}" if folder.path else entry.name
            if entry.link and not links.follow(store.root / entry.name, folder=entry.folder):
                continue
            if entry.folder:
                child = store.child(entry.name)
                listed = _listed(child, path, notes)
                if is_photo_name(entry.name):
                    folder.files.append(entry.name)  # so that the audit reports that it is not a photo
                if listed is not None:
                    folder.folders[entry.name] = Tree(entry.name, path)
                    inner.append((child, folder.folders[entry.name], listed))
            elif entry.name.startswith(".") and entry.name.endswith(".icloud"):
                clouded += 1
            elif is_photo_name(entry.name):
                folder.files.append(entry.name)
                folder.photos += 1
            elif is_table(entry.name):
                folder.tables.append(entry.name)
                folder.files.append(entry.name)
            elif opened < STRAYS:
                opened += 1
                if entry.name.lower().endswith(SUFFIXES):
                    root.archives.append(path)
                folder.files.append(entry.name)
                if not is_no_photo_name(entry.name):
                    folder.photos += starts_like_photo(store.start(entry.name))
            else:
                strays[PurePosixPath(entry.name).suffix.lower()] += 1
        order += [tree for _, tree, _ in inner]
        waiting += reversed(inner)
    for folder in reversed(order):
        folder.photos += sum(child.photos for child in folder.folders.values())
    if clouded:
        notes.append(
            NP_(
                "{n} photo is in iCloud only and is not read: download it first",
                "{n} photos are in iCloud only and are not read: download them first",
                n=clouded,
            )
        )
    if strays:
        kinds = [f"{count:,} {suffix or '(no extension)'}" for suffix, count in strays.most_common(5)]
        notes.append(
            NP_(
                "{n} file without a photo's extension is not read: {kinds}",
                "{n:,} files without a photo's extension are not read: {kinds}",
                n=strays.total(),
                kinds=kinds,
            )
        )
    return root, [*notes, *links.notes()]


class _Links:
    """Which links of a source are followed."""

    def __init__(self, top: Path) -> None:
        self._top = os.path.realpath(top)
        self._followed: set[str] = set()
        self._counts: Counter[str] = Counter()

    def follow(self, path: Path, *, folder: bool) -> bool:
        """Whether to read what the link leads to; a folder is read once."""
        target = os.path.realpath(path)
        if not allowed.may_read(target):
            self._counts["left out"] += 1
            return False
        if folder:
            if target in self._followed or _below(os.path.realpath(path.parent), target):
                self._counts["loop"] += 1
                return False
            self._followed.add(target)
        if not _below(target, self._top):
            self._counts["outside"] += 1
        return True

    def notes(self) -> Iterator[Message]:
        """What happened to the links."""
        if count := self._counts["outside"]:
            yield NP_(
                "{n} link to a file or folder outside {top} is followed",
                "{n} links to files or folders outside {top} are followed",
                n=count,
                top=self._top,
            )
        if count := self._counts["left out"]:
            yield NP_(
                "{n} link is ignored: it leads out of the folders that may be read",
                "{n} links are ignored: they lead out of the folders that may be read",
                n=count,
            )
        if count := self._counts["loop"]:
            yield NP_(
                "{n} link is ignored: its folder is read already",
                "{n} links are ignored: their folders are read already",
                n=count,
            )


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _listed(store: Listed, path: str, notes: list[Message]) -> list[Name] | None:
    """The entries of a subfolder, or None if it is left out, with a note."""
    name = path.rpartition("/")[2]
    if name.startswith((".", "__MACOSX")):
        notes.append(N_("the folder {name} is hidden and is ignored", name=name))
        return None
    if path.count("/") >= DEEPEST:
        notes.append(N_("the folder {path} is ignored: it is more than {n} levels deep", path=path, n=DEEPEST))
        return None
    entries = store.names()
    names = {entry.name for entry in entries}
    if CACHE_TAG in names or names >= {"recipe.json", "run.json"} or names >= {"tune.json", "study.db"}:
        notes.append(N_("the folder {path} was written by pati and is ignored", path=path))
        return None
    return entries
