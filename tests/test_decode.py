"""Bytes -> pixels: what is refused with which reason, and what is kept with which pixels."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pati.data import decode
from pati.data.decode import Unreadable
from tests.support.photos import draw, jpeg


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


PICTURE = draw("circle", 1, 64)
JPEG = jpeg(PICTURE)
PNG = encoded(PICTURE, "PNG")


def huge_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"x", "unsupported"),
        (b"hello, I am a text\n" * 20, "unsupported"),
        (b"<!doctype html><html></html>", "unsupported"),
        (b"%PDF-1.7\n", "unsupported"),
        (b"PK\x03\x04" + bytes(40), "unsupported"),
        (b"\x80\x04K\x01.", "unsupported"),
        (JPEG[:4], "damaged"),
        (JPEG[: len(JPEG) // 2], "truncated"),
        (JPEG[:-2], "truncated"),
        (PNG[: len(PNG) // 2], "truncated"),
        (huge_png(100_000, 100_000), "too-large"),
        (huge_png(0, 0), "damaged"),
        (encoded(PICTURE, "ICO"), "unsupported"),
        (encoded(PICTURE, "PPM"), "unsupported"),
    ],
)
def test_refused_with_a_stable_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        decode.decode(data)
    assert caught.value.reason == reason
    assert reason in decode.REASONS


def test_jpeg_pixels_equal_pillow() -> None:
    np.testing.assert_array_equal(decode.decode(JPEG).pixels, np.asarray(Image.open(io.BytesIO(JPEG)).convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpeg_modes(mode: str) -> None:
    data = encoded(PICTURE.convert(mode), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode.decode(data).pixels, expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turn(orientation: int) -> None:
    picture = Image.fromarray(np.arange(24 * 40 * 3, dtype=np.uint32).reshape(24, 40, 3).astype(np.uint8))
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's transpositions that undo each orientation
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture.transpose(Image.Transpose(turns[orientation])) if orientation in turns else picture
    undone = {4: 2, 2: 4}  # a quarter turn is undone by the opposite quarter turn
    if orientation in (6, 8):
        stored = picture.transpose(Image.Transpose(undone[turns[orientation]]))
    for kind, tolerance in (("PNG", 0), ("JPEG", 60)):
        pixels = decode.decode(encoded(stored, kind, exif=exif)).pixels
        assert pixels.shape == (24, 40, 3)
        if kind == "PNG":
            assert np.abs(pixels.astype(int) - np.asarray(picture)).max() <= tolerance


def test_exif_turn_is_the_same_for_jpeg_and_pillow() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(PICTURE.crop((0, 0, 40, 64)), "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(decode.decode(data).pixels, decode.from_pillow(image))


def test_transparency_is_composited_on_white() -> None:
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (decode.decode(encoded(image, "PNG")).pixels == 255).all()
    palette = PICTURE.quantize(8)
    assert decode.decode(encoded(palette, "PNG", transparency=0)).pixels.shape == (64, 64, 3)
    half = Image.new("LA", (20, 20), (0, 128))
    assert abs(int(decode.decode(encoded(half, "PNG")).pixels[0, 0, 0]) - 127) <= 1


def test_sixteen_bits_are_rescaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 32 * 32).astype(np.uint16).reshape(32, 32)
    pixels = decode.decode(encoded(Image.fromarray(ramp), "PNG")).pixels
    np.testing.assert_allclose(pixels[..., 0], ramp / 257, atol=0.51)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PNG"])
def test_other_formats(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    expected = np.asarray(Image.open(io.BytesIO(encoded(PICTURE, kind, **options))).convert("RGB"))
    np.testing.assert_array_equal(decode.decode(encoded(PICTURE, kind, **options)).pixels, expected)


def test_flags() -> None:
    assert "trailing-bytes" in decode.decode(JPEG + b"more").flags
    assert "zero-tail" in decode.decode(JPEG[:-400] + bytes(400)).flags
    assert "solid" in decode.decode(encoded(Image.new("RGB", (40, 40), "red"), "PNG")).flags
    assert "tiny" in decode.decode(encoded(Image.new("RGB", (1, 1)), "PNG")).flags
    assert "narrow" in decode.decode(encoded(Image.new("RGB", (400, 20)), "PNG")).flags
    frames = [draw("circle", number, 32) for number in range(3)]
    animated = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert "animated" in decode.decode(animated).flags
    assert decode.decode(JPEG).flags == ()
    damaged = bytearray(JPEG)
    damaged[len(JPEG) // 2 : len(JPEG) // 2 + 2] = b"\xff\x10"
    assert "corrupt-data" in decode.decode(bytes(damaged)).flags


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP", "BMP", "MPO"])
def test_cut_files_of_any_format_get_a_reason(kind: str) -> None:
    frames = [draw("circle", number, 40) for number in range(3)]
    many = {} if kind == "BMP" else {"save_all": True, "append_images": frames[1:]}
    data = encoded(frames[0], kind, **many)
    reasons = set()
    for length in range(1, len(data), max(1, len(data) // 150)):
        try:
            decode.decode(data[:length])
        except Unreadable as error:
            reasons.add(error.reason)
    assert reasons
    assert reasons <= set(decode.REASONS)


def test_reading_refuses_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "long.jpg").write_bytes(bytes(2000))
    for name, reason in (("x.jpg", "not-a-file"), ("pipe.jpg", "not-a-file"), ("Thumbs.db", "system-file"),
                         ("gone.jpg", "unreadable")):  # fmt: skip
        with pytest.raises(Unreadable) as caught:
            decode.read(tmp_path / name)
        assert caught.value.reason == reason
    with pytest.raises(Unreadable, match="too-large"):
        decode.read(tmp_path / "long.jpg", decode.Limits(bytes=1000))
