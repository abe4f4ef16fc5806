"""`pati`, `pati-deep` and `pati-thumbnail`: pati's own networks, designed for accuracy per minute on a small machine.

Plain dense 3×3 convolutions with batch norm and ReLU, in the spirit of VGG (Simonyan & Zisserman, 2015,
https://arxiv.org/abs/1409.1556) and in the order of the CIFAR-10 speed records (Jordan, 2024,
https://arxiv.org/abs/2404.00498): the first convolution of a block widens and pools, the second one works at the
smaller size. What differs: a thin first convolution at full size, pooling before the norm, and global average pooling.
No depthwise convolutions: on CPUs they reach a ninth of the speed of dense ones. The deep variant adds residual
convolutions at the smaller sizes; it needs more epochs, and reaches a higher accuracy (numbers in LOG.md). The variant
for thumbnails does not pool after its first convolution, since four poolings would reduce 32 px to 2. It uses SiLU
(Elfwing et al., 2017, https://arxiv.org/abs/1702.03118) instead of ReLU; in the other two, SiLU is no better.
"""

from __future__ import annotations

from torch import nn

from pati.models import models
from pati.models.blocks import (
    Activation,
    DropPath,
    Net,
    Options,
    Residual,
    channels,
    conv_norm_act,
    mean_head,
    with_drop_path,
)


@models.register("pati")
def pati(classes: int, options: Options) -> Net:
    """pati's default network: plain 3×3 convolutions, pooling early in each block, global average pooling."""
    first, widths = _channels(options.width)
    stages = [conv_norm_act(3, first, pool=True)]
    for before, after in zip([first, *widths], widths, strict=False):
        stages.append(nn.Sequential(conv_norm_act(before, after, pool=True), conv_norm_act(after, after)))
    return _net(stages, widths[-1], classes, options.dropout)


@models.register("pati-deep")
def pati_deep(classes: int, options: Options) -> Net:
    """pati's network for long runs: two residual convolutions each in the second and third block."""
    first, widths = _channels(options.width)
    net = _net([conv_norm_act(3, first, pool=True), *_deep_blocks(first, widths)], widths[-1], classes, options.dropout)
    return with_drop_path(net, options.drop_path)


@models.register("pati-thumbnail")
def pati_thumbnail(classes: int, options: Options) -> Net:
    """pati's network for small images, such as 32 px: pati-deep with SiLU, not pooled after its first convolution."""
    first, widths = _channels(options.width)
    stages = [conv_norm_act(3, first, activation=nn.SiLU), *_deep_blocks(first, widths, nn.SiLU)]
    net = _net(stages, widths[-1], classes, options.dropout)
    return with_drop_path(net, options.drop_path)


def _deep_blocks(before: int, widths: list[int], activation: Activation = nn.ReLU) -> list[nn.Sequential]:
    blocks = []
    for after, depth in zip(widths, (1, 2, 2), strict=True):
        kept = [Residual(conv_norm_act(after, after, activation=activation), DropPath()) for _ in range(depth)]
        blocks.append(nn.Sequential(conv_norm_act(before, after, pool=True, activation=activation), *kept))
        before = after
    return blocks


def _channels(width: float) -> tuple[int, list[int]]:
    """Channels of the first convolution, and of each block."""
    # The first convolution has the most pixels and the fewest parameters, so it grows more slowly than the others.
    return channels(16, width**0.5), [channels(count, width) for count in (32, 64, 128)]


def _net(stages: list[nn.Sequential], features: int, classes: int, dropout: float) -> Net:
    return Net(nn.Sequential(*stages), mean_head(features, classes, dropout), minimum_size=16)
