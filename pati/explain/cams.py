"""The explainers: methods that compute saliency maps.

An explainer is a function `(net, images, classes) -> maps`, from normalised images `(N, 3, H, W)` and the class to
explain in each, `int64 (N,)`, to non-negative maps `(N, h, w)`, independently for each photo. Networks are split at
`stages`, so no hooks are needed. Class activation maps use the output of the last stage; `Net.cut` makes any stage the
last.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
import torch.nn.functional as F

from pati.errors import PatiError
from pati.locale.messages import N_
from pati.models.blocks import Net
from pati.registry import Registry

Explainer = Callable[[Net, torch.Tensor, torch.Tensor], torch.Tensor]
explainers: Registry[Explainer] = Registry(N_("explainer"))
_of_pixels: set[Explainer] = set()

STEPS = 32  # points on the path of integrated gradients
WINDOWS = 4  # the occluding square has 1/WINDOWS of the photo's side, and moves by half of its own
AT_ONCE = 64  # batch size for methods with many forward passes per map


def of_pixels(function: Explainer) -> Explainer:
    """Decorator for an explainer that works on the input pixels, so its maps don't depend on the stage."""
    _of_pixels.add(function)
    return function


def looks_at_stages(name: str) -> bool:
    """Whether the explainer's maps depend on which stage is the last."""
    return inspect.unwrap(explainers[name]) not in _of_pixels  # plugins' functions are wrapped


