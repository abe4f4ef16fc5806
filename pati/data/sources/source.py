"""`Source`: a named list of labelled files, and the names of splits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from pati.data.columns import Codes, CodesWriter, Numbers, Table, Texts, TextsWriter
from pati.data.decisions import Decision
from pati.locale.messages import Message

# Words that name a split, in English and Turkish (without accents).
_WORDS = {
    "train": ("train", "training", "trn", "egitim", "ogrenme"),
    "validation": ("validation", "validate", "valid", "val", "dev", "eval", "evaluation", "dogrulama", "gecerleme"),
    "test": ("test", "testing", "tst", "holdout", "sinama"),
}
_ROLES = {word: role for role, words in _WORDS.items() for word in words}
# Words beside them that do not change the meaning: seg_train, test_images, training-set, egitim_verisi, test1.
_FILLERS = {
    "set", "sets", "split", "data", "dataset", "image", "images", "img", "imgs", "photo", "photos", "picture",
    "pictures",
    "seg", "folder", "final", "all", "full", "seti", "kumesi", "kume", "veri", "verisi", "verileri", "bolumu", "bolme",
    "resim", "resimler", "resimleri", "fotograf", "fotograflar", "fotograflari", "goruntu", "goruntuler", "goruntuleri",
}  # fmt: skip

# Folders of drawings that belong to photos and lie beside them.
DRAWINGS = {
    "annotation", "annotations", "mask", "masks", "label", "labels", "trimaps", "segmentation", "segmentations",
    "segmentationclass", "segmentationobject", "groundtruth", "ground_truth", "gt",
}  # fmt: skip


def plain(name: str) -> str:
    """A name for comparison: without accents, case and the dotless i."""
    letters = unicodedata.normalize("NFKD", name.strip().casefold().replace("ı", "i"))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def split_role(name: str) -> str | None:
    """The split that the name of a folder or table, or a cell, stands for: train, validation, test or None."""
    words = re.findall(r"[a-z]+", plain(name))
    words = [re.sub(r"(?<=.)(set|data)s?$", "", word) if word not in _ROLES else word for word in words]  # trainset
    named = [word for word in words if word not in _FILLERS]
    return _ROLES.get(named[0]) if len(named) == 1 else None


def is_general(name: str) -> bool:
    """Whether the name of a folder says nothing about what the photos in it show: images, train_data, all."""
    words = re.findall(r"[a-z]+", plain(name))
    return bool(words) and all(word in _FILLERS or split_role(word) for word in words)


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled file; `path` is relative to the source's root, with forward slashes."""

    path: str
    label: str
    split: str | None = None
    group: str | None = None


class Items(Table[Item]):
    """Labelled files by column: a set may have millions of them."""

    __slots__ = ("groups", "labels", "paths", "splits")

    def __init__(self, paths: Texts, labels: Codes[str], splits: Codes[str | None], groups: Codes[str | None]) -> None:
        self.paths, self.labels, self.splits, self.groups = paths, labels, splits, groups

    @classmethod
    def of(cls, items: Iterable[Item]) -> Items:
        """These items, in their order."""
        if isinstance(items, Items):
            return items
        paths, labels = TextsWriter(), CodesWriter[str]()
        splits, groups = CodesWriter[str | None](), CodesWriter[str | None]()
        for item in items:
            paths.add(item.path)
            labels.add(item.label)
            splits.add(item.split)
            groups.add(item.group)
        return cls(paths.column(), labels.column(), splits.column(), groups.column())

    def in_order(self) -> Items:
        """In order of path, folder by folder."""
        keys = [path.replace("/", "\0") for path in self.paths]  # a folder's own files before those of cat-2
        return self.take(np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64))

    def __len__(self) -> int:
        return len(self.paths)

    def made(self, rows: Numbers) -> Iterator[Item]:
        """See `Table`."""
        return map(
            Item,
            (self.paths[row] for row in rows.tolist()),
            self.labels.take(rows),
            self.splits.take(rows),
            self.groups.take(rows),
        )

    def take(self, rows: Numbers | NDArray[np.bool_]) -> Items:
        """See `Table`."""
        numbers = np.arange(len(self))[rows]
        return Items(
            self.paths.take(numbers), self.labels.take(numbers), self.splits.take(numbers), self.groups.take(numbers)
        )


@dataclass(frozen=True)
class Source:
    """A named list of labelled files below `root`, in order of path; `storage.at(root)` reads them.

    `flip_invariant`: a flipped photo keeps its label, so flips are a valid augmentation (false for digits).
    `rotation_invariant`: so does a rotated one. `presplit`: the split comes from the user's train/val/test folders or
    CSV column. `decisions`: the user's, by path.
    """

    name: str
    root: Path
    items: Sequence[Item]
    flip_invariant: bool = True
    rotation_invariant: bool = True
    presplit: bool = False
    notes: tuple[Message, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", Items.of(self.items))

    @property
    def columns(self) -> Items:
        """The items by column."""
        return Items.of(self.items)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in natural order: 0, 1, 2, 10."""
        return tuple(sorted(self.columns.labels.counts(), key=natural))


class ColumnsDocument(TypedDict, total=False):
    """`Columns` in JSON."""

    path: str | None
    label: str | None
    split: str | None
    group: str | None
    classes_level: int | None
    class_case: str | None
    table: str | None


@dataclass(frozen=True)
class Columns:
    """How a source is read. Names of CSV columns; None: detected by common names.

    `classes_level`: the number of the folders, counted from 1 at the top, that are the classes; None: detected.
    `class_case`: join or keep classes whose names differ in case only; None: an error. `table`: the table to read, an
    absolute path, or one relative to the data; None: those in and beside the data.
    """

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    classes_level: int | None = None
    class_case: str | None = None
    table: str | None = None

    def document(self) -> ColumnsDocument:
        """As stored in a run."""
        return cast(ColumnsDocument, asdict(self))

    def options(self) -> list[str]:
        """The command-line options for these columns; the group column is part of the recipe."""
        named = (
            ("--path-column", self.path),
            ("--label-column", self.label),
            ("--split-column", self.split),
            ("--classes-level", self.classes_level),
            ("--class-case", self.class_case),
            ("--table", self.table),
        )
        return [part for name, value in named if value is not None for part in (name, str(value))]


def natural(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sort key that compares numbers by value: 2 before 10. Ties (1 and 01) are broken by the text itself."""
    parts = (part for part in re.split(r"(\d+)", text) if part)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts), text
