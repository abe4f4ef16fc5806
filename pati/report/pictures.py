"""Pictures of photos and their saliency maps, with Pillow: needs no matplotlib, so that it is there wherever photos are
answered."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pati.explain.palette import OPACITY, palette
from pati.inference.predictor import Explanation
from pati.locale import formats
from pati.locale.formats import printable
from pati.locale.messages import N_

BLUE = "#0072b2"  # Okabe and Ito's colour-blind-safe one

_FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"  # Pillow's own one lacks the letters of most languages
_INK = "#222222"
# Pixels of `explanation_page`.
_MARGIN, _GAP, _PANEL = 20, 32, (360, 340)
_SCALE, _SMALLEST_SCALE = 12, 110  # width, and least height, of the scale of the map's colours
_NAMES, _BAR, _ROW = 190, 180, 28  # longest name, longest bar, and height of a class


def stretched(explanation: Explanation) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The map over the photo, `float32 (H, W)` in 0..1, and where it lies, `bool (H, W)`: of a cropped photo the net
    has not seen the rest."""
    y, x, within = _places(explanation)
    return _between(_between(explanation.map, y - 0.5).T, x - 0.5).T, within


def _places(explanation: Explanation) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Where the middles of the photo's pixels lie in the map: rows `(H,)`, columns `(W,)`; and whether they do."""
    height, width = explanation.photo.shape[:2]
    rows, columns = explanation.map.shape
    left, top, right, bottom = explanation.covered
    y = ((np.arange(height) + 0.5) / height - top) / (bottom - top) * rows
    x = ((np.arange(width) + 0.5) / width - left) / (right - left) * columns
    return y, x, ((y > 0) & (y < rows))[:, None] & ((x > 0) & (x < columns))


