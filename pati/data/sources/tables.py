"""Read one table with one row per photo: which of its columns holds the photo, and which its class, split or group.

Which photos the rows mean is decided in `matching`; what becomes of them, in `table_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from pati.data.decode import is_photo_name
from pati.data.sources.interface import Files
from pati.data.sources.matching import tidy
from pati.data.sources.source import Columns, plain, split_role
from pati.errors import os_reason
from pati.locale.messages import N_, Message
from pati.system.csv_text import SAMPLE, Dialect, Unusable, cells, dialect_of

SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson")
LISTS = (".txt", ".lst")  # may be lists of photos, or any other text
OTHERS = (".xlsx", ".xls", ".ods", ".numbers", ".parquet", ".arrow", ".feather", ".pkl")  # not read

# Usual names of columns, without case, accents and anything but letters and digits; the first ones are preferred.
COLUMNS = {
    "path": (
        "path", "filepath", "imagepath", "imgpath", "photopath", "file", "filename", "imagefile", "imagefilename",
        "image", "imagename", "img", "imgname", "photo", "photoname", "picture", "dosya", "dosyaadi", "dosyaismi",
        "dosyayolu", "yol", "resim", "resimadi", "resimyolu", "fotograf", "fotografadi", "goruntu", "goruntuadi",
        "imageid", "imgid", "photoid", "fileid", "imageids", "id", "uuid",
    ),
    "label": (
        "label", "class", "classname", "category", "categoryname", "labelname", "target", "labels", "classes",
        "classlabel", "etiket", "etiketi", "etiketler", "sinif", "sinifi", "sinifadi", "kategori",
    ),
    "split": ("split", "subset", "partition", "set", "dataset", "phase", "usage", "bolum", "bolme", "kume"),
}  # fmt: skip
_FLAGS = {"isvalid": "validation", "isval": "validation", "isvalidation": "validation", "istest": "test"}
_ONES, _ZEROS = {"1", "1.0", "1,0", "true", "yes", "evet"}, {"0", "0.0", "0,0", "false", "no", "hayır", ""}
_NO_LABEL = {"", "nan", "<na>", "#n/a", "null"}
_MOST_TITLES = 5  # rows in which the header is looked for
MULTI_LABEL = N_("pati learns one class per photo; --label-column chooses one column")


@dataclass(frozen=True)
class Table:
    """A table and the meaning of its columns, by number.

    `folder`: that of its file, relative to the data, without a slash at the end. `above`: the number of rows up to the
    header. `label`: several columns if there is one per class, of which exactly one is 1. `flag`: the split of the rows
    in which the column `split` is true. `most`: the number of rows that are read.
    """

    store: Files
    name: str
    folder: str
    dialect: Dialect
    header: tuple[str, ...]
    above: int
    path: int
    label: tuple[int, ...]
    split: int | None
    flag: str | None
    group: int | None
    notes: tuple[Message, ...]
    most: int | None = None

    @property
    def shown(self) -> str:
        """Its path relative to the data."""
        return f"{self.folder}/{self.name}" if self.folder else self.name

    def names(self) -> Iterator[str]:
        """The photos as the table names them."""
        return (name for name, _ in self.rows())

    def rows(self) -> Iterator[tuple[str, list[str]]]:
        """The rows that name a photo: its name, and the cells, as many as the header has.

        Raises `Unusable` where the cells do not fit the header, or if a table in an archive is too long.
        """
        width, path = len(self.header), self.path
        lines = cells(lambda: self.store.open(self.name), self.dialect)
        for count, (line, row) in enumerate(islice(lines, self.above, None)):
            if len(row) != width:
                row += [""] * (width - len(row))
            if len(row) > width and any(map(str.strip, row[width:])):
                raise Unusable(
                    N_("line {line} has {n} cells, but the header {columns}", line=line, n=len(row), columns=width),
                    N_("put names that contain the delimiter in quotation marks"),
                )
            if self.most is not None and count >= self.most:
                raise Unusable(N_("it has more than {most:,} rows", most=self.most), N_("unpack the archive yourself"))
            if name := tidy(row[path]):
                yield name, row

    def label_of(self, row: Sequence[str]) -> str:
        """The class of a row; empty if it has none."""
        if not self.label:
            return ""
        if len(self.label) == 1:
            label = row[self.label[0]].strip()
            return "" if label.lower() in _NO_LABEL else label
        return next((self.header[column] for column in self.label if row[column].strip().lower() in _ONES), "")

    def split_of(self, row: Sequence[str]) -> str | None:
        """The split of a row as written, or that of a flag."""
        if self.split is None:
            return None
        word = row[self.split].strip()
        if self.flag is None:
            return word
        other = "test" if self.flag == "train" else "train"
        return self.flag if word.lower() in _ONES else other if word.lower() in _ZEROS else word

    def group_of(self, row: Sequence[str]) -> str | None:
        """The group of a row."""
        return None if self.group is None else row[self.group].strip() or None


def is_table(name: str) -> bool:
    """Whether the file name is that of a table."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_other_table(name: str) -> bool:
    """Whether the file name is that of a table in a format that pati does not read."""
    return name.lower().endswith(OTHERS) and not name.startswith((".", "~$"))


