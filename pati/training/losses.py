"""The loss: cross-entropy for soft targets, with label smoothing, class weights, focal loss and logit adjustment.

Knows logits and targets; nothing of networks, photos, or how classes are counted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_LEAST = 1e-12  # minimum error: for exponents below 1, the gradient is unbounded at 0


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

    `label_smoothing`: fraction of each target that is spread uniformly over the classes (Szegedy et al., 2016,
    https://arxiv.org/abs/1512.00567).

    `weights` `(K,)`: class weights, applied to each class's part of a target. The mean is over N, not over the weights,
    so that a photo's gradient does not depend on its batch.

    `gamma`: focal loss, -|t - p|^gamma · t · log p for each class, with its part t of the target and its predicted
    probability p; 0 is cross-entropy. For hard labels this is Lin et al., 2017 (https://arxiv.org/abs/1708.02002). For
    smoothed and mixed targets, the distance to the target replaces the distance to 1 (Li et al., 2020,
    https://arxiv.org/abs/2006.04388); otherwise the minimum of the loss would not be at the target.

    `adjustment` `(K,)`: added to the logits, such as the log frequency of the classes (Menon et al., 2021,
    https://arxiv.org/abs/2007.07314). Only during training: the network's own logits then assume equally frequent
    classes.
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
