"""Bad and odd files, made by code: the kinds that a photo folder can hold, and what must become of each.

`KINDS` maps a kind's name to how `FILES` files of it are made in a folder, and to the one
outcome they must have: quarantined with a reason, kept with a flag, or kept.
"""

from __future__ import annotations

import gzip
import io
import os
import pickle  # noqa: TID251  (to make files that must not be loaded)
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.support.photos import SHAPES, draw

FILES = 5

Make = Callable[[int], bytes]


@dataclass(frozen=True)
class Kind:
    """`write(folder, number)` makes one file and returns its path; `reason` or `flag` is what must be said of it."""

    write: Callable[[Path, int], Path]
    reason: str = ""
    flag: str = ""


KINDS: dict[str, Kind] = {}


def kind(name: str, *, reason: str = "", flag: str = "", suffix: str = ".jpg") -> Callable[[Make], Make]:
    """Register a kind whose files are what `make(number)` returns."""

    def register(make: Make) -> Make:
        def write(folder: Path, number: int) -> Path:
            path = folder / f"{name}-{number}{suffix}"
            path.write_bytes(make(number))
            return path

        KINDS[name] = Kind(write, reason, flag)
        return make

    return register


def placed(name: str, *, reason: str = "", flag: str = "") -> Callable[[Callable[[Path, int], Path]], None]:
    """Register a kind that is more than a file's bytes."""

    def register(write: Callable[[Path, int], Path]) -> None:
        KINDS[name] = Kind(write, reason, flag)

    return register


# Pieces ------------------------------------------------------------------------------


def picture(number: int, size: int = 72) -> Image.Image:
    """A drawn picture, another one for each number."""
    return draw(SHAPES[number % 3], 1000 + number, size)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def jpeg(number: int, **options: object) -> bytes:
    return encoded(picture(number), "JPEG", quality=85, **options)


def png(number: int, **options: object) -> bytes:
    return encoded(picture(number), "PNG", **options)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int, *chunks: bytes, colour: int = 2) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + png_chunk(b"IEND", b"")


def rows(width: int, height: int, channels: int = 3) -> bytes:
    """Black pixels as a PNG's IDAT, without holding them all."""
    packer, line = zlib.compressobj(9), bytes(1 + width * channels)
    return b"".join(packer.compress(line) for _ in range(height)) + packer.flush()


def end_of_header(data: bytes) -> int:
    """Offset of the first scan's data in a JPEG."""
    at = data.index(b"\xff\xda")
    return at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]


# Quarantined ---------------------------------------------------------------------------


@kind("empty", reason="empty")
def _(number: int) -> bytes:
    return b""


@kind("one-byte", reason="unsupported")
def _(number: int) -> bytes:
    return bytes([[0, 1, 65, 127, 255][number % 5]])


@kind("text", reason="unsupported")
def _(number: int) -> bytes:
    return f"note {number}: the photo is on my other phone\n".encode() * (number + 1)


@kind("html", reason="unsupported")
def _(number: int) -> bytes:
    return b"<!DOCTYPE html><html><body>404 not found %d</body></html>" % number


@placed("thumbs-db", reason="system-file")
def _(folder: Path, number: int) -> Path:
    name = ["Thumbs.db", "thumbs.db", "THUMBS.DB", "desktop.ini", "Desktop.ini"][number % 5]
    path = folder / name
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504))
    return path


@placed("apple-double", reason="system-file")
def _(folder: Path, number: int) -> Path:
    name = [".DS_Store", "._1.jpg", "._2.png", "._a photo.jpeg", "._"][number % 5]
    path = folder / name
    path.write_bytes(jpeg(number))  # what is inside doesn't matter
    return path


@kind("jpeg-header-only", reason="truncated")
def _(number: int) -> bytes:
    data = jpeg(number)
    return data[: end_of_header(data)]


