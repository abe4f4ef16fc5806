"""A split through a net: logits, nothing else. What they are worth is for `metrics`."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from pati.data.loader import Samples
from pati.errors import Interrupted
from pati.models import Net
from pati.preprocess import Preprocess

BATCH = 128


@torch.inference_mode()
def logits_of(
    net: Net,
    data: Samples,
    preprocess: Preprocess,
    *,
    device: torch.device,
    size: int | None = None,
    mirror: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> torch.Tensor:
    """Logits `float32 (N, K)` of all samples in order, on the CPU.

    `size` other than the pack's shrinks the photos first; `mirror` averages the logits of
    each photo and its mirror image. Raises `Interrupted` when `stopped()` turns true.
    """
    net.eval()
    logits = []
    for pixels, _ in data.in_order(BATCH):
        logits.append(batch_logits(net, preprocess.normalise(pixels.to(device)), size=size, mirror=mirror).cpu())
        if stopped():
            raise Interrupted("stopped while scoring")
    return torch.cat(logits)


def batch_logits(net: Net, images: torch.Tensor, *, size: int | None = None, mirror: bool = False) -> torch.Tensor:
    """Logits `(N, K)` of normalised images `(N, 3, H, W)`, by a net in evaluation mode."""
    if size is not None and images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=images.device.type == "cuda"):
        logits: torch.Tensor = net(images)
        if mirror:
            logits = (logits + net(images.flip(3))) / 2
    return logits.float()
