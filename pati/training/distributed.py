"""Batch norm in a training by several processes.

Each rank computes a part of each batch; gradients, decisions and results are exchanged (see `system.ranks`), so that
all ranks have the same weights at every step. Batches, random numbers and updates are those of a single process, up to
rounding; so are the statistics of batch norm, if they are those of the whole batch.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pati.system.ranks import Ranks


@contextlib.contextmanager
def synchronised(net: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Context manager in which the batch norms of a network are trained with the statistics of the whole batch.

    `torch.nn.SyncBatchNorm` does the same on GPUs only.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)] if ranks.size > 1 else []
    for norm in norms:
        norm.forward = functools.partial(_forward, norm, ranks)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _forward(norm: _BatchNorm, ranks: Ranks, values: torch.Tensor) -> torch.Tensor:
    """Forward pass of a batch norm over the ranks in training, its own in evaluation."""
    if not norm.training:
        return type(norm).forward(norm, values)
    result, mean, variance = _normalised(values, norm.weight, norm.bias, norm.eps, ranks)
    if norm.track_running_stats and norm.running_mean is not None and norm.running_var is not None:
        assert norm.num_batches_tracked is not None
        norm.num_batches_tracked.add_(1)
        factor = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), factor)
        norm.running_var.lerp_(variance.to(norm.running_var.dtype), factor)
    return result


class _GlobalNorm(torch.autograd.Function):
    """Batch norm over the photos of all ranks.

    Means and sums of squares are combined as by Chan et al. (1979). The gradient is that of the sum of the ranks'
    losses.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        values: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        eps: float,
        ranks: Ranks,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Normalised `values` `(N, C, …)`, and mean and unbiased variance of the whole batch, `(C,)`."""
        wide = values if values.dtype == torch.float64 else values.float()
        others = [axis for axis in range(values.ndim) if axis != 1]
        count = values.numel() // values.shape[1]
        variance, mean = torch.var_mean(wide, others, correction=0)
        own = torch.cat([mean.new_tensor([count]), mean, variance * count])
        every = ranks.stacked(own)
        counts, means, squares = every[:, :1], every[:, 1 : len(mean) + 1], every[:, len(mean) + 1 :]
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        squares = (squares + counts * (means - mean) ** 2).sum(0)
        scale = (squares / total + eps).rsqrt()
        shape = [1, -1, *[1] * (values.ndim - 2)]
        normal = (wide - mean.view(shape)) * scale.view(shape)
        ctx.save_for_backward(normal, weight, scale, total)
        ctx.ranks, ctx.others = ranks, others  # type: ignore[attr-defined]
        result = torch.addcmul(bias.view(shape), normal, weight.view(shape)).to(values.dtype)
        mean, unbiased = mean.detach(), squares / (total - 1).clamp_min(1)
        ctx.mark_non_differentiable(mean, unbiased)
        return result, mean, unbiased

    @staticmethod
    def backward(
        ctx: torch.autograd.function.FunctionCtx, gradient: torch.Tensor, *_: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        normal, weight, scale, total = ctx.saved_tensors  # type: ignore[attr-defined]
        ranks, others = ctx.ranks, ctx.others  # type: ignore[attr-defined]
        wide = gradient.to(normal.dtype)
        by_bias, by_weight = wide.sum(others), (wide * normal).sum(others)
        sums = ranks.sum(torch.stack([by_bias, by_weight])) / total
        shape = [1, -1, *[1] * (normal.ndim - 2)]
        inner = wide - sums[0].view(shape) - normal * sums[1].view(shape)
        result = inner * (weight * scale).view(shape)
        return result.to(gradient.dtype), by_weight.to(weight.dtype), by_bias.to(weight.dtype), None, None


_normalised = cast(
    Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, Ranks], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    _GlobalNorm.apply,
)
