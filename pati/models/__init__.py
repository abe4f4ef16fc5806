"""Architectures, one family per file; importing the package registers them all.

A model is a factory `(classes, options) -> Net`, registered under its name. To add one, add a file here: `pati list`,
the contract tests and the docs pick it up automatically.
"""

from __future__ import annotations

import copy
from typing import Protocol

import torch

from pati import plugins
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.models.blocks import Net, Options, channels_last
from pati.models.folding import folded
from pati.registry import Registry


class Factory(Protocol):
    """Builds a network with random weights."""

    def __call__(self, classes: int, options: Options) -> Net:
        """A network with `classes` logits."""


models: Registry[Factory] = Registry(N_("model"), "pati.models")


def build(name: str, classes: int, options: Options = Options(), *, seed: int = 0) -> Net:
    """The network `name` with weights initialised from `seed`; the global generator is not changed."""
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
    """Check a plugin's network before minutes are spent on training it; the network is not changed."""
    if not isinstance(net, Net):
        raise PatiError(
            N_("the model {name!r} returned a {type}", name=name, type=type(net).__name__),
            N_("expected a pati.models.Net"),
        )
    for label, tensor in net.state_dict().items():
        if tensor.dtype not in (torch.float32, torch.int64):
            raise PatiError(
                N_("the model {name!r}: {label} is {dtype}", label=label, name=name, dtype=tensor.dtype),
                N_("expected float32 or int64"),
            )
        _ = tensor.shape  # raises for lazy layers, which could not be loaded from a file
    copied = copy.deepcopy(net).eval()
    for side in (net.minimum_size, max(net.minimum_size, size)):
        photos = torch.zeros(2, 3, side, side)
        maps = copied.stages(photos)
        if maps.ndim != 4:
            raise PatiError(
                N_(
                    "the stages of the model {name!r} return {shape}, which is not a feature map: its "
                    "predictions cannot be explained",
                    name=name,
                    shape=str(tuple(maps.shape)),
                ),
                N_("expected (N, C, H, W): pooling belongs to the head"),
            )
        for candidate in (copied, folded(copied, torch.bfloat16)):
            shape = tuple(candidate(photos).shape)
            if shape != (2, classes):
                raise PatiError(
                    N_("the model {name!r} returned {shape} for 2 photos", name=name, shape=str(shape)),
                    N_("expected {shape}", shape=str((2, classes))),
                )


def smallest_size(name: str) -> int:
    """Side in px of the smallest images for which the network `name` can be built."""
    with without_memory(name):
        return models[name](2, Options(size=1)).minimum_size


def by_class(name: str, options: Options) -> frozenset[str]:
    """The names of the tensors of the network `name` whose first axis is the classes."""
    with without_memory(name):
        two, three = (models[name](classes, options).state_dict() for classes in (2, 3))
    return frozenset(key for key, value in two.items() if value.shape != three[key].shape)


def without_memory(name: str) -> torch.device:
    """The device on which to build a network whose weights don't matter.

    The meta device, or the CPU for plugins, whose factories may compute with tensor values.
    """
    return torch.device("meta" if models.plugin(name) is None else "cpu")


__all__ = [
    "Factory", "Net", "Options", "build", "by_class", "channels_last", "folded", "models", "smallest_size",
    "without_memory",
]  # fmt: skip
