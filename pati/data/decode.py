"""Decode the bytes of a photo to RGB pixels, or reject it with a stable reason.

The only module that decodes. Training, `predict`, the report and the web app all use it, so a photo has the same pixels
everywhere. Knows nothing of the size that a network expects.

JPEGs are decoded by simplejpeg (libjpeg-turbo), whose strict mode detects damage that other decoders hide; its pixels
equal Pillow's. HEIC is decoded by libheif, everything else by Pillow. Only the formats in `FORMATS` are ever tried.
Colours with a profile are converted to sRGB, values of more than 8 bits are scaled by their own depth.
"""

from __future__ import annotations

import errno
import functools
import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import (  # noqa: F401  (importing a plugin is what makes its format known)
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from pati.data import colour, depth, formats, heif, jpeg, tiff
from pati.data.formats import is_photo_name as is_photo_name
from pati.data.formats import is_system_file as is_system_file
from pati.data.formats import starts_like_photo as starts_like_photo
from pati.data.unreadable import Unreadable as Unreadable
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, NP_, Message, as_is
from pati.system import names

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # JPEG includes MPO, multi-picture files
FORMATS = (*PILLOW_FORMATS, "HEIC")
NO_MEMORY = N_("not enough memory")
BACKGROUND = (255, 255, 255)  # what shows through transparent pixels

# Why a file is quarantined, and what to do about it.
REASONS = {
    "empty": N_("the file is empty; copy it again from the original"),
    "system-file": N_("written by an operating system (Thumbs.db, .DS_Store, ._name), not a photo"),
    "not-a-file": N_("a folder, link, pipe or device where a photo was expected"),
    "unreadable": N_("the file cannot be read: it does not exist, or its permissions do not allow it"),
    "too-large": N_("over a limit on bytes, pixels or decoding time; if you trust it, raise it (docs/robustness.md)"),
    "unsupported": N_(
        "not in one of the formats {formats}, or with values of unknown meaning; convert it", formats=FORMATS
    ),
    "truncated": N_("the file is truncated; copy it again from the original"),
    "damaged": N_("the file cannot be decoded; copy it again from the original"),
    "not-judged": N_("the process that decoded it was killed twice, as by a full memory; run the command again"),
    "changed": N_("the file that holds it changed while its photos were read; run the command again"),
    "dropped": N_("excluded by your decision (--decisions)"),
    "set-aside": N_(
        "a test photo of the model that the training starts from, which belongs to one of its training photos "
        "(a duplicate, or the same group): it is neither trained on nor scored"
    ),
}
# What is unusual about a file that is used nevertheless.
FLAGS = {
    "corrupt-data": N_("decoded, but the decoder found corrupt data"),
    "trailing-bytes": N_("has extra bytes after the end of the image"),
    "no-end": N_("the image is complete, but the end marker is missing"),
    "zero-tail": N_("ends in zeros: an incomplete copy, part of the photo is grey"),
    "animated": N_("holds several frames; only the first is used"),
    "video": N_("holds a video too (motion photo); only the still picture is used"),
    "scaled": N_("its values do not fill their data type (such as 12 bits in 16); they were scaled by their own range"),
    "profile-ignored": N_("its colour profile is broken or does not fit; its colours were taken as sRGB"),
    "hdr": N_("brighter than white (HDR); what is brighter was made white"),
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
_LARGEST_AVIF = 16_384**2  # pixels, for its decoder

# pati reports problems with files itself, and has its own limit on pixels.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Decoded:
    """RGB `uint8 (H, W, 3)` with the EXIF orientation applied, and what is unusual about the file (keys of `FLAGS`)."""

    pixels: NDArray[np.uint8]
    flags: tuple[str, ...]


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
        handle = os.open(
            names.openable(str(path)), os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
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
        if getattr(error, "errno", None) == errno.ENXIO or os.path.isdir(path):  # a socket; a folder on Windows
            raise Unreadable("not-a-file") from None
        if os.path.islink(path) and not os.path.exists(path):
            target = os.readlink(path)
            annex = N_("a link to {target}, which is not here: run `git annex get`", target=target)
            other = N_("a link to {target}, which does not exist", target=target)
            raise Unreadable("unreadable", annex if ".git/annex" in target else other) from None
        raise Unreadable("unreadable", os_reason(error) if isinstance(error, OSError) else as_is(str(error))) from None


def decode(data: bytes, limits: Limits | None = None, to_srgb: bool = True) -> Decoded:
    """Decode a photo's bytes; raises `Unreadable` with a stable reason.

    `to_srgb`: convert colours with a profile to sRGB, instead of taking them as they are stored.
    """
    limits = limits or limits_now()
    if not data:
        raise Unreadable("empty")
    if len(data) > limits.bytes:
        raise Unreadable("too-large", over_bytes(len(data), limits.bytes))
    if data.startswith(b"version https://git-lfs.github.com/spec/"):
        raise Unreadable("unsupported", N_("a pointer of Git LFS in place of the photo: run `git lfs pull`"))
    flags: list[str] = []
    try:
        if data.startswith(formats.JPEG):
            pixels = _decode_jpeg(data, limits, flags, to_srgb)
        elif formats.heif_kind(data) == "HEIC":
            pixels = _decode_heic(data, limits, flags, to_srgb)
        else:
            pixels = _decode_with_pillow(data, limits, flags, to_srgb)
    except MemoryError:
        raise Unreadable("too-large", NO_MEMORY) from None
    height, width = pixels.shape[:2]
    if min(height, width) < 16:
        flags.append("tiny")
    if max(height, width) > 8 * min(height, width):
        flags.append("narrow")
    if (pixels[::16, ::16] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        flags.append("solid")
    return Decoded(pixels, tuple(flags))


def _decode_jpeg(data: bytes, limits: Limits, flags: list[str], to_srgb: bool) -> NDArray[np.uint8]:
    found = jpeg.structure(data, limits.scans)
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except (ValueError, KeyError):  # KeyError: an unknown chroma subsampling
        # Includes rare but valid layouts that the header parser doesn't support: leave the decision to Pillow.
        return _decode_with_pillow(data, limits, flags, to_srgb)
    if space in ("CMYK", "YCCK"):
        return _decode_with_pillow(data, limits, flags, to_srgb)
    _check_size(width, height, limits)
    _check_scans(found, width, height, limits)
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
            if found.lossless or found.bits != 8:
                detail = (
                    N_("it is a lossless JPEG") if found.lossless else N_("it is a JPEG with {n} bits", n=found.bits)
                )
                raise Unreadable("unsupported", detail) from None
            raise Unreadable("damaged", as_is(str(fatal))) from None
    if "zero-tail" not in flags:
        _look_behind(data, found, flags)
    turn, profile = 1, found.profile
    if found.described:
        try:
            with opened(data) as image:
                turn, profile = _orientation(image), _profile(image, flags)
        except Unreadable:  # a header that only Pillow rejects: the pixels are already decoded
            pass
    if to_srgb and profile:
        _convert(pixels, profile, "L" if space == "Gray" else "RGB", flags)
    return _turned(pixels, turn)


def _look_behind(data: bytes, found: jpeg.Structure, flags: list[str]) -> None:
    """Flag what follows the picture, unless it is another JPEG, such as the gain map of Ultra HDR."""
    if data.find(b"ftyp", found.end) >= 0:
        flags.append("video")
    elif not data.endswith(b"\xff\xd9"):
        flags.append("trailing-bytes")


def _check_scans(found: jpeg.Structure, width: int, height: int, limits: Limits) -> None:
    """Check the limits for progressive JPEGs: they take more memory, and each scan is a pass over the whole image."""
    pixels = width * height
    if found.progressive and pixels > limits.pixels * 3 // 4:
        limit = limits.pixels * 3 // 4
        detail = N_(
            "{width}×{height} pixels, progressive; the limit is {limit:,}", width=width, height=height, limit=limit
        )
        raise Unreadable("too-large", detail)
    if found.scans > limits.scans or found.scans * pixels > 10 * limits.pixels:
        detail = N_(
            "{scans} scans of {pixels:,} pixels, the limit is {limit} scans",
            scans=found.scans,
            pixels=pixels,
            limit=limits.scans,
        )
        raise Unreadable("too-large", detail)


def _decode_heic(data: bytes, limits: Limits, flags: list[str], to_srgb: bool) -> NDArray[np.uint8]:
    if not heif.has_pictures(data):
        raise Unreadable("unsupported", N_("it has the mark of HEIC, but holds no still picture"))
    try:
        opened = heif.Heic(data)
        width, height = opened.size
    except Exception as error:
        raise _broken(error, cut=heif.is_cut(data)) from None
    _check_size(width, height, limits)
    if opened.pictures > 1:
        flags.append("animated")
    try:
        image = opened.image()
        del opened  # it holds a second copy of the pixels
        pixels, _ = _rgb(image, flags, to_srgb)  # the container has turned it
    except Exception as error:
        raise _broken(error, cut=heif.is_cut(data)) from None
    return pixels


def _decode_with_pillow(data: bytes, limits: Limits, flags: list[str], to_srgb: bool) -> NDArray[np.uint8]:
    return _turned(*_load_with_pillow(data, limits, flags, to_srgb))


def _load_with_pillow(data: bytes, limits: Limits, flags: list[str], to_srgb: bool) -> tuple[NDArray[np.uint8], int]:
    """Pixels as stored, and the orientation; Pillow's own copy of the pixels is gone when they are turned."""
    if data[:4] in formats.TIFF:
        _check_directories(data)
    with opened(data) as image:
        _check_size(image.width, image.height, limits)
        if image.format == "JPEG":
            _check_scans(jpeg.structure(data, limits.scans), image.width, image.height, limits)
        if image.format == "PNG":
            _check_chunks(data, flags)
        try:
            if getattr(image, "is_animated", False) and image.format != "MPO":
                flags.append("animated")
            return _rgb(image, flags, to_srgb)
        except Exception as error:
            raise _broken(error, cut=heif.is_cut(data) if image.format == "AVIF" else None) from None


def _check_chunks(data: bytes, flags: list[str]) -> None:
    """Verify the checksums of a PNG's chunks; Pillow doesn't check those of the pixel data."""
    for name, start, end in _chunks(data):
        if end + 4 > len(data):
            return  # truncated: Pillow raises an error if pixels are missing
        if zlib.crc32(memoryview(data)[start - 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise Unreadable("damaged", N_("the checksum of the chunk {name} does not match", name=repr(name)))
        if name == b"IEND":
            if end + 4 < len(data):
                flags.append("trailing-bytes")
            return
    flags.append("no-end")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the content of each chunk of a PNG; the last one may reach beyond the data."""
    at = 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        yield name, at + 8, at + 8 + length
        at += 12 + length


def _check_directories(data: bytes) -> None:
    """Reject a TIFF whose chain of directories forms a loop, or that holds a camera's RAW values."""
    try:
        found = tiff.directories(data)
    except tiff.Circular:
        raise Unreadable("damaged", N_("its directories form a loop")) from None
    if found.raw or data[8:10] == b"CR":
        raise Unreadable("unsupported", N_("it is a {format} file", format="RAW (DNG, NEF, CR2, ARW)"))


def opened(data: bytes) -> Image.Image:
    """A photo as Pillow opens it, not decoded yet; any format but HEIC. Raises `Unreadable`."""
    try:
        if formats.heif_kind(data) == "AVIF":
            from PIL import AvifImagePlugin  # only here: it would slow down the start of every worker

            AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # photos are decoded in parallel, not their parts
            if not data.startswith((b"avif", b"avis"), 8):
                data = data[:8] + b"avif" + data[12:]  # Pillow looks at the first brand only
        return Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
    except UnidentifiedImageError:
        return _open_rare_tiff(data)
    except Exception as error:  # parsers of hostile files can raise any exception
        raise _broken(error) from None


def _open_rare_tiff(data: bytes) -> Image.Image:
    """Open a deep grey TIFF with white as zero, which Pillow knows in few forms: as one with black as zero.

    It is then told what it is, and `depth` inverts it. Raises `Unreadable`.
    """
    found = tiff.directories(data) if data[:4] in formats.TIFF else None
    if found is None or found.value(tiff.SAMPLES_PER_PIXEL, 1) != 1 or found.value(tiff.PHOTOMETRIC, 1) != 0:
        raise _unidentified(data)
    try:
        image = Image.open(io.BytesIO(found.changed(data, tiff.PHOTOMETRIC, 1)), formats=["TIFF"])
    except UnidentifiedImageError:
        raise _unidentified(data) from None
    except Exception as error:
        raise _broken(error) from None
    assert isinstance(image, TiffImagePlugin.TiffImageFile)
    if not depth.is_deep(image):
        raise _unidentified(data)
    image.tag_v2[tiff.PHOTOMETRIC] = 0
    return image


def _unidentified(data: bytes) -> Unreadable:
    """Why Pillow can't open a file: damage if it begins like a photo, otherwise its format."""
    if data.startswith((formats.JPEG, formats.PNG)):
        return Unreadable("damaged")
    if formats.heif_kind(data):
        if not heif.has_pictures(data):
            return Unreadable("unsupported", N_("it has the mark of AVIF, but holds no still picture"))
        width, height = heif.stored_size(data)
        if width * height > _LARGEST_AVIF:
            return Unreadable("too-large", N_("it claims {width}×{height} pixels", width=width, height=height))
        return Unreadable("truncated" if heif.is_cut(data) else "damaged")
    if data[:4] in formats.TIFF:
        found = tiff.directories(data)
        bands, bits = found.value(tiff.SAMPLES_PER_PIXEL, 1), found.value(tiff.BITS_PER_SAMPLE, 1)
        if found.first:
            kind = {3: N_("floating point"), 2: N_("signed")}.get(found.value(tiff.SAMPLE_FORMAT, 1), N_("unsigned"))
            detail = NP_(
                "a TIFF with {n} band of {bits} bits ({kind}); save it as grey or RGB with 8 or 16 bits",
                "a TIFF with {n} bands of {bits} bits ({kind}); save it as grey or RGB with 8 or 16 bits",
                n=bands,
                bits=bits,
                kind=kind,
            )
            return Unreadable("unsupported", detail)
    name = formats.other_kind(data)
    return Unreadable("unsupported", N_("it is a {format} file", format=name) if name else None)


def _broken(error: Exception, *, cut: bool | None = None) -> Unreadable:
    """The reason for an exception of a decoder; `cut`: whether the file's own structure shows that it is incomplete."""
    if isinstance(error, Unreadable):
        return error
    text = str(error)
    if (
        isinstance(error, MemoryError | Image.DecompressionBombError)
        or "too large" in text
        or "Security limit exceeded" in text
    ):
        return Unreadable("too-large", as_is(text) if text else NO_MEMORY)
    if "Unsupported" in text and isinstance(error, SyntaxError):
        return Unreadable("unsupported", as_is(text))
    if cut is None:
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


def from_pillow(image: Image.Image, *, to_srgb: bool = True) -> NDArray[np.uint8]:
    """RGB `uint8 (H, W, 3)` of a Pillow image of any mode, upright: what `decode` makes of the file that it is from.

    Raises `Unreadable`: Pillow decodes lazily, and its parsers can raise any exception on hostile files.
    """
    try:
        return _turned(*_rgb(image, [], to_srgb))
    except Exception as error:
        raise _broken(error) from None


def _rgb(image: Image.Image, flags: list[str], to_srgb: bool) -> tuple[NDArray[np.uint8], int]:
    """RGB `uint8 (H, W, 3)` as stored, and the orientation."""
    profile = _profile(image, flags) if to_srgb else b""  # what Pillow can tell of it only before it is loaded
    depth.correct(image)
    dim = depth.dim_colours(image)
    image.load()
    turn = _orientation(image)
    scale = None
    if dim is not None:
        image = dim
        flags.append("scaled")
    elif depth.is_deep(image):
        scale = depth.scale_of(image)
        flags.extend(["scaled"] if scale.assumed else [])
    # The conversion of LAB is Pillow's, and needs no profile.
    transform = None if image.mode == "LAB" else _transform(profile, "L" if scale else image.mode, flags)
    width, height = image.size
    rows = max(1, _BAND // width)
    if rows >= height:
        return _band_rgb(image, scale, transform), turn
    # In bands, so that the intermediate steps don't each hold a copy of a large photo.
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _band_rgb(image.crop((0, top, width, bottom)), scale, transform)
    return pixels, turn


def _band_rgb(image: Image.Image, scale: depth.Scale | None, transform: colour.Transform | None) -> NDArray[np.uint8]:
    if scale is not None:
        image = Image.fromarray(scale(np.asarray(image)))
    alpha = None
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        grey = image.mode in ("LA", "La")
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.getchannel("R") if grey else image.convert("RGB")
    image = image.convert("RGB") if transform is None else transform(image)
    if alpha is not None:
        image.putalpha(alpha)
        backdrop = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        image = Image.alpha_composite(backdrop, image).convert("RGB")
    return np.asarray(image)


def _transform(profile: bytes, mode: str, flags: list[str]) -> colour.Transform | None:
    """The conversion to sRGB; None where there is nothing to do, or where the profile can't be used."""
    if not profile:
        return None
    try:
        return colour.transform(profile, mode)
    except colour.UnusableProfile:
        flags.append("profile-ignored")
        return None


def _convert(pixels: NDArray[np.uint8], profile: bytes, mode: str, flags: list[str]) -> None:
    """Convert RGB pixels `(H, W, 3)`, of a picture in a Pillow mode, to sRGB in place."""
    transform = _transform(profile, mode, flags)
    if transform is None:
        return
    height, width = pixels.shape[:2]
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = pixels[top : top + rows]
        image = Image.fromarray(np.ascontiguousarray(band[..., 0]) if mode == "L" else band)
        band[:] = np.asarray(transform(image))


def _profile(image: Image.Image, flags: list[str]) -> bytes:
    """ICC data of a Pillow image's colours; empty for sRGB, and where nothing is said of them."""
    try:
        profile = image.info.get("icc_profile")
        if isinstance(profile, bytes) and profile:
            return profile
        codes = _code_points(image)
        if codes is not None:
            flags.extend(["hdr"] if colour.is_hdr(codes) else [])
            return colour.profile_of_codes(codes)
        if image.format == "PNG":
            return _profile_of_png(image)
        if image.format in ("JPEG", "MPO") and _is_adobe_rgb(image):
            return colour.profile_of(colour.ADOBE_RGB, 563 / 256)
    except colour.UnusableProfile:
        flags.append("profile-ignored")
    return b""


def _code_points(image: Image.Image) -> heif.CodePoints | None:
    """The numbers of H.273 in HEIC, AVIF and PNG files; the last two keep them only until the image is loaded."""
    stored = image.info.get("nclx_profile")
    if isinstance(stored, dict):
        return heif.CodePoints(stored.get("color_primaries", 2), stored.get("transfer_characteristics", 2))
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("AVIF", "PNG"):
        return None
    if image.fp is None or not image.tile:
        return None
    at = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(at)
    if image.format == "AVIF":
        return heif.code_points(data)
    for name, start, _ in _chunks(data):
        if name == b"cICP":
            return heif.CodePoints(*data[start : start + 2])
        if name == b"IDAT":
            break
    return None


def _profile_of_png(image: Image.Image) -> bytes:
    """ICC data of a PNG's chunks gAMA and cHRM; without gAMA, or with that of sRGB, there is nothing to do."""
    gamma, places = image.info.get("gamma"), image.info.get("chromaticity", colour.SRGB)
    if "srgb" in image.info or not gamma:
        return b""
    usual = abs(gamma - 1 / 2.2) < 0.01
    if usual and max(abs(a - b) for a, b in zip(places, colour.SRGB, strict=True)) < 0.005:
        return b""
    return colour.profile_of(tuple(places), None if usual else 1 / gamma)


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether a camera says so in its EXIF data, as cameras do that embed no profile (DCF, option file R03)."""
    try:
        return image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:  # invalid EXIF data must not reject the photo
        return False


_XMP_ORIENTATION = re.compile(r"tiff:Orientation\s*(?:=\s*[\"']|>)\s*([1-8])\s*[\"'<]")


def _orientation(image: Image.Image) -> int:
    """Orientation 1..8 from EXIF, or else from XMP; 1 if it is missing or invalid."""
    if image.format == "AVIF" and "exif" not in image.info:
        return 1  # the container turns it, which Pillow tells as EXIF
    try:
        value = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # invalid EXIF data must not reject the photo
        value = None
    if value is None:
        xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or ""
        found = _XMP_ORIENTATION.search(xmp.decode("latin-1") if isinstance(xmp, bytes) else str(xmp))
        value = int(found[1]) if found else 1
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
        if formats.heif_kind(data) == "HEIC":
            return heif.Heic(data).size
        with opened(data) as image:
            return image.size
    except Exception:  # the audit will report what is wrong
        return None
