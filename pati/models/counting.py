"""Count a network's parameters and multiply-adds, without computing anything where possible."""

from __future__ import annotations

import copy

import torch
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
