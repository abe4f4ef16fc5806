"""What `pati predict` is given -> the model, and photo paths, lazily and in order."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pati.data.decode import Unreadable, is_photo_name, is_system_file
from pati.data.sources import storage
from pati.data.sources.interface import reading_order
from pati.data.sources.paths import holds_photos, open_without_classes
from pati.data.sources.source import natural
from pati.errors import PatiError, os_reason
from pati.inference.load import is_run
from pati.inference.predictor import Named, Refused
from pati.locale.messages import N_

# Files that hold models: of pati, and of other programs, which must not be taken for photos either.
MODELS = (
    ".safetensors", ".onnx", ".pt", ".pth", ".ckpt", ".h5", ".keras", ".tflite", ".pkl", ".joblib", ".mlmodel",
)  # fmt: skip
_TABLES = (".csv", ".tsv", ".txt")


def model_first(words: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The model that the first word names, if it names one, and the other words.

    Raises `PatiError` where the first word is nothing that is there, nor named like a photo: a mistyped model must not
    be answered for by another one.
    """
    if not words:
        return None, []
    first, rest = words[0], [*words[1:]]
    for word in rest:
        if _is_model(word):
            raise PatiError(
                N_("{path} is a model, not a photo", path=word),
                N_("one model comes first, then the photos"),
            )
    if _is_model(first):
        return Path(first), rest
    if os.path.isdir(first) and (runs := _runs_in(Path(first))):
        raise PatiError(
            N_("{path} is a folder of runs, not a run", path=first),
            N_("name one of them: {runs}", runs=[str(run) for run in runs[:5]]),
        )
    if not (first.startswith("-") or os.path.lexists(first) or glob.has_magic(first) or is_photo_name(first)):
        raise PatiError(
            N_("{path} does not exist", path=first), N_("expected a model file, the folder of a run, or photos")
        )
    return None, [*words]


def _runs_in(folder: Path) -> list[Path]:
    """The runs directly in a folder."""
    with contextlib.suppress(OSError):
        return sorted((path for path in folder.iterdir() if is_run(path)), key=lambda path: natural(path.name))
    return []


def _is_model(path: str) -> bool:
    return Path(path).suffix.lower() in MODELS or (os.path.isdir(path) and is_run(Path(path)))


def expand(paths: Sequence[str], stdin: Iterable[str]) -> Iterator[str | Named | Refused]:
    """Every input's photos: a file as it is, those in an archive, Parquet file or shards, a folder's files, a pattern's
    matches, `-` lines of stdin.

    A path that is nothing of these is passed on: its row will say what is wrong. Lines may end with NUL, as those of
    `find -print0` do.
    """
    for path in paths:
        if path == "-":
            for name in (name for line in stdin for name in line.rstrip("\r\n").split("\0")):
                if name:
                    yield from expand([os.path.join(".", "-") if name.strip() == "-" else name], [])
        elif holds_photos(Path(path)):
            yield from _stored(path)
        elif os.path.isdir(path):
            yield from _files(path)
        elif not os.path.lexists(path) and glob.has_magic(path):
            yield from _matches(path) or [path]
        else:
            yield path


def _stored(path: str) -> Iterator[Named | Refused]:
    """The photos in an archive, a Parquet file or shards; they are read here, one after the other, which is fastest."""
    try:
        source = open_without_classes(Path(path))
        store = storage.at(source.root)
    except PatiError as error:
        yield Refused(path, Unreadable("unreadable", error.message))
        return
    paths = [item.path for item in source.items]
    for number in reading_order(store, paths):
        name = str(source.root / paths[number])
        try:
            yield Named(name, store.read(paths[number]))
        except Unreadable as error:
            yield Refused(name, error)


def _matches(pattern: str) -> list[str]:
    try:
        return sorted(glob.glob(pattern, recursive=True), key=natural)
    except RecursionError:
        raise PatiError(
            N_("folders below {path} are nested too deeply for a pattern", path=pattern), N_("give the folder itself")
        ) from None


def _files(folder: str) -> Iterator[str | Refused]:
    """The files in a folder and below, but not in those of runs, in order.

    A folder that can't be read is refused, and the others go on.
    """
    waiting = [_entries(folder)]
    while waiting:
        entry = next(waiting[-1], None)
        if entry is None:
            waiting.pop()
        elif isinstance(entry, Refused):
            yield entry
        elif entry.is_dir(follow_symlinks=False):
            if is_photo_name(entry.name):
                yield Refused(entry.path, Unreadable("not-a-file", N_("a folder")))
            if not (entry.name.startswith((".", "__MACOSX")) or is_run(Path(entry.path))):
                waiting.append(_entries(entry.path))
        elif not is_system_file(entry.name) and Path(entry.name).suffix.lower() not in (*_TABLES, *MODELS):
            yield entry.path


def _entries(folder: str) -> Iterator[os.DirEntry[str] | Refused]:
    try:
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: natural(entry.name))
    except OSError as error:
        return iter([Refused(folder, Unreadable("unreadable", os_reason(error)))])
    return iter(listed)
