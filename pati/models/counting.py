"""What a net costs: parameters, and multiply-adds for one photo."""

from __future__ import annotations

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from pati.models.blocks import Net


def cost_of(net: Net, size: int) -> tuple[int, int]:
    """Parameters, and multiply-adds of convolutions and matrix products for one photo of `size` px.

    Computes nothing and leaves `net` as it is: the photo and a copy of the net have shapes only.
    """
    shapes = copy.deepcopy(net).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, 3, size, size, device="meta"))
    # The counter takes a multiplication and an addition for two operations.
    return sum(parameter.numel() for parameter in net.parameters()), counter.get_total_flops() // 2
