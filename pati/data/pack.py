"""`Pack`: the kept photos decoded once, `uint8 (N, size, size, 3)`, mapped from a file.

Made by the audit's one reading, kept in the cache, and reused only when its key fits: the
ordered content hashes of all files, and everything that fixes the pixels. Knows nothing
of labels or splits: rows are found by content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
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
from pati.data.audit.pool import Progress, read_all
from pati.data.audit.worker import Finding, Target, pack_findings, unpack_findings
from pati.data.manifest import Entry
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.source import Source
from pati.data.sources.storage import Place
from pati.errors import PatiError
from pati.system import files

FORMAT = 1
_PATIENCE = 10  # times that another process may be faster


@dataclass(frozen=True)
class Pack:
    """Pixels by content: `rows[sha256]` is a row of `pixels`."""

    pixels: NDArray[np.uint8]
    rows: dict[str, int]

    def of(self, entries: Sequence[Entry]) -> NDArray[np.int64]:
        """The row of each entry."""
        try:
            return np.array([self.rows[entry.sha256] for entry in entries], np.int64)
        except KeyError:
            raise PatiError("the pack does not hold these photos", "the data changed: run the command again") from None


def open_or_build(
    source: Source, preprocess: Preprocess, progress: Progress | None = None
) -> tuple[list[Finding], Pack, bool]:
    """Findings of every file, their pack, and whether it was at hand already.

    The slot in the cache belongs to the data's folder, the geometry and the decoders; what it holds is
    trusted only if every file's content is still the same.
    """
    decoders = [FORMAT, PIL.__version__, simplejpeg.__version__]
    geometry = json.dumps([decoders, str(source.root.resolve()), preprocess.geometry()], sort_keys=True)
    slot = files.cache_folder() / "packs" / hashlib.sha256(geometry.encode()).hexdigest()[:16]
    known = _open(slot, source)
    if known is not None:
        return (*known, True)
    try:
        with files.scratch_folder(slot) as temporary:
            findings = _fill(temporary, source, preprocess, progress)
            _put(temporary / "new", slot, temporary)
            files.sync_folder(slot.parent)
            pixels = np.load(slot / "pixels.npy", mmap_mode="c", allow_pickle=False)
    except OSError as error:
        raise PatiError(
            f"can't write the pack below {slot.parent}: {error.strerror or error}",
            "make room, or set PATI_CACHE to a folder on a larger disk",
        ) from error
    return findings, Pack(pixels, _rows(findings)), False


def _fill(temporary: Path, source: Source, preprocess: Preprocess, progress: Progress | None) -> list[Finding]:
    new = temporary / "new"
    new.mkdir()
    shape = (len(source.items), preprocess.size, preprocess.size, 3)
    # Room for all is claimed now: a full disk is an error here, not a crash in a mapped write.
    pixels = np.lib.format.open_memmap(new / "pixels.npy", "w+", np.uint8, shape)
    _claim(new / "pixels.npy")
    del pixels
    findings = read_all(source, Target(str(new / "pixels.npy"), preprocess), progress)
    with (new / "pixels.npy").open("r+b") as file:
        os.fsync(file.fileno())  # the workers wrote through the page cache
    rows, thumbs = pack_findings(findings)
    files.write_bytes(new / "thumbs.bin", thumbs)
    files.write_json(
        new / "pack.json", {"format": FORMAT, "key": _key(source, [f.sha256 for f in findings]), "findings": rows}
    )
    return findings


def _put(new: Path, slot: Path, temporary: Path) -> None:
    """Move a finished pack into its slot; what lies there has another key, or is another process's of this moment."""
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


def _rows(findings: Sequence[Finding]) -> dict[str, int]:
    return {finding.sha256: row for row, finding in enumerate(findings) if not finding.reason}


def _key(source: Source, hashes: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for item, content in zip(source.items, hashes, strict=True):
        digest.update(json.dumps([item.path, content]).encode())
    return digest.hexdigest()


def _open(slot: Path, source: Source) -> tuple[list[Finding], Pack] | None:
    """The slot's findings and pack if they are of exactly these files."""
    try:
        document = json.loads((slot / "pack.json").read_text(encoding="utf-8"))
        findings = unpack_findings(document["findings"], (slot / "thumbs.bin").read_bytes())
        pixels = np.load(slot / "pixels.npy", mmap_mode="c", allow_pickle=False)
        if document["format"] != FORMAT or len(findings) != len(source.items) or len(pixels) != len(findings):
            return None
        place = storage.at(source.root)
        hashes = [hash_now(place, item.path) for item in source.items]
        if _key(source, hashes) != document["key"]:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return findings, Pack(pixels, _rows(findings))


def hash_now(place: Place, relative: str) -> str:
    """Of the file's content; nothing for one that can't be read, as in its finding."""
    try:
        return hashlib.sha256(place.read(relative)).hexdigest()
    except decode.Unreadable:
        return ""
