"""Photos in Parquet files, in a column of bytes, as Hugging Face's `datasets` writes them. Read in place.

Their contents are read in another process, see `parquet_reader`, since a small damaged or hostile file may take any
amount of memory. What is kept here of a photo is the place of its row and, if it has one, its path.
"""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pati.data import decode
from pati.data.columns import Codes, Texts
from pati.data.sources import shards
from pati.data.sources.archives import safe_name
from pati.data.sources.interface import Reader, nowhere, require_place
from pati.data.sources.lookup import Lookup
from pati.data.sources.shards import Shards
from pati.data.sources.source import Columns, Item, Items, Source, split_role
from pati.data.sources.tables import MULTI_LABEL
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message, MessageDocument
from pati.system import extras, processes
from pati.system.pipes import receive, send

if TYPE_CHECKING:
    from pati.data.sources.parquet_reader import Meaning, Refusal

_MARK = b"PAR1"
_DIGITS = 6  # of the number of a row


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet, by its content."""
    try:
        if not path.is_file():  # reading a pipe would block
            return False
        with path.open("rb") as file:
            return file.read(4) == _MARK
    except OSError:
        return False


class _Process:
    """A process of `parquet_reader`. Thread-safe; started again for the next request after it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, name: str, *arguments: object) -> tuple[object, bytes]:
        """The answer to a request. Raises `PatiError` or `decode.Unreadable` as the process says."""
        with self._lock:
            answer = self._answer([name, *arguments])
        if answer is None:
            if name == "read":
                raise decode.Unreadable("damaged", N_("the process that reads the file crashed"))
            raise PatiError(
                N_("the Parquet file {path} can't be read: the process that reads it crashed", path=arguments[0]),
                N_("if its own message is not above, the file is damaged: download or copy it again"),
            )
        (refusal, document), tail = answer
        if refusal is not None:
            raise _error(refusal)
        return document, tail

    def _answer(self, request: list[object]) -> tuple[tuple[Refusal | None, object], bytes] | None:
        process = self._process or self._start()
        assert process.stdin
        assert process.stdout
        try:
            send(process.stdin, request)
            answer = receive(process.stdout)
        except OSError:
            answer = None
        except BaseException:  # an interruption: the reply would be taken for that to the next request
            self._end()
            raise
        if answer is None:
            self._end()
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = processes.start(
                [sys.executable, "-P", "-m", "pati.data.sources.parquet_reader"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=processes.environment(),
            )
        except OSError as error:
            raise PatiError(
                N_("the process that reads Parquet could not be started: {reason}", reason=str(error)),
                N_("check memory, and the limit on processes (ulimit -u)"),
            ) from error
        self._process = process
        weakref.finalize(self, _stop, process)
        return process

    def _end(self) -> None:
        if self._process:
            _stop(self._process)
        self._process = None


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()


def _error(refusal: Refusal) -> Exception:
    message, hint = _message(refusal["message"]), _message(refusal["hint"])
    if refusal["reason"] or message is None:
        return decode.Unreadable(refusal["reason"], message)
    return PatiError(message, hint)


def _message(document: MessageDocument | None) -> Message | None:
    return None if document is None else Message.from_json(document)


@dataclass(frozen=True)
class Rows:
    """The rows of some files, numbered one after the other: those of file i end before `ends[i]`.

    `groups`: the first row of each row group, of which those of file i end before `group_ends[i]`. `names`: the photos'
    own paths, if they are usable.
    """

    files: Shards
    ends: NDArray[np.int64]
    groups: NDArray[np.int64]
    group_ends: NDArray[np.int64]
    names: Lookup | None
    digits: int

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def path(self, number: int) -> str:
        """The path of a photo: its own, or its file and the number of its row."""
        if self.names is not None:
            return self.names.name(number)
        file = int(np.searchsorted(self.ends, number, "right"))
        row = number - (int(self.ends[file - 1]) if file else 0)
        return f"{self.files.all[file].stem}/{row:0{self.digits}}"

    def find(self, path: str) -> int | None:
        """The number of the photo with this path."""
        if self.names is not None:
            return self.names.find(path)
        stem, _, row = path.rpartition("/")
        file = self._by_stem.get(stem)
        if file is None or not row.isdecimal() or len(row) != self.digits:
            return None
        start = int(self.ends[file - 1]) if file else 0
        return start + int(row) if start + int(row) < self.ends[file] else None

    @functools.cached_property
    def _by_stem(self) -> dict[str, int]:
        return {file.stem: number for number, file in enumerate(self.files.all)}

    def address(self, number: int) -> str:
        """Where a photo is: file, row group, row in it."""
        file = int(np.searchsorted(self.ends, number, "right"))
        group = int(np.searchsorted(self.groups, number, "right")) - 1
        first = int(self.group_ends[file - 1]) if file else 0
        return self.files.all[file].address(f"{group - first:06}:{number - int(self.groups[group]):09}")


class Parquet:
    """The photos in a column of Parquet files."""

    def __init__(self, rows: Rows, column: str) -> None:
        self.rows, self._column = rows, column

    @property
    def root(self) -> Path:
        """See `Storage`."""
        return self.rows.files.root / self._column

    def address(self, relative: str) -> str:
        """See `Storage`."""
        number = self.rows.find(relative)
        return nowhere("unreadable") if number is None else self.rows.address(number)

    def block(self, address: str) -> str:
        """See `Storage`: the row group."""
        return address.rpartition(":")[0] or address

    def read_at(self, address: str) -> bytes:
        """See `Storage`."""
        require_place(address)
        return process().ask("read", str(self.rows.files.folder), self._column, address)[1]

    def read(self, relative: str) -> bytes:
        """See `Storage`."""
        return self.read_at(self.address(relative))


@functools.lru_cache(maxsize=4)
def at(files: Shards, column: str) -> Parquet:
    """The photos in a column. Raises `PatiError` if a file is damaged."""
    _require_pyarrow(files)
    return Parquet(_rows(files, column), column)


def reader(files: Shards, column: str) -> Reader:
    """The same by address, in this process: for one whose memory is bounded."""
    _require_pyarrow(files)
    from pati.data.sources.parquet_reader import ParquetReader

    return ParquetReader(files.folder, column)


@functools.cache
def process() -> _Process:
    """The process that reads for this one."""
    return _Process()


def _require_pyarrow(files: Shards) -> None:
    if not extras.installed("pyarrow") and (error := extras.missing("pyarrow", files.root.name)):
        raise error


def _rows(files: Shards, column: str) -> Rows:
    """The rows of files, with the photos' own paths if all have one, and these are safe and different."""
    counts: list[int] = []
    groups, group_counts = list[int](), list[int]()
    names, named = list[Texts](), True
    for file in files.all:
        document, tail = process().ask("rows", str(file.path), column)
        sizes, length = cast(tuple[list[int], int], document)
        start = sum(counts)
        groups += (start + np.cumsum([0, *sizes])[:-1]).tolist()
        group_counts.append(len(sizes))
        counts.append(sum(sizes))
        named = named and length == 8 * counts[-1]
        if named:
            names.append(Texts(tail[length:], np.frombuffer(tail[:length], np.int64)))
    digits = max(_DIGITS, len(str(max(counts, default=0))))
    lookup = Lookup.of(Texts.joined(names)) if named and names else None
    if lookup is not None and not _usable(lookup):
        lookup = None
    return Rows(
        files, np.cumsum(counts, dtype=np.int64), np.array(groups, np.int64), np.cumsum(group_counts, dtype=np.int64),
        lookup, digits,
    )  # fmt: skip


def _usable(names: Lookup) -> bool:
    """Whether paths are different, also on systems that ignore case, and lead nowhere outside."""
    return not names.repeats() and all(str(safe_name(name)) == name for name in names)


def from_parquet(name: str, files: Shards, columns: Columns) -> Source:
    """The photos in Parquet files with their classes. Raises `PatiError`."""
    for option, value in (("--table", columns.table), ("--classes-level", columns.classes_level)):
        if value is not None:
            raise PatiError(
                N_("{option} does not apply to Parquet, whose classes are in a column", option=option),
                N_("--label-column chooses the column"),
            )
    _require_pyarrow(files)
    meanings = _meanings(files, columns)
    first = meanings[0]
    store = at(files, first["image"])
    if not len(store.rows):
        raise PatiError(N_("{root} contains no rows", root=files.root))
    if not any(meaning["label"] for meaning in meanings):
        raise PatiError(
            N_("{root} has no label column; its columns: {names}", root=files.root, names=first["header"][:20]),
            N_("--label-column chooses the column with the classes"),
        )
    notes = _used(meanings, files)
    labels = _column(files, [meaning["label"] for meaning in meanings], [meaning["names"] for meaning in meanings],
                     store.rows)  # fmt: skip
    labels = _one_label(labels, files)
    groups = _column(files, [meaning["group"] for meaning in meanings], [None] * len(meanings), store.rows)
    splits = _splits(files, meanings, store.rows, columns, notes)
    labelled = ~labels.equal(None)
    file_of = np.searchsorted(store.rows.ends, np.flatnonzero(~labelled), "right")
    notes += shards.ignored(Counter(files.all[int(number)].name for number in file_of))
    chosen = np.flatnonzero(labelled)
    if not len(chosen):
        raise PatiError(NP_("{n:,} row has no label", "none of its {n:,} rows has a label", n=len(store.rows)))
    items = Items(
        Texts.of(map(store.rows.path, chosen.tolist())),
        Codes.numbered(map(str, labels.values), labels.codes).take(chosen),
        splits.take(chosen),
        groups.take(chosen),
    )
    return shards.labelled(name, store.root, items, notes)


def all_rows(name: str, files: Shards) -> Source:
    """All photos in Parquet files, row by row, as if they were of one class. Raises `PatiError`."""
    _require_pyarrow(files)
    store = at(files, _meanings(files, Columns())[0]["image"])
    items = Items.of(Item(store.rows.path(number), name) for number in range(len(store.rows)))
    return Source(name, store.root, items)


def _meanings(files: Shards, columns: Columns) -> list[Meaning]:
    """What the columns of each file mean. Raises `PatiError` if files differ in this."""
    found: list[Meaning] = []
    for file in files.all:
        found.append(cast("Meaning", process().ask("meaning", str(file.path), columns.document())[0]))
        if (found[-1]["image"], found[-1]["group"]) != (found[0]["image"], found[0]["group"]) or (
            found[-1]["names"] != found[0]["names"] and found[-1]["label"] and found[0]["label"]
        ):
            raise PatiError(
                N_("{one} and {two} have different columns or class names", one=files.all[0].name, two=file.name),
                N_("they belong to different data sets: give one of them as DATA"),
            )
    shards.require_different(files.root.name, found[0]["names"] or [])
    return found


def _used(meanings: Sequence[Meaning], files: Shards) -> list[Message]:
    """Notes that say what the columns are used for."""
    notes = []
    labels = {meaning["label"] for meaning in meanings} - {None}
    for column in sorted(map(str, labels)):
        notes.append(N_("labels are read from column {column!r} of {table}", column=column, table=files.root.name))
    if meanings[0]["group"] is not None:
        column = meanings[0]["group"]
        notes.append(N_("photos are grouped by column {column!r} of {table}", column=column, table=files.root.name))
    return notes


def _column(
    files: Shards,
    columns: Sequence[str | None],
    names: Sequence[list[str] | None],
    rows: Rows,
) -> Codes[str | None]:
    """The values of a column that may be missing in some files."""
    known: dict[str | None, int] = {}
    parts = []
    starts = [0, *rows.ends.tolist()]
    for number, (file, column) in enumerate(zip(files.all, columns, strict=True)):
        count = starts[number + 1] - starts[number]
        found: list[str | int | None] = [None]
        codes = np.zeros(count, np.int32)
        if column is not None:
            document, tail = process().ask("values", str(file.path), column)
            found, codes = cast(list[str | int | None], document), np.frombuffer(tail, "<i4")
            if len(codes) != count:
                raise PatiError(
                    N_("the Parquet file {path} is damaged: its columns differ in length", path=file.path),
                    N_("download or copy it again"),
                )
        texts = [_text(value, names[number], column, file.name) for value in found]
        place = np.array([known.setdefault(text, len(known)) for text in texts] or [0], np.int32)
        parts.append(place[codes] if count else codes)
    return Codes(tuple(known), np.concatenate(parts))


def _text(value: str | int | None, names: list[str] | None, column: str | None, file: str) -> str | None:
    """A value as the name of a class; None if it has none: empty, or -1 of numbers that have names."""
    if value is None or names is None or isinstance(value, str):
        return None if value is None else str(value).strip() or None
    if value >= len(names):
        raise PatiError(
            NP_(
                "the column {column!r} of {file} holds {value}, but only {n} class has a name",
                "the column {column!r} of {file} holds {value}, but only {n} classes have names",
                n=len(names),
                column=column,
                file=file,
                value=value,
            )
        )
    return names[value] if value >= 0 else None


def _one_label(labels: Codes[str | None], files: Shards) -> Codes[str | None]:
    """Refuse lists of several labels in a text."""
    for value in labels.values:
        if value is not None and value.startswith("[") and value.endswith("]") and "," in value:
            raise PatiError(
                N_(
                    "{file} has several labels per photo (multi-label), for example {label}",
                    file=files.root,
                    label=value,
                ),
                MULTI_LABEL,
            )
    return labels


def _splits(
    files: Shards, meanings: Sequence[Meaning], rows: Rows, columns: Columns, notes: list[Message]
) -> Codes[str | None]:
    """The split of each row: by a column, or else by the name of its file."""
    named = [meaning["split"] for meaning in meanings]
    if any(named):
        column = _column(files, named, [meaning["splits"] for meaning in meanings], rows)
        roles = tuple(split_role(value) if value is not None else None for value in column.values)
        unknown = [value for value, role in zip(column.values, roles, strict=True) if value is not None and not role]
        if not unknown and (len(set(roles) - {None}) > 1 or columns.split is not None):
            notes.append(
                N_("splits are read from column {column!r} of {table}", column=next(filter(None, named)),
                   table=files.root.name)
            )  # fmt: skip
            return Codes.numbered(roles, column.codes)
        if columns.split is not None:
            raise PatiError(
                N_("{path}: unknown split {split!r}", path=files.root, split=unknown[0]),
                N_("known: {names}", names=["train", "validation", "test"]),
            )
    by_name = shards.roles(files)
    if any(by_name):
        notes.append(shards.told(by_name, files))
    counts = np.diff([0, *rows.ends.tolist()])
    return Codes.numbered(by_name, np.repeat(np.arange(len(by_name), dtype=np.int32), counts))
