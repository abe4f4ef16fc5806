"""Optimisers and learning rate schedules.

Knows parameters and a recipe, nothing of data or epochs: the loop passes the progress of the run, from 0 to 1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from inspect import unwrap

import torch
from torch import nn

from pati.recipe import SettledRecipe
from pati.system.ranks import ALONE, Ranks


class _WithoutCompiler(torch.optim.Optimizer):
    """PyTorch's base class without the wrappers that only exclude it from `torch.compile`.

    They import the compiler, which takes a second or two, and nothing is compiled here.
    """

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = unwrap(torch.optim.Optimizer.load_state_dict)


class SGD(_WithoutCompiler, torch.optim.SGD):
    """`torch.optim.SGD` without importing the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.SGD.step))


class Adam(_WithoutCompiler, torch.optim.Adam):
    """`torch.optim.Adam` without importing the compiler."""

    step = torch.no_grad()(unwrap(torch.optim.Adam.step))


class Muon(_WithoutCompiler):
    """Orthogonalised momentum for convolution kernels, at a constant norm of each kernel.

    The update of a kernel, as a matrix (out, in·h·w), is replaced by one with the same singular vectors and singular
    values near 1 (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/), so that all directions are learnt
    at the same rate. Before each step the kernel is rescaled to its initial norm. The learning rate is defined for a
    kernel of norm √out, and the steps of others are scaled in proportion to their norm. If batch norm follows, the
    kernel's scale has no effect; otherwise, as in ConvNeXt's 1×1 convolutions, the scale of the initialisation is
    preserved.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, momentum: float, ranks: Ranks = ALONE) -> None:
        super().__init__(parameters, {"lr": 0.0, "momentum": momentum})
        self._ranks = ranks

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every kernel that has a gradient. Several ranks share out the work, and exchange the results."""
        for group in self.param_groups:
            kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
            for kernel in kernels:
                state = self.state[kernel]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(kernel)
                    norm = kernel.norm()
                    # a kernel of zeros would never change
                    state["norm"] = torch.where(norm > 0, norm, len(kernel) ** 0.5)
                state["momentum_buffer"].mul_(group["momentum"]).add_(kernel.grad)
            updates = self._ranks.each(
                [functools.partial(self._update, kernel, group["momentum"]) for kernel in kernels],
                costs=[min(len(kernel), kernel[0].numel()) * kernel.numel() for kernel in kernels],
                like=kernels,
            )
            for kernel, update in zip(kernels, updates, strict=True):
                norm = self.state[kernel]["norm"]
                kernel.mul_(norm / kernel.norm().clamp_min(1e-7))
                kernel.sub_(update * (norm * (group["lr"] / len(kernel) ** 0.5)))

    def _update(self, kernel: nn.Parameter, momentum: float) -> torch.Tensor:
        """The orthogonalised update of a kernel, in its shape."""
        assert kernel.grad is not None
        ahead = kernel.grad.add(self.state[kernel]["momentum_buffer"], alpha=momentum)  # Nesterov
        # The order of the matrix's columns does not matter; that of the memory saves two copies.
        rows = ahead.permute(0, 2, 3, 1)
        return orthogonalised(rows.reshape(len(rows), -1)).view(rows.shape).permute(0, 3, 1, 2)


