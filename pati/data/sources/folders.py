"""What a folder's subfolders mean: splits, classes, or neither.

Where the names and contents leave a choice, `from_folder` raises and names the option that decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from pati.data.formats import is_no_photo_name, is_photo_name
from pati.data.sources.interface import Files
from pati.data.sources.source import DRAWINGS, Item, Items, Source, is_general, plain, split_role
from pati.data.sources.tree import Tree
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message

# Folders of the photos themselves, beside those of drawings.
_PICTURES = {
    "image", "images", "img", "imgs", "jpegimages", "photo", "photos", "picture", "pictures", "resim", "resimler",
    "fotograf", "fotograflar",
}  # fmt: skip
_UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabelled", "unlabeled", "submission"}
# What cameras and programs begin the names of photos with: not the name of a class.
_CAMERAS = {
    "img", "image", "images", "dsc", "dscn", "dscf", "dcim", "pxl", "mvimg", "pano", "photo", "picture", "pic", "foto",
    "fotograf", "resim", "frame", "screenshot", "scan", "whatsapp image", "untitled", "download", "file", "p", "vid",
    "train", "test", "val",
}  # fmt: skip
LEAST_NAMED = 3  # photos of each class that is read from the names of files


def unwrapped(tree: Tree, *, tables: bool = True) -> Tree:
    """Skip wrapper folders, as archives often have: those with one folder in them, and no photos.

    `tables`: stop at a folder with a table.
    """
    while True:
        filled = tree.filled()
        if len(filled) != 1 or _has_photos(tree) or (tables and tree.tables):
            return tree
        inner = filled[0]
        if not inner.filled() and not inner.tables and not _repeats(inner, tree):
            return tree  # a single class folder, not a wrapper
        tree = inner


def child_store(store: Files, path: str) -> Files:
    """The storage of a folder below `store`."""
    for name in PurePosixPath(path).parts:
        store = store.child(name)
    return store


def from_folder(name: str, store: Files, tree: Tree, *, level: int | None = None) -> Source:
    """The labelled files of a folder; `tree`: its contents, `store`: where they are.

    One class per subfolder; or, if the top folders are named like splits, one class per subfolder of each split; or, in
    a folder of photos without subfolders, one class per name: cat.1.jpg, cat.2.jpg, dog.1.jpg. `level`: the number of
    the folders, counted from 1 at the top, that are the classes. Raises `PatiError` where this is not clear.
    """
    notes: list[Message] = []
    tree = _without_copy(tree, notes)
    items = Items.of(_items(tree, level, notes)).in_order()
    presplit = set(items.splits.values) - {None} != set()
    return Source(name, store.root, items, presplit=presplit, notes=tuple(notes))


def without_classes(name: str, store: Files, tree: Tree) -> Source:
    """All photos of a folder, as if they were of one class; `tree`: its contents, `store`: where they are."""
    notes: list[Message] = []
    part = _pictures(_without_copy(tree, notes), notes)
    below = part.path[len(tree.path) :].lstrip("/")
    paths = [f"{below}/{path}" if below else path for path in part.walk() if not is_no_photo_name(path)]
    items = Items.of(Item(path, name) for path in paths).in_order()
    return Source(name, store.root, items, notes=tuple(notes))


def _items(tree: Tree, level: int | None, notes: list[Message]) -> Iterator[Item]:
    if level is not None:
        yield from _by_level(tree, level, notes)
        return
    for split, part in _splits(tree, notes) or [(None, tree)]:
        yield from _classes(part, tree, split, notes)


def _without_copy(tree: Tree, notes: list[Message]) -> Tree:
    """Ignore a folder within itself: data/train, data/test, data/data/train, data/data/test."""
    for inner in tree.filled():
        names = {folder.name for folder in inner.filled()}
        others = {folder.name for folder in tree.filled()} - {inner.name}
        if _repeats(inner, tree) and len(others) > 1 and names and names <= others:
            notes.append(N_("the folder {name} repeats the folder that it is in and is ignored", name=inner.name))
            rest = {name: folder for name, folder in tree.folders.items() if folder is not inner}
            return replace(tree, folders=rest, photos=tree.photos - inner.photos)
    return tree


def _repeats(inner: Tree, outer: Tree) -> bool:
    return plain(inner.name) == plain(outer.name)


def _splits(tree: Tree, notes: list[Message]) -> Sequence[tuple[str | None, Tree]]:
    """The folders of the splits, with the split's name; none if the folders are not splits."""
    top = tree.filled()
    named = [(role, folder) for folder in top if (role := _role(folder)) is not None]
    if not named or len(top) == 1:
        return []
    others = [folder for folder in top if _role(folder) is None]
    if others or len({role for role, _ in named}) < len(named):
        raise _unclear(tree)
    empty = [folder.name for folder in tree.folders.values() if _role(folder) and not folder.photos]
    for folder in empty:
        notes.append(N_("the folder {name} contains no photos", name=folder))
    contents = [(role, _inside(folder)) for role, folder in named]
    labelled = [(role, folder) for role, folder in contents if folder.filled()]
    flat = [(role, folder) for role, folder in contents if not folder.filled()]
    if not labelled:  # train/cat.0.jpg, test/1.jpg
        labelled = [(role, folder) for role, folder in flat if _prefixes(folder.files)]
        flat = [(role, folder) for role, folder in flat if not _prefixes(folder.files)]
    if "train" not in dict(labelled) or "unlabelled" in dict(labelled):
        raise _unclear(tree)
    for _, unlabelled in flat:
        notes.append(
            NP_(
                "{n} photo in {folder} has no label and is ignored",
                "{n} photos in {folder} have no labels and are ignored",
                n=unlabelled.photos,
                folder=unlabelled.path,
            )
        )
    if len(labelled) == 1:  # the splits that are left are pati's to make
        return [(None, labelled[0][1])]
    read = [N_("{folder} ({split})", folder=folder.path, split=role) for role, folder in labelled]
    notes.append(N_("the splits are read from the folders {folders}", folders=read))
    return labelled


