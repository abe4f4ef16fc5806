"""Run a network on a whole split: logits and moments. `metrics` evaluates them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from pati.data.loader import Samples
from pati.data.preprocess import Preprocess, downscaled
from pati.evaluation.out_of_distribution import moments
from pati.models import Net

BATCH = 128


@dataclass(frozen=True)
class SecondView:
    """Test-time augmentation: a second version of each photo, whose logits are averaged with those of the photo.

    `mirror`: it is the mirror image. `crop`: it is the enlarged centre, this fraction of each side, 0.5 or more; 1: the
    whole photo. Raises `ValueError` for another fraction.
    """

    mirror: bool = False
    crop: float = 1.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.crop <= 1:
            raise ValueError(f"center_crop: expected a number from 0.5 to 1, got {self.crop}")

    def __bool__(self) -> bool:
        return self.mirror or self.crop < 1

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """The second versions of normalised images `(N, 3, H, W)`, in the same shape."""
        if self.crop < 1:
            height, width = images.shape[2:]
            top, left = (round(side * (1 - self.crop) / 2) for side in (height, width))
            centre = images[:, :, top : height - top, left : width - left]
            images = F.interpolate(centre, (height, width), mode="bilinear", align_corners=False)
        return images.flip(3) if self.mirror else images


NO_VIEW = SecondView()


@torch.inference_mode()
def logits_of(
    net: Net,
    data: Samples,
    preprocess: Preprocess,
    *,
    device: torch.device,
    precision: str = "float32",
    size: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> torch.Tensor:
    """Logits `float32 (N, K)` of all samples in order, on the CPU; of fewer, once `stopped()` returns true.

    `size` below the pack's shrinks the photos first.
    """
    net.eval()
    logits = [torch.zeros(0, data.classes)]
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        for pixels, _ in data.in_order(BATCH):
            if size is not None:
                pixels = downscaled(pixels, size)
            logits.append(batch_logits(net, preprocess.normalise(pixels.to(device))).cpu())
            if stopped():
                break
    return torch.cat(logits)


def batch_logits(net: Net, images: torch.Tensor, second: SecondView = NO_VIEW) -> torch.Tensor:
    """Logits `float32 (N, K)` of normalised images `(N, 3, H, W)`, by a network in evaluation mode."""
    logits: torch.Tensor = net(images)
    if second:
        logits = (logits + net(second.of(images))) / 2
    return logits.float()


def batch_moments(net: Net, images: torch.Tensor) -> torch.Tensor:
    """Moments `(N, D)` of all stages but the last, of normalised images `(N, 3, H, W)`; see `out_of_distribution`."""
    return _staged(net, images)[1]


def batch_logits_and_moments(
    net: Net, images: torch.Tensor, second: SecondView = NO_VIEW
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits as `batch_logits`, and moments `(N, D)` as `batch_moments`."""
    features, stages = features_and_moments(net, images)
    logits: torch.Tensor = net.head(features)
    if second:
        logits = (logits + net(second.of(images))) / 2
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
