"""Prepare a trained network for inference: fold batch norm into convolutions, convert to the faster number format.

Ioffe & Szegedy (2015, https://arxiv.org/abs/1502.03167), section 3.1: at inference, batch norm is a fixed scale and
shift of each channel, which the preceding convolution can absorb. A max pooling between the two doesn't matter if no
scale is negative: the maximum stays the maximum.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import nn

from pati.models.blocks import Net, channels_last


def folded(net: Net, dtype: torch.dtype, *, exported: bool = False) -> Net:
    """A copy of `net` in evaluation mode without batch norms, with the same logits up to rounding in `dtype`.

    Norms that don't follow a convolution in the same `nn.Sequential` are kept. Takes images `float32 (N, 3, H, W)`,
    returns logits `float32 (N, K)`; the stages compute in `dtype`. Unless it is to be `exported`, 2×2 max pooling is
    replaced by one that is faster in torch, and the linear layers of the head by ones whose results do not depend on
    the number of photos.
    """
    copied = copy.deepcopy(net).eval().requires_grad_(False)
    for module in list(copied.modules()):
        if isinstance(module, nn.Sequential):
            _fold(module)
            if not exported:
                _replace_pooling(module)
    if not exported:
        for module in copied.head.modules():
            if type(module) is nn.Linear:
                module.__class__ = _Linear
    copied.stages.to(dtype)
    for module in copied.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()  # its statistics must not be rounded
    stages = list(copied.stages)
    stages[0] = nn.Sequential(_To(dtype), stages[0])
    stages[-1] = nn.Sequential(stages[-1], _To(torch.float32))
    return channels_last(Net(nn.Sequential(*stages), copied.head, minimum_size=net.minimum_size))


class _To(nn.Module):
    """Converts the number format."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self.dtype)


def _fold(layers: nn.Sequential) -> None:
    for at, norm in enumerate(layers):
        # Not subclasses: they may do more than the name says (norm and activation in one).
        if type(norm) is not nn.BatchNorm2d or norm.running_var is None or norm.running_mean is None:
            continue
        scale = (norm.running_var + norm.eps).rsqrt()
        shift = -norm.running_mean * scale
        if norm.affine:
            scale, shift = scale * norm.weight, shift * norm.weight + norm.bias
        before = at - 1
        if before >= 0 and isinstance(layers[before], nn.MaxPool2d) and bool((scale >= 0).all()):
            before -= 1
        convolution = layers[before] if before >= 0 else None
        if type(convolution) is nn.Conv2d:
            layers[before] = _scaled(convolution, scale, shift)
            layers[at] = nn.Identity()


def _replace_pooling(layers: nn.Sequential) -> None:
    for at, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d) and layer.extra_repr() == nn.MaxPool2d(2).extra_repr():
            layers[at] = _Pool()


class _Pool(nn.Module):
    """2×2 max pooling without indices for a backward pass: twice as fast as PyTorch's in channels-last memory."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count, channels, height, width = images.shape
        if not images.is_contiguous(memory_format=torch.channels_last) or height % 2 or width % 2:
            return F.max_pool2d(images, 2)
        lines = images.permute(0, 2, 3, 1).view(count, height // 2, 2, width * channels)  # NCHW -> NHWC, a view
        lines = torch.maximum(lines[:, :, 0], lines[:, :, 1]).view(count, height // 2, width // 2, 2, channels)
        return torch.maximum(lines[:, :, :, 0], lines[:, :, :, 1]).permute(0, 3, 1, 2)


class _Linear(nn.Linear):
    """A linear layer that computes 16 rows or more: for fewer, libraries choose kernels with other rounding.

    So the prediction for a photo is the same to the last bit, whichever photos are computed with it.
    """

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(rows, (0, 0, 0, max(0, 16 - len(rows)))))[: len(rows)]


@torch.no_grad()
def _scaled(convolution: nn.Conv2d, scale: torch.Tensor, shift: torch.Tensor) -> nn.Conv2d:
    """The convolution with its outputs multiplied by `scale` `(C,)`, then shifted by `shift` `(C,)`."""
    bias = shift if convolution.bias is None else convolution.bias * scale + shift
    convolution.weight.mul_(scale[:, None, None, None])
    convolution.bias = nn.Parameter(bias.clone())
    return convolution
