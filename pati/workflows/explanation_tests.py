"""Explanations put to the test on photos at hand: `pati explain --check` and `--boxes`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data import decode
from pati.data.sources.tables import COLUMNS, tidy
from pati.errors import PatiError
from pati.evaluation.analysis import spread
from pati.evaluation.documents import CheckedExplanations, Located
from pati.explain import checks, localise
from pati.explain.cams import explainer
from pati.explain.checks import FEWEST
from pati.inference.classifier import Classifier
from pati.system.files import read_csv

SIDES = ("xmin", "ymin", "xmax", "ymax")
AT_ONCE = 32
MOST = 100  # photos to check on: each takes hundreds of answers


@dataclass(frozen=True)
class Boxed:
    """A photo and a box in it: left, top, right, bottom in the photo's pixels; `where`: file and line, for messages."""

    path: Path
    where: str
    box: tuple[float, float, float, float]


def checked(
    made: Classifier,
    photos: Sequence[Path],
    method: str,
    *,
    stage: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedExplanations:
    """The checks of a method's maps (`checks.summary`) on these photos, for the class that each is answered as.

    On `MOST` of them, evenly spread, where there are more. `stage`: the number of the one to look at, the last if left
    out. With `unreadable`, the number of those passed over.
    """
    explain, net = explainer(method), made.cut(stage)
    pixels, unreadable = readable(made, photos)
    parts = []
    for start in range(0, len(pixels), AT_ONCE):
        progress(start, len(pixels))
        images, classes = made.asked(torch.from_numpy(pixels[start : start + AT_ONCE]))
        parts.append(checks.values(net, explain, images, classes))
    progress(len(pixels), len(pixels))
    found = checks.summary({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return cast(CheckedExplanations, {**found, "method": method, "unreadable": unreadable})


def readable(made: Classifier, photos: Sequence[Path]) -> tuple[NDArray[np.uint8], int]:
    """The photos to check on, `MOST` evenly spread ones, as the net sees them, and how many of these can't be read."""
    pixels = []
    once = list({photo.resolve(): photo for photo in photos}.values())
    some = spread(len(once), MOST)
    for photo in [once[number] for number in some]:
        try:
            pixels.append(made.preprocess(photo))
        except decode.Unreadable:
            continue
    if len(pixels) < FEWEST:
        raise PatiError(
            f"{len(pixels)} of {len(some)} photos can be read",
            f"at least {FEWEST} are needed: intervals are over photos",
        )
    return np.stack(pixels), len(some) - len(pixels)


def boxes(table: Path) -> list[Boxed]:
    """The rows of a CSV with a photo's path, relative to it, and xmin, ymin, xmax, ymax. Raises `PatiError`."""
    header, rows = read_csv(table)
    usual: dict[str, str] = {}
    for name in header:
        plain = name.strip().lower()
        if plain in usual:
            raise PatiError(f"{table} has two columns {plain!r}", "leave one of them")
        usual[plain] = name
    named = next((usual[name] for name in COLUMNS["path"] if name in usual), None)
    lacking = [name for name in SIDES if name not in usual]
    if named is None or lacking:
        raise PatiError(
            f"{table} has no column {lacking[0] if lacking else 'path'!r}",
            f"expected the photo's path and {', '.join(SIDES)} in its pixels; its columns: {', '.join(header)}",
        )
    found: dict[Path, Boxed] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{table}, line {line}"
        try:
            left, top, right, bottom = (float(row[usual[name]]) for name in SIDES)
        except (TypeError, ValueError):
            raise PatiError(f"{where}: a side of the box is no number") from None
        if not (all(map(math.isfinite, (left, top, right, bottom))) and left < right and top < bottom):
            raise PatiError(f"{where}: the box is empty", "expected xmin < xmax and ymin < ymax")
        if not tidy(row[named]):
            raise PatiError(f"{where}: there is no path")
        path = table.parent / tidy(row[named])
        if path in found:
            raise PatiError(f"{where}: {path} has a box already", "expected one box of each photo")
        found[path] = Boxed(path, where, (left, top, right, bottom))
    return list(found.values())


def located(
    made: Classifier,
    rows: Sequence[Boxed],
    methods: Sequence[str],
    *,
    stage: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Located:
    """Where maps of the answered class lie against boxes: see `localise`; means with intervals over photos.

    `stage`: see `checked`. With the number of photos, of those passed over as `unreadable`, and of those where the box
    lies `beyond` what the net sees of a cropped photo; and the boxes' mean share of the area.
    """
    explain, net, side = {name: explainer(name) for name in methods}, made.cut(stage), made.preprocess.size
    pixels: list[NDArray[np.uint8]] = []
    placed: list[tuple[float, ...]] = []
    unreadable = beyond = 0
    for row in rows:
        try:
            photo = made.preprocess.photo(row.path)
        except decode.Unreadable:
            unreadable += 1
            continue
        height, width = photo.shape[:2]
        if row.box[0] < -1 or row.box[1] < -1 or row.box[2] > width + 1 or row.box[3] > height + 1:
            raise PatiError(
                f"{row.where}: the box reaches beyond the photo of {width}×{height} px",
                "boxes are in pixels of the photo as it is shown: after the turn that its EXIF data ask for",
            )
        left, top, right, bottom = made.preprocess.place(width, height, row.box)
        if right <= 0 or bottom <= 0 or left >= side or top >= side:
            beyond += 1
            continue
        pixels.append(made.preprocess.fit(photo))
        placed.append((left, top, right, bottom))
    if len(pixels) < FEWEST:
        raise PatiError(f"{len(pixels)} of {len(rows)} photos can be used", f"at least {FEWEST} are needed")
    box = torch.tensor(placed, dtype=torch.float64)
    parts: list[dict[str, dict[str, torch.Tensor]]] = []
    for start in range(0, len(pixels), AT_ONCE):
        progress(start, len(pixels))
        images, classes = made.asked(torch.from_numpy(np.stack(pixels[start : start + AT_ONCE])))
        some = box[start : start + AT_ONCE].to(images.device)
        parts.append(localise.localised(net, explain, images, classes, some))
    progress(len(pixels), len(pixels))
    joined = {
        name: {measure: torch.cat([part[name][measure] for part in parts]) for measure in localise.MEASURES}
        for name in parts[0]
    }
    return {
        "photos": len(pixels),
        "unreadable": unreadable,
        "beyond": beyond,
        "area": checks.mean(localise.inside(box, side, side).mean((1, 2)), (0, 1)),
        "methods": localise.compared(joined),
    }
