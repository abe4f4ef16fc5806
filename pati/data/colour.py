"""Colour profiles: pixels of any RGB, grey or CMYK profile -> sRGB.

Profiles are ICC data. HEIC, AVIF and PNG may name their colours by numbers instead, and cameras by a mark in EXIF:
`profile_of` makes ICC data from primaries and a transfer curve. Knows nothing of files.
"""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pati.data.heif import CodePoints

if TYPE_CHECKING:
    from PIL import ImageCms

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue."""

_D65 = (0.3127, 0.3290)
SRGB: Chromaticities = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE_RGB: Chromaticities = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_PRIMARIES: dict[int, Chromaticities] = {  # by the numbers of ITU-T H.273
    1: SRGB,
    2: SRGB,  # unspecified
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_LIKE_SRGB = (1, 2, 6, 13, 14, 15)  # curves of television are shown as sRGB, as browsers do
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
_PQ, _HLG = 16, 18
_WHITE = 203.0  # cd/m² of white paper in HDR pictures (ITU-R BT.2408); what is brighter is shown as white
_STEPS = 4096
_NEAR = 1  # levels of 255 by which a profile may differ from sRGB and still count as it


class UnusableProfile(ValueError):
    """A profile that is broken, doesn't fit the picture, or uses codes of unknown meaning."""


@dataclass(frozen=True)
class Transform:
    """Converts pictures of one mode (RGB, L or CMYK) to sRGB."""

    mode: str
    _transform: ImageCms.ImageCmsTransform

    def __call__(self, image: Image.Image) -> Image.Image:
        """A picture in mode RGB."""
        from PIL import ImageCms

        if image.mode != self.mode:
            image = image.convert(self.mode)
        converted = ImageCms.applyTransform(image, self._transform)
        assert converted is not None  # it is None for conversions in place
        return converted


@functools.lru_cache(maxsize=32)
def transform(profile: bytes, mode: str) -> Transform | None:
    """The conversion to sRGB of pictures in a Pillow mode; None where there is nothing to do.

    Raises `UnusableProfile`.
    """
    from PIL import ImageCms  # only here: it would slow down the start of every worker

    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = opened.profile.xcolor_space.strip()
        takes = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
        fits = {"RGB": mode not in ("CMYK", "LAB"), "GRAY": mode in ("1", "L", "LA", "La"), "CMYK": mode == "CMYK"}
        if takes is None or not fits[space]:
            raise UnusableProfile(space)
        result = Transform(takes, ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), takes, "RGB"))
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError) as error:
        raise UnusableProfile(str(error)) from None
    return None if takes != "CMYK" and _changes_nothing(result) else result


def _changes_nothing(result: Transform) -> bool:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
    if result.mode == "L":
        grid = np.repeat(levels.reshape(1, -1, 1), 3, 2)
    probe = Image.fromarray(grid if result.mode == "RGB" else np.ascontiguousarray(grid[..., 0]))
    return bool(np.abs(np.asarray(result(probe)).astype(int) - grid).max() <= _NEAR)


@functools.lru_cache(maxsize=32)
def profile_of(primaries: Chromaticities, gamma: float | None = None, code: int = 13) -> bytes:
    """ICC data of an RGB space; its curve is a `gamma`, or that of a transfer `code` of H.273.

    Raises `UnusableProfile`.
    """
    tags = {name: b"XYZ \0\0\0\0" + _fixed(*column) for name, column in
            zip((b"rXYZ", b"gXYZ", b"bXYZ"), _to_d50(primaries).T, strict=True)}  # fmt: skip
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + _fixed(*_D50)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma, code))
    head, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        head += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(">I4sI4s4s4s12x4s", start + len(body), b"", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header += bytes(28) + _fixed(*_D50)
    return header.ljust(128, b"\0") + head + body


def profile_of_codes(codes: CodePoints) -> bytes:
    """ICC data of the primaries and the curve that numbers of H.273 name; empty for sRGB.

    Raises `UnusableProfile` for numbers of unknown meaning.
    """
    if codes.primaries in (1, 2) and codes.transfer in _LIKE_SRGB:
        return b""
    if codes.primaries not in _PRIMARIES:
        raise UnusableProfile(f"primaries {codes.primaries}")
    return profile_of(_PRIMARIES[codes.primaries], code=codes.transfer)


def is_hdr(codes: CodePoints) -> bool:
    """Whether these numbers of H.273 are of a picture with lights brighter than white."""
    return codes.transfer in (_PQ, _HLG)


def _curve(gamma: float | None, code: int) -> bytes:
    """The content of an ICC tag: from values to linear light, both in 0..1."""
    gamma = gamma or _GAMMAS.get(code)
    if gamma:
        return b"para" + bytes(8) + _fixed(gamma)
    if code in _LIKE_SRGB:
        return b"para" + bytes(4) + b"\0\3\0\0" + _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    values = np.linspace(0, 1, _STEPS)
    if code == _PQ:  # SMPTE ST 2084
        root = values ** (1 / 78.84375)
        light = 10_000 * (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
    elif code == _HLG:  # ITU-R BT.2100, on a screen of 1,000 cd/m²
        scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - 0.55991073) / 0.17883277) + 0.28466892) / 12)
        light = 1000 * scene**1.2
    else:
        raise UnusableProfile(f"transfer characteristics {code}")
    levels = np.rint(np.minimum(light / _WHITE, 1) * 65535).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", _STEPS) + bytes(levels.tobytes())


_D50 = (0.9642, 1.0, 0.8249)
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def _to_d50(primaries: Chromaticities) -> NDArray[np.float64]:
    """The matrix `(3, 3)` from linear RGB to XYZ, adapted to D50 as ICC profiles are."""
    x, y = np.array(primaries[::2]), np.array(primaries[1::2])
    if (y <= 0).any():
        raise UnusableProfile(f"chromaticities {primaries}")
    xyz = np.stack([x / y, np.ones(4), (1 - x - y) / y])  # columns: white, red, green, blue
    try:
        matrix = xyz[:, 1:] * np.linalg.solve(xyz[:, 1:], xyz[:, 0])
        cones = (_BRADFORD @ np.array(_D50)) / (_BRADFORD @ xyz[:, 0])
        adapted: NDArray[np.float64] = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD @ matrix
    except np.linalg.LinAlgError:
        raise UnusableProfile(f"chromaticities {primaries}") from None
    if not np.isfinite(adapted).all() or np.abs(adapted).max() > 100:
        raise UnusableProfile(f"chromaticities {primaries}")
    return adapted


def _fixed(*values: float) -> bytes:
    """Numbers as ICC's s15Fixed16."""
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))
