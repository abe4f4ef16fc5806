"""`Pack`: the kept photos decoded once, a memory-mapped `uint8 (N, size, size, 3)` array.

Written while the audit reads the files, stored in the cache, and reused only if its key matches: the ordered content
hashes of all files, and everything that determines the pixels. Knows nothing of labels or splits: rows are looked up by
content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import importlib.metadata
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray

from pati.data import decode
from pati.data.audit.pool import Progress, read_all, read_some
from pati.data.audit.worker import Inspection, Target, pack_inspections, unpack_inspections
from pati.data.manifest import Entry
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.source import Source
from pati.data.sources.storage import Storage
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.system import files

FORMAT = 1
_PATIENCE = 10  # retries when another process fills the same slot first


@dataclass(frozen=True)
class Pack:
    """Decoded photos by content hash: `rows[sha256]` is a row of `pixels`."""

    pixels: NDArray[np.uint8]
    rows: dict[str, int]

    def of(self, entries: Sequence[Entry]) -> NDArray[np.int64]:
        """The row of each entry. Raises `PatiError` if a photo is not in the pack."""
        try:
            return np.array([self.rows[entry.sha256] for entry in entries], np.int64)
        except KeyError:
            raise PatiError(
                N_("the cache does not contain these photos"), N_("the data has changed: run the command again")
            ) from None


def open_or_build(
    source: Source, preprocess: Preprocess, progress: Progress | None = None, *, again: bool = True
) -> tuple[list[Inspection], Pack, bool]:
    """Inspection results of all files, their pack, and whether it was already in the cache.

    The cache slot depends on the data folder, the geometry and the decoder versions. Its contents are reused only if
    the content of every file is unchanged; `again`: files whose decoder died or took too long are then read again.
    Raises `PatiError` if the cache can't be written.
    """
    decoders = [FORMAT, PIL.__version__, simplejpeg.__version__, importlib.metadata.version("pi-heif")]
    geometry = json.dumps([decoders, str(source.root.resolve()), preprocess.geometry()], sort_keys=True)
    slot = files.cache_folder() / "packs" / hashlib.sha256(geometry.encode()).hexdigest()[:16]
    known = _open(slot, source)
    try:
        if known is not None:
            inspections, pixels = known
            if again and not all(inspection.lasting for inspection in inspections):
                inspections = _read_again(slot, source, preprocess, inspections)
            return inspections, Pack(pixels, _rows(inspections)), True
        with files.scratch_folder(slot) as temporary:
            inspections = _fill(temporary, source, preprocess, progress)
            _put(temporary / "new", slot, temporary)
            files.sync_folder(slot.parent)
            pixels = np.load(slot / "pixels.npy", mmap_mode="c", allow_pickle=False)
    except OSError as error:
        raise PatiError(
            N_("can't write the cache in {folder}: {reason}", folder=slot.parent, reason=error.strerror or error),
            N_("free some space, or set PATI_CACHE to a folder on a larger disk"),
        ) from error
    return inspections, Pack(pixels, _rows(inspections)), False


def _fill(temporary: Path, source: Source, preprocess: Preprocess, progress: Progress | None) -> list[Inspection]:
    new = temporary / "new"
    new.mkdir()
    shape = (len(source.items), preprocess.size, preprocess.size, 3)
    # Space for all rows is allocated now: a full disk is an error here, not a crash in a memory-mapped write.
    pixels = np.lib.format.open_memmap(new / "pixels.npy", "w+", np.uint8, shape)
    _claim(new / "pixels.npy")
    del pixels
    inspections = read_all(source, Target(str(new / "pixels.npy"), preprocess), progress)
    with (new / "pixels.npy").open("r+b") as file:
        os.fsync(file.fileno())  # the workers wrote through the page cache
    _write_findings(new, source, inspections)
    return inspections


def _read_again(slot: Path, source: Source, preprocess: Preprocess, inspections: list[Inspection]) -> list[Inspection]:
    """Read files again that could not be judged, into their rows, which nobody uses so far."""
    passing = [row for row, inspection in enumerate(inspections) if not inspection.lasting]
    found = read_some(source, passing, Target(str(slot / "pixels.npy"), preprocess))
    inspections = [found.get(row, inspection) for row, inspection in enumerate(inspections)]
    _write_findings(slot, source, inspections)
    return inspections


def _write_findings(folder: Path, source: Source, inspections: list[Inspection]) -> None:
    rows, thumbs = pack_inspections(inspections)
    files.write_bytes(folder / "thumbs.bin", thumbs)
    document = {
        "format": FORMAT,
        "key": _key(source, [inspection.sha256 for inspection in inspections]),
        "findings": rows,
        "passing": [row for row, inspection in enumerate(inspections) if not inspection.lasting],
    }
    files.write_json(folder / "pack.json", document)


def _put(new: Path, slot: Path, temporary: Path) -> None:
    """Move a finished pack into its slot, replacing a pack with another key or one that another process just wrote."""
    for attempt in itertools.count():
        with contextlib.suppress(FileNotFoundError):
            slot.rename(temporary / f"old-{attempt}")
        try:
            new.rename(slot)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or attempt == _PATIENCE:
                raise


def _claim(path: Path) -> None:
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def _rows(inspections: Sequence[Inspection]) -> dict[str, int]:
    return {inspection.sha256: row for row, inspection in enumerate(inspections) if not inspection.reason}


def _key(source: Source, hashes: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for item, content in zip(source.items, hashes, strict=True):
        digest.update(json.dumps([item.path, content]).encode())
    return digest.hexdigest()


def _open(slot: Path, source: Source) -> tuple[list[Inspection], NDArray[np.uint8]] | None:
    """The slot's inspection results and pixels if they match these files exactly; otherwise None."""
    try:
        document = json.loads((slot / "pack.json").read_text(encoding="utf-8"))
        inspections = unpack_inspections(document["findings"], (slot / "thumbs.bin").read_bytes())
        pixels = np.load(slot / "pixels.npy", mmap_mode="c", allow_pickle=False)
        if document["format"] != FORMAT or len(inspections) != len(source.items) or len(pixels) != len(inspections):
            return None
        store = storage.at(source.root)
        hashes = [hash_now(store, item.path) for item in source.items]
        if _key(source, hashes) != document["key"]:
            return None
        for row in document.get("passing", []):
            inspections[row] = dataclasses.replace(inspections[row], lasting=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return inspections, pixels


def hash_now(store: Storage, relative: str) -> str:
    """SHA-256 of the file's content; empty if the file can't be read, as in its inspection result."""
    try:
        return hashlib.sha256(store.read(relative)).hexdigest()
    except decode.Unreadable:
        return ""
