"""Tests of explanations: sanity checks that maps should pass, and baselines that they should beat.

Knows networks and tensors only: normalised images `(N, 3, H, W)`, the class to explain in each, `int64 (N,)`, and maps
`(N, h, w)` from `cams`. Results are one number per photo, `float64 (N,)`.
"""

from __future__ import annotations

import copy
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from pati.errors import PatiError
from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import ExplanationChecks, Gain, MapSimilarity, Mean, Measure
from pati.evaluation.intervals import crossed_interval
from pati.explain.cams import Explainer
from pati.models.blocks import Net

FRACTIONS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the pixels, deleted or inserted
IMPUTED = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)  # of the pixels, imputed by ROAD
SHIFT = 0.04  # of the side
BLUR = 0.1  # of the side: standard deviation of the blur that insertion starts from
NOISE = 0.1  # standard deviation of the noise in ROAD's imputed pixels, relative to that of the colours
AT_ONCE = 64
SAME = 0.5  # mean similarity from which on maps count as unchanged
FEWEST = 8  # photos for an interval over them
DRAWS = 10  # randomised networks: one may be similar by chance, and some give empty maps

Reveal = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # images (N, 3, H, W), chosen (N, H, W) -> images


def noise(height: int, width: int) -> Explainer:
    """Baseline: maps of noise of this size, seeded by the photo's content."""

    def random(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        maps = []
        for image in images:
            seed = zlib.crc32(image.float().cpu().contiguous().numpy().tobytes())
            maps.append(torch.rand(height, width, generator=torch.Generator().manual_seed(seed)))
        return torch.stack(maps).to(images)

    return random


def centre(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Baseline: a centred Gaussian whose standard deviation is a quarter of the side."""
    down, across = (torch.linspace(-2, 2, side).to(images) for side in images.shape[2:])
    gaussian = torch.exp(-(down[:, None] ** 2 + across**2) / 2)
    return gaussian.expand(len(images), *gaussian.shape)


def edges(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Baseline: magnitude of the brightness gradient (Sobel), without any network."""
    grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]).to(images)[None, None]
    steep = torch.cat([F.conv2d(grey, across), F.conv2d(grey, across.mT)], 1)
    return steep.square().sum(1).sqrt()


BASELINES = ("random", "centre", "edges")


def baselines(maps: torch.Tensor) -> dict[str, Explainer]:
    """The baselines by name, to compare with `maps` `(N, h, w)`; noise has the same resolution."""
    return {"random": noise(*maps.shape[1:]), "centre": centre, "edges": edges}


# Does a map depend on the network's parameters? -----------------------------------------


def shuffled(net: Net, depth: int, *, seed: int = 0) -> Net:
    """A copy of the network with the parameters of the head and the last `depth` stages randomised.

    The values of each tensor are permuted, which preserves their distribution but destroys what was learnt (Adebayo et
    al., 2018, https://arxiv.org/abs/1810.03292).
    """
    randomised, generator = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    stages = list(randomised.stages)
    with torch.no_grad():
        for part in [randomised.head, *stages[len(stages) - depth :]]:
            for tensor in part.state_dict().values():
                order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
                tensor.copy_(tensor.flatten()[order].reshape(tensor.shape))
    return randomised


