"""Class balance: from the number of training photos of each class to what training does about it.

Knows counts and a recipe; photos are drawn by `data.loader`, the loss is in `losses`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pati.recipe import SettledRecipe
from pati.runs.history import Evenness

IMBALANCED = 3.0  # times as many photos in the largest class as in the smallest: scores by class lead from here on
ADVISED = ((1.0, "none"), (IMBALANCED, "sampling"))  # from this ratio on; the study tells the method, not the ratio
STRONGEST = 2.0  # the rarest class's augmentation under augment; the most frequent one's is 1


def ratio(counts: Sequence[int]) -> float:
    """How many times as many photos the largest class has as the smallest one, 1 or more."""
    return max(counts) / min(counts) if min(counts) else math.inf


def advised(counts: Sequence[int]) -> str:
    """The method that suits so many training photos of each class."""
    return [method for least, method in ADVISED if least <= ratio(counts)][-1]


def settled(recipe: SettledRecipe, counts: Sequence[int]) -> SettledRecipe:
    """The recipe with a method where it says auto."""
    return dataclasses.replace(recipe, balance=advised(counts)) if recipe.balance == "auto" else recipe


def counted(targets: torch.Tensor) -> list[int]:
    """Number of photos of each class by their targets `(N, K)`."""
    counts: list[int] = targets.argmax(1).bincount(minlength=targets.shape[1]).tolist()
    return counts


def evenness(method: str, counts: Sequence[int]) -> Evenness:
    """How even so many training photos of each class are, and the method that balances them."""
    found = ratio(counts)
    return Evenness(method, round(found, 2), by_class=method != "none" or found >= IMBALANCED)


@dataclass(frozen=True)
class Balance:
    """What a method does for a training set of N photos in K classes; every part left alone is the identity.

    `chances` `float64 (N,)`: of each photo to be drawn, in proportion; None: each is drawn once in an epoch.
    `strength` `float64 (N,)`: of each photo's augmentation. `partner_power`: see `partners`.
    `weights` and `adjustment`, `float32 (K,)` on the device, and `gamma`: see `losses.loss`.
    """

    strength: torch.Tensor
    chances: torch.Tensor | None = None
    partner_power: float = 0.0
    weights: torch.Tensor | None = None
    gamma: float = 0.0
    adjustment: torch.Tensor | None = None

    def partners(self, targets: torch.Tensor) -> torch.Tensor | None:
        """Chances `(B,)` of a batch's photos to be mixed into others: at power 1 each class has the same."""
        if not self.partner_power:
            return None
        labels = targets.argmax(1)
        return labels.bincount()[labels].double() ** -self.partner_power


def of(recipe: SettledRecipe, targets: torch.Tensor, device: torch.device) -> Balance:
    """What a settled recipe does about classes as uneven as those of the training targets `(N, K)`.

    A photo's chance, or its class's weight, is the class's count to the power of -balance_power; the effective number
    of photos is that of Cui et al. (2019, https://arxiv.org/abs/1901.05555). Weights are scaled so that their mean over
    the training photos is 1, and the loss keeps its size. All are made from how many times rarer a class is than
    the most frequent one, so that even classes are left exactly as they are.
    """
    labels = targets.argmax(1).cpu()
    counts = torch.tensor(counted(targets), dtype=torch.float64).clamp_min(1)
    rarity = counts.max() / counts
    uneven = rarity.max() > 1
    evening = rarity**recipe.balance_power
    same = Balance(strength=torch.ones(len(targets), dtype=torch.float64))

    def weights(by_class: torch.Tensor) -> torch.Tensor:
        return (by_class * counts.sum() / (by_class * counts).sum()).to(device, torch.float32)

    if recipe.balance == "sampling":
        return dataclasses.replace(same, chances=evening[labels])
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
        return Balance(strength=stronger[labels], chances=evening[labels], partner_power=recipe.balance_power)
    return same
