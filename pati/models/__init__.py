"""Architectures. One family a file; importing the package finds them all.

A model is a factory `(classes, width, dropout) -> Net`, registered under its name. To add
one, add a file here: `pati list`, the contract tests and the docs see it by themselves.
"""

from __future__ import annotations

from typing import Protocol

import torch

from pati.models.blocks import Net, channels_last
from pati.models.folding import folded
from pati.registry import Registry


class Factory(Protocol):
    """Builds a net with random weights."""

    def __call__(self, classes: int, *, width: float, dropout: float) -> Net:
        """`classes` logits; channel counts times `width`; `dropout` before the last layer."""


models: Registry[Factory] = Registry("model", "pati.models")


def build(name: str, classes: int, *, width: float, dropout: float, seed: int) -> Net:
    """The net `name` with weights drawn from `seed`; the global generator is left as it was."""
    factory = models[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return channels_last(factory(classes, width=width, dropout=dropout))


__all__ = ["Factory", "Net", "build", "channels_last", "folded", "models"]