def explainer(name: str) -> Explainer:
    """The explainer `name`, with its output checked and converted to `float32` without gradient.

    Plugins can provide explainers too: raises `PatiError` if one doesn't return a valid map for each photo.
    """
    explain = explainers[name]

    def explained(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        maps = explain(net, images, classes)
        count = len(images)
        if not isinstance(maps, torch.Tensor) or maps.ndim != 3 or len(maps) != count or not maps.numel():
            got = f"{tuple(maps.shape)}" if isinstance(maps, torch.Tensor) else f"a {type(maps).__name__}"
            raise PatiError(
                N_("the explainer {name!r} returned {got}", name=name, got=got),
                N_("expected maps of shape (N, H, W), here with N = {count}", count=count),
            )
        maps = maps.detach().float()
        if not (torch.isfinite(maps) & (maps >= 0)).all():
            raise PatiError(
                N_("the explainer {name!r} returned values that are not finite, or negative", name=name),
                N_("expected values of 0 or more"),
            )
        return maps

    return explained


def _gradients(net: Net, images: torch.Tensor, classes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of the last stage, `(N, C, h, w)`, and the gradient of the class logit with respect to it."""
    with torch.no_grad():
        features = net.stages(images)
    return features, _gradient(net.head, features, classes)


def _gradient(
    answer: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor, classes: torch.Tensor
) -> torch.Tensor:
    # The gradient with respect to these values needs no graph below them. A photo's logit depends on no other photo.
    values = values.detach().requires_grad_()
    with torch.enable_grad():
        # A clone, as the first layer of a head may work in place.
        logits = answer(values.clone()).gather(1, classes[:, None]).sum()
        (gradients,) = torch.autograd.grad(logits, values)
    return gradients


def at_once(net: Net) -> int:
    """Images that a method with many forward passes sends through the network together."""
    return min(AT_ONCE, net.at_once)


@torch.no_grad()
def _logits(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """The logit of each image's class, `(N,)`."""
    return torch.cat(
        [
            net(some).gather(1, asked[:, None])[:, 0]
            for some, asked in zip(torch.split(images, at_once(net)), torch.split(classes, at_once(net)), strict=True)
        ]
    )


@explainers.register("grad-cam")
def grad_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM: channels weighted by the mean gradient of the class score (Selvaraju et al., 2017,
    https://arxiv.org/abs/1610.02391).
    """
    features, gradients = _gradients(net, images, classes)
    weights = gradients.mean((2, 3), keepdim=True)  # equation 1
    return (weights * features).sum(1).clamp_min(0)  # equation 2


@explainers.register("grad-cam++")
def grad_cam_plus_plus(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM++: positive gradients only, weighted so that several objects count equally (Chattopadhay et al., 2018,
    https://arxiv.org/abs/1710.11063).
    """
    features, gradients = _gradients(net, images, classes)
    # Equation 19, where the score is the exponential of the logit.
    below = 2 * gradients**2 + features.sum((2, 3), keepdim=True) * gradients**3
    shares = torch.where(below == 0, 0, gradients**2 / torch.where(below == 0, 1, below))
    weights = (shares * gradients.clamp_min(0)).sum((2, 3), keepdim=True)
    return (weights * features).sum(1).clamp_min(0)


@explainers.register("hires-cam")
def hires_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """HiResCAM: each position weighted by its own gradient, without averaging (Draelos and Carin, 2020,
    https://arxiv.org/abs/2011.08891).
    """
    features, gradients = _gradients(net, images, classes)
    return (gradients * features).sum(1).clamp_min(0)


@explainers.register("layer-cam")
def layer_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """LayerCAM: each position weighted by its own positive gradient (Jiang et al., 2021,
    https://doi.org/10.1109/TIP.2021.3089943).
    """
    features, gradients = _gradients(net, images, classes)
    return (gradients.clamp_min(0) * features).sum(1).clamp_min(0)


@explainers.register("eigen-cam")
def eigen_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """EigenCAM: the first principal component of the features, the same for every class (Muhammad and Yeasin, 2020,
    https://arxiv.org/abs/2008.00299).
    """
    with torch.no_grad():
        features = net.stages(images)
        places = features.flatten(2).transpose(1, 2)  # (N, h·w, C)
        _, _, patterns = torch.linalg.svd(places.double(), full_matrices=False)
        maps: torch.Tensor = (places.double() @ patterns[:, 0, :, None])[:, :, 0]
        # The sign of a principal component is arbitrary: choose the one with a positive sum.
        maps = maps * torch.where(maps.sum(1, keepdim=True) < 0, -1, 1)
        return maps.clamp_min(0).reshape_as(features[:, 0]).to(images.dtype)


@explainers.register("score-cam")
def score_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Score-CAM: each channel weighted by the class score of the photo masked with it (Wang et al., 2020,
    https://arxiv.org/abs/1910.01279). One forward pass per channel.
    """
    with torch.no_grad():
        maps = []
        for image, seen, asked in zip(images, net.stages(images), classes, strict=True):
            masks = F.interpolate(seen[:, None], image.shape[1:], mode="bilinear", align_corners=False)
            low, high = masks.amin((2, 3), keepdim=True), masks.amax((2, 3), keepdim=True)
            masks = torch.where(high > low, (masks - low) / torch.where(high > low, high - low, 1), 0)
            # The paper's baseline, an image of the mean colour, shifts all scores equally, so the softmax removes it.
            scores = torch.cat(
                [_logits(net, some * image, asked.expand(len(some))) for some in torch.split(masks, at_once(net))]
            )
            maps.append((scores.softmax(0)[:, None, None] * seen).sum(0).clamp_min(0))
        return torch.stack(maps)


@explainers.register("occlusion")
@of_pixels
def occlusion(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Occlusion: the drop in the class logit when a square is covered with the mean colour (Zeiler and Fergus, 2014,
    https://arxiv.org/abs/1311.2901), averaged where squares overlap.
    """
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
    """Offsets of the windows: half a window apart, the last one at the end."""
    return sorted({*range(0, side - window, max(1, window // 2)), side - window})


@explainers.register("integrated-gradients")
@of_pixels
def integrated_gradients(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Integrated gradients: pixel gradients, integrated from the mean colour to the photo (Sundararajan et al., 2017,
    https://arxiv.org/abs/1703.01365).
    """
    total = torch.zeros_like(images)
    for step in range(STEPS):  # midpoint rule
        total += _gradient(net, images * ((step + 0.5) / STEPS), classes)
    return (images * total / STEPS).sum(1).clamp_min(0)
