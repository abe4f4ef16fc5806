"""Is a photo of the kind that the net was trained on? A classifier of cats and dogs calls a shoe a cat.

What the net's stages but the last give, told by each channel's mean size and spread over the photo, is compared with
the training photos' by a normal distribution of the logarithms (Mahalanobis distance, after Lee et al., 2018,
https://arxiv.org/abs/1807.03888; the covariance is that of probabilistic principal components, Tipping and Bishop,
1999). That distance and how sure the answer is are each ranked among validation photos, and both ranks combined
(Fisher).

It knows nothing of what photos show: what looks like the training photos to the net's early stages and is answered
surely stays in scope, whatever it is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

PHOTOS = 2000  # of the training photos: more change nothing (LOG.md),
FEWEST_PHOTOS = 256  # and where time is short, so many will do
DIRECTIONS = 128  # principal ones; beyond these all are taken to vary alike
ODD = 0.01  # a photo is odd if this share of the validation photos, or less, is as odd
SIZES = ("features", "directions", "quantiles")
FEWEST = 27  # validation photos: by fewer, none can be odd, for first of all in both ranks is not rare enough
_QUANTILES = 1000  # kept of the validation photos' values
_LEAST = 0.01  # of a feature's usual value: below, its logarithm would be noise
_MOST = 8.0  # standard deviations: beyond, a feature counts no more


def moments(values: torch.Tensor) -> torch.Tensor:
    """What a stage gives, `(N, C, H, W)` -> its channels' mean sizes, then standard deviations, `float32 (N, 2C)`."""
    values = values.float()
    return torch.cat([values.abs().mean((2, 3)), values.std((2, 3), correction=0)], 1)


@dataclass(frozen=True, eq=False)
class Scope:
    """What the training photos' moments are like, all `float32`.

    `usual` `(D,)`: each one's mean; `centre`, `scale` `(D,)`: of its logarithm; `directions` `(D, P)` with `variances`
    `(P,)`, and `rest` `(1,)`, the variance along any other; `distances` and `confidences` `(Q,)`: those of validation
    photos, rising, evenly spaced by rank.
    """

    usual: torch.Tensor
    centre: torch.Tensor
    scale: torch.Tensor
    directions: torch.Tensor
    variances: torch.Tensor
    rest: torch.Tensor
    distances: torch.Tensor
    confidences: torch.Tensor

    @classmethod
    def of(cls, training: torch.Tensor, validation: torch.Tensor, confidences: torch.Tensor) -> Scope:
        """Learnt from `moments` of training and validation photos, and the confidences in the latter's answers."""
        usual = training.mean(0).clamp_min(1e-12)
        logarithms = _logarithms(training, usual)
        centre, scale = logarithms.mean(0), logarithms.std(0, correction=0).clamp_min(1e-3)
        values = ((logarithms - centre) / scale).clamp(-_MOST, _MOST)
        count, features = values.shape
        kept = max(1, min(DIRECTIONS, features - 1, count // 8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # it draws where to look
            _, sizes, directions = torch.svd_lowrank(values, q=min(kept + 8, *values.shape), niter=4)
        directions, variances = directions[:, :kept], sizes[:kept].square() / count
        rest = ((values.square().sum() / count - variances.sum()) / (features - kept)).clamp_min(1e-3)[None]
        empty = torch.zeros(0)
        made = cls(usual, centre, scale, directions, variances.clamp_min(1e-3), rest, empty, empty)
        ends = [_quantiles(some.float()) for some in (made.distance(validation), confidences)]
        return cls(usual, centre, scale, directions, made.variances, rest, *ends)

    def distance(self, moments: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distance of photos' moments `(N, D)` from the training photos', `(N,)`."""
        values = ((_logarithms(moments, self.usual) - self.centre) / self.scale).clamp(-_MOST, _MOST)
        along = values @ self.directions
        beyond = (values.square().sum(1) - along.square().sum(1)).clamp_min(0)
        return (along.square() / self.variances).sum(1) + beyond / self.rest

    def familiarity(self, moments: torch.Tensor, confidences: torch.Tensor) -> torch.Tensor:
        """The share of photos of the kind trained on that are as odd, `float64 (N,)`: near 0 means out of scope."""
        count = len(self.distances)
        farther = count - torch.searchsorted(self.distances, self.distance(moments), right=False)
        less_sure = torch.searchsorted(self.confidences, confidences.to(self.confidences), right=True)
        product = ((farther + 1) / (count + 1)).double() * ((less_sure + 1) / (count + 1)).double()
        # Fisher's method for two values: minus twice the logarithm of the product is chi-squared with 4 degrees.
        return (product * (1 - product.log())).clamp(0, 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All of it by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def sizes(self) -> dict[str, int]:
        """`SIZES` by name: what `shapes` needs."""
        return dict(zip(SIZES, (*self.directions.shape, len(self.distances)), strict=True))

    @staticmethod
    def shapes(features: int, directions: int, quantiles: int) -> dict[str, tuple[int, ...]]:
        """The shapes that `tensors` has; raises `ValueError` for sizes that can't be."""
        if not (0 < directions < features < 10**6 and 0 < quantiles <= _QUANTILES):
            raise ValueError(f"a scope of {features} features, {directions} directions, {quantiles} ranks")
        wide, narrow, ranks = (features,), (directions,), (quantiles,)
        return {
            "usual": wide, "centre": wide, "scale": wide, "directions": (features, directions), "variances": narrow,
            "rest": (1,), "distances": ranks, "confidences": ranks,
        }  # fmt: skip


def _logarithms(moments: torch.Tensor, usual: torch.Tensor) -> torch.Tensor:
    return (moments / usual + _LEAST).log()


def _quantiles(values: torch.Tensor) -> torch.Tensor:
    ordered = values.sort().values
    if len(ordered) <= _QUANTILES:
        return ordered
    return ordered[torch.linspace(0, len(ordered) - 1, _QUANTILES).round().long()]
