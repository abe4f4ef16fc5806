"""`scratch`: the CNN that beginners build from scratch.

Blocks of Conv2d, BatchNorm, ReLU and MaxPool, then dropout and a fully connected head, as in the usual bootcamp
notebook. What differs: the features are averaged to 4×4 before the head, so that any image size works and the head
stays small.
"""

from __future__ import annotations

from torch import nn

from pati.models import models
from pati.models.blocks import Net, Options, channels, conv_norm_act


@models.register("scratch")
def scratch(classes: int, options: Options) -> Net:
    """The bootcamp network: three conv-norm-ReLU-pool blocks, dropout, two fully connected layers."""
    widths = [channels(count, options.width) for count in (32, 64, 128)]
    stages = [
        nn.Sequential(conv_norm_act(before, after), nn.MaxPool2d(2))  # the notebook's order: pool last
        for before, after in zip([3, *widths], widths, strict=False)
    ]
    hidden = channels(256, options.width)
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(widths[-1] * 16, hidden),
        nn.ReLU(),
        nn.Dropout(options.dropout),
        nn.Linear(hidden, classes),
    )
    return Net(nn.Sequential(*stages), head, minimum_size=8)
