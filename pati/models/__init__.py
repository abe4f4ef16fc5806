"""Architectures. One family a file; importing the package finds them all.

A model is a factory `(classes, options) -> Net`, registered under its name. To add
one, add a file here: `pati list`, the contract tests and the docs see it by themselves.
"""

from __future__ import annotations

from typing import Protocol

import torch

from pati.models.blocks import Net, Options, channels_last
from pati.models.folding import folded
from pati.registry import Registry


class Factory(Protocol):
    """Builds a net with random weights."""

    def __call__(self, classes: int, options: Options) -> Net:
        """A net with `classes` logits."""


models: Registry[Factory] = Registry("model", "pati.models")


def build(name: str, classes: int, options: Options = Options(), *, seed: int = 0) -> Net:
    """The net `name` with weights drawn from `seed`; the global generator is left as it was."""
    factory = models[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return channels_last(factory(classes, options))


def smallest_size(name: str) -> int:
    """Side in px of the smallest photos that a net of this name can be built for."""
    with torch.device("meta"):
        return models[name](2, Options(size=1)).minimum_size


__all__ = ["Factory", "Net", "Options", "build", "channels_last", "folded", "models", "smallest_size"]