def _role(folder: Tree) -> str | None:
    words = set(re.findall(r"[a-z]+", plain(folder.name)))
    return "unlabelled" if words & _UNLABELLED else split_role(folder.name)


def _inside(folder: Tree) -> Tree:
    """The folder of a split without its wrappers: training_set/training_set, test/images."""
    while True:
        filled = folder.filled()
        if len(filled) != 1 or _has_photos(folder):
            return folder
        inner = filled[0]
        if not (_repeats(inner, folder) or _role(inner) == _role(folder) or plain(inner.name) in _PICTURES):
            return folder
        folder = inner


def _unclear(tree: Tree) -> PatiError:
    """That folders named like splits lie beside folders that are not, or are not what splits look like."""
    seen = [
        NP_("{name} ({n} photo)", "{name} ({n} photos)", n=folder.photos, name=folder.name)
        if not folder.filled()
        else NP_(
            "{name} ({n} folder: {inner})",
            "{name} ({n} folders: {inner})",
            n=len(folder.filled()),
            name=folder.name,
            inner=[one.name for one in folder.filled()[:3]],
        )
        for folder in tree.filled()
    ]
    return PatiError(
        N_("{root} contains {folders}: splits or classes?", root=tree.path or tree.name, folders=seen[:6]),
        N_(
            "if these folders are the classes, add --classes-level 1; if some are splits, keep only folders named "
            "train, validation and test, each with one folder per class"
        ),
    )


def _classes(part: Tree, top: Tree, split: str | None, notes: list[Message]) -> Iterator[Item]:
    """The items of a folder with one subfolder per class, or of a flat one whose files are named by class."""
    part = _pictures(part, notes)
    folders = part.filled()
    if len(folders) == 1 and not folders[0].filled() and is_general(folders[0].name) and _prefixes(folders[0].files):
        part, folders = folders[0], []  # images/cat_1.jpg, images/dog_1.jpg
    elif len(folders) == 1 and split is None and (prefixes := _prefixes(folders[0].files)):
        notes.append(
            N_(
                "the names of the files in {folder} begin with {names}: if these are the classes, give this folder as "
                "DATA",
                folder=folders[0].path,
                names=list(dict.fromkeys(prefixes.values()))[:6],
            )
        )
    if not folders:
        yield from _named_items(part, top, split, notes)
        return
    _require_one_level(part, folders)
    loose = sum(is_photo_name(name) for name in part.files)
    if loose:
        notes.append(
            NP_(
                "{n} photo beside the class folders has no class and is ignored",
                "{n} photos beside the class folders have no class and are ignored",
                n=loose,
            )
        )
    nested = [inner.name for folder in folders for inner in folder.filled() if len(folder.filled()) > 1]
    if nested:
        notes.append(
            N_(
                "the classes are the folders {folders}; the folders in them, such as {inner}, are not "
                "(--classes-level 2 makes them the classes)",
                folders=[folder.name for folder in folders[:6]],
                inner=nested[:3],
            )
        )
    irrelevant = [folder.name for folder in part.folders.values() if folder.irrelevant()]
    if irrelevant:
        notes.append(
            NP_(
                "{n} folder contains no photos and is not a class: {names}",
                "{n} folders contain no photos and are not classes: {names}",
                n=len(irrelevant),
                names=irrelevant[:6],
            )
        )
    for folder in part.folders.values():
        below = folder.path[len(top.path) :].lstrip("/")
        for path in folder.walk():
            yield Item(f"{below}/{path}", folder.name, split)


