"""Decode the bytes of a photo to RGB pixels, or reject it with a stable reason.

The only module that decodes. Training, `predict`, the report and the web app all use it, so a photo has the same pixels
everywhere. Knows nothing of the size that a network expects.

JPEGs are decoded by simplejpeg (libjpeg-turbo), whose strict mode detects damage that other decoders hide; its pixels
equal Pillow's. Pillow decodes everything else. Only the formats in `FORMATS` are ever tried.
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
from pati.locale.messages import N_, Message, as_is

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # JPEG includes MPO, Pillow's name for multi-picture files
NO_MEMORY = N_("not enough memory")
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

# Why a file is quarantined, and what to do about it.
REASONS = {
    "empty": N_("the file is empty; copy it again from the original"),
    "system-file": N_("written by an operating system (Thumbs.db, .DS_Store, ._name), not a photo"),
    "not-a-file": N_("a folder, link, pipe or device where a photo was expected"),
    "unreadable": N_("the file cannot be read: it does not exist, or its permissions do not allow it"),
    "too-large": N_("over a limit on bytes, pixels or decoding time; if you trust it, raise it (docs/robustness.md)"),
    "unsupported": N_("not in one of the formats {formats}; convert it", formats=FORMATS),
    "truncated": N_("the file is truncated; copy it again from the original"),
    "damaged": N_("the file cannot be decoded; copy it again from the original"),
    "dropped": N_("excluded by your decision (--decisions)"),
}
# What is unusual about a file that is used nevertheless.
FLAGS = {
    "corrupt-data": N_("decoded, but the decoder found corrupt data"),
    "trailing-bytes": N_("has extra bytes after the end of the image"),
    "no-end": N_("the image is complete, but the end marker is missing"),
    "zero-tail": N_("ends in zeros: an incomplete copy, part of the photo is grey"),
    "animated": N_("holds several frames; only the first is used"),
    "tiny": N_("one side is under 16 px"),
    "narrow": N_("one side is more than 8 times the other"),
    "solid": N_("a single colour all over"),
    "duplicate": N_("an exact or near duplicate of another file"),
    "in-two-classes": N_("its duplicates are in more than one class"),
    "look-alike": N_("looks like other photos, but is not kept with them (--near-duplicates)"),
    "relabelled": N_("has the class of your decision (--decisions), not that of its folder"),
    "confirmed": N_("kept as it is by your decision (--decisions)"),
}


@dataclass(frozen=True)
class Limits:
    """Limits that are checked before decoding; `$PATI_MAX_BYTES` and so on override them.

    `bytes`: file size. `pixels`: image size; three quarters of it for progressive JPEGs, which take nine bytes of
    memory per pixel instead of seven. `scans`: passes over the whole image that a progressive JPEG may use, and only as
    many as cost no more than ten passes over the largest allowed image. `seconds`: decoding time per file in the audit.
    """

    bytes: int = 64_000_000
    pixels: int = 52_000_000  # 50-megapixel photos pass
    scans: int = 100
    seconds: int = 20

    @property
    def memory(self) -> int:
        """Bytes that decoding a photo within the limits can take, on top of an idle process."""
        return 8 * self.pixels + 2 * self.bytes

    @classmethod
    def of_user(cls) -> Limits:
        """The defaults, overridden by environment variables; raises `PatiError` unless they are positive integers."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: _chosen(f"PATI_MAX_{name.upper()}", getattr(cls, name)) for name in names})


