"""`Entry`, the row of a manifest, and `Entries`, many of them."""

from __future__ import annotations

import dataclasses
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.data.columns import Codes, CodesWriter, Numbers, Table, Texts, TextsWriter
from pati.data.properties import UNKNOWN, Properties
from pati.locale.messages import Message

QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Entry:
    """One file. `status` is kept, flagged (kept, but unusual) or quarantined (not used, see `reason`).

    `duplicate`: the group of exact and near duplicates that it must stay with; `alike`: a group of photos that look
    alike, but need not stay together (see `SplitSettings.near_duplicates`). `fold`: the fold of a cross-validation in
    which it is held out, from 0.
    """

    path: str
    label: str
    status: str
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    reason: str = ""
    detail: Message | None = None
    flags: tuple[str, ...] = ()
    group: str | None = None
    duplicate: str | None = None
    alike: str | None = None
    split: str | None = None
    fold: int | None = None
    properties: Properties = UNKNOWN

    @property
    def kept(self) -> bool:
        """Whether the photo is used."""
        return self.status != QUARANTINED


@dataclass(frozen=True)
class Columns:
    """The fields of N entries, by column; `digest` `S64 (N,)`: their SHA-256 in hexadecimal."""

    path: Texts
    label: Codes[str]
    status: Codes[str]
    digest: NDArray[np.bytes_]
    bytes: NDArray[np.int64]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    reason: Codes[str]
    detail: Codes[Message | None]
    flags: Codes[tuple[str, ...]]
    group: Codes[str | None]
    duplicate: Codes[str | None]
    alike: Codes[str | None]
    split: Codes[str | None]
    fold: Codes[int | None]
    properties: Codes[Properties]


