"""Tables as text: their encoding, their delimiter, and their rows, read one by one in bounded memory.

Knows nothing of photos. `Unusable` says why a file is no table.
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message

MOST_COLUMNS = 10_000
LONGEST_FIELD = 131_072  # letters
SAMPLE = 200  # rows that tell the delimiter and the meaning of the columns
_BLOCK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_FORMATS = (
    (b"PK\3\4", "Excel or zip"), (b"\xd0\xcf\x11\xe0", "Excel"), (b"PAR1", "Parquet"), (b"ARROW1", "Arrow"),
    (b"%PDF", "PDF"), (b"\x1f\x8b", "gzip"),
)  # fmt: skip

Opener = Callable[[], IO[bytes]]


class Unusable(Exception):
    """A file that is no table, or not one that pati can use: a clause that says why, and perhaps what to do."""

    def __init__(self, reason: Message, hint: Message | None = None) -> None:
        super().__init__(reason, hint)
        self.reason, self.hint = reason, hint


@dataclass(frozen=True)
class Dialect:
    """How a table is written. `delimiter`: None for a path, spaces and one more word; "json" for an object per line.

    `skipped`: lines above the table.
    """

    encoding: str
    delimiter: str | None
    skipped: int = 0

    @property
    def note(self) -> Message | None:
        """What is unusual about the encoding."""
        names = {"cp1254": "Windows-1254", "cp1252": "Windows-1252"}
        if self.encoding not in names:
            return None
        return N_("it is not UTF-8; it is read as {encoding}", encoding=names[self.encoding])


def dialect_of(opened: Opener, name: str) -> Dialect:
    """The encoding and delimiter of a table; `name`: that of its file. Raises `Unusable`, `OSError`."""
    encoding = _encoding(opened)
    with opened() as binary:
        sample = binary.read(1 << 18)
    lines = codecs.getincrementaldecoder(encoding)("replace").decode(sample).splitlines(keepends=True)
    if len(sample) == 1 << 18 and len(lines) > 1:
        lines = lines[:-1]  # the last one is cut
    skipped = next((number for number, line in enumerate(lines) if line.strip()), 0)
    lines = lines[skipped:]
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].rstrip("\r\n")) == 5:  # Excel's
        return Dialect(encoding, lines[0][4], skipped + 1)
    if name.lower().endswith((".jsonl", ".ndjson")):
        return Dialect(encoding, "json", skipped)
    return Dialect(encoding, _delimiter(lines), skipped)


def cells(opened: Opener, dialect: Dialect, *, exact: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, with their line's number. Raises `Unusable`, `OSError`.

    Spaces at the start of a cell are skipped unless `exact`.
    """
    with opened() as binary, io.TextIOWrapper(binary, encoding=dialect.encoding, newline="") as text:
        lines = islice(text, dialect.skipped, None)
        if dialect.delimiter == "json":
            yield from _json_rows(lines)
            return
        if dialect.delimiter is None:
            numbered = enumerate(lines, start=dialect.skipped + 1)
            yield from ((number, line.strip().rsplit(None, 1)) for number, line in numbered if line.strip())
            return
        spaces = not exact and dialect.delimiter != "\t"
        reader = csv.reader(lines, delimiter=dialect.delimiter, skipinitialspace=spaces)
        try:
            for row in reader:
                if len(row) > MOST_COLUMNS:
                    raise Unusable(N_("it has {n:,} columns, more than {most:,}", n=len(row), most=MOST_COLUMNS))
                if any(map(str.strip, row)):
                    yield dialect.skipped + reader.line_num, row
        except csv.Error as error:
            number = dialect.skipped + reader.line_num
            if "field larger" in str(error):
                raise Unusable(
                    N_("line {line} has a cell of more than {most:,} letters", line=number, most=LONGEST_FIELD),
                    N_("is a closing quotation mark missing?"),
                ) from None
            raise Unusable(N_("line {line}: {error}", line=number, error=error)) from None