def _chosen(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    digits = text.replace("_", "")
    if not digits.isdecimal() or int(digits) < 1:
        raise PatiError(
            N_("{variable} is {text!r}, expected a positive integer", variable=variable, text=text),
            N_("the default is {default:,}", default=default),
        )
    return int(digits)


@functools.cache
def limits_now() -> Limits:
    """The limits of this process, read once."""
    limits = Limits.of_user()
    if limits.pixels > (Image.MAX_IMAGE_PIXELS or limits.pixels):
        Image.MAX_IMAGE_PIXELS = limits.pixels  # the user raised our limit above Pillow's own
    return limits


_BAND = 4_000_000  # pixels converted at a time

# pati reports problems with files itself, and has its own limit on pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Unreadable(Exception):
    """A photo that can't be used. `reason`: a key of `REASONS`; `detail`: what was found."""

    def __init__(self, reason: str, detail: Message | None = None) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    @property
    def message(self) -> Message:
        """The reason, then the detail."""
        if self.detail is None:
            return as_is(self.reason)
        return N_("{reason}: {detail}", reason=self.reason, detail=self.detail)

    def __str__(self) -> str:
        return str(self.message)


@dataclass(frozen=True)
class Decoded:
    """RGB `uint8 (H, W, 3)` with the EXIF orientation applied, and what is unusual about the file (keys of `FLAGS`)."""

    pixels: NDArray[np.uint8]
    flags: tuple[str, ...]


def is_system_file(name: str) -> bool:
    """Whether the file name is one that operating systems leave behind, such as Thumbs.db."""
    return name.startswith("._") or name.lower() in ("thumbs.db", ".ds_store", "desktop.ini", ".directory")


def is_photo_name(name: str) -> bool:
    """Whether the file name has a photo's extension; only the content decides how it is decoded."""
    return name.lower().endswith((".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"))


def starts_like_photo(start: bytes) -> bool:
    """Whether a file's first 16 bytes are those of a photo's format."""
    marks = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
    return start.startswith(marks) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def over_bytes(size: int, limit: int) -> Message:
    """The detail message for a file that is too large."""
    return N_("{size:,} bytes, the limit is {limit:,}", size=size, limit=limit)


def read(path: Path, limits: Limits | None = None) -> bytes:
    """Read a regular file. Raises `Unreadable`; never reads from a pipe or device, so it can't block."""
    limits = limits or limits_now()
    if is_system_file(path.name):
        raise Unreadable("system-file")
    try:
        # O_NONBLOCK: opening a pipe without a writer must not block.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise Unreadable("not-a-file")
            if facts.st_size > limits.bytes:
                raise Unreadable("too-large", over_bytes(facts.st_size, limits.bytes))
            return file.read(limits.bytes + 1)
    except IsADirectoryError:
        raise Unreadable("not-a-file") from None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENXIO:  # a socket
            raise Unreadable("not-a-file") from None
        if os.path.islink(path) and not os.path.exists(path):
            target = os.readlink(path)
            annex = N_("a link to {target}, which is not here: run `git annex get`", target=target)
            other = N_("a link to {target}, which does not exist", target=target)
            raise Unreadable("unreadable", annex if ".git/annex" in target else other) from None
        raise Unreadable("unreadable", as_is(getattr(error, "strerror", None) or str(error))) from None


def decode(data: bytes, limits: Limits | None = None) -> Decoded:
    """Decode a photo's bytes; raises `Unreadable` with a stable reason."""
    limits = limits or limits_now()
    if not data:
        raise Unreadable("empty")
    if len(data) > limits.bytes:
        raise Unreadable("too-large", over_bytes(len(data), limits.bytes))
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        raise Unreadable("unsupported", N_("a pointer of Git LFS in place of the photo: run `git lfs pull`"))
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
    except (ValueError, KeyError):  # KeyError: an unknown chroma subsampling
        # Includes rare but valid layouts that the header parser doesn't support: leave the decision to Pillow.
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
            raise Unreadable("damaged", as_is(str(fatal))) from None
    if not data.endswith(b"\xff\xd9") and "zero-tail" not in flags:
        flags.append("trailing-bytes")
    turn = 1
    if b"Exif\0\0" in data[:65536]:
        try:
            with _open(data) as image:
                turn = _orientation(image)
        except Unreadable:  # a header that only Pillow rejects: the pixels are already decoded
            pass
    return _turned(pixels, turn)


def _check_scans(data: bytes, width: int, height: int, limits: Limits) -> None:
    """Check the limits for progressive JPEGs: they take more memory, and each scan is a pass over the whole image.

    The markers can't occur inside a scan, where FF is followed by 00 or a restart marker; a marker inside an embedded
    thumbnail only makes the check stricter.
    """
    pixels, scans = width * height, data.count(b"\xff\xda")
    if b"\xff\xc2" in data and pixels > limits.pixels * 3 // 4:
        limit = limits.pixels * 3 // 4
        detail = N_(
            "{width}×{height} pixels, progressive; the limit is {limit:,}", width=width, height=height, limit=limit
        )
        raise Unreadable("too-large", detail)
    if scans > limits.scans or scans * pixels > 10 * limits.pixels:
        detail = N_(
            "{scans} scans of {pixels:,} pixels, the limit is {limit} scans",
            scans=scans,
            pixels=pixels,
            limit=limits.scans,
        )
        raise Unreadable("too-large", detail)


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
    """Verify the checksums of a PNG's chunks; Pillow doesn't check those of the pixel data."""
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = memoryview(data)[at + 4 : at + 8 + length]
        at += 12 + length
        if at > len(data):
            return  # truncated: Pillow raises an error if pixels are missing
        if zlib.crc32(body) != struct.unpack_from(">I", data, at - 4)[0]:
            raise Unreadable("damaged", N_("the checksum of the chunk {name} does not match", name=repr(name)))
        if name == b"IEND":
            if at < len(data):
                flags.append("trailing-bytes")
            return
    flags.append("no-end")


def _check_directories(data: bytes) -> None:
    """Reject a TIFF whose chain of directories forms a loop. Everything else is left to Pillow."""
    order = "<" if data[:2] == b"II" else ">"
    big = 0x2B in data[2:4]
    count_kind, offset_kind = (f"{order}Q", f"{order}Q") if big else (f"{order}H", f"{order}I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(offset_kind, data, 8 if big else 4)
        while at:
            if at in seen or len(seen) > 10_000:
                raise Unreadable("damaged", N_("its directories form a loop"))
            seen.add(at)
            (count,) = struct.unpack_from(count_kind, data, at)
            (at,) = struct.unpack_from(offset_kind, data, at + (8 + 20 * count if big else 2 + 12 * count))
    except (struct.error, OverflowError):  # an offset beyond the end of the file
        return


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        known = data[:3] == b"\xff\xd8\xff" or data[:8] == b"\x89PNG\r\n\x1a\n"
        raise Unreadable("damaged" if known else "unsupported") from None
    except Exception as error:  # parsers of hostile files can raise any exception
        raise _broken(error) from None


def _broken(error: Exception) -> Unreadable:
    text = str(error)
    if isinstance(error, MemoryError | Image.DecompressionBombError) or "too large" in text:
        return Unreadable("too-large", as_is(text) if text else NO_MEMORY)
    cut = any(sign in text for sign in ("truncated", "Truncated", "end of file"))
    return Unreadable("truncated" if cut else "damaged", as_is(f"{type(error).__name__}: {text}"))


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise Unreadable("damaged", N_("claims {width}×{height} pixels", width=width, height=height))
    if width * height > limits.pixels:
        detail = N_(
            "{width}×{height} pixels, the limit is {limit:,} in total", width=width, height=height, limit=limits.pixels
        )
        raise Unreadable("too-large", detail)


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """RGB `uint8 (H, W, 3)` of a Pillow image of any mode: EXIF orientation, 16 bit rescaled, transparency composited.

    Raises `Unreadable`: Pillow decodes lazily, and its parsers can raise any exception on hostile files.
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
    # In bands, so that the intermediate steps don't each hold a copy of a large photo.
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _band_rgb(image.crop((0, top, width, bottom)))
    return pixels, _orientation(image)


def _band_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        # convert("RGB") clips 16-bit values at 255, so rescale them to 0..255 first.
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
    """EXIF orientation 1..8; 1 if it is missing or invalid."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # invalid EXIF data must not reject the photo
        return 1
    return value if value in range(1, 9) else 1


def _turned(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """`pixels` rotated and flipped upright; `orientation` as in the EXIF standard, tag 0x0112."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def header_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) according to the file's header, without decoding; None if there is none."""
    try:
        with _open(data) as image:
            return image.size
    except Unreadable:  # the audit will report what is wrong
        return None
