"""Made-up photo files, to compare an exported model with its source on. Needs no torch."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pati.data import colour

_KINDS = (
    "RGB PNG", "RGB JPEG", "turned", "profile", "transparent", "P PNG", "L PNG", "16 bits", "CMYK JPEG", "L JPEG",
    "LA PNG",
)  # fmt: skip
_SIZES = ((64, 64), (37, 91), (300, 200), (11, 8), (160, 500))  # height, width


def made_pictures(count: int) -> list[bytes]:
    """Photo files of many sizes, contents and kinds, the same every time.

    Plain, patterned and noisy pictures, and some with the spectrum of photos, which a detector finds less unusual. Each
    property of a file that changes pixels is among them: orientation, profile, transparency, palette, grey, depth.
    """
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        height, width = _SIZES[number % len(_SIZES)]
        if number % 3 == 2:
            pixels = _natural(generator, height, width)
        else:
            coarse = 2 ** generator.integers(0, 6)
            pixels = generator.integers(0, 256, (-(-height // coarse), -(-width // coarse), 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC if number % 2 else 0)
        if number % 12 == 0:
            picture.paste(tuple(map(int, generator.integers(0, 256, 3))), (0, 0, width, height))
        pictures.append(_file(picture, _KINDS[number % len(_KINDS)], number))
    return pictures


def _natural(generator: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Noise `(H, W, 3)` whose amplitude falls with frequency as in photos (Field, 1987), with little colour."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = 1 / max(height, width)
    noise = 0.9 * generator.normal(size=(height, width, 1)) + 0.1 * generator.normal(size=(height, width, 3))
    smooth = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) / frequency[..., None] ** 1.7, axes=(0, 1)).real
    contrast, mean = generator.uniform(50, 120), generator.normal(128, 25)
    values = mean + contrast * (smooth - smooth.mean()) / smooth.std()
    pixels: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return pixels


def _file(picture: Image.Image, kind: str, number: int) -> bytes:
    """The picture as a file of one of the `_KINDS`."""
    file, exif = io.BytesIO(), Image.Exif()
    if kind == "turned":
        exif[ExifTags.Base.Orientation] = 2 + number % 7
        picture.save(file, "JPEG", exif=exif)
    elif kind == "profile":
        picture.save(file, "JPEG", icc_profile=colour.profile_of(colour.ADOBE_RGB, 563 / 256))
    elif kind == "transparent":
        picture.putalpha(picture.getchannel("G"))
        picture.save(file, "PNG")
    elif kind == "16 bits":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(file, "PNG")
    else:
        mode, _, format_ = kind.partition(" ")
        picture.convert(mode).save(file, format_)
    return file.getvalue()
