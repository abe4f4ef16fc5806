"""Inspect one file: facts, thumbnail, and its pixels into the pack. Also the main module of a worker process.

`python -m pati.data.audit.worker` reads tasks from stdin and replies on stdout. Worker processes use every core, need
no `if __name__ == "__main__"` in the user's script, and isolate crashes of the decoder. Never imports torch.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pati.data import decode
from pati.data.preprocess import Preprocess, PreprocessDocument
from pati.data.properties import UNKNOWN, Properties, read_properties
from pati.data.sources import storage
from pati.locale.messages import Message, MessageDocument
from pati.system import machine
from pati.system.pipes import receive, send

THUMB = 32

Row = tuple[str, int, int, int, str, MessageDocument | str | None, Sequence[str], Sequence[str | int], int]
"""An inspection result without its thumbnail."""


@dataclass(frozen=True)
class Inspection:
    """The inspection result of one file.

    `thumb` is `uint8 (32, 32, 3)`, all zeros for a quarantined file; `row`: of its pixels in the pack, or -1.
    `lasting`: the file itself decides it. Otherwise its process died or took too long, and may not the next time.
    """

    sha256: str
    bytes: int
    width: int
    height: int
    reason: str
    detail: Message | None
    flags: tuple[str, ...]
    properties: Properties
    thumb: NDArray[np.uint8]
    row: int = -1
    lasting: bool = True


@dataclass(frozen=True)
class Target:
    """Where pixels are written: rows `uint8 (size, size, 3)` of a file, the first of which begins at byte `start`."""

    path: str
    start: int
    preprocess: Preprocess


class Setup(TypedDict):
    """The first message to a worker: the root of the files, and the fields of a `Target`."""

    root: str
    target: str | None
    start: int
    preprocess: PreprocessDocument | None


class Inspector:
    """Inspects files of the storage at `root` by their addresses, and keeps the pack's file open."""

    def __init__(self, root: Path, target: Target | None) -> None:
        self._reader = storage.reader(root)
        self._target = target
        self._file = open(target.path, "r+b") if target else None  # noqa: SIM115

    def inspect_all(self, rows: Sequence[int], addresses: Sequence[str]) -> list[Inspection]:
        """The inspection results of some files; the photos' pixels are written to the first of the target's `rows`."""
        results: list[Inspection] = []
        for address in addresses:
            written = sum(not result.reason for result in results)
            results.append(self.inspect(address, rows[written] if rows else -1))
        return results

    def inspect(self, address: str, row: int = -1) -> Inspection:
        """The inspection result of one file; its pixels are written to a row of the target."""
        digest, size = "", 0
        try:
            data = self._reader.read_at(address)
            digest, size = hashlib.sha256(data).hexdigest(), len(data)
            decoded = self._target.preprocess.decoded(data) if self._target else decode.decode(data)
            properties = read_properties(data)
        except decode.Unreadable as error:
            return quarantined(error.reason, error.detail, digest, size)
        del data
        try:
            image = Image.fromarray(decoded.pixels)
        except MemoryError:
            return quarantined("too-large", decode.NO_MEMORY, digest, size)
        width, height = image.size
        if self._file is not None and self._target is not None:
            pixels = self._target.preprocess.fit_image(image)
            self._file.seek(self._target.start + row * pixels.nbytes)
            self._file.write(pixels.tobytes())
            self._file.flush()
        small = image.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0)
        return Inspection(digest, size, width, height, "", None, decoded.flags, properties, np.asarray(small), row)


NO_THUMB = np.zeros((THUMB, THUMB, 3), np.uint8)


def quarantined(reason: str, detail: Message | None = None, digest: str = "", size: int = 0) -> Inspection:
    """The inspection result of a file that can't be used."""
    return Inspection(digest, size, 0, 0, reason, detail, (), UNKNOWN, NO_THUMB)


def packed_row(result: Inspection) -> Row:
    """An inspection result without its thumbnail, for a message or a file."""
    detail = result.detail.to_json() if result.detail else None
    return (
        result.sha256, result.bytes, result.width, result.height, result.reason, detail, result.flags,
        result.properties, result.row,
    )  # fmt: skip


def pack_inspections(inspections: list[Inspection]) -> tuple[list[Row], bytes]:
    """Inspection results as the contents of a message."""
    thumbs = b"".join(result.thumb.tobytes() for result in inspections if not result.reason)
    return [packed_row(result) for result in inspections], thumbs


def unpack_inspections(rows: list[Row], tail: bytes) -> list[Inspection]:
    """Inverse of `pack_inspections`."""
    thumbs = iter(np.frombuffer(tail, np.uint8).reshape(-1, THUMB, THUMB, 3))
    return [
        result if result.reason else dataclasses.replace(result, thumb=next(thumbs)) for result in without_thumbs(rows)
    ]


REASON = 4  # its place in a `Row`


def without_thumbs(rows: list[Row]) -> Iterator[Inspection]:
    """The same without the thumbnails, which are all zeros."""
    for digest, size, width, height, reason, detail, flags, properties, row in rows:
        yield Inspection(
            digest, size, width, height, reason, Message.from_json(detail) if detail else None, tuple(flags),
            _properties(*properties), NO_THUMB, row,
        )  # fmt: skip


@functools.lru_cache(10_000)
def _properties(format: str, mode: str, quality: int, camera: str) -> Properties:
    """One object for equal properties: most photos of a set share theirs."""
    return Properties(format, mode, quality, camera)


def main() -> None:
    """Serve tasks until stdin closes. The first message is a `Setup`."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    first = receive(source)
    if first is None:
        return
    setup: Setup = first[0]
    target = None
    if setup["target"] is not None and setup["preprocess"] is not None:
        target = Target(setup["target"], setup["start"], Preprocess.from_json(setup["preprocess"]))
    machine.keep_small_blocks()
    inspector = Inspector(Path(setup["root"]), target)
    machine.bound_memory(decode.limits_now().memory)
    send(out, "ready")
    while (message := receive(source)) is not None:
        send(out, *pack_inspections(inspector.inspect_all(*message[0])))


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