def _pictures(part: Tree, notes: list[Message]) -> Tree:
    """Enter the folder of photos where it lies beside folders of annotations, whose masks are pictures too."""
    folders = part.filled()
    pictures = [folder for folder in folders if plain(folder.name) in _PICTURES]
    drawings = [folder for folder in folders if plain(folder.name) in DRAWINGS]
    if len(pictures) != 1 or not drawings or len(folders) > 1 + len(drawings):
        return part
    names = [folder.name for folder in drawings]
    notes.append(
        N_("annotations are ignored: {names}; photos are read from {name}", names=names, name=pictures[0].name)
    )
    return pictures[0]


def _require_one_level(part: Tree, folders: Sequence[Tree]) -> None:
    """Raise `PatiError` if the folders in the folders may be the classes too.

    Either because several contain the same ones: fold1/cat, fold1/dog, fold2/cat, fold2/dog; or because all photos lie
    in folders with names, rather than numbers or dates: animals/cat, animals/dog, vehicles/bus, vehicles/car.
    """
    inner = [{plain(folder.name) for folder in top.filled()} for top in folders]
    same = len(inner[0]) > 1 and all(names == inner[0] for names in inner)
    named = max(map(len, inner)) > 1 and all(
        names and not any(re.search(r"\d", name) for name in names) and not _has_photos(top)
        for names, top in zip(inner, folders, strict=True)
    )
    if len(folders) > 1 and (same or named):
        raise PatiError(
            N_(
                "{root} contains {folders}, and these contain {inner}: which of them are the classes?",
                root=part.path or part.name,
                folders=[folder.name for folder in folders[:6]],
                inner=list(dict.fromkeys(folder.name for top in folders for folder in top.filled()))[:6],
            ),
            N_("add --classes-level 1 for the upper ones, --classes-level 2 for the lower ones"),
        )


def _has_photos(folder: Tree) -> bool:
    return any(is_photo_name(name) for name in folder.files)


def _named_items(part: Tree, top: Tree, split: str | None, notes: list[Message]) -> Iterator[Item]:
    """The photos of a flat folder, labelled by what their names begin with, if the names allow it."""
    prefixes = _prefixes(part.files)
    if prefixes is None:
        if part.photos:
            raise PatiError(
                NP_(
                    "{root} contains {n} photo and no folders: its class is not known",
                    "{root} contains {n} photos and no folders: their classes are not known",
                    n=part.photos,
                    root=part.path or part.name,
                ),
                N_(
                    "put the photos of each class in a folder, name the files by class (cat.1.jpg, dog.1.jpg), or add "
                    "a CSV with the columns path and label"
                ),
            )
        return
    counts = Counter(prefixes.values())
    seen = [f"{label} ({count})" for label, count in counts.most_common(10)]
    notes.append(N_("the classes are read from the names of the files: {classes}", classes=seen))
    below = part.path[len(top.path) :].lstrip("/")
    for name, label in prefixes.items():
        yield Item(f"{below}/{name}" if below else name, label, split)


def _prefixes(files: Iterable[str]) -> dict[str, str] | None:
    """The class of each photo by its name, such as cat of cat.12.jpg or cat_012.jpg; None if names have no classes."""
    labels: dict[str, str] = {}
    for name in files:
        if is_photo_name(name):
            match = re.fullmatch(r"(\D*[^\W\d_]\D*?)[\s._-]*\(?\d+\)?", name.rpartition(".")[0])
            if match is None or plain(match[1]) in _CAMERAS:
                return None
            labels[name] = match[1]
    counts = Counter(labels.values())
    return labels if len(counts) > 1 and min(counts.values()) >= LEAST_NAMED else None


def _by_level(tree: Tree, level: int, notes: list[Message]) -> list[Item]:
    """The items whose class is the folder at `level`; splits are recognised above it."""
    if level < 1:
        raise PatiError(N_("--classes-level is {level}", level=level), N_("expected 1 for the top folders, or more"))
    top = tree.filled()
    roles = {folder.name: split_role(folder.name) for folder in top}
    split = level > 1 and all(roles.values()) and len(set(roles.values())) == len(roles) > 1
    items = []
    above = 0
    for path in tree.walk():
        folders = path.split("/")[:-1]
        if len(folders) >= level:
            items.append(Item(path, folders[level - 1], roles.get(folders[0]) if split else None))
        else:
            above += is_photo_name(path)
    if not items:
        raise PatiError(
            N_("{root} contains no photos {level} folders down", root=tree.path or tree.name, level=level),
            N_("--classes-level 1 makes the top folders the classes"),
        )
    if above:
        notes.append(
            NP_(
                "{n} photo above the folders of the classes has no class and is ignored",
                "{n} photos above the folders of the classes have no class and are ignored",
                n=above,
            )
        )
    return items