def read_csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a user's CSV or `.tsv` file; raises `PatiError` for anything else."""
    try:
        dialect = dialect_of(lambda: path.open("rb"), path.name)
        rows = (row for _, row in cells(lambda: path.open("rb"), dialect, exact=True))
        header = next(rows, [])
        return header, [dict(zip(header, [*row, *[""] * (len(header) - len(row))], strict=False)) for row in rows]
    except (OSError, Unusable) as error:
        problem = os_reason(error) if isinstance(error, OSError) else error.reason
        raise PatiError(
            N_("can't read {path}: {reason}", path=path, reason=problem),
            N_("expected a CSV in UTF-8 with a header row"),
        ) from None


def _encoding(opened: Opener) -> str:
    """UTF-8, UTF-16 or UTF-32 by byte order mark; UTF-8 if it is valid; else Windows-1254, which Excel writes."""
    with opened() as binary:
        start = binary.read(4096)
    marked = next((encoding for mark, encoding in _BOMS if start.startswith(mark)), None)
    if marked is None:
        _require_text(start)
        if b"\0" in start:  # Latin letters in UTF-16: every second byte is zero
            marked = "utf-16-le" if start[1::2].count(0) > len(start) / 4 else "utf-16-be"
    for encoding in [marked] if marked else ["utf-8", "cp1254", "cp1252"]:
        try:
            with opened() as binary:
                decoder = codecs.getincrementaldecoder(encoding)()
                while block := binary.read(_BLOCK):
                    decoder.decode(block)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            if encoding == "utf-8" and _mostly_utf8(error.object):
                raise Unusable(
                    N_("it is UTF-8 with damaged letters"), N_("save it again as UTF-8 in the program that made it")
                ) from None
            continue
        return encoding
    raise Unusable(N_("its encoding is not known"), N_("save it as CSV UTF-8"))


def _require_text(start: bytes) -> None:
    """Raise `Unusable` for files of other formats under the name of a table."""
    for mark, name in _FORMATS:
        if start.startswith(mark):
            raise Unusable(N_("it is not text but {format}", format=name), N_("save it as CSV UTF-8"))
    if start.startswith(b"version https://git-lfs"):
        raise Unusable(N_("it is a pointer of Git LFS"), N_("run git lfs pull"))
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise Unusable(N_("it is a web page"), N_("the download did not work: download the file again"))
    zeros = start.count(0)
    if zeros and not len(start) / 4 < zeros <= len(start) / 2 + 2:
        raise Unusable(N_("it is not text"), N_("save it as CSV UTF-8"))


def _mostly_utf8(block: bytes) -> bool:
    """Whether most letters beyond ASCII are valid UTF-8."""
    text = block.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return sum(not letter.isascii() for letter in text) > 2 * bad


def _delimiter(lines: list[str]) -> str | None:
    """The character by which most lines have the same number of cells; of two, the one that makes more cells."""
    best, found = (0.0, 1), ""
    for mark in "\t,;|":
        widths: Counter[int] = Counter()
        with contextlib.suppress(csv.Error):  # such as a quotation mark that is never closed: told when all is read
            for row in islice(csv.reader(lines, delimiter=mark, skipinitialspace=mark != "\t"), SAMPLE):
                widths[len(row)] += any(map(str.strip, row))
        width, count = max(widths.items(), key=lambda item: item[::-1], default=(1, 0))
        if width > 1 and count and (score := (round(count / widths.total(), 2), width)) > best:
            best, found = score, mark
    if found:
        return found
    words = [line.strip().rsplit(None, 1) for line in lines[:SAMPLE] if line.strip()]
    return None if words and all(len(row) == 2 and "." in row[0][-6:] for row in words) else ","


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """The objects of a file of JSON lines as rows, below a header of their keys."""
    header: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            raise Unusable(N_("line {line} is not JSON", line=number)) from None
        if not isinstance(entry, dict):
            raise Unusable(N_("line {line} is not a JSON object", line=number))
        values = cast(dict[str, object], entry)
        new = [key for key in values if key not in header] if len(values) <= MOST_COLUMNS else []
        if not header:
            header = new
            yield number, header
        yield number, [_json_cell(values.get(key)) for key in header]


def _json_cell(value: object) -> str:
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# A spreadsheet takes a cell that begins with one of these for a formula, and would run what a stranger named a file.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def guarded(text: str) -> str:
    """A cell of a CSV that no spreadsheet takes for a formula: with an apostrophe before it. See `unguarded`."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unguarded(cell: str) -> str:
    """Inverse of `guarded`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell
