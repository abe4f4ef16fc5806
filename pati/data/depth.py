"""Pixel values of more than 8 bits -> 8 bits, by the depth that the file itself has.

16 bits may hold values of 8, 10, 12 or 14 bits, and floating point values may range to 1, 255 or 65535. The range is
what the file says, or else the smallest usual one that holds all of its values. What fits none of them is refused.
"""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from pati.data import tiff
from pati.data.unreadable import Unreadable
from pati.locale.messages import N_

_USUAL = (8, 10, 12, 14, 16)  # bits
_LARGE = (24, 31, 32)  # only if they are used up
_OVERSHOOT = 1.01  # of floating point values in 0..1, from resampling
_DIMMEST = 16  # the least maximum of floating point values in 0..255
_ROWS = 1 << 22  # values looked at at a time


Values: TypeAlias = NDArray[np.uint16] | NDArray[np.int32] | NDArray[np.float32]


@dataclass(frozen=True)
class Scale:
    """From values to 0..255: `white` is the value of the brightest level, or with `inverted` of black.

    `assumed`: the range was inferred from the values. `unsigned`: Pillow holds unsigned 32-bit values as signed ones.
    """

    white: float
    assumed: bool
    inverted: bool = False
    unsigned: bool = False

    def __call__(self, values: Values) -> NDArray[np.uint8]:
        """Values of any type -> `uint8` of the same shape; NaN becomes black."""
        whole = values.view(np.uint32) if self.unsigned else values
        numbers = np.nan_to_num(whole.astype(np.float64 if self.white > 2**24 else np.float32), posinf=self.white)
        shares = numbers.clip(0, self.white) * (255 / self.white)
        levels: NDArray[np.uint8] = np.rint(shares).astype(np.uint8)
        return 255 - levels if self.inverted else levels


def is_deep(image: Image.Image) -> bool:
    """Whether a picture has one channel of more than 8 bits."""
    return image.mode.startswith("I") or image.mode == "F"


def scale_of(image: Image.Image) -> Scale:
    """How the values of a loaded picture with one deep channel are to be scaled; raises `Unreadable`."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    inverted = tags.get(tiff.PHOTOMETRIC) == 0
    whole = image.mode != "F"
    bits = _number(tags.get(tiff.BITS_PER_SAMPLE))
    sample_format = _number(tags.get(tiff.SAMPLE_FORMAT)) or 1
    unsigned = image.mode == "I" and bits == 32 and sample_format == 1
    low, high = _range(image, unsigned)
    told = max(_number(tags.get(tiff.MAX_SAMPLE_VALUE)), _number(tags.get(tiff.SMAX_SAMPLE_VALUE)))
    if low < 0:
        raise _unclear(low, high)
    if bits in (10, 12, 14) and high < 2**bits:
        return Scale(2**bits - 1, False, inverted)
    if told and high <= told and (whole or told in (1, 255, 65535)):
        white = told if not whole else _white_of(told, sample_format == 2)
        if white is not None:
            return Scale(white, white not in (255, 65535), inverted, unsigned)
    if whole:
        white = _white_of(int(high), sample_format == 2)
    elif high <= _OVERSHOOT:
        white = 1.0
    elif high < _DIMMEST:
        white = None
    else:
        white = _white_of(int(np.ceil(high)), False)
        white = None if white is not None and white > 65535 else white
    if white is None:
        raise _unclear(low, high)
    return Scale(white, not (white == 65535 and whole), inverted, unsigned)


def _white_of(most: float, signed: bool) -> float | None:
    """The largest value of the smallest usual depth that holds `most`."""
    needed = int(most).bit_length()
    if signed and needed == 15:
        return 2.0**15 - 1
    if needed <= _USUAL[-1]:
        return 2.0 ** next(bits for bits in _USUAL if needed <= bits) - 1
    return 2.0**needed - 1 if needed in _LARGE else None


def _range(image: Image.Image, unsigned: bool) -> tuple[float, float]:
    """The least and the largest finite value."""
    width, height = image.size
    rows = max(1, _ROWS // width)
    low, high = np.inf, -np.inf
    for top in range(0, height, rows):
        values = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        values = values.view(np.uint32) if unsigned else values
        finite = values[np.isfinite(values)] if image.mode == "F" else values
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _unclear(low: float, high: float) -> Unreadable:
    detail = N_(
        "its values range from {low:.6g} to {high:.6g}, so that black and white are not known; save it with 8 bits",
        low=low,
        high=high,
    )
    return Unreadable("unsupported", detail)


def _number(value: object) -> float:
    """A tag's first value as a number; 0 if it has none."""
    first = value[0] if isinstance(value, tuple) and value else value
    return float(first) if isinstance(first, int | float) else 0.0


# Colours with 16 bits per channel, of which Pillow keeps the upper 8 -----------------------------------


def dim_colours(image: Image.Image) -> Image.Image | None:
    """A colour picture with 16 bits per channel, rescaled, if its values use fewer; None for all others.

    `image` must not have been loaded; it is loaded where this returns None for a picture with 16 bits per channel.
    Raises `Unreadable` where the values can't be read.
    """
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None or image.mode not in ("RGB", "RGBA", "LA"):
        return None
    if not any(";16" in _raw_mode(tile.args) for tile in image.tile):
        return None
    at = image.fp.tell()
    image.fp.seek(0)
    data = image.fp.read()
    image.fp.seek(at)
    image.load()
    colours = 1 if image.mode == "LA" else 3
    if any(sum(channel.histogram()[64:]) for channel in image.split()[:colours]):
        return None
    other = Image.open(io.BytesIO(data), formats=[image.format or ""])
    assert isinstance(other, ImageFile.ImageFile)
    correct(other)
    unclear = Unreadable("unsupported", N_("16 bits per channel, of which few are used; save it with 8 bits"))
    if _is_planar(image) and other.tile[0].codec_name == "libtiff":
        raise unclear  # Pillow reads the upper bytes of such planes whatever is asked for
    native = "L" if sys.byteorder == "little" else "B"
    for number, tile in enumerate(other.tile):
        mode = _raw_mode(tile.args)
        swapped = mode[:-1] + ("B" if mode[-1:].replace("N", native) == "L" else "L")
        other.tile[number] = tile._replace(args=_with_raw_mode(tile.args, swapped))
    try:
        other.load()
    except ValueError:  # Pillow has no such order of bytes for this mode
        raise unclear from None
    upper = np.asarray(image)
    values = upper.astype(np.uint16) * 256 + np.asarray(other)
    white = _white_of(float(values[..., :colours].max()), False)
    assert white is not None  # 16 bits at most
    levels = Scale(white, True)(values)
    levels[..., colours:] = upper[..., colours:]
    return Image.fromarray(levels, image.mode)


def correct(image: Image.Image) -> None:
    """Correct or refuse what Pillow would misread of an unloaded TIFF: 16-bit planes, and signed bytes.

    Raises `Unreadable`.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    bits = _number(image.tag_v2.get(tiff.BITS_PER_SAMPLE))
    if bits == 8 and _number(image.tag_v2.get(tiff.SAMPLE_FORMAT)) == 2:
        raise Unreadable("unsupported", N_("a TIFF with signed values of 8 bits; save it with unsigned ones"))
    if (
        bits == 16
        and _is_planar(image)
        and image.mode in ("RGB", "RGBA")
        and image.tag_v2.get(tiff.COMPRESSION, 1) == 1
    ):
        order = "L" if image.tag_v2.prefix == b"II" else "B"
        tiles = [(tile, _raw_mode(tile.args)) for tile in image.tile]
        image.tile = [
            tile._replace(args=_with_raw_mode(tile.args, f"{letter};16{order}"))
            for tile, letter in tiles
            if letter in ("R", "G", "B", "A")
        ]


def _is_planar(image: Image.Image) -> bool:
    return isinstance(image, TiffImagePlugin.TiffImageFile) and image.tag_v2.get(tiff.PLANAR) == 2


# Pillow's arguments for a part of a picture are, or begin with, its raw mode: how the values lie in the file.


def _raw_mode(arguments: object) -> str:
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _with_raw_mode(arguments: object, mode: str) -> tuple[object, ...] | str:
    return (mode, *arguments[1:]) if isinstance(arguments, tuple) else mode
