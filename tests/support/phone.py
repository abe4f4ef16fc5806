"""Photos as phones and cameras write them, with the sRGB pixels that they show, computed apart from pati."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pillow_heif
from numpy.typing import NDArray
from PIL import Image

from pati.data import colour
from pati.data.heif import CodePoints
from tests.support.photos import draw

P3 = colour.profile_of_codes(CodePoints(12, 13))
ADOBE_RGB = colour.profile_of(colour.ADOBE_RGB, 563 / 256)
# From Apple's and Adobe's primaries (both D65) to sRGB's, in linear light.
P3_TO_SRGB = [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]]
ADOBE_TO_SRGB = [[1.398356, -0.398356, 0.0], [0.0, 1.0, 0.0], [0.0, -0.042929, 1.042929]]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" %s</rdf:RDF></x:xmpmeta>'
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Photo:
    """A file, the pixels that it shows (`tolerance`: levels that they may differ by), and the flags that it gets."""

    data: bytes
    shown: Pixels
    suffix: str
    flags: tuple[str, ...] = ()
    tolerance: int = 1


def picture(number: int = 1) -> Image.Image:
    """A drawn picture with strong colours and some noise, wider than high.

    Without the noise, large areas of a single colour would all be rounded the same way.
    """
    flat = np.asarray(draw("circle", number, 96).crop((0, 8, 96, 80))).astype(int)
    noise = np.random.default_rng(number).integers(-12, 13, flat.shape)
    return Image.fromarray((flat + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=90, **options)
    return buffer.getvalue()


def stored(data: bytes) -> Pixels:
    """RGB as it is stored: neither turned nor converted (HEIC: turned)."""
    if data[4:8] == b"ftyp" and b"avif" not in data[:40]:
        return np.asarray(pillow_heif.open_heif(data).to_pillow().convert("RGB"))
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def srgb_light(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def srgb_levels(light: NDArray[np.float64]) -> Pixels:
    light = light.clip(0, 1)
    levels = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(255 * levels).astype(np.uint8)


def from_p3(pixels: Pixels) -> Pixels:
    return srgb_levels(srgb_light(pixels / 255) @ np.array(P3_TO_SRGB).T)


def from_adobe(pixels: Pixels) -> Pixels:
    return srgb_levels((pixels / 255) ** (563 / 256) @ np.array(ADOBE_TO_SRGB).T)


def oriented(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def grey_profile(gamma: float) -> bytes:
    """ICC data of a grey space."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    at = 128 + 4 + 24
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", at, 20, b"kTRC", at + 20, len(curve))
    size = at + 20 + len(curve)
    head = struct.pack(">I4sI4s4s4s12x4s", size, b"", 0x02400000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    return (head + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)).ljust(128, b"\0") + tags + white + curve


