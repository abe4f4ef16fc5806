"""Mixup and cutmix: combine photos of a batch, and their targets in proportion.

Mixup (Zhang et al., 2018, https://arxiv.org/abs/1710.09412) and cutmix (Yun et al., 2019,
https://arxiv.org/abs/1905.04899), with a separate ratio and partner for each photo. Batched tensor operations, on any
device. All random numbers come from `Draws`; a photo's partner depends on its batch, which follows from (seed, epoch,
position). Knows nothing of files or networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pati.recipe import SettledRecipe
from pati.training.augment import Draws


def mix(
    images: torch.Tensor,
    targets: torch.Tensor,
    draws: Draws,
    recipe: SettledRecipe,
    weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix normalised `images` `(N, 3, H, W)` and `targets` `(N, K)` with partners, see `drawn_mix`."""
    if not recipe.mixup and not recipe.cutmix:
        return images, targets
    mixed = drawn_mix(draws, recipe, (images.shape[2], images.shape[3]), weights)
    partner = mixed.partner.to(images.device)
    return blended(images, images[partner], mixed.share), blended(targets, targets[partner], mixed.whole)


@dataclass(frozen=True)
class Mix:
    """How N photos are mixed: each one's `partner` `(N,)`, and the fraction of the partner.

    `share`: in each pixel, `(N, 1, 1)` or `(N, H, W)`; `whole`: in the photo as a whole, `(N,)`.
    """

    partner: torch.Tensor
    share: torch.Tensor
    whole: torch.Tensor


def drawn_mix(draws: Draws, recipe: SettledRecipe, size: tuple[int, int], weights: torch.Tensor | None = None) -> Mix:
    """Draw how the photos of a batch are mixed by mixup, cutmix or both, as the recipe says. `size`: height and width.

    `mixup` blends two whole photos, `cutmix` pastes a rectangle of one into the other; if both are set, each photo gets
    one of them with equal probability. `weights` `(N,)`, 0 or more and not all 0: sampling weights of the photos as
    partners; without them, each photo is the partner of exactly one other.
    """
    partner = cyclic_partners(draws) if weights is None else drawn(draws, weights)
    share = torch.zeros(len(partner), 1, 1)
    whole = torch.zeros(len(partner))
    if recipe.mixup:
        whole = beta(draws, recipe.mixup)
        share = whole[:, None, None]
    if recipe.cutmix:
        inside = rectangles(draws, beta(draws, recipe.cutmix), *size)
        pasted = draws.uniform() < (0.5 if recipe.mixup else 1)
        share = torch.where(pasted[:, None, None], inside, share)
        whole = torch.where(pasted, inside.mean((1, 2)), whole)
    return Mix(partner, share, whole)


def blended(values: torch.Tensor, others: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Linear interpolation from `values` `(N, C, …)` to `others` of the same shape, by `share` `(N, …)`."""
    return values.lerp(others, share[:, None].to(values.device, values.dtype))


def beta(draws: Draws, alpha: float) -> torch.Tensor:
    """`float32 (N,)` from the distribution Beta(alpha, alpha), exact for every alpha above 0.

    Student's t with 2 alpha degrees of freedom by the polar method of Bailey (1994,
    https://doi.org/10.1090/S0025-5718-1994-1219702-8); t / √(2 alpha + t²) in -1..1 is distributed like 2 Beta - 1.
    """
    radius = torch.expm1(-draws.uniform().double().log() / alpha).sqrt()
    angle = torch.atan(radius * torch.cos(2 * math.pi * draws.uniform().double()))  # its sine is the quotient above
    return (0.5 + 0.5 * angle.sin()).float()


def rectangles(draws: Draws, area: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Masks of 0 and 1, `float32 (N, height, width)`: rectangles of whole pixels with about `area` `(N,)`.

    They have the image's aspect ratio. The centre is uniform over the image, as in the paper's code, so some are cut
    off at the edge.
    """
    side = area.sqrt()
    down = _interval(draws.uniform() * height, side * height, height)
    across = _interval(draws.uniform() * width, side * width, width)
    return down[:, :, None] * across[:, None, :]


def _interval(middle: torch.Tensor, length: torch.Tensor, count: int) -> torch.Tensor:
    """Mask of the `count` pixels in a row whose centre lies inside the interval: `float32 (N, count)`, 0 or 1."""
    distance = torch.arange(count) + 0.5 - middle[:, None]
    return (distance.abs() < length[:, None] / 2).float()


def cyclic_partners(draws: Draws) -> torch.Tensor:
    """Partners `int64 (N,)`: the batch in random order as a cycle, where each photo's partner is the next one."""
    order = draws.uniform().argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def drawn(draws: Draws, weights: torch.Tensor) -> torch.Tensor:
    """Partners `int64 (N,)`, drawn with replacement with probability proportional to `weights` `(N,)`."""
    weights = weights.detach().to("cpu", torch.float64)
    ends = weights.cumsum(0)
    last = int(weights.nonzero().max())  # rounding must not select a photo of weight 0
    return torch.searchsorted(ends, draws.uniform().double() * ends[-1], right=True).clamp_max(last)
