"""Explanations put to the test on photos at hand: `pati explain --check` and `--boxes`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pati import decode
from pati.analysis import spread
from pati.classifier import Classifier
from pati.data.sources import COLUMNS
from pati.errors import PatiError
from pati.explain import checks, localise
from pati.explain.cams import explainers
from pati.files import read_csv

SIDES = ("xmin", "ymin", "xmax", "ymax")
AT_ONCE = 32
MOST = 100  # photos to check on: each takes hundreds of answers
FEWEST = 8  # photos for an interval over them


@dataclass(frozen=True)
class Boxed:
    """A photo and a box in it: left, top, right, bottom in the photo's pixels."""

    path: Path
    box: tuple[float, float, float, float]


def checked(
    made: Classifier,
    photos: Sequence[Path],
    method: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """`checks.checked` of a method on these photos, for the class that each is answered as.

    On `MOST` of them, evenly spread, where there are more. With `unreadable`, the number of those passed over.
    """
    pixels, unreadable = readable(made, photos)
    images, classes = made.asked(torch.from_numpy(pixels))
    found = checks.checked(made.net, explainers[method], images, classes, progress=progress)
    return {"method": method, "unreadable": unreadable, **found}


def readable(made: Classifier, photos: Sequence[Path]) -> tuple[NDArray[np.uint8], int]:
    """The photos to check on, `MOST` evenly spread ones, as the net sees them, and how many of these can't be read."""
    pixels = []
    some = spread(len(photos), MOST)
    for photo in [photos[number] for number in some]:
        try:
            pixels.append(made.preprocess(photo))
        except decode.Unreadable:
            continue
    if len(pixels) < FEWEST:
        raise PatiError(f"{len(pixels)} photos can be read", f"at least {FEWEST} are needed: intervals are over photos")
    return np.stack(pixels), len(some) - len(pixels)


def boxes(table: Path) -> list[Boxed]:
    """The rows of a CSV with a photo's path, relative to it, and xmin, ymin, xmax, ymax. Raises `PatiError`."""
    header, rows = read_csv(table)
    named = next((name for name in header if name.strip().lower() in COLUMNS["path"]), None)
    lacking = [name for name in SIDES if name not in header]
    if named is None or lacking:
        raise PatiError(
            f"{table} has no column {lacking[0] if lacking else 'path'!r}",
            f"expected the photo's path and {', '.join(SIDES)} in its pixels; its columns: {', '.join(header)}",
        )
    found = []
    for line, row in enumerate(rows, start=2):
        try:
            left, top, right, bottom = (float(row[name]) for name in SIDES)
        except (TypeError, ValueError):
            raise PatiError(f"{table}, line {line}: a side of the box is no number") from None
        if not (all(map(math.isfinite, (left, top, right, bottom))) and left < right and top < bottom):
            raise PatiError(f"{table}, line {line}: the box is empty", "expected xmin < xmax and ymin < ymax")
        found.append(Boxed(table.parent / (row[named] or ""), (left, top, right, bottom)))
    return found


def located(
    made: Classifier,
    rows: Sequence[Boxed],
    methods: Sequence[str],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Where maps of the answered class lie against boxes: see `localise`; means with intervals over photos.

    With the number of photos, those passed over as unreadable, and the boxes' mean share of the area.
    """
    pixels: list[NDArray[np.uint8]] = []
    placed: list[tuple[float, ...]] = []
    for row in rows:
        try:
            photo = made.preprocess.photo(row.path)
        except decode.Unreadable:
            continue
        height, width = photo.shape[:2]
        if row.box[2] > width + 1 or row.box[3] > height + 1:
            raise PatiError(
                f"the box of {row.path} reaches beyond the photo of {width}×{height} px",
                "boxes are in pixels of the photo as it is shown: after the turn that its EXIF data ask for",
            )
        pixels.append(made.preprocess.fit(photo))
        placed.append(made.preprocess.place(width, height, row.box))
    if len(pixels) < FEWEST:
        raise PatiError(f"{len(pixels)} of the {len(rows)} photos can be read", f"at least {FEWEST} are needed")
    box = torch.tensor(placed, dtype=torch.float64)
    parts: list[dict[str, dict[str, torch.Tensor]]] = []
    for start in range(0, len(pixels), AT_ONCE):
        progress(start, len(pixels))
        images, classes = made.asked(torch.from_numpy(np.stack(pixels[start : start + AT_ONCE])))
        some = box[start : start + AT_ONCE].to(images.device)
        parts.append(localise.localised(made.net, {name: explainers[name] for name in methods}, images, classes, some))
    progress(len(pixels), len(pixels))
    joined = {
        name: {measure: torch.cat([part[name][measure] for part in parts]) for measure in localise.MEASURES}
        for name in parts[0]
    }
    side = made.preprocess.size
    return {
        "photos": len(pixels),
        "unreadable": len(rows) - len(pixels),
        "area": checks.mean(localise.inside(box, side, side).mean((1, 2))),
        "methods": localise.compared(joined),
    }