@kind("jpeg-half", reason="truncated")
def _(number: int) -> bytes:
    data = jpeg(number)
    return data[: len(data) // 2]


@kind("jpeg-without-last-bytes", reason="truncated")
def _(number: int) -> bytes:
    return jpeg(number)[: -(4 + 8 * number)]


@kind("png-cut", reason="truncated", suffix=".png")
def _(number: int) -> bytes:
    data = png(number)
    return data[: len(data) * (number + 1) // 7]


@kind("png-bad-checksum", reason="damaged", suffix=".png")
def _(number: int) -> bytes:
    data = bytearray(png(number))
    at = data.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", data[at - 8 : at - 4])
    data[at + length] ^= 1 << number
    return bytes(data)


@kind("png-zero-size", reason="damaged", suffix=".png")
def _(number: int) -> bytes:
    return png_of(*[(0, 0), (0, 10), (10, 0), (0, 1), (1, 0)][number % 5], png_chunk(b"IDAT", zlib.compress(b"\0")))


@kind("claims-100000x100000", reason="too-large", suffix=".png")
def _(number: int) -> bytes:
    return png_of(100_000, 100_000 + number)[:65]


@kind("13000x13000", reason="too-large", suffix=".png")
def _(number: int) -> bytes:
    return png_of(13_000, 13_000 + number, png_chunk(b"IDAT", rows(100, 10)))


@kind("gif-bomb", reason="too-large", suffix=".gif")
def _(number: int) -> bytes:
    side = 65_535 - number
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00;"


@kind("ico-bomb", reason="unsupported", suffix=".ico")
def _(number: int) -> bytes:
    inside = png_of(60_000, 60_000)
    entries = number + 1
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inside), 6 + 16 * entries)
    return struct.pack("<HHH", 0, 1, entries) + entry * entries + inside


@kind("compressed-text-bomb", reason="too-large", suffix=".png")
def _(number: int) -> bytes:
    blob = zlib.compress(bytes(80_000_000), 9)
    return png_of(8, 8, png_chunk(b"zTXt", b"Comment\0\0" + blob), png_chunk(b"IDAT", rows(8, 8 + number)))


@kind("compressed-profile-bomb", reason="too-large", suffix=".png")
def _(number: int) -> bytes:
    blob = zlib.compress(bytes(80_000_000), 9)
    return png_of(8, 8, png_chunk(b"iCCP", b"icc\0\0" + blob), png_chunk(b"IDAT", rows(8, 8 + number)))


@kind("2000-scans", reason="too-large")
def _(number: int) -> bytes:
    # A progressive JPEG whose last scan, a refinement, is repeated.
    data = encoded(picture(number, 1000), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 2000 + b"\xff\xd9"


@kind("eps", reason="unsupported", suffix=".eps")
def _(number: int) -> bytes:
    return b"%%!PS-Adobe-3.0 EPSF-3.0\n%%%%BoundingBox: 0 0 %d 100\nshowpage\n" % (100 + number)


@kind("pdf", reason="unsupported", suffix=".pdf")
def _(number: int) -> bytes:
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + b"%d 0 obj\n<<>>\nendobj\n" % number


@kind("svg", reason="unsupported", suffix=".svg")
def _(number: int) -> bytes:
    return b'<svg xmlns="http://www.w3.org/2000/svg" width="%d"><script>alert(1)</script></svg>' % (number + 1)


@kind("compressed-fits", reason="unsupported", suffix=".fits.gz")
def _(number: int) -> bytes:
    cards = [f"SIMPLE  = {'T':>20}", f"BITPIX  = {8:>20}", f"NAXIS   = {number:>20}", "END"]
    header = "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    return header if number % 2 else gzip.compress(header)


@kind("psd", reason="unsupported", suffix=".psd")
def _(number: int) -> bytes:
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 100, 100 + number, 8, 3) + bytes(14)


