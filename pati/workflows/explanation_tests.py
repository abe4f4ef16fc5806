"""Test explanations on the user's photos: `pati explain --check` and `--boxes`."""

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
from pati.data.sources.matching import tidy
from pati.data.sources.tables import COLUMNS, squeezed
from pati.errors import PatiError
from pati.evaluation.analysis import spread
from pati.evaluation.documents import CheckedExplanations, LocalisationResult
from pati.explain import checks, localise
from pati.explain.cams import explainer
from pati.explain.checks import FEWEST
from pati.inference.classifier import Classifier
from pati.locale.messages import N_
from pati.system.csv_text import read_csv

SIDES = ("xmin", "ymin", "xmax", "ymax")
AT_ONCE = 32
MOST = 100  # photos to check on: each takes hundreds of forward passes


@dataclass(frozen=True)
class Boxed:
    """A photo with a bounding box: left, top, right, bottom in its pixels; `where`: file and line, for messages."""

    path: Path
    where: str
    box: tuple[float, float, float, float]


def checked(
    classifier: Classifier,
    photos: Sequence[Path],
    method: str,
    *,
    stage: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CheckedExplanations:
    """Run the checks of a method's maps (`checks.summary`) on these photos, for the predicted classes.

    If there are more than `MOST` photos, on that many of them, evenly spaced. `stage`: number of the stage to use
    (default: the last). The result includes the number of skipped photos, `unreadable`.
    """
    explain, net = explainer(method), classifier.cut(stage)
    pixels, unreadable = readable(classifier, photos)
    parts = []
    for start in range(0, len(pixels), AT_ONCE):
        progress(start, len(pixels))
        images, classes = classifier.explainer_inputs(torch.from_numpy(pixels[start : start + AT_ONCE]))
        parts.append(checks.values(net, explain, images, classes))
    progress(len(pixels), len(pixels))
    result = checks.summary({name: torch.cat([part[name] for part in parts]) for name in parts[0]})
    return cast(CheckedExplanations, {**result, "method": method, "unreadable": unreadable})


def readable(classifier: Classifier, photos: Sequence[Path]) -> tuple[NDArray[np.uint8], int]:
    """The photos to check on, up to `MOST` evenly spaced ones, preprocessed, and the number of unreadable ones."""
    pixels = []
    once = list({photo.resolve(): photo for photo in photos}.values())
    some = spread(len(once), MOST)
    for photo in [once[number] for number in some]:
        try:
            pixels.append(classifier.preprocess(photo))
        except decode.Unreadable:
            continue
    if len(pixels) < FEWEST:
        raise PatiError(
            N_("only {read} of {total} photos can be read", read=len(pixels), total=len(some)),
            N_("at least {fewest} are needed to compute intervals", fewest=FEWEST),
        )
    return np.stack(pixels), len(some) - len(pixels)


def boxes(table: Path) -> list[Boxed]:
    """Read a CSV with a photo's path, relative to the CSV, and xmin, ymin, xmax, ymax. Raises `PatiError`."""
    header, rows = read_csv(table)
    usual: dict[str, str] = {}
    for name in header:
        plain = name.strip().lower()
        if plain in usual:
            raise PatiError(
                N_("{path} has two columns named {column!r}", path=table, column=plain), N_("keep one of them")
            )
        usual[plain] = name
    alike = {squeezed(name): name for name in header}
    named = next((alike[name] for name in COLUMNS["path"] if name in alike), None)
    lacking = [name for name in SIDES if name not in usual]
    if named is None or lacking:
        raise PatiError(
            N_("{path} has no column {column!r}", path=table, column=lacking[0] if lacking else "path"),
            N_("expected the columns path, {sides} (pixels); found: {header}", sides=SIDES, header=header),
        )
    boxes: dict[Path, Boxed] = {}
    for line, row in enumerate(rows, start=2):
        where = f"{table}, line {line}"
        try:
            left, top, right, bottom = (float(row[usual[name]]) for name in SIDES)
        except (TypeError, ValueError):
            raise PatiError(N_("{where}: a side of the box is not a number", where=where)) from None
        if not (all(map(math.isfinite, (left, top, right, bottom))) and left < right and top < bottom):
            raise PatiError(N_("{where}: the box is empty", where=where), N_("expected xmin < xmax and ymin < ymax"))
        if not tidy(row[named]):
            raise PatiError(N_("{where}: the path is empty", where=where))
        path = table.parent / tidy(row[named])
        if path in boxes:
            raise PatiError(
                N_("{where}: {path} already has a box", where=where, path=path), N_("expected one box per photo")
            )
        boxes[path] = Boxed(path, where, (left, top, right, bottom))
    return list(boxes.values())


def located(
    classifier: Classifier,
    rows: Sequence[Boxed],
    methods: Sequence[str],
    *,
    stage: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LocalisationResult:
    """Compare maps of the predicted class with bounding boxes: see `localise`; means with intervals over photos.

    `stage`: see `checked`. The result includes the number of photos, of skipped ones, `unreadable`, and of those whose
    box lies outside the visible part of a cropped photo, `beyond`; and the boxes' mean fraction of the area.
    """
    explain, net, side = {name: explainer(name) for name in methods}, classifier.cut(stage), classifier.preprocess.size
    pixels: list[NDArray[np.uint8]] = []
    placed: list[tuple[float, ...]] = []
    unreadable = beyond = 0
    for row in rows:
        try:
            photo = classifier.preprocess.photo(row.path)
        except decode.Unreadable:
            unreadable += 1
            continue
        height, width = photo.shape[:2]
        if row.box[0] < -1 or row.box[1] < -1 or row.box[2] > width + 1 or row.box[3] > height + 1:
            raise PatiError(
                N_(
                    "{where}: the box exceeds the photo of {width}×{height} px",
                    where=row.where,
                    width=width,
                    height=height,
                ),
                N_("boxes are in pixels of the displayed photo, after EXIF rotation"),
            )
        left, top, right, bottom = classifier.preprocess.place(width, height, row.box)
        if right <= 0 or bottom <= 0 or left >= side or top >= side:
            beyond += 1
            continue
        pixels.append(classifier.preprocess.fit(photo))
        placed.append((left, top, right, bottom))
    if len(pixels) < FEWEST:
        raise PatiError(
            N_("only {read} of {total} photos can be used", read=len(pixels), total=len(rows)),
            N_("at least {fewest} are needed", fewest=FEWEST),
        )
    box = torch.tensor(placed, dtype=torch.float64)
    parts: list[dict[str, dict[str, torch.Tensor]]] = []
    for start in range(0, len(pixels), AT_ONCE):
        progress(start, len(pixels))
        images, classes = classifier.explainer_inputs(torch.from_numpy(np.stack(pixels[start : start + AT_ONCE])))
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
