"""Detect photos unlike the training photos. Without it, a classifier of cats and dogs calls a shoe a cat.

The outputs of all stages but the last are summarised by the mean absolute value and standard deviation of each channel
over the photo. The logarithms of these are compared with those of the training photos under a normal distribution
(Mahalanobis distance, after Lee et al., 2018, https://arxiv.org/abs/1807.03888, with the covariance of probabilistic
PCA, Tipping and Bishop, 1999). The distance and the confidence of the prediction are each ranked among the validation
photos, and the two ranks combined (Fisher's method).

Knows nothing of what photos show: a photo that resembles the training photos to the early stages and is classified with
high confidence counts as in-distribution, whatever it shows.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PHOTOS = 2000  # training photos for fitting: more make no difference (LOG.md),
FEWEST_PHOTOS = 256  # and this many suffice if time is short
DIRECTIONS = 128  # principal components; the variance is assumed equal along all other directions
LEVEL = 0.01  # p-value up to which a photo is out-of-distribution
SIZES = ("features", "directions", "quantiles")
FEWEST = 27  # validation photos: with fewer, even the extreme in both ranks has a p-value above LEVEL
_QUANTILES = 1000  # of the validation photos' values that are stored
_LEAST = 0.01  # of a feature's mean: below it, the logarithm would be noise
_MOST = 8.0  # standard deviations at which a feature is clipped


def moments(values: torch.Tensor) -> torch.Tensor:
    """Mean absolute values, then standard deviations of a stage's channels: `(N, C, H, W)` -> `float32 (N, 2C)`."""
    from torch import cat  # so that answering without torch can import this module

    values = values.float()
    return cat([values.abs().mean((2, 3)), values.std((2, 3), correction=0)], 1)


@dataclass(frozen=True, eq=False)
class OutOfDistributionDetector:
    """The distribution of the training photos' moments; all tensors are `float32`.

    `usual` `(D,)`: the mean of each moment. `centre`, `scale` `(D,)`: mean and standard deviation of its logarithm.
    `directions` `(D, P)` with `variances` `(P,)`: principal components; `rest` `(1,)`: the variance along any other
    direction. `distances` and `confidences` `(Q,)`: values of the validation photos in increasing order, evenly spaced
    by rank.
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
    def of(
        cls, training: torch.Tensor, validation: torch.Tensor, confidences: torch.Tensor
    ) -> OutOfDistributionDetector:
        """Fit to `moments` of training and validation photos, and the confidences of the latter's predictions."""
        detector = cls.fitted(training)
        return detector.ranked(detector.distance(validation), confidences)

    @classmethod
    def fitted(cls, training: torch.Tensor) -> OutOfDistributionDetector:
        """Fit to `moments` of training photos `(N, D)`; `p_values` needs `ranked`."""
        import torch

        usual = training.mean(0).clamp_min(1e-12)
        logarithms = _logarithms(training, usual)
        centre, scale = logarithms.mean(0), logarithms.std(0, correction=0).clamp_min(1e-3)
        values = ((logarithms - centre) / scale).clamp(-_MOST, _MOST)
        count, features = values.shape
        kept = max(1, min(DIRECTIONS, features - 1, count // 8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # svd_lowrank is randomised
            _, sizes, directions = torch.svd_lowrank(values, q=min(kept + 8, *values.shape), niter=4)
        directions, variances = directions[:, :kept], sizes[:kept].square() / count
        rest = ((values.square().sum() / count - variances.sum()) / (features - kept)).clamp_min(1e-3)[None]
        empty = torch.zeros(0)
        return cls(usual, centre, scale, directions, variances.clamp_min(1e-3), rest, empty, empty)

    def ranked(self, distances: torch.Tensor, confidences: torch.Tensor) -> OutOfDistributionDetector:
        """The same, ranking by the distances and confidences `(N,)` of photos that were not trained on."""
        return replace(self, distances=_quantiles(distances.float()), confidences=_quantiles(confidences.float()))

    def distance(self, moments: torch.Tensor) -> torch.Tensor:
        """Squared Mahalanobis distance of moments `(N, D)` from the training photos', `(N,)`."""
        values = ((_logarithms(moments, self.usual) - self.centre) / self.scale).clamp(-_MOST, _MOST)
        along = values @ self.directions
        beyond = (values.square().sum(1) - along.square().sum(1)).clamp_min(0)
        return (along.square() / self.variances).sum(1) + beyond / self.rest

    def p_values(self, moments: torch.Tensor, confidences: torch.Tensor) -> torch.Tensor:
        """p-values `float64 (N,)` that the photos are in-distribution; low ones are out-of-distribution.

        The fraction of validation photos that look at least as unusual, by distance and confidence combined.
        """
        return self.p_values_of(self.distance(moments), confidences)

    def p_values_of(self, distances: torch.Tensor, confidences: torch.Tensor) -> torch.Tensor:
        """The same for photos at these `distance`s `(N,)`."""
        from torch import searchsorted

        count = len(self.distances)
        farther = count - searchsorted(self.distances, distances, right=False)
        less_sure = searchsorted(self.confidences, confidences.to(self.confidences), right=True)
        product = ((farther + 1) / (count + 1)).double() * ((less_sure + 1) / (count + 1)).double()
        # Fisher's method for two p-values: -2 log(product) is chi-squared with 4 degrees of freedom.
        return (product * (1 - product.log())).clamp(0, 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        """All tensors by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def sizes(self) -> dict[str, int]:
        """`SIZES` by name: the arguments of `shapes`."""
        return dict(zip(SIZES, (*self.directions.shape, len(self.distances)), strict=True))

    @staticmethod
    def shapes(features: int, directions: int, quantiles: int) -> dict[str, tuple[int, ...]]:
        """The shapes of `tensors` for these sizes; raises `ValueError` for impossible ones."""
        if not (0 < directions < features < 10**6 and 0 < quantiles <= _QUANTILES):
            raise ValueError(f"a detector of {features} features, {directions} directions, {quantiles} ranks")
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
    from torch import linspace

    return ordered[linspace(0, len(ordered) - 1, _QUANTILES).round().long()]
