"""Bytes of a photo -> RGB pixels, or a stable reason why not.

The only place that decodes. Training, `predict`, the report and the page all come through
here, so a photo has the same pixels everywhere. Knows nothing of sizes a net wants.

JPEGs go through simplejpeg (libjpeg-turbo; its strict mode sees damage that others hide);
its pixels equal Pillow's, which decodes everything else. Only the formats named in
`FORMATS` are ever tried.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass, fields
from pathlib import Path

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

from pati.errors import PatiError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # JPEG includes MPO, Pillow's name for several in one
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

REASONS = {
    "empty": "the file has no bytes; copy it again from where it came",
    "system-file": "written by an operating system (Thumbs.db, .DS_Store, ._name), not a photo",
    "not-a-file": "a folder, link, pipe or device where a photo was expected",
    "unreadable": "the file could not be read: it is gone, or its permissions forbid it",
    "too-large": "over a limit on bytes, pixels or work; if you trust it, raise the limit (docs/robustness.md)",
    "unsupported": f"not one of the formats {', '.join(FORMATS)}; convert it",
    "truncated": "the file ends too early; copy it again from where it came",
    "damaged": "the file can't be decoded; copy it again from where it came",
    "dropped": "left out by a decision of yours (--decisions)",
}
FLAGS = {
    "corrupt-data": "decodes, but the decoder met corrupt data",
    "trailing-bytes": "bytes after the photo's end",
    "no-end": "the photo is whole, but the file lacks its end mark",
    "zero-tail": "ends in zeros: an unfinished copy, part of the photo is grey",
    "animated": "several pictures in one file; the first is used",
    "tiny": "a side under 16 px",
    "narrow": "one side over 8 times the other",
    "solid": "one colour all over",
    "duplicate": "the same picture as another file, or nearly",
    "in-two-classes": "its copies are in more than one class",
    "relabelled": "has the class of a decision of yours (--decisions), not its folder's",
    "confirmed": "you decided to keep it as it is (--decisions)",
}


@dataclass(frozen=True)
class Limits:
    """What is refused before it is decoded; `$PATI_MAX_BYTES` and so on raise it.

    `bytes` of the file; `pixels` of the picture, three quarters of them if it is a progressive JPEG, which takes
    nine bytes of memory a pixel in place of seven; `scans`: passes over the whole picture that a progressive JPEG
    may ask for, as long as the largest picture would bear ten; `seconds` that the audit gives a file.
    """

    bytes: int = 64_000_000
    pixels: int = 52_000_000  # photos of 50 megapixels pass
    scans: int = 100
    seconds: int = 20

    @property
    def memory(self) -> int:
        """Bytes that decoding a photo within the limits can take, above those of an idle process."""
        return 8 * self.pixels + 2 * self.bytes

    @classmethod
    def of_user(cls) -> Limits:
        """The defaults, or what the environment says; raises `PatiError` for anything but a number."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: _chosen(f"PATI_MAX_{name.upper()}", getattr(cls, name)) for name in names})


