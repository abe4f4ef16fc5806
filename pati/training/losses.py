"""The loss: cross-entropy for soft targets, and what can be done to it for rare classes and sure answers.

Knows logits and targets, nothing of nets, photos or how classes are counted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_LEAST = 1e-12  # a share of error: below it a power smaller than 1 would have a slope without bound


def loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    label_smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
    gamma: float = 0.0,
    adjustment: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean loss, a scalar, of `logits` `(N, K)` for `targets` `(N, K)`, probabilities.

    `label_smoothing`: share of each target that is spread evenly over the classes (Szegedy et al., 2016,
    https://arxiv.org/abs/1512.00567).
    `weights` `(K,)`: each class's part of a target counts so many times; the mean is over N, not over the weights, so
    that a photo's gradient does not depend on its batch.
    `gamma`: focal loss, -|t - p|^gamma · t · log p for each class, where t is its part of the target and p the
    probability given to it; 0 is cross-entropy. For labels that is Lin et al., 2017
    (https://arxiv.org/abs/1708.02002); for smoothed and mixed ones the distance to the target takes the place of that
    to 1 (Li et al., 2020, https://arxiv.org/abs/2006.04388), or the least loss would not lie at the target.
    `adjustment` `(K,)`: added to the logits, such as the logarithm of the classes' shares (Menon et al., 2021,
    https://arxiv.org/abs/2007.07314); only while training: the net's own logits then expect every class alike.
    """
    if adjustment is not None:
        logits = logits + adjustment
    if not gamma:
        return F.cross_entropy(logits, targets, weight=weights, label_smoothing=label_smoothing)
    targets = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    logarithms = logits.log_softmax(1)
    errors = (targets - 1 - torch.expm1(logarithms)).abs()  # t - p, exact where both are near 1
    parts = -targets * errors.clamp_min(_LEAST) ** gamma * logarithms
    if weights is not None:
        parts = parts * weights
    return parts.sum(1).mean()
