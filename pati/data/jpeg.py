"""The structure of a JPEG file: its still picture, what describes it, and what lies behind it.

Phones append to a JPEG: a gain map (Ultra HDR), a second view (MPO), a video (motion photos). None of it belongs to the
picture, so nothing behind its end marker is looked at here. Knows nothing of pixels.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

# In compressed data, FF is followed by 00 or by a restart marker: anything else is the next marker.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_XMP, _EXIF, _ICC = b"http://ns.adobe.com/xap/1.0/\0", b"Exif\0\0", b"ICC_PROFILE\0"
_WITH_LENGTH = frozenset([0xC4, 0xCC, *range(0xDB, 0xE0), *range(0xE0, 0xF0), 0xFE])


@dataclass(frozen=True)
class Structure:
    """`end`: offset behind the end marker, the file's size if there is none. `profile`: ICC data, empty without one.

    `described`: there is EXIF or XMP data, which may turn the picture or name its colours. `bits`: per channel.
    """

    end: int
    scans: int
    progressive: bool
    lossless: bool
    bits: int
    described: bool
    profile: bytes


def structure(data: bytes, most_scans: int) -> Structure:
    """Walk through the markers of the first picture; stops after `most_scans` + 1 scans."""
    at, scans, frame, bits, described = 2, 0, 0, 8, False
    parts: dict[int, bytes] = {}
    while (found := _MARKER.search(data, at)) is not None:
        marker, at = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return _structure(at, scans, frame, bits, described, parts)
        if marker == 0xDA:
            scans += 1
            if scans > most_scans:
                break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, bits = max(frame, marker), data[at + 2] if at + 2 < len(data) else bits
        elif marker not in _WITH_LENGTH and marker != 0xDA:
            continue  # not a marker that has a length: damage, which decoders skip too
        if at + 2 > len(data):
            break
        (length,) = struct.unpack_from(">H", data, at)
        if marker == 0xE1:
            described = described or data.startswith((_EXIF, _XMP), at + 2)
        elif marker == 0xE2 and data.startswith(_ICC, at + 2) and 16 < length <= len(data) - at:
            parts.setdefault(data[at + 14], data[at + 16 : at + length])
        at += max(2, length)
    return _structure(len(data), scans, frame, bits, described, parts)


def _structure(end: int, scans: int, frame: int, bits: int, described: bool, parts: dict[int, bytes]) -> Structure:
    profile = b"".join(parts[number] for number in sorted(parts))
    return Structure(end, scans, frame & 3 == 2, frame & 3 == 3, bits, described, profile)
