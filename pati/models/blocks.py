"""`Net`, the interface of every network, and the building blocks that several families share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

SMALL = 64  # px: below it, families use their stem for small images
Activation = type[nn.ReLU] | type[nn.SiLU]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that a factory builds a network with.

    `width`: multiplier on the channel counts; `dropout`: dropout probability before the last layer; `drop_path`:
    probability of dropping the deepest residual branch in training; `size`: side in px of the images at inference, by
    which a family may choose a stem or head for small images.
    """

    width: float = 1.0
    dropout: float = 0.0
    drop_path: float = 0.0
    size: int = 224


class Net(nn.Module):
    """A network as `stages` followed by `head`.

    It can be split after any stage, `a = stages[:k](x); y = head(stages[k:](a))`, so explanations need no hooks. Images
    `(N, 3, H, W)` with H, W ≥ `minimum_size` -> logits `(N, classes)`. No stage modifies its input in place.
    """

    def __init__(self, stages: nn.Sequential, head: nn.Module, *, minimum_size: int) -> None:
        super().__init__()
        self.stages = stages
        self.head = head
        self.minimum_size = minimum_size
        self.at_once = 128  # images that fit into memory at once

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images -> logits."""
        features = self.stages(images)
        if features.requires_grad and features.ndim == 4:
            # Global average pooling passes back a gradient that is not in channels-last memory; in that order, or in a
            # mix of the two, the backward passes of the last stage take up to twice as long.
            features.register_hook(_in_channels_last)
        logits: torch.Tensor = self.head(features)
        return logits

    def cut(self, stage: int) -> Net:
        """The same network and weights with stage number `stage`, from 1, as the last; later stages join the head."""
        stages = list(self.stages)
        rest = nn.Sequential(*stages[stage:], self.head)
        net = Net(nn.Sequential(*stages[:stage]), rest, minimum_size=self.minimum_size)
        net.at_once = self.at_once
        return net


def _in_channels_last(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.contiguous(memory_format=torch.channels_last)


def channels_last(net: Net) -> Net:
    """The network with its kernels in channels-last memory, which is faster for convolutions on CPU and GPU."""
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def conv_norm_act(
    inputs: int,
    outputs: int,
    *,
    stride: int = 1,
    pool: bool = False,
    activation: Activation = nn.ReLU,
) -> nn.Sequential:
    """3×3 convolution, optional 2×2 max pooling, batch norm, activation.

    The norm's bias makes the convolution's redundant. Pooling before the norm leaves norm and activation, which are
    memory-bound, a quarter of the work.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        *([nn.MaxPool2d(2)] if pool else []),
        nn.BatchNorm2d(outputs),
        activation(inplace=True),  # safe in place: nothing else reads the norm's output
    )


def conv_norm(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: nn.Module | None = None
) -> nn.Sequential:
    """Convolution with odd `kernel`, padded so that only `stride` changes the size, batch norm, optional activation."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        *([activation] if activation is not None else []),
    )


def mean_head(features: int, classes: int, dropout: float) -> nn.Sequential:
    """Global average pooling, dropout, one linear layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(features, classes))


class SqueezeExcitation(nn.Module):
    """Reweights channels by global context (Hu et al., 2018, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, count: int, squeezed: int, *, activation: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(count, squeezed, 1), activation, nn.Conv2d(squeezed, count, 1), gate
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> the same shape."""
        weighed: torch.Tensor = images * self.weigh(images)
        return weighed


class Residual(nn.Sequential):
    """Layers whose output is added to their input (He et al., 2016, https://arxiv.org/abs/1512.03385)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> the same shape."""
        changed = images
        for layer in self:
            changed = layer(changed)
        return images + changed


class DropPath(nn.Module):
    """Stochastic depth, the last layer of a residual branch (Huang et al., 2016, https://arxiv.org/abs/1603.09382).

    In training, each image's branch is dropped with probability `rate`, and the others are scaled up to preserve the
    mean. In evaluation it is the identity. Masks come from torch's global generator. `with_drop_path` sets the rates.
    """

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """`(N, C, H, W)` -> the same shape."""
        if not self.training or self.rate == 0:
            return branch
        kept = 1 - self.rate
        # In the branch's dtype: a float32 mask would convert a bfloat16 branch to float32.
        return branch * branch.new_empty(len(branch), 1, 1, 1).bernoulli_(kept).div_(kept)

    def extra_repr(self) -> str:
        """The rate, for `print(net)`."""
        return f"rate={self.rate:g}"


def with_drop_path(net: Net, rate: float) -> Net:
    """The network with the rates of its residual branches set, increasing linearly with depth to `rate` (section 3)."""
    branches = [module for module in net.modules() if isinstance(module, DropPath)]
    for number, branch in enumerate(branches, start=1):
        branch.rate = rate * number / len(branches)
    return net


def initialised(net: Net) -> Net:
    """The network with He initialisation of its convolutions (He et al., 2015, equation 14, fan-out), and biases 0.

    A kernel in groups reaches only the outputs of its own group, which PyTorch's `fan_out` ignores: a depthwise kernel
    would start √channels times too small. https://arxiv.org/abs/1502.01852
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            height, width = module.kernel_size
            nn.init.normal_(module.weight, std=(2 * module.groups / (module.out_channels * height * width)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


def divisible(count: float) -> int:
    """`count` rounded to a multiple of 8 as in the code of MobileNet and EfficientNet: never more than 10 % below."""
    rounded = max(8, int(count + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * count else rounded


def channels(count: int, width: float) -> int:
    """`count` times `width`, rounded to a multiple of 8, which suits vector units."""
    return max(8, round(count * width / 8) * 8)
