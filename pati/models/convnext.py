"""`convnext-atto`, `convnext-pico`, `convnext-nano`, `convnext-tiny`: CNNs modelled on transformers.

Paper: Liu et al., 2022, "A ConvNet for the 2020s", https://arxiv.org/abs/2201.03545: 7×7 depthwise convolutions, layer
norm, two 1×1 convolutions with GELU between them, a learned scale on each branch. Tiny is the paper's smallest; atto,
pico and nano are timm's, with the same design and fewer blocks and channels.

Input: for images of 64 px or more, the paper's stem, with patches of 4×4; at least 32 px. For smaller ones the patches
are 2×2, at least 16 px.

What differs from the paper: layer scale starts at 0.1 instead of 0.000001, from which short training would not move far
enough (Touvron et al., 2021, https://arxiv.org/abs/2103.17239, use 0.1 for networks of up to 18 blocks); He
initialisation. References for the published numbers: torchvision for tiny, timm for the others.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from pati.models import models
from pati.models.blocks import SMALL, DropPath, Net, Options, Residual, channels, initialised, with_drop_path

SCALE = 0.1  # initial scale of a branch
WIDENING = 4  # expansion of the channels between the two 1×1 convolutions


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel; PyTorch accumulates in float32, whatever the number format."""

    def __init__(self, count: int) -> None:
        super().__init__(count, eps=1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> the same shape."""
        pixels = images.permute(0, 2, 3, 1)  # NCHW -> NHWC; channels-last memory stays as it is
        pixels = F.layer_norm(pixels, self.normalized_shape, self.weight, self.bias, self.eps)
        return pixels.permute(0, 3, 1, 2)


class LayerScale(nn.Module):
    """Multiplies each channel by a learned scale."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((count,), SCALE))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> the same shape."""
        return images * self.scale.to(images.dtype)[:, None, None]


@models.register("convnext-atto")
def convnext_atto(classes: int, options: Options) -> Net:
    """ConvNeXt atto: 7×7 depthwise convolutions, layer norm, GELU; 12 blocks (Liu et al., 2022; size by timm)."""
    return _convnext(classes, options, first=40, depths=(2, 2, 6, 2))


@models.register("convnext-pico")
def convnext_pico(classes: int, options: Options) -> Net:
    """ConvNeXt pico: 12 blocks, wider than atto."""
    return _convnext(classes, options, first=64, depths=(2, 2, 6, 2))


@models.register("convnext-nano")
def convnext_nano(classes: int, options: Options) -> Net:
    """ConvNeXt nano: 14 blocks."""
    return _convnext(classes, options, first=80, depths=(2, 2, 8, 2))


@models.register("convnext-tiny")
def convnext_tiny(classes: int, options: Options) -> Net:
    """ConvNeXt tiny: 18 blocks, the paper's smallest."""
    return _convnext(classes, options, first=96, depths=(3, 3, 9, 3))


def _convnext(classes: int, options: Options, *, first: int, depths: tuple[int, ...]) -> Net:
    """The number of channels doubles from stage to stage, starting with `first`."""
    small = options.size < SMALL
    patch = 2 if small else 4
    widths = [channels(first * 2**number, options.width) for number in range(len(depths))]
    stages = [nn.Sequential(nn.Conv2d(3, widths[0], patch, stride=patch), ChannelNorm(widths[0]))]
    for before, after, depth in zip([widths[0], *widths], widths, depths, strict=False):
        layers: list[nn.Module] = []
        if len(stages) > 1:
            layers += [ChannelNorm(before), nn.Conv2d(before, after, 2, stride=2)]
        stages.append(nn.Sequential(*layers, *(_block(after) for _ in range(depth))))
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        ChannelNorm(widths[-1]),
        nn.Flatten(),
        nn.Dropout(options.dropout),
        nn.Linear(widths[-1], classes),
    )
    net = Net(nn.Sequential(*stages), head, minimum_size=16 if small else 32)
    return initialised(with_drop_path(net, options.drop_path))


def _block(count: int) -> Residual:
    return Residual(
        nn.Conv2d(count, count, 7, padding=3, groups=count),
        ChannelNorm(count),
        nn.Conv2d(count, WIDENING * count, 1),
        nn.GELU(),
        nn.Conv2d(WIDENING * count, count, 1),
        LayerScale(count),
        DropPath(),
    )
