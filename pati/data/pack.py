"""`Pack`: the kept photos decoded once, memory-mapped arrays `uint8 (N, size, size, 3)`.

Written while the audit reads the files, and stored in the cache in parts, each under the name of its content: which
files, in which order, the hash of each, and everything that determines the pixels. A part that is in place never
changes, so any number of processes may read and write packs at once. Knows nothing of labels or splits: rows are looked
up by content.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray

from pati.data import decode
from pati.data.audit.inspections import Inspections
from pati.data.audit.pool import PART, Progress, Target, read, shifted
from pati.data.audit.rows import RowFile
from pati.data.audit.worker import REASON, THUMB, Inspection, Row, packed_row, without_thumbs
from pati.data.columns import Numbers
from pati.data.entries import Entries, Entry
from pati.data.manifest import Manifest
from pati.data.mapped import Mapped
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.interface import Storage, reading_order, reading_parts
from pati.data.sources.source import Source
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_
from pati.system import files, locks
from pati.system.locks import Use

FORMAT = 2
LARGEST_PART = 2_000_000_000  # bytes of pixels
KEEP = 2  # packs of one folder, such as of two tables; older ones are removed
_ATTEMPTS = 10  # to put a pack in place, where other processes put and remove the same one


class Rows(Mapping[str, int]):
    """The row of each photo in a pack, by its SHA-256: two columns in order of `digest`, `S64 (N,)`."""

    def __init__(self, digests: NDArray[np.bytes_], rows: Numbers) -> None:
        order = np.argsort(digests, kind="stable")
        self._digests, self._rows = digests[order], rows[order]

    def __len__(self) -> int:
        return len(self._digests)

    def __iter__(self) -> Iterator[str]:
        return (digest.decode() for digest in self._digests.tolist())

    def __getitem__(self, sha256: str) -> int:
        return int(self.of(np.array([sha256.encode()], "S64"))[0])

    def of(self, digests: NDArray[np.bytes_]) -> Numbers:
        """The rows of these photos; raises `KeyError` if one of them is not there."""
        places = np.searchsorted(self._digests, digests)
        places[places == len(self)] = 0
        if not len(self) or (self._digests[places] != digests).any():
            raise KeyError
        return self._rows[places]


@dataclass(frozen=True)
class Pack:
    """Decoded photos by content hash: `rows[sha256]` is a row of `pixels`; `used`: keeps it in the cache meanwhile."""

    pixels: Mapped
    rows: Rows
    used: tuple[Use, ...] = ()

    def of(self, entries: Sequence[Entry]) -> Numbers:
        """The row of each entry. Raises `PatiError` if a photo is not in the pack."""
        try:
            return self.rows.of(Entries.of(entries).digest)
        except KeyError:
            raise PatiError(
                N_("the cache does not contain these photos"), N_("the data has changed: run the command again")
            ) from None


@dataclass(frozen=True)
class _Part:
    """A part of a pack: up to `PART` files of a source, in the order in which they are read."""

    inspections: Inspections
    pixels: NDArray[np.uint8]
    used: Use


def open_or_build(
    source: Source, preprocess: Preprocess, progress: Progress | None = None, *, unsettled: bool = False
) -> tuple[Inspections, Pack, bool]:
    """Inspection results of all files, their pack, and whether it was already in the cache.

    The pack is read and written in parts, so that an interruption costs one of them at most. A part is reused only if
    the content of every file is unchanged; if the decoder of a file died or took too long, only with `unsettled`, since
    it may not the next time. Raises `PatiError` if the cache can't be written.
    """
    packs = files.cache_folder() / "packs"
    where, paths = _where(source.root, preprocess), source.columns.paths
    store, parts, done, reused = storage.at(source.root), list[_Part](), 0, True
    numbers = reading_parts(store, paths, _part_size(preprocess))
    try:
        for some in (paths.take(part) for part in numbers):
            slot = packs / f"{where}-{_digest(list(some))}"
            part = _known(slot, source.root, some, unsettled=unsettled)
            if part is None:
                reused = False
                part = _build(slot, source.root, some, preprocess, shifted(progress, done, len(paths)))
            parts.append(part)
            done += len(some)
    except OSError as error:
        forbidden = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise PatiError(
            N_("can't write the cache in {folder}: {reason}", folder=packs, reason=os_reason(error)),
            N_("set PATI_CACHE to a folder that you can write to")
            if forbidden
            else N_("free some space, or set PATI_CACHE to a folder on a larger disk"),
        ) from error
    if not reused:
        _remove_old(packs, where, len(parts))
    return (*_joined(parts, numbers), reused)


def _joined(parts: Sequence[_Part], numbers: Sequence[Numbers]) -> tuple[Inspections, Pack]:
    """All parts as one; `numbers`: of the files in each part. The inspection results are in order of number."""
    starts = np.cumsum([0, *(len(part.pixels) for part in parts)])
    moved = [
        replace(part.inspections, row=np.where(part.inspections.row < 0, -1, part.inspections.row + start))
        for part, start in zip(parts, starts, strict=False)
    ]
    inspections = Inspections.joined(moved).take(np.argsort(np.concatenate(numbers)))
    photos = inspections.reason.equal("")
    rows = Rows(inspections.digest[photos], inspections.row[photos])
    return inspections, Pack(Mapped([part.pixels for part in parts]), rows, tuple(part.used for part in parts))


def of_manifest(manifest: Manifest, preprocess: Preprocess) -> Pack:
    """The pack of a manifest's photos: the one in the cache, without reading the photos again; else built anew.

    Raises `PatiError` if the photos are not those of the manifest.
    """
    packs, root, rows = files.cache_folder() / "packs", Path(manifest.root), manifest.entries
    where, paths, hashes = _where(root, preprocess), rows.path, [digest.decode() for digest in rows.digest.tolist()]
    numbers, parts = reading_parts(storage.at(root), paths, _part_size(preprocess)), list[_Part]()
    for part in numbers:
        some, content = paths.take(part), [hashes[number] for number in part.tolist()]
        slot = packs / f"{where}-{_digest(list(some))}"
        known = [_open(_of_content(slot, content, settled=settled)) for settled in (True, False)]
        parts.append(known[0] or known[1] or _build(slot, root, some, preprocess, None))
    found, packed = _joined(parts, numbers)
    if (found.digest != rows.digest).any():
        raise PatiError(
            N_("the photos in {root} on this machine are not those of the first process", root=manifest.root),
            N_("copy the same files to every machine, under the same path"),
        )
    return packed


def _part_size(preprocess: Preprocess) -> int:
    """Number of files in a part of a pack."""
    return max(1, min(PART, LARGEST_PART // preprocess.size**2 // 3))


def _known(slot: Path, root: Path, paths: Sequence[str], *, unsettled: bool) -> _Part | None:
    """The part in the cache, if the content of its files is unchanged."""
    if not any(slot.parent.glob(f"{slot.name}-*")):
        return None
    store = storage.at(root)
    hashes = hashes_now(store, paths)
    known = _open(_of_content(slot, hashes))
    if known is None and unsettled:
        known = _open(_of_content(slot, hashes, settled=False))
    return known


def _build(slot: Path, root: Path, paths: Sequence[str], preprocess: Preprocess, progress: Progress | None) -> _Part:
    """Read the files, and put the part in its place in the cache."""
    with files.scratch_folder(slot) as temporary:
        hashes, settled = _fill(temporary / "new", root, paths, preprocess, progress)
        place = _of_content(slot, hashes, settled=settled)
        if not settled:
            locks.remove_unused(place)  # from an earlier time, when perhaps other files could not be decoded
        return _put(temporary / "new", place)


def known_inspections(root: Path, preprocess: Preprocess) -> Iterator[Inspection]:
    """The inspection results in the cache of a data folder, which may have changed or be gone; empty without any."""
    for slot in (files.cache_folder() / "packs").glob(f"{_where(root, preprocess)}-*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
            document = json.loads((slot / "pack.json").read_text(encoding="utf-8"))
            yield from _inspections(document["findings"], slot / "thumbs.bin")


def _where(root: Path, preprocess: Preprocess) -> str:
    """The beginning of the names of all packs of a folder."""
    decoders = [FORMAT, PIL.__version__, simplejpeg.__version__, importlib.metadata.version("pi-heif")]
    return _digest(decoders, str(root.resolve()), preprocess.geometry())


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _of_content(slot: Path, hashes: Sequence[str], *, settled: bool = True) -> Path:
    return slot.with_name(f"{slot.name}-{'' if settled else 'unsettled-'}{_digest(list(hashes))}")


def _fill(
    new: Path, root: Path, paths: Sequence[str], preprocess: Preprocess, progress: Progress | None
) -> tuple[list[str], bool]:
    """Write a part of a pack to the folder `new`; return the files' hashes, and whether all results are lasting."""
    new.mkdir()
    rows = RowFile(new / "pixels.npy", preprocess.size)
    inspections = read(root, paths, Target(rows, preprocess), progress)
    moved = rows.finish()
    if moved:
        inspections = [replace(result, row=moved.get(result.row, result.row)) for result in inspections]
    with files.atomic(new / "thumbs.bin") as file:
        for result in inspections:
            if not result.reason:
                file.write(result.thumb.tobytes())
    files.write_json(new / "pack.json", {"format": FORMAT, "findings": [packed_row(result) for result in inspections]})
    (new / locks.MARK).touch()
    return [result.sha256 for result in inspections], all(result.lasting for result in inspections)


