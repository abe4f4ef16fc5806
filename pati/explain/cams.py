"""The catalogue of explainers.

An explainer is a function `(net, images, classes) -> maps`: normalised images `(N, 3, H, W)` and the class to explain
in each, `int64 (N,)`, to non-negative maps `(N, h, w)`, each photo's by itself. Nets are cut at `stages`, so no hooks
are needed; class activation maps are made of what the last stage gives, and `Net.cut` makes any stage the last.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
import torch.nn.functional as F

from pati.errors import PatiError
from pati.models.blocks import Net
from pati.registry import Registry

Explainer = Callable[[Net, torch.Tensor, torch.Tensor], torch.Tensor]
explainers: Registry[Explainer] = Registry("explainer")
_of_pixels: set[Explainer] = set()

STEPS = 32  # points on the path of integrated gradients
WINDOWS = 4  # a covered square's side is this part of the photo's, and it moves by half of that
AT_ONCE = 64  # photos through the net, where a map takes many


def of_pixels(function: Explainer) -> Explainer:
    """Decorator of a method that looks at the photo's pixels alone, whatever stage is asked for."""
    _of_pixels.add(function)
    return function


def looks_at_stages(name: str) -> bool:
    """Whether the explainer's maps depend on the stage that is the net's last one."""
    return inspect.unwrap(explainers[name]) not in _of_pixels  # a plugin's are wrapped


