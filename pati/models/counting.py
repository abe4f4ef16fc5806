"""Count a network's parameters, multiply-adds and memory, without computing anything where possible."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pati.models.blocks import Net


def cost_of(net: Net, size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds per image of `size` px.

    As in published numbers, only convolutions and linear layers count, and a multiplication with its addition counts as
    one.
    """
    parameters = sum(parameter.numel() for parameter in net.parameters())
    try:
        return parameters, _multiply_adds(net, size, "meta")  # tensors without values: nothing is computed
    except (RuntimeError, NotImplementedError):  # a plugin's network may need values, or create tensors on the CPU
        return parameters, _multiply_adds(net, size, "cpu")


def _multiply_adds(net: Net, size: int, device: str) -> int:
    copied = copy.deepcopy(net).to(device).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        copied(torch.zeros(1, 3, size, size, device=device))
    return int(counter.get_total_flops()) // 2


@dataclass(frozen=True)
class Memory:
    """Bytes that a network takes for one image, beside its weights.

    `most`: the input and output of a layer, at most; `all`: the outputs of all layers, which an explanation keeps.
    """

    most: int
    all: int


def memory_of(net: Net, size: int) -> Memory:
    """The memory for an image of `size` px, by a network on the meta device: nothing is computed."""
    sizes: list[tuple[int, int]] = []

    def noted(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        sizes.append((_bytes(*inputs), _bytes(output)))

    hooks = [layer.register_forward_hook(noted) for layer in net.modules() if not any(layer.children())]
    try:
        with torch.inference_mode():
            net(torch.zeros(1, 3, size, size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return Memory(max(map(sum, sizes), default=0), sum(output for _, output in sizes))


def _bytes(*values: object) -> int:
    return sum(value.numel() * value.itemsize for value in values if isinstance(value, torch.Tensor))