def _put(new: Path, slot: Path) -> _Part:
    """Move a part of a pack into its slot, and open it; if another process was first, its part is opened."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            files.publish_folder(new, slot)
        known = _open(slot)
        if known is not None:
            return known
        locks.remove_unused(slot)  # left incomplete by a process that was killed while it removed it
    files.publish_folder(new, slot)
    raise OSError(f"{slot} cannot be read")


def _open(slot: Path) -> _Part | None:
    """The slot's part of a pack; None if there is none, or it is incomplete."""
    try:
        used = locks.use(slot)
        if used is None:
            return None
        document = json.loads((slot / "pack.json").read_text(encoding="utf-8"))
        pixels = np.load(slot / "pixels.npy", mmap_mode="r", allow_pickle=False)
        inspections = _inspections(document["findings"], slot / "thumbs.bin")
        if document["format"] != FORMAT or len(pixels) != len(inspections.thumbs):
            return None
        # The slot is named by the hashes that were found, so this confirms that no file of the pack was exchanged.
        if not slot.name.endswith(_digest([digest.decode() for digest in inspections.digest.tolist()])):
            return None
        with contextlib.suppress(OSError):  # of a cache that only others may write to
            slot.touch()  # so that the packs used last are kept
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return _Part(inspections, pixels, used)