def squeezed(title: str) -> str:
    """A column's name for comparison with `COLUMNS`."""
    return re.sub(r"[^a-z0-9]", "", plain(title))


def read_table(
    store: Files,
    name: str,
    columns: Columns,
    known: Callable[[str], bool],
    folder: str = "",
    most: int | None = None,
) -> Table:
    """The table in `store` under `name`; `known`: whether a cell may mean a photo, which tells the columns apart.

    `most`: the number of rows that may be read. Raises `Unusable` if the table does not describe photos.
    """
    try:
        dialect = dialect_of(lambda: store.open(name), name)
        sample = [row for _, row in islice(cells(lambda: store.open(name), dialect), SAMPLE + 1)]
    except OSError as error:
        raise Unusable(N_("it can't be read: {error}", error=os_reason(error))) from None
    header, above, notes = _header(sample, columns, known)
    if dialect.note:
        notes.append(dialect.note)
    body = [row + [""] * (len(header) - len(row)) for row in sample[above:]]
    usual = [squeezed(title) for title in header] if above else [""] * len(header)
    group = _asked(columns.group, header)
    asked = _asked(columns.label, header)
    path = _path_column(_asked(columns.path, header), usual, body, known)
    if path is None:
        raise Unusable(
            N_("it has no path column; its columns: {names}", names=header[:20]),
            N_("--path-column chooses the column with the names of the photos"),
        )
    split, flag = _split_column(_asked(columns.split, header), usual, body, taken={path, asked, group})
    if split is not None and flag is None and columns.split is None and not any(map(split_role, _values(body, split))):
        words = sorted(set(_values(body, split)))[:5]
        notes.append(N_("its column {column!r} is not used: {words} are no splits", column=header[split], words=words))
        split = None
    label = _label_columns(usual, header, body, {path, split, group}) if asked is None else (asked,)
    for column in (path, *label, split, group):
        if column is not None and header.count(header[column]) > 1:
            raise Unusable(N_("it has several columns named {column!r}", column=header[column]), N_("keep one of them"))
    table = Table(
        store, name, folder, dialect, tuple(header), above, path, label, split, flag, group, tuple(notes), most
    )
    return _one_hot(table) if len(label) > 1 else table


def _header(
    sample: Sequence[list[str]], columns: Columns, known: Callable[[str], bool]
) -> tuple[list[str], int, list[Message]]:
    """The names of the columns, the number of rows up to these, and notes; numbers if there are no names."""
    if not sample:
        raise Unusable(N_("it is empty"))
    titles = next((number for number, row in enumerate(sample[:_MOST_TITLES]) if _has_names(row)), 0)
    if titles == 0 and not _titled(sample[0], columns, known):
        numbers = [str(number + 1) for number in range(len(sample[0]))]
        return numbers, 0, [N_("it has no header; its columns are numbered")]
    header, body = [title.strip() for title in sample[titles]], sample[titles + 1 :]
    if not body:
        raise Unusable(N_("it has a header but no rows"))
    if all(len(row) == len(header) + 1 and row[-1].strip() for row in body):
        paths = [column for column, title in enumerate(header) if squeezed(title) in COLUMNS["path"]]
        if not any(is_photo_name(body[0][column].strip()) or known(tidy(body[0][column])) for column in paths):
            header.insert(0, "")  # as R writes the names of rows
    above = N_("what is above its header is ignored: {text}", text=" ".join(sample[0]).strip())
    return header, titles + 1, [above] if titles else []


def _asked(name: str | None, header: Sequence[str]) -> int | None:
    """The number of a column that the user named."""
    if name is None:
        return None
    if name.strip() not in header:
        raise Unusable(
            N_("it has no column {column!r}; its columns: {names}", column=name, names=[*header[:20]]),
        )
    return header.index(name.strip())


def _has_names(row: Sequence[str]) -> bool:
    """Whether a row has usual names of columns, for photos and for labels."""
    words = set(map(squeezed, row))
    return bool(words & {*COLUMNS["path"]} and words & {*COLUMNS["label"]})