class Entries(Table[Entry]):
    """Entries by column, about 150 bytes each and their paths: a set may have millions of them.

    A selection shares the columns: `rows` are its rows in them.
    """

    __slots__ = ("_columns", "_rows")

    def __init__(self, columns: Columns, rows: Numbers | None = None) -> None:
        self._columns = columns
        self._rows: Numbers = np.arange(len(columns.path)) if rows is None else rows

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Entries:
        """These entries, in their order."""
        if isinstance(entries, Entries):
            return entries
        paths, digests, sizes = TextsWriter(), list[bytes](), (array("q"), array("i"), array("i"))
        labels, statuses, reasons = CodesWriter[str](), CodesWriter[str](), CodesWriter[str]()
        details, flags = CodesWriter[Message | None](), CodesWriter[tuple[str, ...]]()
        names = [CodesWriter[str | None]() for _ in range(4)]
        folds, properties = CodesWriter[int | None](), CodesWriter[Properties]()
        for entry in entries:
            paths.add(entry.path)
            labels.add(entry.label)
            statuses.add(entry.status)
            digests.append(entry.sha256.encode())
            for column, size in zip(sizes, (entry.bytes, entry.width, entry.height), strict=True):
                column.append(size)
            reasons.add(entry.reason)
            details.add(entry.detail)
            flags.add(tuple(entry.flags))
            for writer, name in zip(names, (entry.group, entry.duplicate, entry.alike, entry.split), strict=True):
                writer.add(name)
            folds.add(entry.fold)
            properties.add(entry.properties)
        return cls(
            Columns(
                paths.column(), labels.column(), statuses.column(), np.array(digests, "S64"),
                np.array(sizes[0], np.int64), np.array(sizes[1], np.int32), np.array(sizes[2], np.int32),
                reasons.column(), details.column(), flags.column(), names[0].column(), names[1].column(),
                names[2].column(), names[3].column(), folds.column(), properties.column(),
            )
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._rows)

    def made(self, rows: Numbers) -> Iterator[Entry]:
        """See `Table`."""
        table, rows = self._columns, self._rows[rows]
        return map(
            Entry,
            (table.path[row] for row in rows.tolist()),
            table.label.take(rows),
            table.status.take(rows),
            (digest.decode() for digest in table.digest[rows].tolist()),
            table.bytes[rows].tolist(),
            table.width[rows].tolist(),
            table.height[rows].tolist(),
            table.reason.take(rows),
            table.detail.take(rows),
            table.flags.take(rows),
            table.group.take(rows),
            table.duplicate.take(rows),
            table.alike.take(rows),
            table.split.take(rows),
            table.fold.take(rows),
            table.properties.take(rows),
        )

    def take(self, rows: Numbers | NDArray[np.bool_]) -> Entries:
        """See `Table`."""
        return Entries(self._columns, self._rows[rows])

    @property
    def path(self) -> Texts:
        """The path of each."""
        return self._columns.path.take(self._rows)

    @property
    def label(self) -> Codes[str]:
        """The class of each entry."""
        return self._columns.label.take(self._rows)

    @property
    def digest(self) -> NDArray[np.bytes_]:
        """The SHA-256 of each, `S64 (N,)`."""
        return self._columns.digest[self._rows]

    @property
    def reason(self) -> Codes[str]:
        """Why each is quarantined."""
        return self._columns.reason.take(self._rows)

    @property
    def group(self) -> Codes[str | None]:
        """The user's group of each."""
        return self._columns.group.take(self._rows)

    @property
    def duplicate(self) -> Codes[str | None]:
        """The group of duplicates of each."""
        return self._columns.duplicate.take(self._rows)

    @property
    def alike(self) -> Codes[str | None]:
        """The group of photos that look like each."""
        return self._columns.alike.take(self._rows)

    @property
    def split(self) -> Codes[str | None]:
        """The split of each."""
        return self._columns.split.take(self._rows)

    @property
    def fold(self) -> Codes[int | None]:
        """The fold of each."""
        return self._columns.fold.take(self._rows)

    @property
    def size(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Width and height of each in pixels, `(N,)`."""
        return self._columns.width[self._rows], self._columns.height[self._rows]

    @property
    def is_flagged(self) -> NDArray[np.bool_]:
        """Whether each has a flag, `bool (N,)`."""
        return ~self._columns.flags.equal(())[self._rows]

    def flag_counts(self) -> Counter[str]:
        """How many entries have each flag."""
        found = Counter[str]()
        for flags, count in self._columns.flags.take(self._rows).counts().items():
            found.update(dict.fromkeys(flags, count))
        return found

    @property
    def is_kept(self) -> NDArray[np.bool_]:
        """Whether each is used, `bool (N,)`."""
        return ~self._columns.status.equal(QUARANTINED)[self._rows]

    @property
    def kept(self) -> Entries:
        """Those that are used."""
        return self.take(self.is_kept)

    @property
    def quarantined(self) -> Entries:
        """Those that are not."""
        return self.take(~self.is_kept)

    def with_splits(self, rows: Numbers | NDArray[np.bool_], splits: Codes[str | None]) -> Entries:
        """The same with the split of some rows set: one for each of `rows`."""
        return self._with(split=self._columns.split.changed(self._rows[rows], splits))

    def with_folds(self, rows: Numbers | NDArray[np.bool_], folds: Codes[int | None]) -> Entries:
        """The same with the fold of some rows set."""
        return self._with(fold=self._columns.fold.changed(self._rows[rows], folds))

    def with_rows(self, rows: Numbers, entries: Iterable[Entry]) -> Entries:
        """The same with other entries in some rows, of the same files; for few rows."""
        new, at, table = Entries.of(entries)._columns, self._rows[rows], self._columns
        return self._with(
            label=table.label.changed(at, new.label),
            status=table.status.changed(at, new.status),
            reason=table.reason.changed(at, new.reason),
            detail=table.detail.changed(at, new.detail),
            flags=table.flags.changed(at, new.flags),
            duplicate=table.duplicate.changed(at, new.duplicate),
            alike=table.alike.changed(at, new.alike),
        )

    def _with(self, **columns: object) -> Entries:
        return Entries(dataclasses.replace(self._columns, **columns), self._rows)  # type: ignore[arg-type]
