"""The directories of a TIFF file, read without decoding: what Pillow doesn't tell of files that it can't open."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# Tags, by their names in the TIFF standard.
BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, SAMPLES_PER_PIXEL = 258, 259, 262, 277
PLANAR, MAX_SAMPLE_VALUE, SUB_IFDS, SAMPLE_FORMAT, SMAX_SAMPLE_VALUE, DNG_VERSION = 284, 281, 330, 339, 341, 0xC612

_FORMATS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # the integer types
_SENSOR = (32803, 34892)  # photometric interpretations of a sensor's own values
_MOST = 10_000  # directories in a file

Tags = dict[int, tuple[int, ...]]


class Circular(ValueError):
    """The directories form a loop."""


@dataclass(frozen=True)
class Directories:
    """The integer tags of the first directory; `raw`: the file holds the values of a camera's sensor.

    `places`: where in the file the first value of each tag lies.
    """

    first: Tags
    places: dict[int, int]
    raw: bool
    order: str

    def value(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return (self.first.get(tag) or (default,))[0]

    def changed(self, data: bytes, tag: int, value: int) -> bytes:
        """A copy of the file, with another first value of a tag that it has as a 16-bit integer."""
        at = self.places[tag]
        return data[:at] + struct.pack(self.order + "H", value) + data[at + 2 :]


def directories(data: bytes) -> Directories:
    """Read the directories, as far as the file goes; raises `Circular`."""
    order = "<" if data[:2] == b"II" else ">"
    big = 0x2B in data[2:4]
    found: list[tuple[Tags, dict[int, int]]] = []
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        while at:
            if at in seen or len(seen) > _MOST:
                raise Circular
            seen.add(at)
            tags, places, at = _directory(data, at, order, big)
            found.append((tags, places))
    except (struct.error, OverflowError):  # an offset beyond the end of the file
        pass
    first, places = found[0] if found else ({}, {})
    below = [_below(data, at, order, big) for at in first.get(SUB_IFDS, ())[:16]]
    raw = DNG_VERSION in first or any(tags.get(PHOTOMETRIC, (0,))[0] in _SENSOR for tags in (first, *below))
    return Directories(first, places, raw, order)


def _below(data: bytes, at: int, order: str, big: bool) -> Tags:
    try:
        return _directory(data, at, order, big)[0]
    except (struct.error, OverflowError):
        return {}


def _directory(data: bytes, at: int, order: str, big: bool) -> tuple[Tags, dict[int, int], int]:
    """The integer tags of the directory at an offset, where their values lie, and the offset of the next one."""
    head, size, field, inline = ("Q", 20, "Q", 8) if big else ("H", 12, "I", 4)
    (count,) = struct.unpack_from(order + head, data, at)
    at += struct.calcsize(order + head)
    (following,) = struct.unpack_from(order + field, data, at + size * count)
    tags: Tags = {}
    places: dict[int, int] = {}
    for entry in range(at, at + size * min(count, 1000), size):
        tag, kind, number = struct.unpack_from(f"{order}HH{field}", data, entry)
        if kind not in _FORMATS or not 0 < number <= 4096:
            continue
        values = f"{order}{number}{_FORMATS[kind]}"
        place = entry + size - inline
        if struct.calcsize(values) > inline:
            (place,) = struct.unpack_from(order + field, data, place)
        try:
            tags[tag], places[tag] = struct.unpack_from(values, data, place), place
        except (struct.error, OverflowError):
            continue
    return tags, places, following
