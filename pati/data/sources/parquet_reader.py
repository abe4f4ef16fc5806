"""Read Parquet files, in a process whose memory is bounded: the only module that knows pyarrow.

`python -m pati.data.sources.parquet_reader` answers requests for a process that must not be at the mercy of a file: a
page of a few kilobytes may unpack to gigabytes. A worker of the audit, which is bounded too, uses `ParquetReader`
directly. Photos are read in small batches, row group by row group, each of which is decoded once if the photos are
asked for in order of address.
"""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TypedDict, cast

from pati.data import decode
from pati.data.sources import allowed
from pati.data.sources.interface import require_place
from pati.data.sources.shards import Opened
from pati.data.sources.source import Columns, ColumnsDocument
from pati.data.sources.tables import COLUMNS, MULTI_LABEL, squeezed
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message, MessageDocument, as_is
from pati.system import extras, machine
from pati.system.pipes import receive, send

os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the others reserve more than they use, which a limit forbids

with extras.required("Parquet"):
    import pyarrow
    from pyarrow import parquet

BATCH = 16  # photos that are decoded at a time
_LONGEST = 1000  # characters of a class, split or group
# Further names of columns of photos, without case, accents and anything but letters and digits.
_PHOTOS = (*COLUMNS["path"], "jpg", "jpeg", "png", "webp", "bytes", "imagebytes", "imagedata", "content", "data")
_ERRORS = (pyarrow.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError, RuntimeError)


class Meaning(TypedDict):
    """The columns of a file by what they hold, and the names of the classes and splits whose numbers they hold."""

    image: str
    label: str | None
    split: str | None
    group: str | None
    names: list[str] | None
    splits: list[str] | None
    header: list[str]


class Refusal(TypedDict):
    """An error as it is sent: that of a file (`reason` is empty), or of a photo."""

    reason: str
    message: MessageDocument | None
    hint: MessageDocument | None


class ParquetReader:
    """Reads photos by address. Not thread-safe."""

    def __init__(self, folder: Path, column: str) -> None:
        self._files, self._column = Opened(folder), column
        self._group = ""  # the beginning of the addresses of the row group that is being read
        self._batches: Iterator[Any] = iter(())
        self._batch: Any = ()
        self._start = 0  # the row of the batch's first photo
        self._failure: decode.Unreadable | None = None  # of all rows from `_start` on
        pyarrow.set_cpu_count(1)
        pyarrow.set_io_thread_count(1)

    def read_at(self, address: str) -> bytes:
        """See `interface.Reader`."""
        require_place(address)
        file = self._files.at(address)
        group, _, row = address.rpartition(":")
        value = self._value(file, group, int(row))
        if not value.is_valid:
            raise decode.Unreadable("empty", N_("its row holds no photo"))
        size, limit = value.as_buffer().size, decode.limits_now().bytes
        if size > limit:
            raise decode.Unreadable("too-large", decode.over_bytes(size, limit))
        return bytes(value.as_buffer())

    def _value(self, file: IO[bytes], group: str, row: int) -> Any:
        """What a row of a group holds; raises `decode.Unreadable`."""
        if group != self._group or row < self._start:
            self._group, self._batch, self._start, self._failure = group, (), 0, None
            self._batches = _batches(file, int(group.rpartition(":")[2].rpartition("|")[2]), self._column)
        while row >= self._start + len(self._batch):
            if self._failure:
                raise self._failure
            self._start += len(self._batch)
            self._batch = ()  # the memory of two batches is not needed
            try:
                self._batch = next(self._batches)
            except StopIteration:
                self._failure = decode.Unreadable("damaged", N_("the file holds fewer rows than it claims"))
            except MemoryError:
                self._failure = decode.Unreadable("too-large", decode.NO_MEMORY)
            except _ERRORS as error:
                self._failure = decode.Unreadable("damaged", as_is(_first_line(error)))
        return self._batch[row - self._start]


def _batches(file: IO[bytes], group: int, column: str) -> Iterator[Any]:
    """The photos of a row group in order, some at a time."""
    opened = _opened(file)
    columns = [_leaf(opened, column)]
    for batch in opened.iter_batches(BATCH, row_groups=[group], columns=columns, use_threads=False):
        photos = batch.column(0)
        yield photos.field("bytes") if pyarrow.types.is_struct(photos.type) else photos


def _opened(file: Any) -> Any:
    # Without a buffer, pyarrow reads a column of a row group at once, which may be gigabytes.
    return parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)


def _leaf(file: Any, column: str, part: str = "bytes") -> str:
    """The name of the column, or of the part of it, that is read."""
    return f"{column}.{part}" if pyarrow.types.is_struct(file.schema_arrow.field(column).type) else column


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]


def _is_binary(kind: Any) -> bool:
    types = pyarrow.types
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(test(kind) for test in tests)


