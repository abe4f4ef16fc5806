"""Tars of samples (WebDataset): the members of a sample share a key, 000017.jpg with 000017.cls and 000017.json.

The key is the name up to the first dot of its last part. The class is in the `.cls`, a text or a number, or in a field
of the `.json`, which is found by the usual names of columns.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TypeAlias

from pati.data import decode
from pati.data.formats import is_photo_name
from pati.data.sources import allowed, shards
from pati.data.sources.source import Columns, Item, Items, Source, split_role
from pati.data.sources.tables import COLUMNS, MULTI_LABEL, squeezed
from pati.data.sources.tars import Tars
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message
from pati.system import files

NAMES = ("classnames.txt", "classes.txt", "classes.json")  # lists of the names of the classes, in order of their number
_LARGEST = 1_000_000  # bytes of a .cls, .json or list of names
_TRIED = 20  # samples by which it is told whether their .json has a class
_LONGEST = 1000  # characters of a class
_HALF = 0.5

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"


@dataclass(frozen=True)
class Members:
    """The numbers of the photos in an index, and for each that of its `.cls` and of its `.json`; -1: none."""

    photos: array[int]
    classes: array[int]
    documents: array[int]


def samples_of(store: Tars) -> Members | None:
    """The samples of tars; None if no photo has a `.cls`, and most have no `.json` with a class."""
    index = store.index
    photos, classes, documents = array("q"), array("q"), array("q")
    beside: dict[str, tuple[int, int]] = {}
    pending: list[tuple[int, str]] = []

    def finish() -> None:
        """The samples of one shard, in which all members of a sample are."""
        for number, key in pending:
            cls, document = beside.get(key, (-1, -1))
            photos.append(number)
            classes.append(cls)
            documents.append(document)
        pending.clear()
        beside.clear()

    shard = -1
    for number in range(len(index)):
        if index.shard[number] != shard:
            finish()
            shard = int(index.shard[number])
        name = index.name(number)
        folder, slash, last = name.rpartition("/")
        stem, _, kind = last.partition(".")
        if decode.is_system_file(last):
            continue
        if is_photo_name(last):
            pending.append((number, f"{folder}{slash}{stem}"))
        elif kind.lower() in ("cls", "json"):
            key = f"{folder}{slash}{stem}"
            cls, document = beside.get(key, (-1, -1))
            beside[key] = (number, document) if kind.lower() == "cls" else (cls, number)
    finish()
    some = Members(photos, classes, documents)
    if any(number >= 0 for number in classes) or (_share(documents) >= _HALF and _say_classes(store, documents)):
        return some
    return None


def _share(numbers: array[int]) -> float:
    return sum(number >= 0 for number in numbers) / max(1, len(numbers))


def _say_classes(store: Tars, documents: array[int]) -> bool:
    """Whether the first documents have a field with a class."""
    first = [number for number in documents if number >= 0][:_TRIED]
    return any(_usual(_document(store, number), "label") is not None for number in first)


def from_samples(name: str, store: Tars, samples: Members, columns: Columns) -> Source:
    """The photos of samples with their classes. Raises `PatiError`."""
    _require_fitting(columns)
    index = store.index
    by_cls = any(number >= 0 for number in samples.classes) and columns.label is None
    asked = (columns.label, columns.split, columns.group)
    roles = shards.roles(index.shards)
    values: list[tuple[int, str, str | None, str | None]] = []
    unlabelled: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    for number, cls, document in zip(samples.photos, samples.classes, samples.documents, strict=True):
        read = _document(store, document) if document >= 0 and (not by_cls or any(asked)) else {}
        label = _cls(store, cls) if by_cls else None
        if not by_cls:
            field = columns.label or _usual(read, "label")
            label = _label(read.get(field), index.paths.name(number)) if field is not None else None
            fields[field or ""] += label is not None
        if label is None:
            unlabelled[index.shard_of(number).name] += 1
            continue
        split = roles[index.shard[number]]
        if columns.split is not None:
            split = _split(read.get(columns.split), index.paths.name(number))
        values.append((number, label, split, _group(read, columns.group, index.paths.name(number))))
    if not values:
        raise PatiError(
            NP_("{n:,} photo has no label", "none of the {n:,} photos has a label", n=len(samples.photos))
            if columns.label is None
            else N_("no .json of a photo has the field {column!r}", column=columns.label),
            N_(
                "expected the class in a .cls beside each photo, 000017.jpg and 000017.cls, or in a .json with one of "
                "the fields {names}",
                names=COLUMNS["label"][:4],
            ),
        )
    used = ".cls" if by_cls else f".json: {fields.most_common(1)[0][0]}"
    notes = [N_("labels are read from the samples' {field}", field=used)]
    names = _names(store, {label for _, label, _, _ in values}, notes)
    notes += shards.ignored(unlabelled)
    if any(roles) and columns.split is None:
        notes.append(shards.told(roles, index.shards))
    items = Items.of(
        Item(index.paths.name(number), names.get(label, label), split, group) for number, label, split, group in values
    )
    return shards.labelled(name, store.root, items, notes)


def _require_fitting(columns: Columns) -> None:
    if columns.path is not None:
        raise PatiError(
            N_("--path-column does not apply to samples, whose photos are members of a tar"),
            N_("--label-column chooses the field of their .json with the class"),
        )


def _cls(store: Tars, number: int) -> str | None:
    """The class in a `.cls`; None if there is none."""
    if number < 0:
        return None
    return _label(_content(store, number).decode("utf-8", "replace"), store.index.paths.name(number))


def _content(store: Tars, number: int) -> bytes:
    """A small member."""
    path = store.root / store.index.paths.name(number)
    if store.index.size[number] > _LARGEST:
        raise PatiError(
            N_("{path} holds {size:,} bytes, the limit is {limit:,}", path=path, size=int(store.index.size[number]),
               limit=_LARGEST),
            N_("a .cls holds one class, a .json what belongs to one photo"),
        )  # fmt: skip
    try:
        return store.content(number)
    except OSError as error:
        raise PatiError(N_("can't read {path}: {reason}", path=path, reason=str(error))) from None


def _document(store: Tars, number: int) -> dict[str, Value]:
    """The fields of a `.json`. Raises `PatiError` if it is not one."""
    try:
        read: Value = json.loads(_content(store, number))
    except (ValueError, RecursionError):
        raise PatiError(
            N_("{path} is not JSON", path=store.root / store.index.paths.name(number)),
            N_("expected an object with a field such as {names}", names=COLUMNS["label"][:4]),
        ) from None
    return read if isinstance(read, dict) else {}


def _usual(fields: dict[str, Value], kind: str) -> str | None:
    """The field with a usual name."""
    named = {squeezed(field): field for field in reversed(list(fields))}
    return next((named[name] for name in COLUMNS[kind] if name in named), None)


def _label(value: Value, path: str) -> str | None:
    """A class as text, 3 for 3.0; None for none. Raises `PatiError` if it is not one class."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | dict):
        raise PatiError(
            N_(
                "{file} has several labels per photo (multi-label), for example {label}",
                file=path,
                label=str(value)[:99],
            ),
            MULTI_LABEL,
        )
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if value is None else str(value).strip()
    if len(text) > _LONGEST or "\0" in text:
        raise PatiError(N_("the label of {photo} is no class: it is a long text, or binary", photo=path))
    return text or None


