"""Where do explanations lie? Measured against boxes that a person drew, and against maps that know no net.

Knows tensors only: maps `(N, H, W)` on the same grid as boxes `(N, 4)`: left, top, right and bottom in its pixels,
not whole numbers; they may reach beyond the grid, but not lie beyond it. A pixel is as much in a box as its area is.
Results are one number a photo, `float64 (N,)`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pati.errors import PatiError
from pati.evaluation.documents import LocatedMean
from pati.evaluation.intervals import wilson
from pati.explain import checks
from pati.explain.cams import Explainer
from pati.explain.checks import enlarged, mean
from pati.models.blocks import Net

BRIGHT = 0.5  # of a map's highest value: what counts as marked


# An even map lies in the box as much as the box has area.
BASELINES = ("even", *checks.BASELINES)


def inside(boxes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """How much of each pixel's area lies in the box, `float64 (N, H, W)`."""
    left, top, right, bottom = boxes.double().T

    def covered(low: torch.Tensor, high: torch.Tensor, count: int) -> torch.Tensor:
        start = torch.arange(count, dtype=torch.float64, device=boxes.device)
        return (torch.minimum(high[:, None], start + 1) - torch.maximum(low[:, None], start)).clamp(0, 1)

    return covered(top, bottom, height)[:, :, None] * covered(left, right, width)[:, None, :]


def pointing(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The pointing game: 1 where the map's highest place lies in the box, else 0 (Zhang et al., 2016,
    https://arxiv.org/abs/1608.00507). The place's middle decides; among equals the share of them.

    Of the map as it is: enlarged, a peak at its border would be a plateau that reaches the photo's edge.
    """
    height, width = maps.shape[1:]
    left, top, right, bottom = boxes.double().T[:, :, None]
    down, across = (torch.arange(side, device=maps.device) + 0.5 for side in (height, width))
    hit = ((down > top) & (down < bottom))[:, :, None] & ((across > left) & (across < right))[:, None, :]
    peaks = (maps == maps.amax((1, 2), keepdim=True)).double()
    shares: torch.Tensor = (peaks * hit).sum((1, 2)) / peaks.sum((1, 2))
    return shares


def energy(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The share of the map's sum that lies in the box (Wang et al., 2020, https://arxiv.org/abs/1910.01279).

    Of an empty map, the box's share of the area.
    """
    whole = maps.double().sum((1, 2))
    part = (maps.double() * inside(boxes, *maps.shape[1:])).sum((1, 2))
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1), area(maps, boxes))


def area(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The box's share of the area: what `energy` would be of a map that is even all over."""
    return inside(boxes, *maps.shape[1:]).mean((1, 2))


def overlap(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Intersection over union of the box and the pixels of at least `BRIGHT` of the map's highest value."""
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
    """Each measure of each method and of the baselines on these photos; `boxes` in the images' pixels.

    Noise is as coarse as the coarsest maps. Raises `PatiError` for a method that is called as a baseline is.
    """
    taken = sorted(methods.keys() & set(BASELINES))
    if taken:
        raise PatiError(f"the explainer {taken[0]!r} is called as a map that knows no net", "give it another name")
    maps = {name: explain(net, images, classes) for name, explain in methods.items()}
    coarsest = min(maps.values(), key=lambda some: some[0].numel())
    maps["even"] = torch.ones_like(coarsest)
    maps |= {name: make(net, images, classes) for name, make in checks.baselines(coarsest).items()}
    found = {}
    for name, some in maps.items():
        whole = enlarged(some, images)
        scale = torch.tensor([some.shape[2] / images.shape[3], some.shape[1] / images.shape[2]] * 2).to(boxes)
        found[name] = {"pointing": pointing(some, boxes * scale).cpu()}
        found[name] |= {measure: how(whole, boxes).cpu() for measure, how in MEASURES.items() if how is not pointing}
    return found


def compared(found: dict[str, dict[str, torch.Tensor]]) -> dict[str, dict[str, LocatedMean]]:
    """What `localised` gave as plain values: means with 95 % intervals over photos, and how far above each baseline."""
    result: dict[str, dict[str, LocatedMean]] = {}
    for name, measures in found.items():
        result[name] = {}
        for measure, values in measures.items():
            over = mean(values, (0.0, 1.0))
            row: LocatedMean = {"mean": over["mean"], "interval": over["interval"]}
            if ((values == 0) | (values == 1)).all():  # a share of photos, which may be all of them
                row["interval"] = list(wilson(float(values.sum()), len(values)))
            if name not in BASELINES:
                row["against"] = {other: mean(values - found[other][measure]) for other in BASELINES}
            result[name][measure] = row
    return result