def png_with(data: bytes, name: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    from tests.support.bad_files import png_chunk

    return data[:33] + png_chunk(name, content) + data[33:]


def video(number: int, size: int = 200_000) -> bytes:
    """An MP4's first box, then noise for its compressed pictures, full of what looks like JPEG markers."""
    noise = bytearray(random.Random(number).randbytes(size))
    noise[1000 : 1000 + 4 * 500] = b"\xff\xda\xff\xc2" * 500
    return struct.pack(">I", 24) + b"ftypmp42" + bytes(12) + bytes(noise)


def multi_picture(first: bytes, second: bytes) -> bytes:
    """A JPEG with a gain map behind it, listed in an MPF segment as Ultra HDR and MPO files do."""
    ifd = b"II*\0\x08\0\0\0\x03\0"
    ifd += struct.pack("<HHI4s", 0xB000, 7, 4, b"0100") + struct.pack("<HHII", 0xB001, 4, 1, 2)
    ifd += struct.pack("<HHII", 0xB002, 7, 32, 8 + 2 + 36 + 4) + bytes(4)
    length = 2 + 4 + len(ifd) + 32
    size = len(first) + 2 + length
    entries = struct.pack("<IIIHH", 0x030000, size, 0, 0, 0) + struct.pack("<IIIHH", 0, len(second), size - 10, 0, 0)
    return first[:2] + b"\xff\xe2" + struct.pack(">H", length) + b"MPF\0" + ifd + entries + first[2:] + second


def _heic() -> Photo:
    data = heic(picture())
    return Photo(data, stored(data), ".heic")


def _heic_turned() -> Photo:
    data = heic(picture(), exif=oriented(6).tobytes())
    return Photo(data, stored(data), ".heic")


def _heic_p3() -> Photo:
    data = heic(picture(2), icc_profile=P3)
    return Photo(data, from_p3(stored(data)), ".HEIC")


def _heic_p3_by_numbers() -> Photo:
    data = heic(picture(2), color_primaries=12, transfer_characteristic=13, matrix_coefficients=6, full_range_flag=1)
    at = data.index(b"colrnclx") + 8
    data = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
    return Photo(data, from_p3(stored(data)), ".heic")


def _heic_sequence() -> Photo:
    opened = pillow_heif.from_pillow(picture())
    opened.add_from_pillow(picture(2))
    buffer = io.BytesIO()
    opened.save(buffer, quality=90)
    return Photo(buffer.getvalue(), stored(buffer.getvalue()), ".heic", ("animated",))


def _heic_named_jpg() -> Photo:
    data = heic(picture(3))
    return Photo(data, stored(data), ".jpg")


def _heic_grey() -> Photo:
    data = heic(picture(3).convert("L"))
    return Photo(data, stored(data), ".heif")


def _heic_transparent() -> Photo:
    image = picture(4).convert("RGBA")
    image.putalpha(picture(5).convert("L"))
    data = heic(image)
    layers = np.asarray(pillow_heif.open_heif(data).to_pillow()).astype(float)
    share = layers[..., 3:] / 255
    return Photo(data, np.rint(layers[..., :3] * share + 255 * (1 - share)).astype(np.uint8), ".heic")


def _avif() -> Photo:
    data = encoded(picture(), "AVIF", quality=90)
    return Photo(data, stored(data), ".avif")


def _avif_turned() -> Photo:
    data = encoded(picture(), "AVIF", quality=90, exif=oriented(6))
    return Photo(data, np.rot90(stored(data), -1), ".avif")


def _avif_p3() -> Photo:
    data = encoded(picture(2), "AVIF", quality=90, icc_profile=P3)
    return Photo(data, from_p3(stored(data)), ".avif")


def _avif_p3_by_numbers() -> Photo:
    data = encoded(picture(2), "AVIF", quality=90)
    at = data.index(b"colrnclx") + 8
    data = data[:at] + struct.pack(">HH", 12, 13) + data[at + 4 :]
    return Photo(data, from_p3(stored(data)), ".avif")


def _avif_sequence() -> Photo:
    data = encoded(picture(), "AVIF", quality=90, save_all=True, append_images=[picture(2)])
    return Photo(data, stored(data), ".avif", ("animated",))


def _avif_of_general_brand() -> Photo:
    data = encoded(picture(), "AVIF", quality=90)
    return Photo(data[:8] + b"miaf" + data[12:], stored(data), ".avif")


def _avif_not_turned_by_xmp() -> Photo:
    data = encoded(picture(), "AVIF", quality=90, xmp=XMP % b'tiff:Orientation="6"/>')
    return Photo(data, stored(data), ".avif")


def _p3() -> Photo:
    data = encoded(picture(), "JPEG", quality=95, icc_profile=P3)
    return Photo(data, from_p3(stored(data)), ".jpg")


def _p3_turned() -> Photo:
    data = encoded(picture(), "JPEG", quality=95, icc_profile=P3, exif=oriented(8))
    return Photo(data, np.rot90(from_p3(stored(data)), 1), ".jpg")


def _adobe_rgb() -> Photo:
    data = encoded(picture(), "JPEG", quality=95, icc_profile=ADOBE_RGB)
    return Photo(data, from_adobe(stored(data)), ".jpg")


def _adobe_rgb_by_exif() -> Photo:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA005] = {1: "R03"}
    data = encoded(picture(), "JPEG", quality=95, exif=exif)
    return Photo(data, from_adobe(stored(data)), ".jpg")


def _srgb_profile() -> Photo:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(picture(), "JPEG", quality=95, icc_profile=profile)
    return Photo(data, stored(data), ".jpg", tolerance=0)


def _grey_profile() -> Photo:
    data = encoded(picture().convert("L"), "JPEG", quality=95, icc_profile=grey_profile(461 / 256))
    return Photo(data, srgb_levels((stored(data) / 255) ** (461 / 256)), ".jpg")


def _broken_profile() -> Photo:
    data = encoded(picture(), "JPEG", quality=95, icc_profile=P3[:200] + random.Random(1).randbytes(500))
    return Photo(data, stored(data), ".jpg", ("profile-ignored",), tolerance=0)


def _profile_of_another_kind() -> Photo:
    data = encoded(picture(), "JPEG", quality=95, icc_profile=grey_profile(461 / 256))
    return Photo(data, stored(data), ".jpg", ("profile-ignored",), tolerance=0)


def _png_p3() -> Photo:
    data = encoded(picture(), "PNG", icc_profile=P3)
    return Photo(data, from_p3(stored(data)), ".png")


def _png_p3_palette() -> Photo:
    data = encoded(picture().quantize(64), "PNG", icc_profile=P3)
    return Photo(data, from_p3(stored(data)), ".png")


def _png_p3_by_numbers() -> Photo:
    data = png_with(encoded(picture(), "PNG"), b"cICP", bytes([12, 13, 0, 1]))
    return Photo(data, from_p3(stored(data)), ".png")


