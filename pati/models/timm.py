"""`timm/NAME`: any convolutional network of timm, without pretrained weights, if timm is installed.

Library: Wightman, "PyTorch image models", https://github.com/huggingface/pytorch-image-models, which cites the paper of
each network; `timm.list_models()` lists them.

Input: at least the smallest of 32, 64, 128 and 224 px that the network accepts; its own stem, whatever the image size.

What differs from timm: the network returns its last feature map, and the head is ours: global average pooling, dropout,
one linear layer. If timm has layers between its pooling and its last layer (a norm in ConvNeXt, a 1×1 convolution in
MobileNetV3), they are applied before the pooling here. Networks without feature maps, such as vision transformers, are
rejected: their predictions could not be explained. `width` is part of timm's name, so it must be 1. Weights are never
downloaded.
"""

from __future__ import annotations

import difflib
from types import ModuleType

import torch
from torch import nn

from pati.errors import PatiError
from pati.locale.messages import N_, either
from pati.models import Factory, models
from pati.models.blocks import Net, Options, mean_head

SIZES = (32, 64, 128, 224)  # px, tried in order


@models.register_family("timm")
def timm(name: str) -> Factory:
    """Any convolutional network of timm, untrained, by its timm name; needs `pip install timm`."""
    try:
        import timm as library
    except ModuleNotFoundError as error:
        missing = error.name or "timm"
        raise PatiError(
            N_("timm/{name} needs {missing}, which is not installed", name=name, missing=missing),
            N_("install it with: pip install {missing}", missing=missing),
        ) from None
    except (ImportError, RuntimeError, OSError) as error:  # from a torchvision built for another torch
        raise PatiError(
            N_("timm can't be imported: {error}", error=error),
            N_("timm needs torchvision: install the version for this torch, or use a model of pati"),
        ) from None
    known = library.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise PatiError(
            N_("timm has no model {name!r}", name=name),
            N_("did you mean {names}?", names=either([f"timm/{other}" for other in near]))
            if near
            else N_("timm.list_models() lists them"),
        )

    def build(classes: int, options: Options) -> Net:
        if options.width != 1:
            raise PatiError(
                N_("timm/{name} has a fixed width, got width={width:g}", name=name, width=options.width),
                N_("omit the width"),
            )
        features, count, smallest = _features(library, name, options.drop_path)
        return Net(nn.Sequential(features), mean_head(count, classes, options.dropout), minimum_size=smallest)

    return build


def _features(library: ModuleType, name: str, drop_path: float) -> tuple[nn.Module, int, int]:
    """The network without its head, the channels of its feature map, and the smallest size that it accepts."""
    choices = {"drop_path_rate": drop_path} if drop_path else {}  # not every network accepts it
    # Never on the meta device: many of timm's constructors compute with tensor values.
    with torch.device("cpu"):
        try:
            net: nn.Module = library.create_model(name, pretrained=False, num_classes=0, global_pool="", **choices)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            hint = N_("not every network has drop_path: omit it") if drop_path else None
            raise PatiError(N_("timm/{name} can't be built: {error}", name=name, error=error), hint) from error
        for size in SIZES:
            try:
                with torch.no_grad():
                    maps = net.eval()(torch.zeros(1, 3, size, size))
            except (AssertionError, RuntimeError, ValueError):  # the size is too small
                continue
            counts = (getattr(net, "num_features", None), getattr(net, "head_hidden_size", None))
            if isinstance(maps, torch.Tensor) and maps.ndim == 4 and maps.shape[1] in counts:
                return net.train(), maps.shape[1], size
            break
    raise PatiError(
        N_("timm/{name} has no feature map, so its predictions cannot be explained", name=name),
        N_("choose a convolutional network"),
    )
