"""The form that every net has, and the pieces that several families share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a net of a family is built with.

    `width`: multiplier on channel counts; `dropout`: share of features dropped before the last layer; `drop_path`:
    chance that the deepest residual branch is left out in training; `size`: side in px of the photos that it will
    answer, by which a family may choose a stem or head made for small ones.
    """

    width: float = 1.0
    dropout: float = 0.0
    drop_path: float = 0.0
    size: int = 224


class Net(nn.Module):
    """`stages`, then `head`: explanations cut it anywhere, `a = stages[:k](x); y = head(stages[k:](a))`.

    Images `(N, 3, H, W)` with H, W ≥ `minimum_size` -> logits `(N, classes)`. No stage
    changes its input in place.
    """

    def __init__(self, stages: nn.Sequential, head: nn.Module, *, minimum_size: int) -> None:
        super().__init__()
        self.stages = stages
        self.head = head
        self.minimum_size = minimum_size

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images -> logits."""
        logits: torch.Tensor = self.head(self.stages(images))
        return logits


def channels_last(net: Net) -> Net:
    """The net with its kernels in channels-last memory, which CPU and GPU convolutions prefer."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def conv_norm_relu(inputs: int, outputs: int, *, stride: int = 1, pool: bool = False) -> nn.Sequential:
    """3×3 convolution, 2×2 max pooling if wanted, batch norm, ReLU.

    The norm's bias makes the convolution's superfluous. Pooling before the norm leaves norm
    and ReLU, which are bound by memory, a quarter of the work.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        *([nn.MaxPool2d(2)] if pool else []),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),  # on the norm's own output: nothing else reads it
    )


class Residual(nn.Sequential):
    """Layers whose output is added to their input (He et al., 2016, https://arxiv.org/abs/1512.03385)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> the same shape."""
        changed = images
        for layer in self:
            changed = layer(changed)
        return images + changed


def channels(count: int, width: float) -> int:
    """`count` times `width`, rounded to a multiple of 8, which vector units like."""
    return max(8, round(count * width / 8) * 8)
