"""Architectures. One family a file; importing the package finds them all.

A model is a factory `(classes, options) -> Net`, registered under its name. To add
one, add a file here: `pati list`, the contract tests and the docs see it by themselves.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch

from pati import plugins
from pati.errors import PatiError
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
        net = factory(classes, options)
        plugin = models.plugin(name)
        if plugin is not None:
            with plugins.blamed(plugin):
                _try_out(name, net, classes, options.size)
        return channels_last(net)


@torch.no_grad()
def _try_out(name: str, net: object, classes: int, size: int) -> None:
    """Find what is wrong with a user's net before minutes are spent on training it; leaves the net as it is."""
    if not isinstance(net, Net):
        raise PatiError(f"the model {name!r} gives a {type(net).__name__}", "expected a pati.models.Net")
    for label, tensor in net.state_dict().items():
        if tensor.dtype not in (torch.float32, torch.int64):
            raise PatiError(f"{label} of the model {name!r} is {tensor.dtype}", "expected float32 or int64")
        _ = tensor.shape  # lazy layers have none yet, and could not be loaded
    copied = copy.deepcopy(net).eval()
    for side in (net.minimum_size, max(net.minimum_size, size)):
        photos = torch.zeros(2, 3, side, side)
        maps = copied.stages(photos)
        if maps.ndim != 4:
            raise PatiError(
                f"the stages of the model {name!r} give {tuple(maps.shape)}, no map: nothing could be explained",
                "expected (N, C, H, W): what takes the mean belongs to the head",
            )
        for made in (copied, folded(copied, torch.bfloat16)):
            shape = tuple(made(photos).shape)
            if shape != (2, classes):
                raise PatiError(f"the model {name!r} answers 2 photos with {shape}", f"expected {(2, classes)}")


def smallest_size(name: str) -> int:
    """Side in px of the smallest photos that a net of this name can be built for."""
    with without_memory(name):
        return models[name](2, Options(size=1)).minimum_size


def without_memory(name: str) -> torch.device:
    """Where to build a net of this name whose weights don't matter; a user's factory may compute with what it makes."""
    return torch.device("meta" if models.plugin(name) is None else "cpu")


__all__ = ["Factory", "Net", "Options", "build", "channels_last", "folded", "models", "smallest_size", "without_memory"]
