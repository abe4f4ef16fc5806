"""`pati`: the house net, built for accuracy per minute on a small machine.

Plain dense 3×3 convolutions with batch norm and ReLU, down-sampled early, in the spirit of
VGG (Simonyan & Zisserman, 2015, https://arxiv.org/abs/1409.1556) and of the CIFAR-10 speed
records (Jordan, 2024, https://arxiv.org/abs/2404.00498). What differs: the first
convolution has stride 2, stages have 1, 2, 2, 2 convolutions of 32 to 256 channels, and
global average pooling takes the place of the big fully connected layers. No depthwise
convolutions: on CPUs they reach a ninth of the speed of dense ones.
"""

from __future__ import annotations

from torch import nn

from pati.models import models
from pati.models.blocks import Net, channels, conv_norm_relu


@models.register("pati")
def pati(classes: int, *, width: float, dropout: float) -> Net:
    """The house net: plain 3×3 convolutions, early down-sampling, global average pooling."""
    widths = [channels(count, width) for count in (32, 64, 128, 256)]
    first, *rest = widths
    # Each stage but the last ends in pooling; stages have 1, 2, 2, 2 convolutions.
    stages = [conv_norm_relu(3, first, stride=2), conv_norm_relu(first, first, pool=True)]
    for before, after in zip(widths, rest, strict=False):
        last = after == widths[-1]
        stages.append(nn.Sequential(conv_norm_relu(before, after), conv_norm_relu(after, after, pool=not last)))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(widths[-1], classes))
    return Net(nn.Sequential(*stages), head, minimum_size=16)