def _chosen(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    digits = text.replace("_", "")
    if not digits.isdecimal() or int(digits) < 1:
        raise PatiError(f"{variable} is {text!r}, expected a whole number", f"the default is {default:_}")
    return int(digits)


@functools.cache
def limits_now() -> Limits:
    """The limits of this process, read once."""
    limits = Limits.of_user()
    if limits.pixels > (Image.MAX_IMAGE_PIXELS or limits.pixels):
        Image.MAX_IMAGE_PIXELS = limits.pixels  # Pillow has a limit of its own; the user has raised it
    return limits


_BAND = 4_000_000  # pixels converted at a time

# pati says itself what is wrong with a file, and has its own limit on pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


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


def read(path: Path, limits: Limits | None = None) -> bytes:
    """A regular file's bytes. Raises `Unreadable`; never follows a pipe or device, so never hangs."""
    limits = limits or limits_now()
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
        if getattr(error, "errno", None) == errno.ENXIO:  # a socket
            raise Unreadable("not-a-file") from None
        raise Unreadable("unreadable", getattr(error, "strerror", None) or str(error)) from None


def decode(data: bytes, limits: Limits | None = None) -> Decoded:
    """Decode a photo's bytes; raises `Unreadable` with a stable reason."""
    limits = limits or limits_now()
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
    if space in ("CMYK", "YCCK"):
        return _decode_with_pillow(data, limits, flags)
    _check_size(width, height, limits)
    _check_scans(data, width, height, limits)
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
    turn = 1
    if b"Exif\0\0" in data[:65536]:
        try:
            with _open(data) as image:
                turn = _orientation(image)
        except Unreadable:  # a header that only Pillow dislikes: the pixels are here already
            pass
    return _turned(pixels, turn)


def _check_scans(data: bytes, width: int, height: int, limits: Limits) -> None:
    """A progressive JPEG takes more memory, and each of its scans is a pass over the whole picture.

    The marks sought can't be inside a scan, where FF is followed by 00 or a restart mark; one in a thumbnail
    makes this stricter only.
    """
    pixels, scans = width * height, data.count(b"\xff\xda")
    if b"\xff\xc2" in data and pixels > limits.pixels * 3 // 4:
        raise Unreadable("too-large", f"{width}×{height} pixels, progressive; the limit is {limits.pixels * 3 // 4:,}")
    if scans > limits.scans or scans * pixels > 10 * limits.pixels:
        raise Unreadable("too-large", f"{scans} scans of {pixels:,} pixels, the limit is {limits.scans} scans")


def _decode_with_pillow(data: bytes, limits: Limits, flags: list[str]) -> NDArray[np.uint8]:
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        _check_directories(data)
    with _open(data) as image:
        _check_size(image.width, image.height, limits)
        if image.format == "JPEG":
            _check_scans(data, image.width, image.height, limits)
        if image.format == "PNG":
            _check_chunks(data, flags)
        try:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                flags.append("animated")
            pixels, turn = _rgb(image)
        except Exception as error:
            raise _broken(error) from None
    return _turned(pixels, turn)


def _check_chunks(data: bytes, flags: list[str]) -> None:
    """Checksums of a PNG's chunks, which Pillow passes over where the pixels are."""
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = memoryview(data)[at + 4 : at + 8 + length]
        at += 12 + length
        if at > len(data):
            return  # cut: Pillow says so, if pixels are missing
        if zlib.crc32(body) != struct.unpack_from(">I", data, at - 4)[0]:
            raise Unreadable("damaged", f"the checksum of its {name!r} part is wrong")
        if name == b"IEND":
            if at < len(data):
                flags.append("trailing-bytes")
            return
    flags.append("no-end")


def _check_directories(data: bytes) -> None:
    """A TIFF's directories form a chain; one that comes back to itself is refused. Others are Pillow's to judge."""
    order = "<" if data[:2] == b"II" else ">"
    big = 0x2B in data[2:4]
    count_kind, offset_kind = (f"{order}Q", f"{order}Q") if big else (f"{order}H", f"{order}I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(offset_kind, data, 8 if big else 4)
        while at:
            if at in seen or len(seen) > 10_000:
                raise Unreadable("damaged", "its directories lead in a circle")
            seen.add(at)
            (count,) = struct.unpack_from(count_kind, data, at)
            (at,) = struct.unpack_from(offset_kind, data, at + (8 + 20 * count if big else 2 + 12 * count))
    except (struct.error, OverflowError):  # points beyond the file
        return


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        known = data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n"
        raise Unreadable("damaged" if known else "unsupported") from None
    except Exception as error:  # parsers of hostile files raise what they like
        raise _broken(error) from None


def _broken(error: Exception) -> Unreadable:
    text = str(error)
    if isinstance(error, MemoryError | Image.DecompressionBombError) or "too large" in text:
        return Unreadable("too-large", text or "not enough memory")
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
        return _turned(*_rgb(image))
    except Exception as error:
        raise _broken(error) from None


def _rgb(image: Image.Image) -> tuple[NDArray[np.uint8], int]:
    """RGB `uint8 (H, W, 3)` as stored, and the EXIF orientation."""
    image.load()
    width, height = image.size
    rows = max(1, _BAND // width)
    if rows >= height:
        return _band_rgb(image), _orientation(image)
    # Bands, so that a large photo is in memory once in each form, not once in each step.
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _band_rgb(image.crop((0, top, width, bottom)))
    return pixels, _orientation(image)


def _band_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        # convert("RGB") clips 16-bit values at 255; bring them into 0..255 first.
        values = np.nan_to_num(np.asarray(image).astype(np.float32))
        if image.mode != "F":
            values /= 257.0
        image = Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        backdrop = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(backdrop, image)
    return np.asarray(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 where there is none or it is broken."""
    try:
        value = image.getexif().get(0x0112, 1)
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
    return np.ascontiguousarray(pixels)


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a file's header claims, without decoding; None if it has none."""
    try:
        with _open(data) as image:
            return image.size
    except Unreadable:  # only a look ahead: the audit will name what is wrong
        return None
