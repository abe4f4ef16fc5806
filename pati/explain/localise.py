"""Localisation: compare maps with bounding boxes drawn by a person, and with baselines that use no network.

Knows tensors only: maps `(N, H, W)` and boxes `(N, 4)`: left, top, right and bottom in pixels of the same grid, not
necessarily integers. Boxes may extend beyond the grid, but must overlap it. A pixel belongs to a box with the fraction
of its area inside. Results are one number per photo, `float64 (N,)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pati.errors import PatiError
from pati.evaluation.documents import LocalisationMean
from pati.evaluation.intervals import wilson
from pati.explain import checks
from pati.explain.cams import Explainer
from pati.explain.checks import enlarged, mean
from pati.locale.messages import N_
from pati.models.blocks import Net

BRIGHT = 0.5  # fraction of a map's maximum from which on a pixel counts as highlighted


# The energy of a uniform map in the box is the box's fraction of the area.
BASELINES = ("even", *checks.BASELINES)


def inside(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Fraction of each pixel's area inside the box, `float64 (N, H, W)`."""
    left, top, right, bottom = boxes.double().T

    def covered(low: torch.Tensor, high: torch.Tensor, count: int) -> torch.Tensor:
        start = torch.arange(count, dtype=torch.float64, device=boxes.device)
        return (torch.minimum(high[:, None], start + 1) - torch.maximum(low[:, None], start)).clamp(0, 1)

    return covered(top, bottom, height)[:, :, None] * covered(left, right, width)[:, None, :]


def pointing(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The pointing game: 1 if the map's maximum lies in the box, else 0.

    Zhang et al., 2016, https://arxiv.org/abs/1608.00507. The centre of the pixel decides; with ties, the result is the
    fraction of the maxima in the box. Computed at the map's own resolution: when upscaled, a maximum at the border
    would become a plateau that reaches the edge of the photo.
    """
    height, width = maps.shape[1:]
    left, top, right, bottom = boxes.double().T[:, :, None]
    down, across = (torch.arange(side, device=maps.device) + 0.5 for side in (height, width))
    hit = ((down > top) & (down < bottom))[:, :, None] & ((across > left) & (across < right))[:, None, :]
    peaks = (maps == maps.amax((1, 2), keepdim=True)).double()
    shares: torch.Tensor = (peaks * hit).sum((1, 2)) / peaks.sum((1, 2))
    return shares


def energy(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The fraction of the map's sum inside the box (Wang et al., 2020, https://arxiv.org/abs/1910.01279).

    For an empty map, the box's fraction of the area.
    """
    whole = maps.double().sum((1, 2))
    part = (maps.double() * inside(boxes, *maps.shape[1:])).sum((1, 2))
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), area(maps, boxes))


def area(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The box's fraction of the area, which is the `energy` of a uniform map."""
    return inside(boxes, *maps.shape[1:]).mean((1, 2))


def overlap(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of the box and the pixels with at least `BRIGHT` of the map's maximum."""
    peak = maps.amax((1, 2), keepdim=True)
    marked = ((maps >= BRIGHT * peak) & (peak > 0)).double()
    box = inside(boxes, *maps.shape[1:])
    both = (marked * box).sum((1, 2))
    return both / (marked.sum((1, 2)) + box.sum((1, 2)) - both)


MEASURES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "pointing": pointing,
    "energy": energy,
    "overlap": overlap,
}


def localised(
    net: Net, methods: dict[str, Explainer], images: torch.Tensor, classes: torch.Tensor, boxes: torch.Tensor
) -> dict[str, dict[str, torch.Tensor]]:
    """Each measure for each method and baseline on these photos; `boxes` in the images' pixels.

    The noise baseline has the resolution of the coarsest maps. Raises `PatiError` if a method has the name of a
    baseline.
    """
    taken = sorted(methods.keys() & set(BASELINES))
    if taken:
        raise PatiError(
            N_("the explainer name {name!r} is reserved for a baseline map", name=taken[0]),
            N_("rename the explainer"),
        )
    maps = {name: explain(net, images, classes) for name, explain in methods.items()}
    coarsest = min(maps.values(), key=lambda some: some[0].numel())
    maps["even"] = torch.ones_like(coarsest)
    maps |= {name: make(net, images, classes) for name, make in checks.baselines(coarsest).items()}
    results = {}
    for name, some in maps.items():
        whole = enlarged(some, images)
        scale = torch.tensor([some.shape[2] / images.shape[3], some.shape[1] / images.shape[2]] * 2).to(boxes)
        results[name] = {"pointing": pointing(some, boxes * scale).cpu()}
        results[name] |= {measure: how(whole, boxes).cpu() for measure, how in MEASURES.items() if how is not pointing}
    return results


def compared(results: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, LocalisationMean]]:
    """Summarise `localised`: means with 95 % intervals over photos, and the gain over each baseline."""
    result: dict[str, dict[str, LocalisationMean]] = {}
    for name, measures in results.items():
        result[name] = {}
        for measure, values in measures.items():
            over = mean(values, (0.0, 1.0))
            row: LocalisationMean = {"mean": over["mean"], "interval": over["interval"]}
            if ((values == 0) | (values == 1)).all():  # a proportion of photos, which may be 0 or 1
                row["interval"] = list(wilson(float(values.sum()), len(values)))
            if name not in BASELINES:
                row["against"] = {other: mean(values - results[other][measure]) for other in BASELINES}
            result[name][measure] = row
    return result