def orthogonalised(matrix: torch.Tensor, steps: int = 3) -> torch.Tensor:
    """The matrix with its singular values moved close to 1, by a quintic Newton-Schulz iteration.

    The coefficients are those of the Muon reference, which trade accuracy for few steps. With three steps, singular
    values from 0.02 of the matrix's norm up end between 0.68 and 1.21; smaller ones are amplified up to 41-fold and end
    below.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp_min(1e-7)
    # Each step multiplies x from the left by a polynomial in its Gram matrix. These factors are symmetric and commute,
    # so multiply the small factors first, and x, which is up to nine times as wide as high, only once.
    gram = x @ x.T
    unit = torch.eye(len(x), dtype=x.dtype, device=x.device)
    product = unit
    for step in range(steps):
        factor = a * unit + b * gram + c * gram @ gram
        product = factor @ product if step else factor
        if step < steps - 1:
            gram = factor @ gram @ factor
    x = product @ x
    result: torch.Tensor = x.T if tall else x
    return result


class Optimizers:
    """The optimisers of one network, stepped together; `state` can be saved and restored exactly.

    Weight decay (decoupled: Loshchilov & Hutter, 2017, https://arxiv.org/abs/1711.05101) and the L2 penalty apply to
    matrices, never to norms and biases. Muon keeps its kernels' norms constant, so with it they apply only to the other
    matrices.
    """

    def __init__(self, net: nn.Module, recipe: SettledRecipe, ranks: Ranks = ALONE) -> None:
        kernels = [p for p in net.parameters() if p.ndim == 4 and p.shape[1] > 1]
        # A depthwise kernel (shape[1] = 1) is not a matrix for Muon: each channel has its own filter.
        matrices = [p for p in net.parameters() if p.ndim in (2, 3) or (p.ndim == 4 and p.shape[1] == 1)]
        vectors = [p for p in net.parameters() if p.ndim < 2]
        self._recipe = recipe
        momentum = recipe.momentum
        self._muon = recipe.optimizer == "muon"
        self._decayed = matrices if self._muon else kernels + matrices
        groups = [{"params": self._decayed}, {"params": vectors}]
        self._parts: list[torch.optim.Optimizer]
        if recipe.optimizer == "adamw":
            self._parts = [Adam(groups, betas=(momentum, 0.999))]
        else:
            self._parts = [SGD(groups, lr=0.0, momentum=momentum, nesterov=momentum > 0)]
        if self._muon and kernels:
            self._parts.append(Muon(kernels, momentum=momentum, ranks=ranks))

    def rate(self, progress: float) -> float:
        """The learning rate at `progress` (0 to 1)."""
        return self._recipe.learning_rate * schedules[self._recipe.schedule](progress, self._recipe.warmup)

    def step(self, progress: float) -> None:
        """Update at `progress` (0 to 1), then clear the gradients."""
        factor = schedules[self._recipe.schedule](progress, self._recipe.warmup)
        self.update(self.rate(progress), self._recipe.vector_learning_rate * factor)

    def update(self, learning_rate: float, vector_learning_rate: float) -> None:
        """Update at these learning rates, then clear the gradients; `SettledRecipe` says what each rate applies to."""
        rates = [vector_learning_rate, learning_rate] if self._muon else [learning_rate]
        self._decay(rates[0])
        for optimizer, rate in zip(self._parts, rates, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _decay(self, rate: float) -> None:
        for matrix in self._decayed:
            if matrix.grad is None:
                continue
            if self._recipe.l2:
                matrix.grad.add_(matrix, alpha=self._recipe.l2)
            if self._recipe.weight_decay:
                matrix.mul_(1 - rate * self._recipe.weight_decay)

    def state(self) -> dict[str, torch.Tensor]:
        """All state tensors, by a flat name."""
        return {
            f"{number}.{index}.{name}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
            for number, optimizer in enumerate(self._parts)
            for index, values in optimizer.state_dict()["state"].items()
            for name, value in values.items()
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Inverse of `state`, for optimisers built from the same network and recipe."""
        for number, optimizer in enumerate(self._parts):
            document = optimizer.state_dict()
            document["state"] = {}
            for key, value in state.items():
                part, index, name = key.split(".", 2)
                if int(part) == number:
                    document["state"].setdefault(int(index), {})[name] = value
            optimizer.load_state_dict(document)


def one_cycle(progress: float, warmup: float) -> float:
    """Fraction of the peak learning rate: linear warmup over `warmup`, then linear decay to 0."""
    if progress < warmup:
        return max(0.01, progress / warmup)
    return max(0.0, (1 - progress) / (1 - warmup))


def cosine(progress: float, warmup: float) -> float:
    """Linear warmup over `warmup`, then cosine decay to 0 (Loshchilov & Hutter, 2016, without restarts)."""
    share = one_cycle(progress, warmup)
    return share if progress < warmup else (1 - math.cos(math.pi * share)) / 2


def linear(progress: float, warmup: float) -> float:
    """Linear decay from the peak to 0, without warmup."""
    return one_cycle(progress, 0.0)


schedules: dict[str, Callable[[float, float], float]] = {"one-cycle": one_cycle, "cosine": cosine, "linear": linear}