def _png_gamma() -> Photo:
    data = png_with(encoded(picture(), "PNG"), b"gAMA", struct.pack(">I", 100_000))
    return Photo(data, srgb_levels(stored(data) / 255), ".png")


def _png_usual_gamma() -> Photo:
    data = png_with(encoded(picture(), "PNG"), b"gAMA", struct.pack(">I", 45_455))
    return Photo(data, stored(data), ".png", tolerance=0)


def _webp_p3() -> Photo:
    data = encoded(picture(), "WEBP", lossless=True, icc_profile=P3)
    return Photo(data, from_p3(stored(data)), ".webp")


def _tiff_adobe_rgb() -> Photo:
    data = encoded(picture(), "TIFF", icc_profile=ADOBE_RGB)
    return Photo(data, from_adobe(stored(data)), ".tif")


def _ultra_hdr() -> Photo:
    first = encoded(picture(), "JPEG", quality=95, icc_profile=P3, exif=oriented(6))
    data = multi_picture(first, encoded(picture().resize((24, 18)).convert("L"), "JPEG"))
    return Photo(data, np.rot90(from_p3(stored(data)), -1), ".jpg")


def _motion_photo() -> Photo:
    data = encoded(picture(), "JPEG", quality=95, exif=oriented(6)) + video(1)
    return Photo(data, np.rot90(stored(data), -1), ".jpg", ("video",))


def _motion_ultra_hdr() -> Photo:
    first = encoded(picture(), "JPEG", quality=95, icc_profile=P3)
    data = multi_picture(first, encoded(picture().resize((24, 18)).convert("L"), "JPEG")) + video(2)
    return Photo(data, from_p3(stored(data)), ".jpg", ("video",))


def _motion_heic() -> Photo:
    data = heic(picture())
    return Photo(data + struct.pack(">I4s", 8 + 200_024, b"mpvd") + video(3), stored(data), ".heic")


def _turned_by(form: str, suffix: str, tail: bytes, **options: object) -> Callable[[], Photo]:
    def make() -> Photo:
        data = encoded(picture(), form, xmp=XMP % tail, **options)
        return Photo(
            data, np.rot90(np.asarray(Image.open(io.BytesIO(encoded(picture(), form, **options)))), -1), suffix
        )

    return make


def _exif_late() -> Photo:
    data = encoded(picture(), "JPEG", exif=oriented(6))
    comments = b"".join(b"\xff\xfe" + struct.pack(">H", 65_000) + b" " * 64_998 for _ in range(3))
    return Photo(data[:2] + comments + data[2:], np.rot90(stored(data), -1), ".jpg", tolerance=0)


PHOTOS: dict[str, Callable[[], Photo]] = {
    "heic": _heic,
    "heic-turned": _heic_turned,
    "heic-p3": _heic_p3,
    "heic-p3-by-numbers": _heic_p3_by_numbers,
    "heic-sequence": _heic_sequence,
    "heic-named-jpg": _heic_named_jpg,
    "heic-grey": _heic_grey,
    "heic-transparent": _heic_transparent,
    "avif": _avif,
    "avif-turned": _avif_turned,
    "avif-p3": _avif_p3,
    "avif-p3-by-numbers": _avif_p3_by_numbers,
    "avif-sequence": _avif_sequence,
    "avif-of-general-brand": _avif_of_general_brand,
    "p3": _p3,
    "p3-turned": _p3_turned,
    "adobe-rgb": _adobe_rgb,
    "adobe-rgb-by-exif": _adobe_rgb_by_exif,
    "srgb-profile": _srgb_profile,
    "grey-profile": _grey_profile,
    "broken-profile": _broken_profile,
    "profile-of-another-kind": _profile_of_another_kind,
    "png-p3": _png_p3,
    "png-p3-palette": _png_p3_palette,
    "png-p3-by-numbers": _png_p3_by_numbers,
    "png-gamma": _png_gamma,
    "png-usual-gamma": _png_usual_gamma,
    "webp-p3": _webp_p3,
    "tiff-adobe-rgb": _tiff_adobe_rgb,
    "ultra-hdr": _ultra_hdr,
    "motion-photo": _motion_photo,
    "motion-ultra-hdr": _motion_ultra_hdr,
    "motion-heic": _motion_heic,
    "xmp-jpeg": _turned_by("JPEG", ".jpg", b'tiff:Orientation="6"/>'),
    "xmp-jpeg-quote": _turned_by("JPEG", ".jpg", b"tiff:Orientation='6'/>"),
    "xmp-jpeg-element": _turned_by(
        "JPEG", ".jpg", b"><tiff:Orientation>6</tiff:Orientation></rdf:Description>", quality=95
    ),
    "xmp-webp": _turned_by("WEBP", ".webp", b'tiff:Orientation="6"/>', lossless=True),
    "xmp-avif": _avif_not_turned_by_xmp,
    "exif-late": _exif_late,
}
