"""Properties of a photo's file, read from its header: format, colour mode, JPEG quality, camera. Decodes no pixels."""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

from PIL import Image

from pati.data import decode, formats

# The luminance quantisation table in annex K of the JPEG standard; libjpeg scales it by the quality.
_TABLE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}  # by number of components
_MAKE, _MODEL = 0x010F, 0x0110  # EXIF tags
_LONGEST = 80  # letters of a camera's name


class Properties(NamedTuple):
    """What is known of a file without decoding it; empty or 0: unknown, or not stated.

    `format`, `mode`: as Pillow calls them. `quality`: of a JPEG, on the scale of libjpeg, 1..100. `camera`: make and
    model from EXIF.
    """

    format: str = ""
    mode: str = ""
    quality: int = 0
    camera: str = ""


UNKNOWN = Properties()


def read_properties(data: bytes) -> Properties:
    """The properties of a photo's file. Never raises: what cannot be read is left empty."""
    if data[:3] == b"\xff\xd8\xff":
        return _of_jpeg(data)
    try:
        if formats.heif_kind(data) == "HEIC":  # its metadata is not read, see `heif`
            return Properties("HEIC", "RGB")
        with decode.opened(data) as image:
            return Properties(image.format or "", image.mode, 0, _camera(image.getexif()))
    except Exception:  # parsers of hostile files can raise any exception
        return UNKNOWN


def _of_jpeg(data: bytes) -> Properties:
    """The same for a JPEG. Its segments are read directly: opening it with Pillow would slow the audit down."""
    mode, quality, camera = "", 0, ""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        kind, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
        body = at + 4
        if kind == 0xDB and not quality and data[body : body + 1] in (b"\0", b"\x10"):  # the first table is luminance's
            wide = data[body] == 0x10
            table = (
                struct.unpack_from(">64H", data, body + 1) if wide and len(data) > body + 128 else data[body + 1 :][:64]
            )
            quality = _quality(sum(table))
        elif kind == 0xE1 and not camera and data[body : body + 6] == b"Exif\0\0":
            camera = _camera_of(data[body : body + length])
        elif 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            mode = _MODES.get(data[body + 5], "") if body + 5 < len(data) else ""
        elif kind == 0xDA:
            break
        at = body - 2 + length
    return Properties("JPEG", mode, quality, camera)


@functools.cache
def _quality(total: int) -> int:
    """The quality for which the sum of libjpeg's luminance table is nearest to this one."""

    def scaled(quality: int) -> int:
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        return sum(min(max((value * scale + 50) // 100, 1), 255) for value in _TABLE)

    return min(range(1, 101), key=lambda quality: abs(scaled(quality) - total))


def _camera_of(block: bytes) -> str:
    exif = Image.Exif()
    try:
        exif.load(block)
        return _camera(exif)
    except Exception:
        return ""


def _camera(exif: Image.Exif) -> str:
    words = (str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL))
    return " ".join(word for word in words if word)[:_LONGEST]
