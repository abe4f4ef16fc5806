"""Bytes of a photo -> RGB pixels, or a stable reason why not.

The only place that decodes. Training, `predict`, the report and the page all come through
here, so a photo has the same pixels everywhere. Knows nothing of sizes a net wants.

JPEGs go through simplejpeg (libjpeg-turbo; its strict mode sees damage that others hide);
its pixels equal Pillow's, which decodes everything else. Only the formats named in
`FORMATS` are ever tried.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (  # noqa: F401  (importing a plugin is what makes its format known)
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # JPEG includes MPO, Pillow's name for several in one
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

REASONS = {
    "empty": "the file has no bytes; copy it again from where it came",
    "system-file": "written by an operating system (Thumbs.db, .DS_Store, ._name), not a photo",
    "not-a-file": "a folder, link, pipe or device where a photo was expected",
    "unreadable": "the file could not be read; look at its permissions",
    "too-large": "over the limit on bytes or pixels",
    "unsupported": f"not one of the formats {', '.join(FORMATS)}; convert it",
    "truncated": "the file ends too early; copy it again from where it came",
    "damaged": "the file can't be decoded; copy it again from where it came",
}
FLAGS = {
    "corrupt-data": "decodes, but the decoder met corrupt data",
    "trailing-bytes": "bytes after the photo's end",
    "zero-tail": "ends in zeros: an unfinished copy, part of the photo is grey",
    "animated": "several pictures in one file; the first is used",
    "tiny": "a side under 16 px",
    "narrow": "one side over 8 times the other",
    "solid": "one colour all over",
}


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded."""

    bytes: int = 100_000_000
    pixels: int = 100_000_000


LIMITS = Limits()

# Pillow warns from 89 million pixels on; pati has its own limit and refuses before decoding.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Unreadable(Exception):
    """A photo that can't be used; `reason` is a key of `REASONS`, `detail` what was seen."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Decoded:
    """RGB `uint8 (H, W, 3)` after the EXIF turn, and what is odd about the file (keys of `FLAGS`)."""

    pixels: NDArray[np.uint8]
    flags: tuple[str, ...]


def is_system_file(name: str) -> bool:
    """Whether a file name is one that operating systems leave behind."""
    return name.startswith("._") or name.lower() in ("thumbs.db", ".ds_store", "desktop.ini", ".directory")


def is_photo_name(name: str) -> bool:
    """Whether a file name ends like a photo's; what is inside decides all the same."""
    return name.lower().endswith((".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))


def read(path: Path, limits: Limits = LIMITS) -> bytes:
    """A regular file's bytes. Raises `Unreadable`; never follows a pipe or device, so never hangs."""
    if is_system_file(path.name):
        raise Unreadable("system-file")
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not wait.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise Unreadable("not-a-file")
            if facts.st_size > limits.bytes:
                raise Unreadable("too-large", f"{facts.st_size:,} bytes, the limit is {limits.bytes:,}")
            return file.read(limits.bytes + 1)
    except IsADirectoryError:
        raise Unreadable("not-a-file") from None
    except (OSError, ValueError) as error:
        raise Unreadable("unreadable", getattr(error, "strerror", None) or str(error)) from None


def decode(data: bytes, limits: Limits = LIMITS) -> Decoded:
    """Decode a photo's bytes; raises `Unreadable` with a stable reason."""
    if not data:
        raise Unreadable("empty")
    if len(data) > limits.bytes:
        raise Unreadable("too-large", f"{len(data):,} bytes, the limit is {limits.bytes:,}")
    flags: list[str] = []
    if data[:3] == b"\xff\xd8\xff":
        pixels = _decode_jpeg(data, limits, flags)
    else:
        pixels = _decode_with_pillow(data, limits, flags)
    height, width = pixels.shape[:2]
    if min(height, width) < 16:
        flags.append("tiny")
    if max(height, width) > 8 * min(height, width):
        flags.append("narrow")
    if (pixels[::16, ::16] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        flags.append("solid")
    return Decoded(pixels, tuple(flags))


def _decode_jpeg(data: bytes, limits: Limits, flags: list[str]) -> NDArray[np.uint8]:
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: no subsampling that it knows
        # Also rare legal layouts that the header parser doesn't know: Pillow has the last word.
        return _decode_with_pillow(data, limits, flags)
    _check_size(width, height, limits)
    if space in ("CMYK", "YCCK"):
        return _decode_with_pillow(data, limits, flags)
    pixels: NDArray[np.uint8]
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        if "Premature end of JPEG file" in str(error):
            if not data.endswith(bytes(16)):
                raise Unreadable("truncated") from None
            flags.append("zero-tail")
        else:
            flags.append("corrupt-data")
        try:
            pixels = simplejpeg.decode_jpeg(data, "RGB", strict=False)
        except ValueError as fatal:
            raise Unreadable("damaged", str(fatal)) from None
    if not data.endswith(b"\xff\xd9") and "zero-tail" not in flags:
        flags.append("trailing-bytes")
    if b"Exif\0\0" in data[:65536]:
        with _open(data) as image:
            turn = _orientation(image)
        pixels = _turned(pixels, turn)
    return np.ascontiguousarray(pixels)


def _decode_with_pillow(data: bytes, limits: Limits, flags: list[str]) -> NDArray[np.uint8]:
    with _open(data) as image:
        _check_size(image.width, image.height, limits)
        try:
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                flags.append("animated")
                image.seek(0)
        except Exception as error:
            raise _broken(error) from None
        return from_pillow(image)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        known = data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n"
        raise Unreadable("damaged" if known else "unsupported") from None
    except Image.DecompressionBombError as error:
        raise Unreadable("too-large", str(error)) from None
    except Exception as error:  # parsers of hostile files raise what they like
        raise _broken(error) from None


def _broken(error: Exception) -> Unreadable:
    text = str(error)
    cut = any(sign in text for sign in ("truncated", "Truncated", "end of file"))
    return Unreadable("truncated" if cut else "damaged", f"{type(error).__name__}: {text}")


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise Unreadable("damaged", f"claims {width}×{height} pixels")
    if width * height > limits.pixels:
        raise Unreadable("too-large", f"{width}×{height} pixels, the limit is {limits.pixels:,} in all")


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """RGB `uint8 (H, W, 3)` of a Pillow image of any mode: EXIF turn, 16 bit rescaled, composited.

    Raises `Unreadable`: Pillow decodes late, and its parsers of hostile files raise what they like.
    """
    try:
        return _rgb(image)
    except Exception as error:
        raise _broken(error) from None


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    image.load()
    turn = _orientation(image)
    if image.mode.startswith("I") or image.mode == "F":
        # convert("RGB") clips 16-bit values at 255; bring them into 0..255 first.
        values = np.asarray(image).astype(np.float32)
        if image.mode != "F":
            values /= 257.0
        image = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(backdrop, image)
    return np.ascontiguousarray(_turned(np.asarray(image.convert("RGB")), turn))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or it is broken."""
    try:
        value: Any = image.getexif().get(0x0112, 1)
    except Exception:  # broken EXIF must not cost the photo
        return 1
    return value if value in range(1, 9) else 1


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """`pixels` as the camera was held; orientation as in the EXIF standard, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def header_size(path: Path) -> tuple[int, int] | None:
    """(width, height) that a file's header claims, without decoding; None if it has none."""
    try:
        with _open(read(path)) as image:
            return image.size
    except Exception:  # only a look ahead: the audit will name what is wrong
        return None