@kind("tiff-circle", reason="damaged", suffix=".tif")
def _(number: int) -> bytes:
    data = bytearray(encoded(picture(number), "TIFF", big_tiff=number == 4))
    if number == 4:
        (at,) = struct.unpack_from("<Q", data, 8)
        (count,) = struct.unpack_from("<Q", data, at)
        struct.pack_into("<Q", data, at + 8 + 20 * count, at)
    else:
        (at,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, at)
        struct.pack_into("<I", data, at + 2 + 12 * count, at)
    return bytes(data)


@kind("jpeg-2000", reason="unsupported", suffix=".jp2")
def _(number: int) -> bytes:
    return b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 " + bytes(number)


@kind("heic-avif-without-picture", reason="unsupported", suffix=".heic")
def _(number: int) -> bytes:
    brand = [b"heic", b"heix", b"mif1", b"avif", b"avis"][number % 5]
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1" + brand + bytes(100)


@kind("heic-avif-cut", reason="truncated", suffix=".heic")
def _(number: int) -> bytes:
    data = avif(number) if number % 2 else heic(number)
    return data[: len(data) * (number + 4) // 9]


@kind("heic-avif-bomb", reason="too-large", suffix=".avif")
def _(number: int) -> bytes:
    data = avif(number) if number % 2 else heic(number)
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", 30_000, 30_000 + number) + data[at + 8 :]


@kind("heic-avif-garbage", reason="damaged", suffix=".heic")
def _(number: int) -> bytes:
    data = avif(number) if number % 2 else heic(number)
    at = data.index(b"mdat") + 4
    return data[:at] + bytes(len(data) - at)


@kind("other-formats", reason="unsupported")
def _(number: int) -> bytes:
    return [
        b"\xff\x0a" + bytes(100),  # JPEG XL
        bytes(128) + b"DICM" + bytes(500),
        b"II*\0\x10\0\0\0CR\x02\0" + bytes(100),  # Canon's RAW
        struct.pack(">I", 24) + b"ftypcrx \0\0\0\1crx isom" + bytes(100),  # its successor
        struct.pack(">I", 24) + b"ftypisom\0\0\0\1isommp42" + bytes(100),  # a video
    ][number % 5]


@kind("values-of-unknown-meaning", reason="unsupported", suffix=".tif")
def _(number: int) -> bytes:
    values = np.asarray(picture(number).convert("L")).astype(np.float32)
    if number % 2:
        return encoded(Image.fromarray((values * 10 - 1000).astype(np.int32)), "TIFF")
    return encoded(Image.fromarray(values / 100 + number), "TIFF")


@kind("program-or-zip", reason="unsupported")
def _(number: int) -> bytes:
    if number % 2:
        return (
            b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0"
            + bytes(number * 40)
            + b"This program cannot be run in DOS mode."
        )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", jpeg(number))
    return buffer.getvalue()


class _Trap:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("pickle-was-loaded",)


@kind("pickle", reason="unsupported")
def _(number: int) -> bytes:
    return pickle.dumps(_Trap(), protocol=number % 5)


@placed("link-out")
def _(folder: Path, number: int) -> Path:
    outside = folder.parent.parent / f"outside-{number}.jpg"
    outside.write_bytes(jpeg(600 + number))
    path = folder / f"link-out-{number}.jpg"
    path.symlink_to(outside)
    return path


@placed("link-to-no-photo", reason="unsupported")
def _(folder: Path, number: int) -> Path:
    path = folder / f"link-to-no-photo-{number}.jpg"
    path.symlink_to("/etc/hostname")
    return path


@placed("pipe-or-device", reason="not-a-file")
def _(folder: Path, number: int) -> Path:
    import socket

    path = folder / f"pipe-{number}.jpg"
    if number % 2:
        here = os.getcwd()
        os.chdir(folder)  # a socket's path is short
        try:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
        finally:
            os.chdir(here)
    else:
        os.mkfifo(path)
    return path


@placed("folder-named-like-a-photo", reason="not-a-file")
def _(folder: Path, number: int) -> Path:
    path = folder / f"folder-{number}.{['jpg', 'jpeg', 'png', 'JPG', 'webp'][number % 5]}"
    path.mkdir()
    return path


@placed("link-to-nowhere", reason="unreadable")
def _(folder: Path, number: int) -> Path:
    path = folder / f"nowhere-{number}.jpg"
    path.symlink_to("gone.jpg" if number else path.name)  # the first leads to itself
    return path


@placed("over-the-byte-limit", reason="too-large")
def _(folder: Path, number: int) -> Path:
    path = folder / f"large-{number}.jpg"
    path.write_bytes(jpeg(number))
    os.truncate(path, 64_000_001 + number)  # sparse: takes no room
    return path


def heic(number: int) -> bytes:
    import pillow_heif

    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture(number)).save(buffer, quality=80)
    return buffer.getvalue()


