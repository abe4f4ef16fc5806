"""A network's first weights, where they come from an earlier model instead of at random. Knows tensors only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pati.models import Net

SHARE = 0.7  # of the earlier weights; the rest are fresh ones (LOG.md)


@torch.no_grad()
def shrink_and_perturb(
    net: Net, earlier: Mapping[str, torch.Tensor], rows: Sequence[int | None], *, by_class: frozenset[str]
) -> None:
    """Move the fresh weights of `net` towards those of an `earlier` network, in place.

    Shrink and perturb (Ash & Adams, 2020, https://arxiv.org/abs/1910.08475): continuing from the weights themselves
    generalises worse than a training from scratch. What differs: the norm of a kernel has no effect before a batch norm
    and is kept by Muon, so the two directions are mixed and the earlier norm is kept. `rows`: for each class, its row
    in the earlier tensors `by_class`, whose first axis is the classes; None for a new one, whose weights stay fresh.
    """
    for name, fresh in net.state_dict().items():
        before = earlier[name].to(fresh.device)
        if name in by_class:
            for row, old in enumerate(rows):
                if old is not None:
                    fresh[row] = torch.lerp(fresh[row], before[old], SHARE)
        elif not fresh.is_floating_point():
            fresh.copy_(before)
        elif fresh.ndim == 4:
            norm = before.norm()
            mixed = SHARE * _direction(before) + (1 - SHARE) * _direction(fresh)
            fresh.copy_(_direction(mixed) * norm)
        else:
            fresh.lerp_(before, SHARE)


def _direction(kernel: torch.Tensor) -> torch.Tensor:
    direction: torch.Tensor = kernel / kernel.norm().clamp_min(1e-12)
    return direction
