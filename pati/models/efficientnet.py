"""`efficientnet-b0` to `efficientnet-b3`: inverted bottlenecks with depthwise convolutions and squeeze-excitation.

Paper: Tan & Le, 2019, "EfficientNet: rethinking model scaling for convolutional neural networks",
https://arxiv.org/abs/1905.11946. B0 is table 1; B1 to B3 have 1.0, 1.1, 1.2 times its channels and 1.1, 1.2, 1.4 times
its depth, for 240, 260 and 300 px. Channels are rounded as in the paper's code.

Input: for images of 64 px or more, the paper's stem (3×3, stride 2), at least 32 px. For smaller ones its stride is 1,
at least 16 px.

What differs from the paper: the rates of dropout and stochastic depth come from the recipe (in the paper 0.2 to 0.3,
and 0.2), and batch norm keeps PyTorch's momentum and epsilon, which suit short training. Reference for the published
numbers: torchvision, which gives those of B2 at 288 px, not at the paper's 260.
"""

from __future__ import annotations

import math

from torch import nn

from pati.models import models
from pati.models.blocks import (
    SMALL,
    DropPath,
    Net,
    Options,
    Residual,
    SqueezeExcitation,
    channels,
    conv_norm,
    divisible,
    initialised,
    mean_head,
    with_drop_path,
)

FIRST = 32
# Table 1: expansion, kernel, stride, channels, depth.
BLOCKS = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
LAST = 4  # the 1×1 convolution before the head has this many times the last block's channels


@models.register("efficientnet-b0")
def efficientnet_b0(classes: int, options: Options) -> Net:
    """EfficientNet-B0: inverted bottlenecks with squeeze-excitation, for 224 px (Tan & Le, 2019)."""
    return _efficientnet(classes, options, wider=1.0, deeper=1.0)


@models.register("efficientnet-b1")
def efficientnet_b1(classes: int, options: Options) -> Net:
    """EfficientNet-B1: B0 deepened by 1.1, for 240 px."""
    return _efficientnet(classes, options, wider=1.0, deeper=1.1)


@models.register("efficientnet-b2")
def efficientnet_b2(classes: int, options: Options) -> Net:
    """EfficientNet-B2: B0 widened by 1.1 and deepened by 1.2, for 260 px."""
    return _efficientnet(classes, options, wider=1.1, deeper=1.2)


@models.register("efficientnet-b3")
def efficientnet_b3(classes: int, options: Options) -> Net:
    """EfficientNet-B3: B0 widened by 1.2 and deepened by 1.4, for 300 px."""
    return _efficientnet(classes, options, wider=1.2, deeper=1.4)


def _efficientnet(classes: int, options: Options, *, wider: float, deeper: float) -> Net:
    """`wider` and `deeper` define the variant; the recipe's width multiplies the channels further."""
    small = options.size < SMALL
    before = channels(divisible(FIRST * wider), options.width)
    stages = [conv_norm(3, before, 3, stride=1 if small else 2, activation=nn.SiLU())]
    depths = [math.ceil(depth * deeper) for *_, depth in BLOCKS]
    for (expansion, kernel, first_stride, count, _), depth in zip(BLOCKS, depths, strict=True):
        after = channels(divisible(count * wider), options.width)
        blocks = []
        for position in range(depth):
            stride = first_stride if position == 0 else 1
            blocks.append(_block(before, after, expansion, kernel, stride))
            before = after
        stages.append(nn.Sequential(*blocks))
    stages.append(conv_norm(before, LAST * before, 1, activation=nn.SiLU()))
    head = mean_head(LAST * before, classes, options.dropout)
    net = Net(nn.Sequential(*stages), head, minimum_size=16 if small else 32)
    return initialised(with_drop_path(net, options.drop_path))


def _block(before: int, after: int, expansion: int, kernel: int, stride: int) -> nn.Sequential:
    """Expand, filter each channel, squeeze-excite, project; with a shortcut where the shapes allow one."""
    inner = before * expansion
    layers: list[nn.Module] = [conv_norm(before, inner, 1, activation=nn.SiLU())] if expansion > 1 else []
    layers += [
        conv_norm(inner, inner, kernel, stride=stride, groups=inner, activation=nn.SiLU()),
        SqueezeExcitation(inner, max(1, before // 4), activation=nn.SiLU(), gate=nn.Sigmoid()),
        conv_norm(inner, after, 1),
    ]
    if stride == 1 and before == after:
        return Residual(*layers, DropPath())
    return nn.Sequential(*layers)
