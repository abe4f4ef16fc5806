"""How large a net is and how much it computes, without computing it where that can be."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from pati.models.blocks import Net


def cost_of(net: Net, size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds for one photo of `size` px.

    As published figures do, it counts convolutions and linear layers only, an addition with its multiplication as one.
    """
    parameters = sum(parameter.numel() for parameter in net.parameters())
    try:
        return parameters, _multiply_adds(net, size, "meta")  # tensors without values: nothing is computed
    except (RuntimeError, NotImplementedError):  # a user's net may need values, or make tensors of its own on the CPU
        return parameters, _multiply_adds(net, size, "cpu")


def _multiply_adds(net: Net, size: int, device: str) -> int:
    copied = copy.deepcopy(net).to(device).eval()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        copied(torch.zeros(1, 3, size, size, device=device))
    return int(counter.get_total_flops()) // 2
