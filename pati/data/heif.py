"""The boxes of HEIC and AVIF files, and the decoder of HEIC.

Only the primary picture counts; the container turns it, so EXIF orientation does not. Pillow decodes AVIF.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

_MOST = 1000  # boxes, properties or associations that are looked at


@dataclass(frozen=True)
class CodePoints:
    """How colours are coded, by the numbers of ITU-T H.273; 2 stands for unspecified."""

    primaries: int
    transfer: int


class Heic:
    """An opened HEIC file, not yet decoded. Raises what the library raises.

    Uses the compiled part of pi-heif: its Python classes also read the metadata, where broken files crash the process.
    """

    def __init__(self, data: bytes) -> None:
        import _pi_heif  # only here: it would slow down the start of every worker

        images = [image for image in _pi_heif.load_file(data, 1, True, False, False, True, "", False) if image]
        if not images:
            raise ValueError("no picture")
        self.pictures = len(images)  # how many it holds
        self._primary = next((image for image in images if image.primary), images[0])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the primary picture, upright."""
        (width, height), _ = self._primary.size_mode
        return int(width), int(height)

    def image(self) -> Image.Image:
        """Decode the primary picture; its colours are described in `info` as Pillow and pi-heif do it."""
        data = self._primary.data
        size, mode = self._primary.size_mode
        image = Image.frombytes(mode, size, data, "raw", mode, self._primary.stride)
        profile = self._primary.color_profile
        if profile:
            image.info["nclx_profile" if profile["type"] == "nclx" else "icc_profile"] = profile["data"]
        return image


def is_cut(data: bytes) -> bool:
    """Whether a box reaches beyond the end of the file."""
    return any(end > len(data) for _, _, end in _boxes(data, 0, len(data)))


def has_pictures(data: bytes) -> bool:
    """Whether there is a box that describes still pictures."""
    return any(kind == b"meta" for kind, _, _ in _boxes(data, 0, len(data)))


def code_points(data: bytes) -> CodePoints | None:
    """The colour coding of the primary picture; None if it isn't given, or given by an ICC profile."""
    for kind, start in _properties(data):
        if kind == b"colr" and data[start : start + 4] == b"nclx" and start + 8 <= len(data):
            return CodePoints(*struct.unpack_from(">HH", data, start + 4))
    return None


def stored_size(data: bytes) -> tuple[int, int]:
    """Width and height of the primary picture as it says, before it is turned; zeros if it doesn't."""
    for kind, start in _properties(data):
        if kind == b"ispe" and start + 12 <= len(data):
            width, height = struct.unpack_from(">II", data, start + 4)
            return width, height
    return 0, 0


def _properties(data: bytes) -> list[tuple[bytes, int]]:
    """Kind and start of the content of each property of the primary picture; none if boxes are broken."""
    try:
        (meta,) = [span for kind, *span in _boxes(data, 0, len(data)) if kind == b"meta"]
        inside = {kind: (start, end) for kind, start, end in _boxes(data, meta[0] + 4, meta[1])}
        start, _ = inside[b"pitm"]
        (primary,) = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)
        inner = {kind: (start, end) for kind, start, end in _boxes(data, *inside[b"iprp"])}
        properties = list(_boxes(data, *inner[b"ipco"]))
        numbers = _associated(data, inner[b"ipma"][0], primary)
        return [properties[number - 1][:2] for number in numbers if number]
    except (ValueError, KeyError, IndexError, struct.error):  # the decoder will tell what is broken
        return []


def _associated(data: bytes, at: int, item: int) -> list[int]:
    """The numbers of an item's properties, from 1, in the `ipma` box whose content begins at an offset."""
    version, wide = data[at], data[at + 3] & 1
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, _MOST)):
        (owner,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        count = data[at]
        numbers = struct.unpack_from(f">{count}{'H' if wide else 'B'}", data, at + 1)
        at += 1 + count * (2 if wide else 1)
        if owner == item:
            return [number & (0x7FFF if wide else 0x7F) for number in numbers]
    return []


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of the content of each box between two offsets; the end may lie beyond the data."""
    for _ in range(_MOST):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        following = end if length == 0 else at + length
        if following < start:
            return
        yield kind, start, following
        at = following
