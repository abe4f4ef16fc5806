"""`vgg11`, `vgg13`, `vgg16`, `vgg19`: plain 3×3 convolutions in five blocks, each followed by 2×2 max pooling.

Paper: Simonyan & Zisserman, 2015, "Very deep convolutional networks for large-scale image recognition",
https://arxiv.org/abs/1409.1556; the variants are its configurations A, B, D and E. The number counts layers with
weights.

Input: at least 32 px, where five poolings leave one pixel. From 224 px on, the head is the paper's: the last feature
map averaged to 7×7, two layers of 4,096 with dropout, the last layer. Below 224 px, where the map is smaller than 7×7,
the head is global average pooling and one linear layer.

What differs from the paper: batch norm after each convolution (as in torchvision's `vgg11_bn` etc., the reference for
the published numbers), which allows training from scratch in one go; He initialisation.
"""

from __future__ import annotations

from torch import nn

from pati.models import models
from pati.models.blocks import Net, Options, channels, initialised, mean_head

WIDTHS = (64, 128, 256, 512, 512)
PAPER = 224  # px: the size that the large head is designed for


@models.register("vgg11")
def vgg11(classes: int, options: Options) -> Net:
    """VGG of 11 layers with batch norm: plain 3×3 convolutions (Simonyan & Zisserman, 2015)."""
    return _vgg(classes, options, depths=(1, 1, 2, 2, 2))


@models.register("vgg13")
def vgg13(classes: int, options: Options) -> Net:
    """VGG of 13 layers with batch norm."""
    return _vgg(classes, options, depths=(2, 2, 2, 2, 2))


@models.register("vgg16")
def vgg16(classes: int, options: Options) -> Net:
    """VGG of 16 layers with batch norm."""
    return _vgg(classes, options, depths=(2, 2, 3, 3, 3))


@models.register("vgg19")
def vgg19(classes: int, options: Options) -> Net:
    """VGG of 19 layers with batch norm."""
    return _vgg(classes, options, depths=(2, 2, 4, 4, 4))


def _vgg(classes: int, options: Options, *, depths: tuple[int, ...]) -> Net:
    stages, before = [], 3
    for count, depth in zip(WIDTHS, depths, strict=True):
        layers: list[nn.Module] = []
        for _ in range(depth):
            after = channels(count, options.width)
            # Batch norm makes the bias redundant; it is here because the reference has it.
            convolution = nn.Conv2d(before, after, 3, padding=1)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)))
            before = after
        stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
    small = options.size < PAPER
    head = mean_head(before, classes, options.dropout) if small else _large_head(before, classes, options)
    return initialised(Net(nn.Sequential(*stages), head, minimum_size=32))


def _large_head(features: int, classes: int, options: Options) -> nn.Sequential:
    hidden = channels(4096, options.width)
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(features * 49, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(options.dropout),
        nn.Linear(hidden, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(options.dropout),
        nn.Linear(hidden, classes),
    )
