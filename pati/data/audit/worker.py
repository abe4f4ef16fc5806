"""One file looked at: facts, thumbnail, and its pixels into the pack. Also a process that does so.

`python -m pati.data.audit.worker` reads tasks from stdin and answers on stdout, so that decoding
uses every core, needs no `if __name__ == "__main__"` in a user's script, and a file that
kills a decoder kills no training. Never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pati.data import decode
from pati.data.preprocess import Preprocess, PreprocessDocument
from pati.data.sources import storage
from pati.system import machine

THUMB = 32

Row = tuple[str, int, int, int, str, str, Sequence[str]]
"""A finding but for its thumbnail."""


@dataclass(frozen=True)
class Finding:
    """What one file holds; `thumb` is `uint8 (32, 32, 3)`, all zero for a quarantined file."""

    sha256: str
    bytes: int
    width: int
    height: int
    reason: str
    detail: str
    flags: tuple[str, ...]
    thumb: NDArray[np.uint8]


@dataclass(frozen=True)
class Target:
    """Where pixels go: a `.npy` file `uint8 (N, size, size, 3)` whose row is the file's index."""

    path: str
    preprocess: Preprocess


class Setup(TypedDict):
    """The first message: the place of the files, and the path and preprocessing of a `Target`."""

    root: str
    target: str | None
    preprocess: PreprocessDocument | None


class Looker:
    """Looks at files of the place `root`; keeps the pack's file open."""

    def __init__(self, root: Path, target: Target | None) -> None:
        self._place = storage.at(root)
        self._target = target
        self._rows: NDArray[np.uint8] | None = None
        if target:
            self._rows = np.load(target.path, mmap_mode="r+", allow_pickle=False)

    def look(self, index: int, relative: str) -> Finding:
        """The finding of one file; its pixels are written to row `index` of the target."""
        digest, size = "", 0
        try:
            data = self._place.read(relative)
            digest, size = hashlib.sha256(data).hexdigest(), len(data)
            decoded = decode.decode(data)
        except decode.Unreadable as error:
            return quarantined(error.reason, error.detail, digest, size)
        del data
        try:
            image = Image.fromarray(decoded.pixels)
        except MemoryError:
            return quarantined("too-large", "not enough memory", digest, size)
        width, height = image.size
        if self._rows is not None and self._target:
            self._rows[index] = self._target.preprocess.fit_image(image)
        small = image.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0)
        return Finding(digest, size, width, height, "", "", decoded.flags, np.asarray(small))


def quarantined(reason: str, detail: str = "", digest: str = "", size: int = 0) -> Finding:
    """The finding of a file that can't be used."""
    return Finding(digest, size, 0, 0, reason, detail, (), np.zeros((THUMB, THUMB, 3), np.uint8))


# Messages: a length, a JSON document, and for answers the thumbnails' bytes behind it.


def send(stream: IO[bytes], document: object, tail: bytes = b"") -> None:
    """Write one message."""
    text = json.dumps(document).encode()
    stream.write(struct.pack("<II", len(text), len(tail)) + text + tail)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Any, bytes] | None:
    """Read one message; None where the stream has ended."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length, tail = struct.unpack("<II", head)
    text, behind = stream.read(length), stream.read(tail)
    return (json.loads(text), behind) if len(behind) == tail and len(text) == length else None


def pack_findings(findings: list[Finding]) -> tuple[list[Row], bytes]:
    """Findings as a message."""
    rows: list[Row] = [(f.sha256, f.bytes, f.width, f.height, f.reason, f.detail, f.flags) for f in findings]
    return rows, b"".join(f.thumb.tobytes() for f in findings)


def unpack_findings(rows: list[Row], tail: bytes) -> list[Finding]:
    """Inverse of `pack_findings`."""
    thumbs = np.frombuffer(tail, np.uint8).reshape(-1, THUMB, THUMB, 3)
    return [
        Finding(digest, size, width, height, reason, detail, tuple(flags), thumb)
        for (digest, size, width, height, reason, detail, flags), thumb in zip(rows, thumbs, strict=True)
    ]


def _bound_memory(more: int) -> None:
    """Let this process take `more` bytes than now: past that its decoders fail, not the machine (Linux only)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    except (ImportError, OSError):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + more, hard))


def main() -> None:
    """Serve tasks until stdin closes. The first message says where the files are and the pixels go."""
    source, out = sys.stdin.buffer, sys.stdout.buffer
    first = receive(source)
    if first is None:
        return
    setup: Setup = first[0]
    target = None
    if setup["target"] is not None and setup["preprocess"] is not None:
        target = Target(setup["target"], Preprocess.from_json(setup["preprocess"]))
    machine.keep_small_blocks()
    looker = Looker(Path(setup["root"]), target)
    _bound_memory(decode.limits_now().memory)
    send(out, "ready")
    while (message := receive(source)) is not None:
        send(out, *pack_findings([looker.look(index, path) for index, path in message[0]]))


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        sys.exit(130)