def _split(value: Value, path: str) -> str:
    role = split_role(str(value))
    if role is None:
        raise PatiError(
            N_("unknown split {split!r} for {photo}", split=str(value), photo=path),
            N_("known: {names}", names=["train", "validation", "test"]),
        )
    return role


def _group(fields: dict[str, Value], column: str | None, path: str) -> str | None:
    if column is None:
        return None
    value = fields.get(column)
    if value is None or isinstance(value, list | dict):
        raise PatiError(
            N_("the .json of {photo} has no field {column!r}, so it can't be grouped by it", photo=path, column=column),
            N_("every photo needs a group, otherwise a group could end up in more than one split"),
        )
    return str(value).strip() or None


def _names(store: Tars, labels: set[str], notes: list[Message]) -> dict[str, str]:
    """The names of classes that are numbers, from a list in or beside the tars; none without a list."""
    if not all(label.isascii() and label.isdecimal() for label in labels):
        return {}
    found = _lists(store)
    if not found:
        return {}
    if len({*found.values()}) > 1:
        raise PatiError(
            N_("several lists name the classes differently: {names}", names=list(found)), N_("keep one of them")
        )
    file, names = next(iter(found.items()))
    most = max(map(int, labels))
    if most >= len(names):
        raise PatiError(
            NP_(
                "{file} names {n} class, but there is a class {number}",
                "{file} names {n} classes, but there is a class {number}",
                n=len(names),
                file=file,
                number=most,
            ),
            N_("the first line is the name of class 0"),
        )
    shards.require_different(file, [names[number] for number in sorted({int(label) for label in labels})])
    notes.append(N_("the names of the classes are read from {file}", file=file))
    return {label: names[int(label)] for label in labels}


def _lists(store: Tars) -> dict[str, tuple[str, ...]]:
    """The lists of names of classes, by file."""
    found: dict[str, tuple[str, ...]] = {}
    for number, path in enumerate(store.index.paths):
        if path.rpartition("/")[2].lower() in NAMES:
            found[path] = _listed(path, _content(store, number))
    folder = store.index.shards.folder
    for name in NAMES:
        if os.path.isfile(folder / name) and allowed.may_read(folder / name):
            found[name] = _listed(name, files.contents(folder / name, _LARGEST) or b"")
    return found


def _listed(name: str, data: bytes) -> tuple[str, ...]:
    """A list of names: one a line, or in JSON."""
    text = data.decode("utf-8-sig", "replace")
    if not name.lower().endswith(".json"):
        return tuple(line.strip() for line in text.strip().splitlines())
    try:
        read: Value = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, list) or not all(isinstance(one, str) for one in read):
        raise PatiError(N_("{file} is not a list of names in JSON", file=name), N_('expected ["cat", "dog"]'))
    return tuple(map(str, read))