def avif(number: int) -> bytes:
    return encoded(picture(number), "AVIF")


# Kept, with a flag -----------------------------------------------------------------------


@kind("bytes-after-the-end", flag="trailing-bytes")
def _(number: int) -> bytes:
    return (png(number) if number == 4 else jpeg(number)) + b"<?php more %d" % number


@kind("zero-tail", flag="zero-tail")
def _(number: int) -> bytes:
    data = jpeg(number)
    lost = 200 + 100 * number
    return data[:-lost] + bytes(lost)


@kind("flipped-bits", flag="corrupt-data")
def _(number: int) -> bytes:
    # An end-of-image or unknown mark in the middle of the scan: decoders go on and warn.
    data = bytearray(jpeg(number))
    at = (end_of_header(bytes(data)) + len(data)) // 2 + number
    data[at : at + 2] = b"\xff\x10"
    return bytes(data)


@kind("png-without-end", flag="no-end", suffix=".png")
def _(number: int) -> bytes:
    return png(number)[:-12]


@kind("1x1", flag="tiny", suffix=".png")
def _(number: int) -> bytes:
    return encoded(Image.new("RGB", (1, 1), (number, 50, 50)), "PNG")


@kind("65500x1", flag="narrow")
def _(number: int) -> bytes:
    line = np.random.default_rng(number).integers(0, 256, (1, 65_500 - number, 3), np.uint8)
    return encoded(Image.fromarray(line), "JPEG")


@kind("one-colour", flag="solid", suffix=".png")
def _(number: int) -> bytes:
    return encoded(Image.new("RGB", (64 + number, 64), (200, 40 * number, 10)), "PNG")


@placed("exact-duplicate", flag="duplicate")
def _(folder: Path, number: int) -> Path:
    first = folder / f"twin-{number}-a.jpg"
    second = folder / f"twin-{number}-b.jpg"
    for path in (first, second):
        path.write_bytes(jpeg(100 + number))
    return second


@placed("in-two-classes", flag="in-two-classes")
def _(folder: Path, number: int) -> Path:
    other = folder.parent / "other"
    other.mkdir(exist_ok=True)
    path = folder / f"shared-{number}.jpg"
    for place in (path, other / path.name):
        place.write_bytes(jpeg(200 + number))
    return path


@kind("motion-photo", flag="video")
def _(number: int) -> bytes:
    noise = random.Random(number).randbytes(20_000) + b"\xff\xda" * 200
    return jpeg(number) + struct.pack(">I", 24) + b"ftypmp42" + bytes(12) + noise


@kind("few-bits-of-many", flag="scaled", suffix=".tif")
def _(number: int) -> bytes:
    shares = np.asarray(picture(number).convert("L")) / 255
    forms = [(4095, np.uint16), (1023, np.uint16), (255, np.int32), (1, np.float32), (65535, np.float32)]
    most, kind = forms[number % 5]
    return encoded(Image.fromarray((shares * most).astype(kind)), "TIFF")


