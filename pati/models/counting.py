"""How large a net is and how much it computes, without computing it."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from pati.models.blocks import Net


def cost_of(net: Net, size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds for one photo of `size` px.

    As published figures do, it counts convolutions and linear layers only, an addition with its multiplication as one.
    """
    shapes = copy.deepcopy(net).to("meta").eval()  # tensors without values: nothing is computed
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shapes(torch.empty(1, 3, size, size, device="meta"))
    return sum(parameter.numel() for parameter in shapes.parameters()), counter.get_total_flops() // 2