def explainer(name: str) -> Explainer:
    """The explainer of that name, whose maps are `float32` without a gradient. Users write explainers too: it raises
    `PatiError` where one gives no map of each photo."""
    explain = explainers[name]

    def explained(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        maps = explain(net, images, classes)
        count = len(images)
        if not isinstance(maps, torch.Tensor) or maps.ndim != 3 or len(maps) != count or not maps.numel():
            got = f"{tuple(maps.shape)}" if isinstance(maps, torch.Tensor) else f"a {type(maps).__name__}"
            raise PatiError(f"the explainer {name!r} gives {got}", f"expected maps (N, H, W), here of {count} photos")
        maps = maps.detach().float()
        if not (torch.isfinite(maps) & (maps >= 0)).all():
            raise PatiError(f"the maps of the explainer {name!r} are not finite, or below 0", "expected 0 or more")
        return maps

    return explained


def _slopes(net: Net, images: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the last stage gives, `(N, C, h, w)`, and the slope of the class's logit in it."""
    with torch.no_grad():
        features = net.stages(images)
    return features, _slope(net.head, features, classes)


def _slope(answer: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    # The logit's slope in these values needs no graph below them; a photo's logit depends on no other photo.
    values = values.detach().requires_grad_()
    with torch.enable_grad():
        # A clone, as a head may begin with what works in place.
        logits = answer(values.clone()).gather(1, classes[:, None]).sum()
        (slopes,) = torch.autograd.grad(logits, values)
    return slopes


@torch.no_grad()
def _logits(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The logit of each image's class, `(N,)`."""
    return torch.cat(
        [
            net(some).gather(1, asked[:, None])[:, 0]
            for some, asked in zip(torch.split(images, AT_ONCE), torch.split(classes, AT_ONCE), strict=True)
        ]
    )


@explainers.register("grad-cam")
def grad_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM: channels weighed by the class's mean slope (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391)."""
    features, slopes = _slopes(net, images, classes)
    weights = slopes.mean((2, 3), keepdim=True)  # equation 1
    return (weights * features).sum(1).clamp_min(0)  # equation 2


@explainers.register("grad-cam++")
def grad_cam_plus_plus(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++: rising slopes alone, weighed so that several objects count alike (Chattopadhay et al., 2018,
    https://arxiv.org/abs/1710.11063)."""
    features, slopes = _slopes(net, images, classes)
    # Equation 19, where the score is the exponential of the logit.
    below = 2 * slopes**2 + features.sum((2, 3), keepdim=True) * slopes**3
    shares = torch.where(below == 0, 0, slopes**2 / torch.where(below == 0, 1, below))
    weights = (shares * slopes.clamp_min(0)).sum((2, 3), keepdim=True)
    return (weights * features).sum(1).clamp_min(0)


@explainers.register("hires-cam")
def hires_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """HiResCAM: each place by its own slope, no mean taken (Draelos and Carin, 2020, https://arxiv.org/abs/2011.08891)."""
    features, slopes = _slopes(net, images, classes)
    return (slopes * features).sum(1).clamp_min(0)


@explainers.register("layer-cam")
def layer_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """LayerCAM: each place by its own slope where that rises (Jiang et al., 2021, https://doi.org/10.1109/TIP.2021.3089943)."""
    features, slopes = _slopes(net, images, classes)
    return (slopes.clamp_min(0) * features).sum(1).clamp_min(0)


@explainers.register("eigen-cam")
def eigen_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """EigenCAM: the strongest pattern in the features, the same for every class (Muhammad and Yeasin, 2020,
    https://arxiv.org/abs/2008.00299)."""
    with torch.no_grad():
        features = net.stages(images)
        places = features.flatten(2).transpose(1, 2)  # (N, h·w, C)
        _, _, patterns = torch.linalg.svd(places.double(), full_matrices=False)
        maps: torch.Tensor = (places.double() @ patterns[:, 0, :, None])[:, :, 0]
        # A pattern has no sign of its own: most of what it holds shall be positive.
        maps = maps * torch.where(maps.sum(1, keepdim=True) < 0, -1, 1)
        return maps.clamp_min(0).reshape_as(features[:, 0]).to(images.dtype)


@explainers.register("score-cam")
def score_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Score-CAM: each channel weighed by what the photo seen through it still says (Wang et al., 2020,
    https://arxiv.org/abs/1910.01279). A forward pass for every channel."""
    with torch.no_grad():
        maps = []
        for image, seen, asked in zip(images, net.stages(images), classes, strict=True):
            masks = F.interpolate(seen[:, None], image.shape[1:], mode="bilinear", align_corners=False)
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = torch.where(high > low, (masks - low) / torch.where(high > low, high - low, 1), 0)
            # The baseline, a photo of the mean colour, lowers all scores alike, so the softmax leaves nothing of it.
            scores = torch.cat(
                [_logits(net, some * image, asked.expand(len(some))) for some in torch.split(masks, AT_ONCE)]
            )
            maps.append((scores.softmax(0)[:, None, None] * seen).sum(0).clamp_min(0))
        return torch.stack(maps)


@explainers.register("occlusion")
@of_pixels
def occlusion(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """How far the class's logit falls when a square is covered with the mean colour (Zeiler and Fergus, 2014,
    https://arxiv.org/abs/1311.2901); where squares overlap, their mean."""
    height, width = images.shape[2:]
    high, wide = max(1, height // WINDOWS), max(1, width // WINDOWS)
    tops, lefts = _starts(height, high), _starts(width, wide)
    whole = _logits(net, images, classes)
    total, times = images.new_zeros(len(images), height, width), images.new_zeros(height, width)
    for top in tops:
        for left in lefts:
            covered = images.clone()  # zero is the mean colour of normalised photos
            covered[:, :, top : top + high, left : left + wide] = 0
            falls = whole - _logits(net, covered, classes)
            total[:, top : top + high, left : left + wide] += falls[:, None, None]
            times[top : top + high, left : left + wide] += 1
    return (total / times).clamp_min(0)


def _starts(side: int, window: int) -> list[int]:
    """Where windows begin: half a window apart, the last one at the end."""
    return sorted({*range(0, side - window, max(1, window // 2)), side - window})


@explainers.register("integrated-gradients")
@of_pixels
def integrated_gradients(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Slopes in the pixels, summed on the way from the mean colour to the photo (Sundararajan et al., 2017,
    https://arxiv.org/abs/1703.01365)."""
    total = torch.zeros_like(images)
    for step in range(STEPS):  # the middles of equal parts of the way
        total += _slope(net, images * ((step + 0.5) / STEPS), classes)
    return (images * total / STEPS).sum(1).clamp_min(0)
