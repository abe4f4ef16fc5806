"""The catalogue of explainers.

An explainer is a function `(net, images, classes) -> maps`: normalised images
`(N, 3, H, W)` and the class to explain in each, `int64 (N,)`, to non-negative maps
`(N, h, w)` at the resolution of the stage looked at. Nets are cut at `stages`, so no hooks
are needed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pati.models.blocks import Net
from pati.registry import Registry

Explainer = Callable[[Net, torch.Tensor, torch.Tensor], torch.Tensor]
explainers: Registry[Explainer] = Registry("explainer")


@explainers.register("grad-cam")
def grad_cam(net: Net, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Grad-CAM of the last stage (Selvaraju et al., 2017, https://arxiv.org/abs/1610.02391)."""
    with torch.no_grad():
        features = net.stages(images)
    # The logit's slope in the features needs no graph below them.
    features = features.detach().requires_grad_()
    with torch.enable_grad():
        scores = net.head(features).gather(1, classes[:, None]).sum()
        (slopes,) = torch.autograd.grad(scores, features)
    weights = slopes.mean((2, 3), keepdim=True)  # equation 1
    maps: torch.Tensor = (weights * features).sum(1).clamp_min(0).detach()  # equation 2
    return maps
