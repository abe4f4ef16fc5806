"""Run a network on a whole split: logits and moments. `metrics` evaluates them."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pati.data.loader import Samples
from pati.data.preprocess import Preprocess, downscaled
from pati.errors import Interrupted
from pati.evaluation.out_of_distribution import moments
from pati.locale.messages import N_
from pati.models import Net

BATCH = 128


@torch.inference_mode()
def logits_of(
    net: Net,
    data: Samples,
    preprocess: Preprocess,
    *,
    device: torch.device,
    precision: str = "float32",
    size: int | None = None,
    mirror: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> torch.Tensor:
    """Logits `float32 (N, K)` of all samples in order, on the CPU.

    `size` below the pack's shrinks the photos first; `mirror` averages the logits of each photo and its mirror image.
    Raises `Interrupted` when `stopped()` returns true.
    """
    net.eval()
    logits = []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for pixels, _ in data.in_order(BATCH):
            if size is not None:
                pixels = downscaled(pixels, size)
            logits.append(batch_logits(net, preprocess.normalise(pixels.to(device)), mirror=mirror).cpu())
            if stopped():
                raise Interrupted(N_("stopped while scoring"))
    return torch.cat(logits)


def batch_logits(net: Net, images: torch.Tensor, *, mirror: bool = False) -> torch.Tensor:
    """Logits `float32 (N, K)` of normalised images `(N, 3, H, W)`, by a network in evaluation mode."""
    logits: torch.Tensor = net(images)
    if mirror:
        logits = (logits + net(images.flip(3))) / 2
    return logits.float()


def batch_moments(net: Net, images: torch.Tensor) -> torch.Tensor:
    """Moments `(N, D)` of all stages but the last, of normalised images `(N, 3, H, W)`; see `out_of_distribution`."""
    return _staged(net, images)[1]


def batch_logits_and_moments(
    net: Net, images: torch.Tensor, *, mirror: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits as `batch_logits`, and moments `(N, D)` as `batch_moments`."""
    features, stages = features_and_moments(net, images)
    logits: torch.Tensor = net.head(features)
    if mirror:
        logits = (logits + net(images.flip(3))) / 2
    return logits.float(), stages


def features_and_moments(net: Net, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of the last stage, `(N, C, h, w)`, and moments `(N, D)` as `batch_moments`."""
    values, stages = _staged(net, images)
    for stage in list(net.stages)[_monitored_stages(net) :]:
        values = stage(values)
    return values, stages


def _staged(net: Net, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The output of the last stage that has moments, and the moments of all stages up to it."""
    values, parts = images, []
    for stage in list(net.stages)[: _monitored_stages(net)]:
        values = stage(values)
        parts.append(moments(values))
    return values, torch.cat(parts, 1)


def _monitored_stages(net: Net) -> int:
    return max(1, len(net.stages) - 1)  # a network with one stage has no other