def _between(rows: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows `(h, w)` at these places, linearly between the two nearest ones, `(len(at), w)`."""
    at = np.clip(at, 0, len(rows) - 1)
    below = np.minimum(at.astype(int), max(0, len(rows) - 2))
    share = (at - below)[:, None].astype(np.float32)
    above = np.minimum(below + 1, len(rows) - 1)
    return np.asarray(rows[below] * (1 - share) + rows[above] * share)


def blended(explanation: Explanation, opacity: float = OPACITY) -> NDArray[np.uint8]:
    """Photo with the map laid over it, `uint8 (H, W, 3)`; what the net has not seen is grey.

    The map is as opaque as it is high, up to `opacity`: where it is zero, the photo is seen as it is.
    """
    values, within = stretched(explanation)
    grey = explanation.photo.mean(2, keepdims=True) / 2 + 64
    alpha = opacity * values[..., None]
    mix = np.where(within[..., None], (1 - alpha) * explanation.photo + alpha * palette(values), grey)
    return mix.round().astype(np.uint8)


def at_most(photo: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The photo `uint8 (H, W, 3)` at most `side` px long: a phone's twelve million pixels would only be slow."""
    if max(photo.shape[:2]) <= side:
        return photo
    image = Image.fromarray(photo)
    image.thumbnail((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(image)


def within(picture: NDArray[np.uint8], width: int, height: int, *, smooth: bool = True) -> NDArray[np.uint8]:
    """The picture `uint8 (H, W, 3)` as large as fits; if it is enlarged, its pixels are `smooth`, or squares."""
    times = min(width / picture.shape[1], height / picture.shape[0])
    size = tuple(max(1, round(times * side)) for side in picture.shape[1::-1])
    method = Image.Resampling.BICUBIC if smooth or times < 1 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize(size, method))


def small(explanation: Explanation, side: int) -> Explanation:
    """The same with its photo at most `side` px long."""
    return replace(explanation, photo=at_most(explanation.photo, side))


def triptych(explanation: Explanation) -> NDArray[np.uint8]:
    """Photo, map and overlay next to each other, `uint8 (H, 3 W, 3)`."""
    values, within = stretched(explanation)
    alone = np.where(within[..., None], palette(values), 128).astype(np.uint8)
    return np.concatenate([explanation.photo, alone, blended(explanation)], 1)


def overlay(explanation: Explanation, side: int = 128) -> bytes:
    """A small JPEG of photo, map and overlay next to each other, for the report's gallery."""
    return thumbnail(triptych(small(explanation, 4 * side)), side)


def scale() -> bytes:
    """A small PNG of the colours of maps, from 0 on the left to a map's highest value on the right."""
    return _png(Image.fromarray(palette(np.linspace(0, 1, 120))[None].repeat(8, 0)))


def thumbnail(photo: NDArray[np.uint8], side: int = 128) -> bytes:
    """A small JPEG of a photo `uint8 (H, W, 3)`, at most `side` high."""
    picture = Image.fromarray(photo)
    picture.thumbnail((4 * side, side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def shortened(name: str, most: int = 24) -> str:
    """A class's name where there is no room for long ones: without its middle, as many differ at their ends only."""
    return name if len(name) <= most else f"{name[: most // 2]}…{name[len(name) + 1 - most // 2 :]}"


def explanation_page(explanation: Explanation, *, language: str, limit: int = 8) -> bytes:
    """PNG of one explanation: photo, map with its scale, overlay, and the `limit` most likely classes."""
    photo = within(at_most(explanation.photo, 800), *_PANEL, smooth=False)
    explanation = replace(explanation, photo=photo)
    height, width = photo.shape[:2]
    title, text, ticks = (ImageFont.truetype(_FONT, size) for size in (17, 15, 13))
    ranked = sorted(explanation.prediction.probabilities.items(), key=lambda item: -item[1])[:limit]
    names = [_fitted(text, printable(name), _NAMES) for name, _ in ranked]
    shares = [formats.percent(share, language) for _, share in ranked]
    name_width, share_width = (max(map(text.getlength, texts)) for texts in (names, shares))

    def evidence(label: str) -> str:
        if explanation.even:
            return N_("Evidence for {label} (uniform map)", label=label).shown(language)
        return N_("Evidence for {label}", label=label).shown(language)

    scale_width = 16 + _SCALE + 8 + ticks.getlength("0,0")
    heads = [
        N_("Photo").shown(language),
        _fitted(title, explanation.label, _PANEL[0], evidence),
        N_("Overlay").shown(language),
        N_("Probability").shown(language),
    ]
    widths = [width, width + scale_width, width, name_width + 8 + _BAR + 8 + share_width]
    columns = [round(max(own, title.getlength(head))) for own, head in zip(widths, heads, strict=True)]
    lefts = [_MARGIN + sum(columns[:number]) + number * _GAP for number in range(len(columns))]
    top, scale_height = _MARGIN + 36, max(height, _SMALLEST_SCALE)
    size = (lefts[-1] + columns[-1] + _MARGIN, top + max(height, scale_height, len(ranked) * _ROW) + _MARGIN)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for left, head in zip(lefts, heads, strict=True):
        draw.text((left, top - 16), head, _INK, title, "ls")
    for left, pixels in zip(lefts, (photo, _cells(explanation), blended(explanation)), strict=False):
        canvas.paste(Image.fromarray(pixels), (left, top))
    _draw_scale(canvas, draw, (lefts[1] + width + 16, top), scale_height, ticks, language)
    start = lefts[-1] + round(name_width) + 8
    for row, (name, share, (_, value)) in enumerate(zip(names, shares, ranked, strict=True)):
        middle, end = top + row * _ROW + _ROW // 2, start + round(value * _BAR)
        draw.text((start - 8, middle), name, _INK, text, "rm")
        draw.rectangle((start, middle - 9, end, middle + 9), BLUE)
        draw.text((end + 8, middle), share, _INK, text, "lm")
    return _png(canvas)


def _fitted(font: ImageFont.FreeTypeFont, name: str, width: float, sentence: Callable[[str], str] = str) -> str:
    """A sentence with a name, which is shortened as far as needed for the sentence to fit."""
    most = len(name)
    while most > 4 and font.getlength(sentence(shortened(name, most))) > width:
        most -= 1
    return sentence(shortened(name, most))


def _cells(explanation: Explanation) -> NDArray[np.uint8]:
    """The map over the photo, at the network's own resolution, `uint8 (H, W, 3)`; white where it does not lie."""
    y, x, within = _places(explanation)
    rows, columns = (
        np.clip(at, 0, count - 1).astype(int) for at, count in zip((y, x), explanation.map.shape, strict=True)
    )
    colours = palette(explanation.map)[rows[:, None], columns]
    return np.where(within[..., None], colours, 255).astype(np.uint8)


def _draw_scale(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    height: int,
    font: ImageFont.FreeTypeFont,
    language: str,
) -> None:
    """The colours of maps, the highest value on top, with numbers."""
    left, top = place
    colours = palette(np.linspace(1, 0, height))[:, None].repeat(_SCALE, 1)
    canvas.paste(Image.fromarray(colours), place)
    for tick in range(6):
        y = top + round((1 - tick / 5) * (height - 1))
        draw.line((left + _SCALE, y, left + _SCALE + 3, y), _INK)
        draw.text((left + _SCALE + 8, y), formats.marked(f"{tick / 5:.1f}", language), _INK, font, "lm")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
