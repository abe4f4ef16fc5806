"""Values of more than 8 bits: scaled by the file's own depth and flagged, or refused."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from pati.data import decode
from tests.support.bad_files import png_chunk
from tests.support.photos import draw

tifffile = pytest.importorskip("tifffile")

COLOURS = np.asarray(draw("circle", 1, 64).crop((0, 8, 64, 56))).astype(float) / 255
COLOURS[5, 5], COLOURS[6, 6] = 1, 0
GREY = COLOURS[..., 1]


def tiff(values: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def png(values: np.ndarray) -> bytes:
    """16 bits per channel."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


def shows(data: bytes, shares: np.ndarray, *, flag: bool, tolerance: int = 0) -> None:
    found = decode.decode(data)
    wanted = np.rint(shares * 255)
    wanted = wanted if wanted.ndim == 3 else np.repeat(wanted[..., None], 3, 2)
    assert np.abs(found.pixels - wanted).max() <= tolerance
    assert ("scaled" in found.flags) == flag
    with contextlib.suppress(UnidentifiedImageError):  # Pillow itself does not open all of them
        np.testing.assert_array_equal(decode.from_pillow(Image.open(io.BytesIO(data))), found.pixels)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_sixteen_bits_are_scaled_by_the_bits_that_are_used(bits: int) -> None:
    most, flag = 2**bits - 1, bits < 16
    grey, colours = (np.rint(values * most).astype(np.uint16) for values in (GREY, COLOURS))
    planes = np.moveaxis(colours, 2, 0)
    for order in "<>":
        shows(tiff(grey, photometric="minisblack", byteorder=order), GREY, flag=flag)
        shows(tiff(most - grey, photometric="miniswhite", byteorder=order), GREY, flag=flag)
        shows(tiff(colours, photometric="rgb", byteorder=order), COLOURS, flag=flag)
        shows(tiff(planes, photometric="rgb", planarconfig="separate", byteorder=order), COLOURS, flag=flag)
    shows(tiff(colours, photometric="rgb", compression="zlib", predictor=True), COLOURS, flag=flag)
    shows(tiff(planes, photometric="rgb", planarconfig="separate", tile=(32, 32)), COLOURS, flag=flag)
    shows(png(grey[..., None]), GREY, flag=flag)
    shows(png(colours), COLOURS, flag=flag)
    shows(png(np.concatenate([colours, np.full_like(colours[..., :1], 65535)], 2)), COLOURS, flag=flag)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ((GREY * 255).round().astype(np.int32), True),
        ((GREY * 65535).round().astype(np.int32), False),
        ((GREY * (2**31 - 1)).astype(np.int32), True),
        ((GREY * (2**32 - 1)).astype(np.uint32), True),
        ((GREY * 4095).round().astype(np.int16), True),
        ((GREY * 32767).round().astype(np.int16), True),
        (GREY.astype(np.float32), True),
        ((GREY * 255).astype(np.float32), True),
        ((GREY * 4095).astype(np.float32), True),
        ((GREY * 65535).astype(np.float32), True),
        (np.where(GREY == 1, np.inf, GREY).astype(np.float32), True),
    ],
)
def test_integers_and_fractions_of_usual_ranges(values: np.ndarray, flag: bool) -> None:
    for order in "<" if values.dtype == np.uint32 else "<>":  # Pillow does not know it the other way round
        shows(tiff(values, photometric="minisblack", byteorder=order), GREY, flag=flag)
        if np.isfinite(values).all():
            shows(tiff(values.max() - values, photometric="miniswhite", byteorder=order), GREY, flag=flag, tolerance=1)


def test_the_files_own_word_counts_more_than_its_values() -> None:
    dark = np.rint(GREY * 900).astype(np.uint16)
    for told, flag in ((4095, True), (65535, False)):
        data = tiff(dark, photometric="minisblack", extratags=[(281, "H", 1, told, True)])
        shows(data, GREY * 900 / told, flag=flag, tolerance=1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff((GREY * 3000 - 1000).astype(np.int16), photometric="minisblack"), "from -1000 to 2000"),
        (tiff((GREY * 2 - 1).astype(np.float32), photometric="minisblack"), "from -1 to 1"),
        (tiff((GREY * 3).astype(np.float32), photometric="minisblack"), "from 0 to 3"),
        (tiff((GREY * 70_000).astype(np.uint32), photometric="minisblack"), "from 0 to 70000"),
        (tiff((GREY * 127).astype(np.int8), photometric="minisblack"), "signed"),
        (tiff(GREY, photometric="minisblack"), "1 band of 64 bits"),
        (tiff(COLOURS.astype(np.float32), photometric="rgb"), "3 bands of 32 bits"),
        (tiff(np.zeros((13, 40, 50), np.uint16), photometric="minisblack", planarconfig="separate"), "13 bands of 16"),
        (png(np.full((9, 9, 2), 4000)), "few are used"),
        (tiff(np.zeros((9, 9, 3), np.uint8), photometric="rgb", extratags=[(0xC612, "B", 4, (1, 4, 0, 0))]), "RAW"),
        (tiff(np.zeros((9, 9), np.uint16), photometric="cfa"), "RAW"),
        (
            tiff(np.full((3, 9, 9), 4000, np.uint16), photometric="rgb", planarconfig="separate", compression="zlib"),
            "few are used",
        ),
    ],
)
def test_what_cannot_be_told_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(decode.Unreadable, match=words) as caught:
        decode.decode(data)
    assert caught.value.reason == "unsupported"
