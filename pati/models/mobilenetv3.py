"""`mobilenetv3-small`, `mobilenetv3-large`: networks for phones, with the fewest multiply-adds of all models here.

Paper: Howard et al., 2019, "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244: inverted bottlenecks with
depthwise convolutions, squeeze-excitation in some, hard swish in the deeper ones; the variants are its tables 1 and 2.

Input: for images of 64 px or more, the paper's stem (3×3, stride 2), at least 32 px. For smaller ones its stride is 1,
at least 16 px.

What differs from the paper: batch norm keeps PyTorch's momentum and epsilon, which suit short training; stochastic
depth if `drop_path` is set; He initialisation. Reference for the published numbers: torchvision.
"""

from __future__ import annotations

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
    with_drop_path,
)

FIRST = 16
# Kernel, inner channels, channels, squeeze-excitation, hard swish (else ReLU), stride.
Row = tuple[int, int, int, bool, bool, int]
SMALL_ROWS: tuple[Row, ...] = (  # table 2
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 240, 40, True, True, 1),
    (5, 240, 40, True, True, 1),
    (5, 120, 48, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
    (5, 576, 96, True, True, 1),
    (5, 576, 96, True, True, 1),
)
LARGE_ROWS: tuple[Row, ...] = (  # table 1
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
LAST = 6  # the 1×1 convolution before the pooling has this many times the last block's channels


@models.register("mobilenetv3-small")
def mobilenetv3_small(classes: int, options: Options) -> Net:
    """MobileNetV3 small: depthwise convolutions, squeeze-excitation, hard swish (Howard et al., 2019)."""
    return _mobilenet(classes, options, SMALL_ROWS, hidden=1024)


@models.register("mobilenetv3-large")
def mobilenetv3_large(classes: int, options: Options) -> Net:
    """MobileNetV3 large."""
    return _mobilenet(classes, options, LARGE_ROWS, hidden=1280)


def _mobilenet(classes: int, options: Options, rows: tuple[Row, ...], *, hidden: int) -> Net:
    small = options.size < SMALL
    before = channels(FIRST, options.width)
    stages = [conv_norm(3, before, 3, stride=1 if small else 2, activation=nn.Hardswish())]
    blocks: list[nn.Module] = []
    for row in rows:
        if row[-1] > 1 and blocks:  # a stage ends where the size halves
            stages.append(nn.Sequential(*blocks))
            blocks = []
        blocks.append(_block(before, row, options.width))
        before = channels(row[2], options.width)
    last = LAST * before
    stages.append(nn.Sequential(*blocks, conv_norm(before, last, 1, activation=nn.Hardswish())))
    hidden = channels(hidden, options.width)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(last, hidden),
        nn.Hardswish(),
        nn.Dropout(options.dropout),
        nn.Linear(hidden, classes),
    )
    net = Net(nn.Sequential(*stages), head, minimum_size=16 if small else 32)
    return initialised(with_drop_path(net, options.drop_path))


def _block(before: int, row: Row, width: float) -> nn.Sequential:
    """Expand, filter each channel, squeeze-excite in some, project; with a shortcut where the shapes allow one."""
    kernel, inner, after, squeeze, swish, stride = row
    inner, after = channels(inner, width), channels(after, width)
    activation = nn.Hardswish if swish else nn.ReLU
    layers: list[nn.Module] = [conv_norm(before, inner, 1, activation=activation())] if inner != before else []
    layers.append(conv_norm(inner, inner, kernel, stride=stride, groups=inner, activation=activation()))
    if squeeze:
        layers.append(SqueezeExcitation(inner, divisible(inner // 4), activation=nn.ReLU(), gate=nn.Hardsigmoid()))
    layers.append(conv_norm(inner, after, 1))
    if stride == 1 and before == after:
        return Residual(*layers, DropPath())
    return nn.Sequential(*layers)
