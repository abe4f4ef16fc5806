"""`timm/NAME`: any convolutional network of timm, if timm is installed; pretrained weights only if asked for.

Library: Wightman, "PyTorch image models", https://github.com/huggingface/pytorch-image-models, which cites the paper of
each network; `timm.list_models()` lists them.

Input: at least the smallest of 32, 64, 128 and 224 px that the network accepts; its own stem, whatever the image size.

What differs from timm: the network returns its last feature map, and the head is ours: global average pooling, dropout,
one linear layer. If timm has layers between its pooling and its last layer (a norm in ConvNeXt, a 1×1 convolution in
MobileNetV3), they are applied before the pooling here. Networks without feature maps, such as vision transformers, are
rejected: their predictions could not be explained. `width` is part of timm's name, so it must be 1. Weights are
downloaded only for `--weights pretrained`.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import ModuleType

import torch
from torch import nn

from pati.errors import PatiError
from pati.locale.messages import N_, NP_, either
from pati.models import Factory, models
from pati.models.blocks import Net, Options, mean_head

SIZES = (32, 64, 128, 224)  # px, tried in order


@models.register_family("timm")
def timm(name: str) -> Factory:
    """Any convolutional network of timm, by its timm name; with random weights unless `--weights` is given."""
    library = _library(name)
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


def pretrained_weights(name: str) -> tuple[str, dict[str, torch.Tensor]]:
    """The weights that timm offers for a network, with their name; timm downloads them. Raises `PatiError`."""
    library = _library(name)
    try:
        net = library.create_model(name, pretrained=True)
    except Exception as error:
        raise PatiError(
            N_("timm can't provide weights for {name}: {error}", name=name, error=f"{type(error).__name__}: {error}"),
            N_("without an internet connection, give a file that was downloaded elsewhere: --weights FILE.safetensors"),
        ) from error
    tag = net.pretrained_cfg.get("tag")
    return f"{name}.{tag}" if tag else name, dict(net.state_dict())


def normalisation(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of the colours, in 0..1, that timm's weights for a network expect."""
    config = _library(name).get_pretrained_cfg(name)
    (red, green, blue), (red_std, green_std, blue_std) = config.mean, config.std
    return (red, green, blue), (red_std, green_std, blue_std)


def without_classifier(name: str, given: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of timm's network `name`, without its classifier, under the names that they have in ours.

    Raises `PatiError` if they are those of another network.
    """
    library = _library(name)
    with torch.device("cpu"):
        whole = library.create_model(name, pretrained=False).state_dict()
        wanted = library.create_model(name, pretrained=False, num_classes=0, global_pool="").state_dict()
    # Counts of batches are missing in older files.
    missing = [key for key, value in wanted.items() if key not in given and value.is_floating_point()]
    unknown = [key for key in given if key not in whole]
    hint = N_("expected the tensors of timm's {name}, as safetensors", name=name)
    if missing or unknown:
        lacks = NP_(
            "these are not weights of {name}: {n} of its {all} tensors is missing, {example}",
            "these are not weights of {name}: {n} of its {all} tensors are missing, such as {example}",
            n=len(missing),
            name=name,
            all=len(wanted),
            example=missing[0] if missing else "",
        )
        more = N_(
            "these are not weights of {name}, which has no tensor {example}", name=name, example=[*unknown, ""][0]
        )
        raise PatiError(lacks if missing else more, hint)
    for key, value in wanted.items():
        if key in given and given[key].shape != value.shape:
            raise PatiError(
                N_(
                    "these are not weights of {name}: {key} is {got}, expected {expected}",
                    name=name,
                    key=key,
                    got=str(tuple(given[key].shape)),
                    expected=str(tuple(value.shape)),
                ),
                hint,
            )
    return {f"stages.0.{key}": given.get(key, value).to(value.dtype) for key, value in wanted.items()}


def _library(name: str) -> ModuleType:
    """timm. Raises `PatiError` where it can't be imported."""
    try:
        import timm
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
    library: ModuleType = timm
    return library


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