@kind("unusable-profile", flag="profile-ignored")
def _(number: int) -> bytes:
    return jpeg(number, icc_profile=random.Random(number).randbytes(100 * number + 1))


@kind("animated", flag="animated", suffix=".gif")
def _(number: int) -> bytes:
    frames = [picture(number + step, 40) for step in range(3)]
    form = ["GIF", "WEBP", "PNG", "TIFF", "GIF"][number % 5]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


# Kept ------------------------------------------------------------------------------------


@kind("cmyk")
def _(number: int) -> bytes:
    return encoded(picture(number).convert("CMYK"), "JPEG")


@kind("ycck")
def _(number: int) -> bytes:
    # Adobe's mark with transform 2 turns the four channels into YCCK.
    data = encoded(picture(number).convert("CMYK"), "JPEG")
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\x02" + data[at + 12 :]


@kind("grey")
def _(number: int) -> bytes:
    return encoded(picture(number).convert("L"), "JPEG")


@kind("transparent", suffix=".png")
def _(number: int) -> bytes:
    image = picture(number).convert("RGBA")
    image.putalpha(picture(number + 1).convert("L"))
    return encoded(image.convert("LA") if number % 2 else image, "PNG")


@kind("palette-transparent", suffix=".png")
def _(number: int) -> bytes:
    return encoded(picture(number).quantize(16), "GIF" if number % 2 else "PNG", transparency=number)


@kind("one-bit", suffix=".png")
def _(number: int) -> bytes:
    return encoded(picture(number).convert("1"), ["PNG", "TIFF", "BMP", "PNG", "TIFF"][number % 5])


@kind("sixteen-bit", suffix=".png")
def _(number: int) -> bytes:
    values = np.asarray(picture(number).convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(values), "TIFF" if number % 2 else "PNG")


@kind("turned")
def _(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1 + number % 8
    return encoded(picture(number).crop((0, 0, 72, 40)), "PNG" if number % 2 else "JPEG", exif=exif)


@kind("broken-exif")
def _(number: int) -> bytes:
    noise = random.Random(number).randbytes(40 + number)
    lies = [noise, b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff" + noise, b"", b"II*\0\x08\0\0\0\x01\0\x12\x01"]
    return jpeg(number, exif=b"Exif\0\0" + lies[number % 5])


@kind("heic-or-avif", suffix=".jpg")
def _(number: int) -> bytes:
    return avif(number) if number % 2 else heic(number)


@kind("gif-or-bmp-named-jpg")
def _(number: int) -> bytes:
    return encoded(picture(number), ["GIF", "BMP", "PNG", "WEBP", "TIFF"][number % 5])


@kind("mpo")
def _(number: int) -> bytes:
    return encoded(picture(number), "MPO", save_all=True, append_images=[picture(number + 1)])


@placed("odd-extension")
def _(folder: Path, number: int) -> Path:
    path = folder / ["photo", "photo.", "photo.tiff.bak", "photo.JPEG.1", "photo.xyz"][number % 5]
    path.write_bytes(jpeg(300 + number))
    return path


@placed("odd-name")
def _(folder: Path, number: int) -> Path:
    names = [
        "kedi köpek çiğ 猫.jpg",
        "new\nline\t.jpg",
        "x" * 251 + ".jpg",
        os.fsdecode(b"\xff\xfe\x80.jpg"),
        "-v .jpg",
    ]
    path = folder / names[number % 5]
    path.write_bytes(jpeg(400 + number))
    return path


@kind("jpeg-without-jfif")
def _(number: int) -> bytes:
    data = jpeg(number)
    (length,) = struct.unpack(">H", data[4:6])
    return data[:2] + data[4 + length :]


@placed("hard-link-out")
def _(folder: Path, number: int) -> Path:
    outside = folder.parent.parent / f"linked-{number}.jpg"
    outside.write_bytes(jpeg(500 + number))
    path = folder / f"hard-{number}.jpg"
    path.hardlink_to(outside)
    return path