def similarity(maps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Similarity of two maps of each photo: Spearman's rank correlation, `(N,)`.

    NaN if one of the maps is uniform, as an empty one is: it has no pattern to compare.
    """
    ranks, other_ranks = _ranks(maps.flatten(1)), _ranks(others.flatten(1))
    ranks, other_ranks = (part - part.mean(1, keepdim=True) for part in (ranks, other_ranks))
    sizes = (ranks.square().sum(1) * other_ranks.square().sum(1)).sqrt()
    correlation: torch.Tensor = (ranks * other_ranks).sum(1) / sizes  # 0 / 0 is NaN
    return correlation


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks of each row's values, `float64 (N, M)`; ties get their mean rank."""
    rows = []
    for row in values.cpu():
        _, place, times = row.unique(return_inverse=True, return_counts=True)
        after = times.cumsum(0).double()
        rows.append((after - (times - 1) / 2)[place])
    return torch.stack(rows)


def parameter_randomisation(
    net: Net, explain: Explainer, maps: torch.Tensor, images: torch.Tensor, classes: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Parameter randomisation test: similarity of a method's maps to those of networks with randomised parameters,
    `(N, DRAWS)` each: of the head alone, and of all layers.

    A map that does not change depends on the photo only, not on the network; one that does not change when the head is
    randomised depends on the features, not on the predicted class.
    """

    def after_randomising(depth: int, seed: int) -> torch.Tensor:
        try:
            return similarity(maps, explain(shuffled(net, depth, seed=seed), images, classes))
        except PatiError:  # the maps of this network are not finite
            return torch.full((len(maps),), math.nan, dtype=torch.float64)

    depths = {"head": 0, "all": len(net.stages)}
    return {
        name: torch.stack([after_randomising(depth, seed) for seed in range(DRAWS)], 1)
        for name, depth in depths.items()
    }


def shift_stability(net: Net, explain: Explainer, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Similarity of each map to that of the photo shifted by `SHIFT` to the right and down, shifted back."""
    height, width = images.shape[2:]
    down, across = max(1, round(SHIFT * height)), max(1, round(SHIFT * width))
    moved = F.pad(images, (across, 0, down, 0), mode="reflect")[:, :, :height, :width]
    before, after = (enlarged(explain(net, some, classes), images) for some in (images, moved))
    return similarity(before[:, : height - down, : width - across], after[:, down:, across:])


# Does it highlight the evidence for the prediction? --------------------------------------


def enlarged(maps: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Maps at the images' size, `(N, H, W)`."""
    if maps.shape[1:] == images.shape[2:]:
        return maps
    return F.interpolate(maps[:, None], images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def first_pixels(maps: torch.Tensor, fractions: Sequence[float]) -> Iterator[torch.Tensor]:
    """For each fraction, a mask `bool (N, H, W)` of that fraction of each map's pixels, those with the highest values.

    Ties are broken by a fixed random order.
    """
    flat = maps.flatten(1)
    order_of_ties = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = order_of_ties[flat[:, order_of_ties].argsort(dim=1, descending=True, stable=True)]
    places = torch.empty_like(order).scatter_(1, order, torch.arange(flat.shape[1]).to(order).expand_as(order))
    for fraction in fractions:
        yield (places < round(fraction * flat.shape[1])).reshape(maps.shape)


def removed(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """Deletion: the chosen pixels replaced by the mean colour."""
    return torch.where(chosen[:, None], 0, images)


def shown(images: torch.Tensor) -> Reveal:
    """Insertion: the chosen pixels sharp, the rest of the photo blurred."""
    blur = blurred(images)
    return lambda images, chosen: torch.where(chosen[:, None], images, blur)


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Gaussian blur whose standard deviation is `BLUR` of the side."""
    for axis in (2, 3):
        side = images.shape[axis]
        reach = min(side - 1, round(3 * BLUR * side))
        at = torch.arange(-reach, reach + 1).to(images) / max(1.0, BLUR * side)
        kernel = torch.softmax(-(at**2) / 2, 0).reshape(1, 1, *((-1, 1) if axis == 2 else (1, -1))).expand(3, 1, -1, -1)
        padding = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
        images = F.conv2d(F.pad(images, padding, mode="reflect"), kernel, groups=3)
    return images


def imputed(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """ROAD: the chosen pixels replaced by the weighted mean of their neighbours, jointly, plus a little noise.

    Unlike a grey patch, this leaves no recognisable shape (Rong et al., 2022, https://arxiv.org/abs/2202.00449).
    """
    noise = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)
    return torch.where(chosen[:, None], _smooth(images, chosen) + NOISE * noise, images)


def _smooth(images: torch.Tensor, chosen: torch.Tensor, *, closeness: float = 1e-5) -> torch.Tensor:
    """The chosen pixels as the mean of their neighbours, where direct ones weigh twice as much as diagonal ones.

    By conjugate gradients, initialised with the solution at half the size, until the squared residual is `closeness`
    times that of an empty hole: what remains is a fifth of `NOISE`, and an exact solution would take ten times as long.
    """
    images = images.contiguous()  # in channels-last memory every dot product would copy
    inside = chosen[:, None].to(images)

    def near(values: torch.Tensor) -> torch.Tensor:
        # [[1, 2, 1], [2, 0, 2], [1, 2, 1]] is the outer product of (1, 2, 1) with itself, minus 4 at the centre.
        wide = F.pad(values, (1, 1, 1, 1))
        sums = (wide[:, :, :-2] + wide[:, :, 2:]).add_(wide[:, :, 1:-1], alpha=2)
        return (sums[..., :-2] + sums[..., 2:]).add_(sums[..., 1:-1], alpha=2).sub_(values, alpha=4)

    degree = near(torch.ones_like(images[:1, :1]))

    def dot(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        count, colours = one.shape[:2]
        rows = (some.reshape(count * colours, -1) for some in (one, two))
        products: torch.Tensor = torch.linalg.vecdot(*rows)
        return products.reshape(count, colours, 1, 1)

    def share(of: torch.Tensor, whole: torch.Tensor) -> torch.Tensor:
        return torch.where(whole > 0, of / torch.where(whole > 0, whole, 1), 0)

    filled = images * (1 - inside)
    residual = near(filled).mul_(inside)
    limit = closeness * dot(residual, residual / degree)
    if min(images.shape[2:]) >= 8:
        filled = torch.where(chosen[:, None], _from_half(images, chosen), images)
        residual = (near(filled) - degree * filled).mul_(inside)
    even = residual / degree
    step, size = even, dot(residual, even)
    for _ in range(1000):
        if (size <= limit).all():
            break
        through = torch.addcmul(-near(step), degree, step).mul_(inside)
        length = share(size, dot(step, through))
        filled.addcmul_(length, step)
        residual.addcmul_(length, through, value=-1)
        even = residual / degree
        new = dot(residual, even)
        step = torch.addcmul(even, share(new, size), step)
        size = new
    return filled


def _from_half(images: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The same images smoothed at half the size, then upscaled."""
    known = (~chosen[:, None]).to(images)
    share = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(known * images, 2, ceil_mode=True, count_include_pad=False) / share.clamp_min(1e-9)
    smoothed = _smooth(means, share[:, 0] == 0)  # accurate enough as an initial value
    return F.interpolate(smoothed, images.shape[2:], mode="bilinear", align_corners=False)


@torch.no_grad()
def probabilities(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Probability of each image's class, `float64 (N,)`."""
    logits = torch.cat([net(some) for some in torch.split(images, min(AT_ONCE, net.at_once))]).double()
    return logits.softmax(1).gather(1, classes[:, None])[:, 0]


def perturbation_curve(
    net: Net,
    maps: torch.Tensor,
    images: torch.Tensor,
    classes: torch.Tensor,
    change: Reveal,
    fractions: tuple[float, ...],
) -> torch.Tensor:
    """Probability of the class after applying `change` to the highest `fractions` of the map's pixels, `(N, F)`."""
    maps = enlarged(maps, images)
    steps = [probabilities(net, change(images, chosen), classes) for chosen in first_pixels(maps, fractions)]
    return torch.stack(steps, 1)


def deletion(net: Net, maps: torch.Tensor, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Deletion: mean probability while the most important pixels are removed; low is good.

    Petsiuk et al., 2018, https://arxiv.org/abs/1806.07421.
    """
    return perturbation_curve(net, maps, images, classes, removed, FRACTIONS).mean(1)


def insertion(net: Net, maps: torch.Tensor, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Insertion: mean probability while the most important pixels are added to a blurred photo; high is good.

    Same paper as `deletion`.
    """
    return perturbation_curve(net, maps, images, classes, shown(images), FRACTIONS).mean(1)


def road(net: Net, maps: torch.Tensor, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """ROAD: mean probability without the least important pixels minus without the most important; high is good."""
    least, most = (perturbation_curve(net, sign * maps, images, classes, imputed, IMPUTED) for sign in (-1, 1))
    return (least - most).mean(1)


# All checks -------------------------------------------------------------------------------

# Measure -> its function, and whether high values are good.
MEASURES: dict[str, tuple[Callable[[Net, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor], bool]] = {
    "insertion": (insertion, True),
    "deletion": (deletion, False),
    "road": (road, True),
}
# Forward passes per photo that the measures take.
ANSWERS = (1 + len(BASELINES)) * 2 * (len(FRACTIONS) + len(IMPUTED))

Values = dict[str, torch.Tensor]  # by name, one row per photo


def checked(
    net: Net,
    explain: Explainer,
    images: torch.Tensor,
    classes: torch.Tensor,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ExplanationChecks:
    """Run all checks of a method on these photos; returns their `summary`."""
    return summary(values(net, explain, images, classes, progress=progress))


def values(
    net: Net,
    explain: Explainer,
    images: torch.Tensor,
    classes: torch.Tensor,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Values:
    """The results of the checks for each photo, for `summary`."""
    total = len(MEASURES) * (1 + len(BASELINES)) + 2
    progress(0, total)
    ours = explain(net, images, classes)
    checks = {"even": (ours == ours[:, :1, :1]).all((1, 2))}
    checks |= {
        f"randomised {what}": some
        for what, some in parameter_randomisation(net, explain, ours, images, classes).items()
    }
    maps = {"method": ours, **{name: make(net, images, classes) for name, make in baselines(ours).items()}}
    for step, (name, which) in enumerate(itertools.product(MEASURES, maps), start=1):
        progress(step, total)
        checks[f"{name} {which}"] = MEASURES[name][0](net, maps[which], images, classes)
    progress(total - 1, total)
    checks["steadiness"] = shift_stability(net, explain, images, classes)[:, None]
    progress(total, total)
    return checks


def summary(checks: Values, clusters: Clusters | None = None) -> ExplanationChecks:
    """Summarise `values` as plain values; each mean has a 95 % interval over photos, or over their `clusters`.

    `even`: number of photos with a uniform map, which highlights nothing. `forgotten`: similarity when the `head`, and
    when `all` layers, are randomised, see `mean_similarity`. `depends`: whether the maps change when all layers are
    randomised: true, false, or None if undecided. `measures`: each measure's mean for the method and for the baselines,
    and the gain of the method over each baseline; `better`: true, false or None, as before.
    """
    measures: dict[str, Measure] = {}
    for name, (_, high_is_good) in MEASURES.items():
        ours, sign = checks[f"{name} method"], 1 if high_is_good else -1
        measures[name] = {
            "high_is_good": high_is_good,
            "method": mean(checks[f"{name} method"], clusters=clusters),
            "random": mean(checks[f"{name} random"], clusters=clusters),
            "centre": mean(checks[f"{name} centre"], clusters=clusters),
            "edges": mean(checks[f"{name} edges"], clusters=clusters),
            "against": {which: _better(sign * (ours - checks[f"{name} {which}"]), clusters) for which in BASELINES},
        }
    even, randomised = (
        int(checks["even"].sum()),
        {what: mean_similarity(checks[f"randomised {what}"], clusters) for what in ("head", "all")},
    )
    return {
        "photos": len(checks["even"]),
        "even": even,
        "forgotten": randomised,
        "depends": depends(randomised["all"]) if even < len(checks["even"]) else False,
        "steadiness": mean_similarity(checks["steadiness"], clusters),
        "measures": measures,
        "beyond_centre": verdict(measures, "centre"),
    }


def mean_similarity(similarities: torch.Tensor, clusters: Clusters | None = None) -> MapSimilarity:
    """Mean of similarities `(N, D)` over photos and draws, with a 95 % interval over both, and the number of each.

    `photos` and `draws` count those with any values. There is no mean with fewer than `FEWEST` photos, and no interval
    if only one of several draws has values.
    """
    values = similarities.double().cpu().numpy()
    known = ~np.isnan(values)
    photos, draws = int(known.any(1).sum()), int(known.any(0).sum())
    if photos < FEWEST:
        return {"mean": None, "interval": [None, None], "photos": photos, "draws": draws}
    lonely = draws == 1 < known.shape[1]
    some = clusters and clusters.take(known.any(1))
    interval = (None, None) if lonely else crossed_interval(values[known.any(1)][:, known.any(0)], (-1, 1), some)
    return {"mean": float(values[known].mean()), "interval": list(interval), "photos": photos, "draws": draws}


def depends(row: MapSimilarity) -> bool | None:
    """Whether maps depend on what was changed, from their similarity (see `mean_similarity`); None if undecided."""
    low, high = row["interval"]
    return None if low is None or high is None else True if high < SAME else False if low >= SAME else None


def verdict(measures: dict[str, Measure], baseline: str) -> dict[str, list[str]]:
    """The measures by which the maps are better than this baseline, worse, and undecided."""
    verdicts = {name: row["against"][baseline]["better"] for name, row in measures.items()}
    words = {True: "better", False: "worse", None: "open"}
    return {word: [name for name, better in verdicts.items() if better is found] for found, word in words.items()}


def mean(values: torch.Tensor, bounds: tuple[float, float] = (-1.0, 1.0), clusters: Clusters | None = None) -> Mean:
    """The mean over photos and its 95 % interval; `bounds`: the range of possible values."""
    by_photo = values.double().cpu().numpy()
    return {"mean": float(by_photo.mean()), "interval": list(crossed_interval(by_photo[:, None], bounds, clusters))}


def _better(gain: torch.Tensor, clusters: Clusters | None) -> Gain:
    average = mean(gain, (-2.0, 2.0), clusters)  # the range for ROAD, itself a difference; the others' is smaller
    low, high = average["interval"]
    return {**average, "better": True if low > 0 else False if high < 0 else None}
