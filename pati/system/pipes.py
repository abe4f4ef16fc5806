"""Messages between processes over pipes: the two lengths, a JSON document, and bytes."""

from __future__ import annotations

import json
import struct
from typing import IO, Any


def send(stream: IO[bytes], document: object, tail: bytes = b"") -> None:
    """Write one message."""
    text = json.dumps(document).encode()
    stream.write(struct.pack("<II", len(text), len(tail)) + text + tail)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Any, bytes] | None:
    """Read one message; None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    length, tail = struct.unpack("<II", head)
    text, behind = stream.read(length), stream.read(tail)
    return (json.loads(text), behind) if len(behind) == tail and len(text) == length else None