def _holds_photos(kind: Any) -> bool:
    """Whether a column may hold photos: bytes, or a struct with bytes, as Hugging Face's."""
    if pyarrow.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _is_binary(kind.field(at).type)
    return _is_binary(kind)


def meaning(path: Path, columns: ColumnsDocument) -> Meaning:
    """What the columns of a file mean. Raises `PatiError`."""
    file = _opened(str(path))
    schema = file.schema_arrow
    header = list(schema.names)
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise PatiError(N_("{path} has several columns named {column!r}", path=path, column=doubled[0]))
    features = _features(schema)
    asked = Columns(**columns)
    for name in (asked.path, asked.label, asked.split, asked.group):
        if name is not None and name not in header:
            raise PatiError(
                N_("{path} has no column {column!r}; its columns: {names}", path=path, column=name, names=header[:20])
            )
    image = asked.path or _image(path, schema, features)
    if not _holds_photos(schema.field(image).type):
        raise PatiError(
            N_("the column {column!r} of {path} holds no bytes of photos", column=image, path=path),
            N_(
                "pati reads columns of bytes, and those of Hugging Face's type Image; columns: {names}",
                names=header[:20],
            ),
        )
    _require_bytes(path, file, image)
    label = asked.label or _usual("label", schema, features, taken={image})
    split = asked.split or _usual("split", schema, features, taken={image, label, asked.group})
    return {
        "image": image,
        "label": label,
        "split": split,
        "group": asked.group,
        "names": _class_names(features, label),
        "splits": _class_names(features, split),
        "header": header,
    }


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """The types that Hugging Face's `datasets` stores with the columns; none if they are not as it writes them."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: dict(feature) for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _class_names(features: dict[str, dict[str, Any]], column: str | None) -> list[str] | None:
    feature = features.get(column or "", {})
    names = feature.get("names")
    if feature.get("_type") != "ClassLabel" or not isinstance(names, list):
        return None
    return [str(name) for name in names]


def _image(path: Path, schema: Any, features: dict[str, dict[str, Any]]) -> str:
    """The column with the photos. Raises `PatiError`."""
    able = [field.name for field in schema if _holds_photos(field.type)]
    named = [name for name in able if features.get(name, {}).get("_type") == "Image"]
    structs = [name for name in able if pyarrow.types.is_struct(schema.field(name).type)]
    some = named or structs or able
    if len(some) > 1:
        some = sorted((one for one in some if squeezed(one) in _PHOTOS), key=lambda one: _PHOTOS.index(squeezed(one)))
    if not some:
        raise PatiError(
            N_("{path} has no column of photos; its columns: {names}", path=path, names=schema.names[:20])
            if not able
            else N_("{path} has several columns that may hold the photos: {names}", path=path, names=able[:20]),
            N_(
                "pati reads columns of bytes, and those of Hugging Face's type Image; columns: {names}",
                names=schema.names[:20],
            )
            if not able
            else N_("--path-column chooses the column with the photos"),
        )
    return cast(str, some[0])


def _require_bytes(path: Path, file: Any, image: str) -> None:
    """Raise `PatiError` if no row holds a photo, as far as the file says so without being read."""
    leaf, facts = _leaf(file, image), file.metadata
    at = next((n for n in range(facts.num_columns) if facts.schema.column(n).path == leaf), None)
    groups = [facts.row_group(number) for number in range(facts.num_row_groups)]
    chunks = [] if at is None else [group.column(at) for group in groups]
    known = [chunk.statistics for chunk in chunks if chunk.is_stats_set]
    missing = sum(stats.null_count for stats in known if stats.has_null_count)
    if facts.num_rows and missing >= facts.num_rows:
        raise PatiError(
            N_("the column {column!r} of {path} holds only paths or nothing, no photos", column=image, path=path),
            N_("store the photos themselves in the file: with Hugging Face's datasets, embed_external_files=True"),
        )


def _usual(name: str, schema: Any, features: dict[str, dict[str, Any]], taken: set[str | None]) -> str | None:
    """The column of labels or splits, by its type or its usual names; None if there is none, or several."""
    free = [field.name for field in schema if field.name not in taken and not pyarrow.types.is_struct(field.type)]
    for usual in COLUMNS[name]:
        for column in free:
            if squeezed(column) == usual:
                return cast(str, column)
    classes = [column for column in free if features.get(column, {}).get("_type") == "ClassLabel"]
    return classes[0] if name == "label" and len(classes) == 1 else None


def rows(path: Path, image: str) -> tuple[list[int], bytes, bytes]:
    """The number of rows of each row group; and the photos' paths: the end of each, `int64`, in the bytes of all.

    No paths if one is missing.
    """
    file = _opened(str(path))
    groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    if min(groups, default=0) < 0:
        raise ValueError("a negative number of rows")
    kind = file.schema_arrow.field(image).type
    if not pyarrow.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return groups, b"", b""
    ends, names = array("q"), bytearray()
    for batch in file.iter_batches(1024, columns=[_leaf(file, image, "path")], use_threads=False):
        for name in batch.column(0).field("path").to_pylist():
            if not isinstance(name, str) or not name or len(name) > 4 * _LONGEST:
                return groups, b"", b""
            names += name.encode("utf-8", "replace")
            ends.append(len(names))
    return groups, ends.tobytes(), bytes(names)


def values(path: Path, column: str) -> tuple[list[str | int | None], bytes]:
    """The different values of a column, and for each row, as `int32`, which of them it has. Raises `PatiError`."""
    kind = _opened(str(path)).schema_arrow.field(column).type
    types = pyarrow.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        raise PatiError(
            N_("the column {column!r} of {path} holds lists: several labels per photo", column=column, path=path),
            MULTI_LABEL,
        )
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    if not (
        texts or types.is_integer(kind) or types.is_boolean(kind) or types.is_floating(kind) or types.is_null(kind)
    ):
        raise PatiError(
            N_("the column {column!r} of {path} is of type {type}", column=column, path=path, type=str(kind)),
            N_("expected text or whole numbers"),
        )
    # Repeated texts stay one text each.
    file = parquet.ParquetFile(str(path), buffer_size=1 << 20, pre_buffer=False, read_dictionary=[column])
    codes: dict[str | int | None, int] = {}
    found = bytearray()
    for batch in file.iter_batches(4096, columns=[column], use_threads=False):
        data = batch.column(0)
        encoded = data if types.is_dictionary(data.type) else data.dictionary_encode()
        new = [_plain(value, column, path) for value in encoded.dictionary]
        place = [codes.setdefault(value, len(codes)) for value in new]
        none = codes.setdefault(None, len(codes)) if encoded.null_count else -1
        for index in encoded.indices.to_pylist():
            found += (none if index is None else place[index]).to_bytes(4, "little")
    return list(codes), bytes(found)


def _plain(scalar: Any, column: str, path: Path) -> str | int | None:
    """A value as text or a whole number; raises `PatiError` if it is neither."""
    if not scalar.is_valid:
        return None
    long = len(scalar.as_buffer()) > 4 * _LONGEST if hasattr(scalar, "as_buffer") else False
    value = "" if long else scalar.as_py()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float):
        if math.isnan(value):
            return None
        value = int(value) if value.is_integer() else str(value)
    if long or (isinstance(value, str) and len(value) > _LONGEST):
        raise PatiError(N_("the column {column!r} of {path} holds long texts, no classes", column=column, path=path))
    return int(value) if isinstance(value, int) else str(value)


@functools.lru_cache(maxsize=1)
def _reader(folder: str, column: str) -> ParquetReader:
    return ParquetReader(Path(folder), column)


def _answer(request: list[Any]) -> tuple[object, bytes]:
    match request:
        case ["read", str(folder), str(column), str(address)]:
            return None, _reader(folder, column).read_at(address)
        case [_, str(path), *_] if not allowed.may_read(path):
            raise PatiError(N_("{path} is outside the folders that may be read", path=path))
        case ["meaning", str(path), dict(columns)]:
            return meaning(Path(path), cast(ColumnsDocument, columns)), b""
        case ["rows", str(path), str(column)]:
            groups, ends, names = rows(Path(path), column)
            return (groups, len(ends)), ends + names
        case ["values", str(path), str(column)]:
            return values(Path(path), column)
    raise ValueError(request)


def main() -> None:
    """Answer requests until stdin closes."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    machine.keep_small_blocks()
    machine.bound_memory(decode.limits_now().memory)
    while (message := receive(source)) is not None:
        path = message[0][1]
        try:
            document, tail = _answer(message[0])
        except decode.Unreadable as error:
            refusal = Refusal(reason=error.reason, message=_document(error.detail), hint=None)
        except PatiError as error:
            refusal = _refusal(error.message, error.hint)
        except MemoryError:
            refusal = _refusal(N_("{path} needs more memory than a photo may take", path=path), None)
        except _ERRORS as error:
            reason: object = os_reason(error) if isinstance(error, OSError) and error.errno else _first_line(error)
            refusal = _refusal(
                N_("the Parquet file {path} is damaged: {error}", path=path, error=reason),
                N_("download or copy it again"),
            )
        else:
            send(out, [None, document], tail)
            continue
        send(out, [refusal, None])


def _refusal(message: Message, hint: Message | None) -> Refusal:
    return {"reason": "", "message": message.to_json(), "hint": _document(hint)}


def _document(message: Message | None) -> MessageDocument | None:
    return None if message is None else message.to_json()


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
