"""What a table's rows say about photos: items, and what was left out, counted."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from pati.data.sources.source import Item, split_role
from pati.data.sources.tables import MULTI_LABEL, Table
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message
from pati.system.csv_text import Unusable

Find = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class Reading:
    """A table's items by path; or those of several tables, of which `table` is the first.

    `shown`: their names; `notes`: how they were read, and which rows were left out.
    """

    table: Table
    shown: str
    items: dict[str, Item]
    notes: tuple[Message, ...]

    @property
    def labelled(self) -> bool:
        """Whether the table says what the photos show."""
        return bool(self.table.label)


@dataclass
class _Count:
    """A number of rows, and the first of them."""

    rows: int = 0
    example: str = ""

    def add(self, example: str) -> None:
        self.rows += 1
        self.example = self.example or example


def read_rows(table: Table, find: Find) -> Reading:
    """The items of the rows that mean a photo, which `find` tells; only these are kept in memory.

    Raises `PatiError` for rows that contradict each other, and for splits that are not known; `Unusable` if no row
    means a photo or has a label, or if photos have several labels.
    """
    items: dict[str, Item] = {}
    spelled: dict[str, str] = {}  # equal labels share one string
    missing, unclear, unlabelled, contrary = _Count(), _Count(), _Count(), _Count()
    total = 0
    for name, row in table.rows():
        total += 1
        found = find(name)
        if len(found) != 1:
            (unclear if found else missing).add(name)
            continue
        label = table.label_of(row)
        if table.label and not label:
            unlabelled.add(name)
            continue
        split = _split_named(table.split_of(row), name, table)
        item = Item(found[0], spelled.setdefault(label, label), split, table.group_of(row))
        if items.setdefault(found[0], item) != item:
            contrary.add(name)
    if contrary.rows:
        raise PatiError(
            NP_(
                "{n} photo has two different rows in {path}: {photo}",
                "{n} photos have two different rows in {path}, for example {photo}",
                n=contrary.rows,
                path=table.shown,
                photo=contrary.example,
            ),
            N_("keep one of them: pati learns one class per photo"),
        )
    if not items:
        raise _none(total, missing, unclear, unlabelled)
    items, notes = _one_label(items, spelled, table.shown)
    told = [N_("{table}: {note}", table=table.shown, note=note) for note in table.notes]
    return Reading(table, table.shown, items, (*told, *notes, *_left_out(table, missing, unclear, unlabelled)))


@functools.lru_cache(maxsize=1000)
def _role(word: str) -> str | None:
    return split_role(word)


def _split_named(word: str | None, photo: str, table: Table) -> str | None:
    """The split of a row. Raises `PatiError` if the word is not known."""
    if word is None:
        return None
    split = _role(word)
    if split is None:
        raise PatiError(
            N_("{path}: unknown split {split!r} for {photo}", path=table.shown, split=word, photo=photo),
            N_("known: {names}", names=["train", "validation", "test"]),
        )
    return split


def _none(total: int, missing: _Count, unclear: _Count, unlabelled: _Count) -> Unusable:
    """Why no row could be used."""
    if not total:
        return Unusable(N_("no row names a photo"))
    if unlabelled.rows:
        return Unusable(NP_("{n:,} row has no label", "none of its {n:,} rows has a label", n=unlabelled.rows))
    if unclear.rows:
        return Unusable(N_("its rows fit several photos each, for example {row}", row=unclear.example))
    if re.match(r"(?i)[a-z]{2,6}://", missing.example):
        return Unusable(
            N_("it lists addresses on the internet, for example {row}", row=missing.example),
            N_("download the photos, and put their file names or paths into the table"),
        )
    return Unusable(
        NP_(
            "its {n:,} row names no photo that is here: {row}",
            "none of its {n:,} rows names a photo that is here, for example {row}",
            n=missing.rows,
            row=missing.example,
        ),
        N_("paths in a table start from its own folder, or from the folder of the photos"),
    )


def _one_label(items: dict[str, Item], labels: Collection[str], shown: str) -> tuple[dict[str, Item], list[Message]]:
    """Unpack lists of one label, and join 0 and 0.0. Raises `Unusable` for lists of several labels."""
    numbers = {label: match[1] for label in labels if (match := re.fullmatch(r"([+-]?\d+)(?:[.,]0+)?", label))}
    if len(numbers) == len(labels):
        changed = {label: number for label, number in numbers.items() if label != number}
    else:
        for label in labels:
            parts = _parts(label)
            if len(parts) > 1 and (label.startswith("[") or all(part in labels for part in parts)):
                raise Unusable(
                    N_("it has several labels per photo (multi-label), for example {label}", label=label), MULTI_LABEL
                )
        changed = {label: _parts(label)[0] for label in labels if label.startswith("[") and _parts(label)}
    if not changed:
        return items, []
    label, read = next(iter(changed.items()))
    note = N_("{table}: labels such as {label} are read as {read}", table=shown, label=label, read=read)
    return {path: replace(item, label=changed.get(item.label, item.label)) for path, item in items.items()}, [note]


def _parts(label: str) -> list[str]:
    """The labels of a list such as a|b or ['a', 'b'] in a cell."""
    text = label[1:-1] if label.startswith("[") and label.endswith("]") else label
    return [part.strip().strip("'\"") for part in re.split(r"[|;,]", text) if part.strip()]


def _left_out(table: Table, missing: _Count, unclear: _Count, unlabelled: _Count) -> list[Message]:
    """Notes on the rows that are not used."""
    notes = []
    if missing.rows:
        notes.append(
            NP_(
                "{n:,} row of {table} has no photo, {example}",
                "{n:,} rows of {table} have no photo, for example {example}",
                n=missing.rows,
                table=table.shown,
                example=missing.example,
            )
        )
    if unclear.rows:
        notes.append(
            NP_(
                "{n:,} row of {table} fits several photos and is ignored: {example}",
                "{n:,} rows of {table} fit several photos each and are ignored, for example {example}",
                n=unclear.rows,
                table=table.shown,
                example=unclear.example,
            )
        )
    if unlabelled.rows:
        notes.append(
            NP_(
                "{n} row of {table} has no label and is ignored",
                "{n} rows of {table} have no label and are ignored",
                n=unlabelled.rows,
                table=table.shown,
            )
        )
    return notes
