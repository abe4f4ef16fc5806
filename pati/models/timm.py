"""`timm/NAME`: any convolutional net of timm, untrained, where timm is installed.

Library: Wightman, "PyTorch image models", https://github.com/huggingface/pytorch-image-models, which names the paper of
each net; `timm.list_models()` lists them.

Input: the smallest of 32, 64, 128 and 224 px that the net takes; its own stem, whatever the photos' size.

What differs from timm: the net gives its last map, and the head is ours: the mean, dropout, one linear layer. Where
timm has layers between the mean and the last one (a norm in ConvNeXt, a 1×1 convolution in MobileNetV3), they work
before the mean here. Nets that give no map, such as vision transformers, are refused: nothing could be explained.
`width` is part of the name there, so it must be 1. No weights are ever downloaded.
"""

from __future__ import annotations

import difflib
from types import ModuleType

import torch
from torch import nn

from pati.errors import PatiError
from pati.models import Factory, models
from pati.models.blocks import Net, Options, mean_head

SIZES = (32, 64, 128, 224)  # px, tried in order


@models.register_family("timm")
def timm(name: str) -> Factory:
    """Any convolutional net of timm, untrained, by its name there; needs `pip install timm`."""
    try:
        import timm as library
    except ModuleNotFoundError as error:
        missing = error.name or "timm"
        raise PatiError(
            f"timm/{name} needs {missing}, which is not installed", f"install it: pip install {missing}"
        ) from None
    except (ImportError, RuntimeError, OSError) as error:  # of a torchvision made for another torch
        raise PatiError(
            f"timm can't be imported: {error}",
            "it needs torchvision; install the one made for this torch, or leave timm out",
        ) from None
    known = library.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        raise PatiError(
            f"timm has no model {name!r}",
            f"did you mean {' or '.join(f'timm/{other}' for other in near)}?" if near else "see timm.list_models()",
        )

    def build(classes: int, options: Options) -> Net:
        if options.width != 1:
            raise PatiError(f"timm/{name} has a width of its own, got width={options.width:g}", "leave width out")
        features, count, smallest = _features(library, name, options.drop_path)
        return Net(nn.Sequential(features), mean_head(count, classes, options.dropout), minimum_size=smallest)

    return build


def _features(library: ModuleType, name: str, drop_path: float) -> tuple[nn.Module, int, int]:
    """The net without its head, the channels of its map, and the smallest size that it takes."""
    choices = {"drop_path_rate": drop_path} if drop_path else {}  # not every net has the choice
    # Always with memory: many of timm's constructors compute with tensors, which have no values elsewhere.
    with torch.device("cpu"):
        try:
            net: nn.Module = library.create_model(name, pretrained=False, num_classes=0, global_pool="", **choices)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            hint = "not every net has drop_path: leave it out" if drop_path else ""
            raise PatiError(f"timm/{name} can't be built: {error}", hint) from error
        for size in SIZES:
            try:
                with torch.no_grad():
                    maps = net.eval()(torch.zeros(1, 3, size, size))
            except (AssertionError, RuntimeError, ValueError):  # too small for it
                continue
            counts = (getattr(net, "num_features", None), getattr(net, "head_hidden_size", None))
            if isinstance(maps, torch.Tensor) and maps.ndim == 4 and maps.shape[1] in counts:
                return net.train(), maps.shape[1], size
            break
    raise PatiError(
        f"timm/{name} gives no map of features, so that nothing could be explained", "take a convolutional net"
    )
