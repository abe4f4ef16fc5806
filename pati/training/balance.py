"""Class balancing: from the number of training photos per class to sampling weights, loss weights and so on.

Knows counts and a recipe; photos are drawn by `data.loader`, the loss is in `losses`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pati.recipe import SettledRecipe
from pati.runs.history import ClassBalance

if TYPE_CHECKING:
    import torch

IMBALANCED = 3.0  # largest to smallest class, in photos: from here on, per-class averages are the main scores
ADVISED = ((1.0, "none"), (IMBALANCED, "sampling"))  # (minimum ratio, method); the study supports only the method
STRONGEST = 2.0  # with augment, strength of augmentation of the rarest class; the most frequent one has 1


def ratio(counts: Sequence[int]) -> float:
    """Number of photos of the largest class over that of the smallest, 1 or more."""
    return max(counts) / min(counts) if min(counts) else math.inf


def advised(counts: Sequence[int]) -> str:
    """The advised balancing method for these numbers of training photos per class."""
    return [method for least, method in ADVISED if least <= ratio(counts)][-1]


def settled(recipe: SettledRecipe, counts: Sequence[int]) -> SettledRecipe:
    """The recipe with "auto" replaced by the advised method."""
    return dataclasses.replace(recipe, balance=advised(counts)) if recipe.balance == "auto" else recipe


def class_balance(method: str, counts: Sequence[int]) -> ClassBalance:
    """The class balance of these numbers of training photos per class, and the balancing method."""
    imbalance = ratio(counts)
    return ClassBalance(method, round(imbalance, 2), by_class=method != "none" or imbalance >= IMBALANCED)


@dataclass(frozen=True)
class Balance:
    """What a balancing method changes, for a training set of N photos in K classes; the defaults change nothing.

    `sampling_weights` `float64 (N,)`: relative frequency of each photo; None: each is drawn once per epoch. `strength`
    `float64 (N,)`: of each photo's augmentation. `partner_power`: see `partners`. `weights` and `adjustment`, `float32
    (K,)` on the device, and `gamma`: see `losses.loss`.
    """

    strength: torch.Tensor
    sampling_weights: torch.Tensor | None = None
    partner_power: float = 0.0
    weights: torch.Tensor | None = None
    gamma: float = 0.0
    adjustment: torch.Tensor | None = None

    def partners(self, labels: torch.Tensor) -> torch.Tensor | None:
        """Sampling weights `(B,)` of a batch's photos as mixing partners; at power 1, classes are equally likely.

        `labels` `(B,)`: their class indices.
        """
        if not self.partner_power:
            return None
        labels = labels.cpu()  # Apple's GPU has no float64
        return labels.bincount()[labels].double() ** -self.partner_power


def of(recipe: SettledRecipe, labels: torch.Tensor, photos: Sequence[int], device: torch.device) -> Balance:
    """The class balancing of a settled recipe, for training photos with class indices `labels` `(N,)`.

    `photos`: their number in each class.

    A photo's sampling weight, or its class's loss weight, is the class's count to the power of -balance_power; the
    effective number of samples is that of Cui et al. (2019, https://arxiv.org/abs/1901.05555). Loss weights are scaled
    to a mean of 1 over the training photos, which preserves the magnitude of the loss. All of them are computed from
    the ratio of the largest class's count to the class's own, so that a balanced training set is left exactly
    unchanged.
    """
    import torch  # not above: an audit advises without it

    labels = labels.cpu()
    counts = torch.tensor(photos, dtype=torch.float64).clamp_min(1)
    rarity = counts.max() / counts
    uneven = rarity.max() > 1
    evening = rarity**recipe.balance_power
    same = Balance(strength=torch.ones(len(labels), dtype=torch.float64))

    def weights(by_class: torch.Tensor) -> torch.Tensor:
        return (by_class * counts.sum() / (by_class * counts).sum()).to(device, torch.float32)

    if recipe.balance == "sampling":
        return dataclasses.replace(same, sampling_weights=evening[labels])
    if recipe.balance == "weights":
        return dataclasses.replace(same, weights=weights(evening))
    if recipe.balance == "effective":
        effective = -torch.expm1(counts * torch.tensor(recipe.effective_beta, dtype=torch.float64).log())
        return dataclasses.replace(same, weights=weights(effective.max() / effective))
    if recipe.balance == "focal":
        return dataclasses.replace(same, gamma=recipe.focal_gamma)
    if recipe.balance == "logits":
        adjustment = -recipe.balance_power * rarity.log()  # the prior's logarithm, up to a constant
        return dataclasses.replace(same, adjustment=adjustment.to(device, torch.float32))
    if recipe.balance == "augment" and uneven:
        stronger = 1 + (STRONGEST - 1) * rarity.log() / rarity.max().log()
        return Balance(strength=stronger[labels], sampling_weights=evening[labels], partner_power=recipe.balance_power)
    return same