def _titled(first: Sequence[str], columns: Columns, known: Callable[[str], bool]) -> bool:
    """Whether the first row is a header."""
    words = set(map(squeezed, first))
    asked = {columns.path, columns.label, columns.split, columns.group} - {None}
    if asked & {cell.strip() for cell in first} or words & {*COLUMNS["path"], *COLUMNS["label"]}:
        return True
    return not any(is_photo_name(cell.strip()) or known(tidy(cell)) for cell in first)


def _values(body: Sequence[Sequence[str]], column: int) -> list[str]:
    return [cell for row in body if (cell := row[column].strip())]


def _path_column(
    asked: int | None, usual: Sequence[str], body: Sequence[Sequence[str]], known: Callable[[str], bool]
) -> int | None:
    """The column with names of photos: by its contents, and of several, by its name."""
    if asked is not None:
        return asked
    rank = {name: number for number, name in enumerate(COLUMNS["path"])}
    found = [sum(known(tidy(row[column])) for row in body) for column in range(len(usual))]
    alike = [sum(is_photo_name(row[column].strip()) for row in body) for column in range(len(usual))]
    named = sorted((column for column, name in enumerate(usual) if name in rank), key=lambda one: rank[usual[one]])
    for counts, columns in ((found, named), (alike, named), (alike, range(len(usual))), (found, range(len(usual)))):
        best = max(columns, key=counts.__getitem__, default=None)
        if best is not None and counts[best] >= max(1, len(body) / 2):
            return best
    return max(named, key=found.__getitem__) if named else None


def _split_column(
    asked: int | None, usual: Sequence[str], body: Sequence[Sequence[str]], taken: set[int | None]
) -> tuple[int | None, str | None]:
    """The column of splits, and the split that its flag means."""
    flags = {**_FLAGS, "istrain": "train", "istraining": "train"}
    if asked is not None:
        return asked, flags.get(usual[asked])
    free = [column for column, name in enumerate(usual) if column not in taken and name not in COLUMNS["label"]]
    named = [column for column in free if usual[column] in COLUMNS["split"]]
    for column in named or free:
        words = _values(body, column)
        if words and all(map(split_role, words)) and len(set(words)) > 1:
            return column, None
    flagged = [column for column in free if usual[column] in flags]
    if not named and len(flagged) == 1:
        return flagged[0], flags[usual[flagged[0]]]
    return (named[0], None) if named else (None, None)


def _label_columns(
    usual: Sequence[str],
    header: Sequence[str],
    body: Sequence[Sequence[str]],
    taken: set[int | None],
) -> tuple[int, ...]:
    """The column of labels, or one column per class; none if there are no labels."""
    free = [column for column in range(len(header)) if column not in taken]
    for name in COLUMNS["label"]:
        if name in usual and usual.index(name) in free:
            return (usual.index(name),)
    free = [
        column
        for column in free
        if _values(body, column) and header[column] and not usual[column].startswith("unnamed")
    ]
    binary = [column for column in free if {row[column].strip().lower() for row in body} <= _ONES | _ZEROS]
    if len(binary) > 1:
        return tuple(binary)
    words = [value for column in free for value in _values(body, column)]
    if len(free) != 1 or not _like_labels(words):
        return ()
    return (free[0],)


def _like_labels(words: Sequence[str]) -> bool:
    """Whether values may be classes: they repeat, and are neither photos nor measurements."""
    if any(map(is_photo_name, words)) or any(re.fullmatch(r"-?\d+[.,]\d*[1-9]\d*", word) for word in words):
        return False
    return len(set(words)) <= max(2, len(words) / 2)


def _one_hot(table: Table) -> Table:
    """The table, if each row has a one in exactly one of its label columns, leaving out at most one of these.

    Raises `Unusable` if rows have several.
    """
    spare = set(table.label)
    exact, several, total = True, 0, 0
    for name, row in table.rows():
        values = {column: row[column].strip().lower() for column in table.label}
        ones = {column for column, value in values.items() if value in _ONES}
        if not all(value in _ONES | _ZEROS for value in values.values()):
            raise Unusable(N_("expected 0 or 1 in the columns of the classes for {photo}", photo=name))
        total += 1
        several += len(ones) > 1
        exact = exact and len(ones) < 2
        spare = spare - ones if len(ones) == 1 else spare & ones if len(ones) == 2 else set() if ones else spare
    if exact:
        return table
    if len(spare) == 1 and len(table.label) > 3:
        (other,) = spare
        rest = tuple(column for column in table.label if column != other)
        note = N_(
            "its column {column!r} is not one of the classes, of which each row has one", column=table.header[other]
        )
        return replace(table, label=rest, notes=(*table.notes, note))
    raise Unusable(
        N_("it has several labels per photo (multi-label) in {n:,} of {total:,} rows", n=several, total=total),
        MULTI_LABEL,
    )
