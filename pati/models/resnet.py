"""`resnet18`, `resnet34`, `resnet50` and `resnet18d`, `resnet34d`, `resnet50d`: residual blocks in four stages.

Paper: He et al., 2016, "Deep residual learning for image recognition", https://arxiv.org/abs/1512.03385. The number
counts layers with weights: pairs of 3×3 convolutions in 18 and 34, bottlenecks 1×1, 3×3, 1×1 in 50. The -D variants are
those of He et al., 2019, "Bag of tricks", https://arxiv.org/abs/1812.01187: three 3×3 convolutions instead of the 7×7
one, and shortcuts that average before they project, so that no pixel is ignored.

Input: for images of 64 px or more, the paper's stem (÷ 4), at least 32 px. For smaller ones the stem is one 3×3
convolution of stride 2 (in -D its three convolutions) without the max pooling (÷ 2), at least 16 px.

What differs from the paper: the stride of a bottleneck is on its 3×3 convolution, not on the first 1×1 ("v1.5", as in
torchvision, the reference for the published numbers; timm for -D); stochastic depth if `drop_path` is set.
"""

from __future__ import annotations

import torch
from torch import nn

from pati.models import models
from pati.models.blocks import (
    SMALL,
    DropPath,
    Net,
    Options,
    channels,
    conv_norm,
    initialised,
    mean_head,
    with_drop_path,
)

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4  # output channels of a bottleneck per inner channel


class Block(nn.Module):
    """A residual branch added to its shortcut, then ReLU."""

    def __init__(self, branch: nn.Sequential, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> `(N, C', H', W')`, with the size divided by the block's stride."""
        return torch.relu(self.shortcut(images) + self.branch(images))


@models.register("resnet18")
def resnet18(classes: int, options: Options) -> Net:
    """ResNet of 18 layers: pairs of 3×3 convolutions with shortcuts (He et al., 2016)."""
    return _resnet(classes, options, depths=(2, 2, 2, 2))


@models.register("resnet34")
def resnet34(classes: int, options: Options) -> Net:
    """ResNet of 34 layers."""
    return _resnet(classes, options, depths=(3, 4, 6, 3))


@models.register("resnet50")
def resnet50(classes: int, options: Options) -> Net:
    """ResNet of 50 layers: bottlenecks 1×1, 3×3, 1×1, stride on the 3×3."""
    return _resnet(classes, options, depths=(3, 4, 6, 3), bottleneck=True)


@models.register("resnet18d")
def resnet18d(classes: int, options: Options) -> Net:
    """ResNet-18 with three 3×3 convolutions first and averaging shortcuts ("Bag of tricks", He et al., 2019)."""
    return _resnet(classes, options, depths=(2, 2, 2, 2), tricks=True)


@models.register("resnet34d")
def resnet34d(classes: int, options: Options) -> Net:
    """ResNet-34 with three 3×3 convolutions first and averaging shortcuts."""
    return _resnet(classes, options, depths=(3, 4, 6, 3), tricks=True)


@models.register("resnet50d")
def resnet50d(classes: int, options: Options) -> Net:
    """ResNet-50 with three 3×3 convolutions first and averaging shortcuts."""
    return _resnet(classes, options, depths=(3, 4, 6, 3), bottleneck=True, tricks=True)


def _resnet(
    classes: int, options: Options, *, depths: tuple[int, ...], bottleneck: bool = False, tricks: bool = False
) -> Net:
    """`tricks`: the -D variant."""
    small = options.size < SMALL
    before = channels(WIDTHS[0], options.width)
    stages = [_stem(before, small=small, tricks=tricks)]
    for number, (count, depth) in enumerate(zip(WIDTHS, depths, strict=True)):
        inner = channels(count, options.width)
        after = inner * EXPANSION if bottleneck else inner
        blocks = []
        for position in range(depth):
            stride = 2 if number > 0 and position == 0 else 1
            branch = _bottleneck(before, inner, stride) if bottleneck else _pair(before, inner, stride)
            branch.append(DropPath())
            blocks.append(Block(branch, _shortcut(before, after, stride, averaging=tricks)))
            before = after
        stages.append(nn.Sequential(*blocks))
    head = mean_head(before, classes, options.dropout)
    net = Net(nn.Sequential(*stages), head, minimum_size=16 if small else 32)
    return initialised(with_drop_path(net, options.drop_path))


def _stem(count: int, *, small: bool, tricks: bool) -> nn.Sequential:
    if tricks:
        half = channels(count, 0.5)
        layers = [
            conv_norm(3, half, 3, stride=2, activation=nn.ReLU(inplace=True)),
            conv_norm(half, half, 3, activation=nn.ReLU(inplace=True)),
            conv_norm(half, count, 3, activation=nn.ReLU(inplace=True)),
        ]
    else:
        layers = [conv_norm(3, count, 3 if small else 7, stride=2, activation=nn.ReLU(inplace=True))]
    return nn.Sequential(*layers) if small else nn.Sequential(*layers, nn.MaxPool2d(3, stride=2, padding=1))


def _pair(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(before, after, 3, stride=stride, activation=nn.ReLU(inplace=True)), conv_norm(after, after, 3)
    )


def _bottleneck(before: int, inner: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(before, inner, 1, activation=nn.ReLU(inplace=True)),
        conv_norm(inner, inner, 3, stride=stride, activation=nn.ReLU(inplace=True)),
        conv_norm(inner, inner * EXPANSION, 1),
    )


def _shortcut(before: int, after: int, stride: int, *, averaging: bool) -> nn.Module:
    if stride == 1 and before == after:
        return nn.Identity()
    if averaging and stride > 1:
        pooling = nn.AvgPool2d(stride, ceil_mode=True, count_include_pad=False)  # includes the edge of odd sizes
        return nn.Sequential(pooling, conv_norm(before, after, 1))
    return conv_norm(before, after, 1, stride=stride)