def _inspections(rows: list[Row], thumbs: Path) -> Inspections:
    """The inspection results in a part; their thumbnails stay in the file. Raises `ValueError` if it is incomplete."""
    photos = sum(not row[REASON] for row in rows)
    if thumbs.stat().st_size != photos * THUMB * THUMB * 3:
        raise ValueError(f"{thumbs} is incomplete")
    shape = (photos, THUMB, THUMB, 3)
    mapped = np.memmap(thumbs, np.uint8, "r", shape=shape) if photos else np.empty(shape, np.uint8)
    return Inspections.of(without_thumbs(rows), mapped)


def _remove_old(packs: Path, where: str, parts: int) -> None:
    """Remove the packs of a folder beyond the `KEEP` used last, except for those that a process is using.

    `parts`: of the pack that was used last.
    """
    with contextlib.suppress(OSError):
        others = sorted(packs.glob(f"{where}-*"), key=lambda path: path.stat().st_mtime)
        for path in others[: -KEEP * parts]:
            locks.remove_unused(path)


def hash_now(store: Storage, relative: str) -> str:
    """SHA-256 of the file's content; empty if the file can't be read, as in its inspection result."""
    try:
        return hashlib.sha256(store.read(relative)).hexdigest()
    except decode.Unreadable:
        return ""


def hashes_now(store: Storage, paths: Sequence[str]) -> list[str]:
    """The same for many files, read in the order that is fastest."""
    hashes = [""] * len(paths)
    for number in reading_order(store, paths):
        hashes[number] = hash_now(store, paths[number])
    return hashes
