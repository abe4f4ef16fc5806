"""`Pack`: the kept photos decoded once, a memory-mapped `uint8 (N, size, size, 3)` array.

Written while the audit reads the files, and stored in the cache under the name of its content: which files, in which
order, the hash of each, and everything that determines the pixels. A pack that is in place never changes, so any number
of processes may read and write packs at once. Knows nothing of labels or splits: rows are looked up by content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray

from pati.data import decode
from pati.data.audit.pool import Progress, Target, read_all
from pati.data.audit.rows import RowFile
from pati.data.audit.worker import Inspection, pack_inspections, unpack_inspections
from pati.data.manifest import Entry
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.source import Source
from pati.data.sources.storage import Storage
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_
from pati.system import files, locks
from pati.system.locks import Use

FORMAT = 2
KEEP = 2  # packs of one folder, such as of two tables; older ones are removed
_ATTEMPTS = 10  # to put a pack in place, where other processes put and remove the same one


@dataclass(frozen=True)
class Pack:
    """Decoded photos by content hash: `rows[sha256]` is a row of `pixels`; `used`: keeps it in the cache meanwhile."""

    pixels: NDArray[np.uint8]
    rows: dict[str, int]
    used: Use | None = None

    def of(self, entries: Sequence[Entry]) -> NDArray[np.int64]:
        """The row of each entry. Raises `PatiError` if a photo is not in the pack."""
        try:
            return np.array([self.rows[entry.sha256] for entry in entries], np.int64)
        except KeyError:
            raise PatiError(
                N_("the cache does not contain these photos"), N_("the data has changed: run the command again")
            ) from None


def open_or_build(
    source: Source, preprocess: Preprocess, progress: Progress | None = None, *, unsettled: bool = False
) -> tuple[list[Inspection], Pack, bool]:
    """Inspection results of all files, their pack, and whether it was already in the cache.

    Reused only if the content of every file is unchanged; if the decoder of a file died or took too long, only with
    `unsettled`, since it may not the next time. Raises `PatiError` if the cache can't be written.
    """
    packs = files.cache_folder() / "packs"
    where = _where(source.root, preprocess)
    slot = packs / f"{where}-{_digest([item.path for item in source.items])}"
    if any(packs.glob(f"{slot.name}-*")):
        store = storage.at(source.root)
        hashes = [hash_now(store, item.path) for item in source.items]
        known = _open(_of_content(slot, hashes))
        if known is None and unsettled:
            known = _open(_of_content(slot, hashes, settled=False))
        if known is not None:
            return (*known, True)
    try:
        with files.scratch_folder(slot) as temporary:
            inspections = _fill(temporary / "new", source, preprocess, progress)
            settled = all(result.lasting for result in inspections)
            place = _of_content(slot, [result.sha256 for result in inspections], settled=settled)
            if not settled:
                locks.remove_unused(place)  # from an earlier time, when perhaps other files could not be decoded
            built = _put(temporary / "new", place)
    except OSError as error:
        forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise PatiError(
            N_("can't write the cache in {folder}: {reason}", folder=packs, reason=os_reason(error)),
            N_("set PATI_CACHE to a folder that you can write to")
            if forbidden
            else N_("free some space, or set PATI_CACHE to a folder on a larger disk"),
        ) from error
    _remove_old(packs, where)
    return (*built, False)


def known_inspections(root: Path, preprocess: Preprocess) -> list[Inspection]:
    """The inspection results in the cache of a data folder, which may have changed or be gone; empty without any."""
    known: list[Inspection] = []
    for slot in (files.cache_folder() / "packs").glob(f"{_where(root, preprocess)}-*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
            document = json.loads((slot / "pack.json").read_text(encoding="utf-8"))
            known += unpack_inspections(document["findings"], (slot / "thumbs.bin").read_bytes())
    return known


def _where(root: Path, preprocess: Preprocess) -> str:
    """The beginning of the names of all packs of a folder."""
    decoders = [FORMAT, PIL.__version__, simplejpeg.__version__, importlib.metadata.version("pi-heif")]
    return _digest(decoders, str(root.resolve()), preprocess.geometry())


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _of_content(slot: Path, hashes: Sequence[str], *, settled: bool = True) -> Path:
    return slot.with_name(f"{slot.name}-{'' if settled else 'unsettled-'}{_digest(list(hashes))}")


def _fill(new: Path, source: Source, preprocess: Preprocess, progress: Progress | None) -> list[Inspection]:
    """Write a pack to the folder `new`."""
    new.mkdir()
    rows = RowFile(new / "pixels.npy", preprocess.size)
    inspections = read_all(source, Target(rows, preprocess), progress)
    moved = rows.finish()
    inspections = (
        [replace(result, row=moved.get(result.row, result.row)) for result in inspections] if moved else inspections
    )
    findings, thumbs = pack_inspections(inspections)
    files.write_bytes(new / "thumbs.bin", thumbs)
    files.write_json(new / "pack.json", {"format": FORMAT, "findings": findings})
    (new / locks.MARK).touch()
    return inspections


def _put(new: Path, slot: Path) -> tuple[list[Inspection], Pack]:
    """Move a pack into its slot, and open it; if another process was first, its pack is opened."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            files.publish_folder(new, slot)
        known = _open(slot)
        if known is not None:
            return known
        locks.remove_unused(slot)  # left incomplete by a process that was killed while it removed it
    files.publish_folder(new, slot)
    raise OSError(f"{slot} cannot be read")


def _open(slot: Path) -> tuple[list[Inspection], Pack] | None:
    """The slot's inspection results and pack; None if there is none, or it is incomplete."""
    try:
        used = locks.use(slot)
        if used is None:
            return None
        document = json.loads((slot / "pack.json").read_text(encoding="utf-8"))
        inspections = unpack_inspections(document["findings"], (slot / "thumbs.bin").read_bytes())
        pixels = np.load(slot / "pixels.npy", mmap_mode="c", allow_pickle=False)
        rows = {inspection.sha256: inspection.row for inspection in inspections if not inspection.reason}
        if document["format"] != FORMAT or len(pixels) != sum(not inspection.reason for inspection in inspections):
            return None
        # The slot is named by the hashes that were found, so this confirms that no file of the pack was exchanged.
        if not slot.name.endswith(_digest([inspection.sha256 for inspection in inspections])):
            return None
        with contextlib.suppress(OSError):  # of a cache that only others may write to
            slot.touch()  # so that the packs used last are kept
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return inspections, Pack(pixels, rows, used)


def _remove_old(packs: Path, where: str) -> None:
    """Remove the packs of a folder beyond the `KEEP` used last, except for those that a process is using."""
    with contextlib.suppress(OSError):
        others = sorted(packs.glob(f"{where}-*"), key=lambda path: path.stat().st_mtime)
        for path in others[:-KEEP]:
            locks.remove_unused(path)


def hash_now(store: Storage, relative: str) -> str:
    """SHA-256 of the file's content; empty if the file can't be read, as in its inspection result."""
    try:
        return hashlib.sha256(store.read(relative)).hexdigest()
    except decode.Unreadable:
        return ""
