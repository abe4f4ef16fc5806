"""Learning curves: the accuracy after training on more photos, or for longer, predicted from smaller trainings.

The share of mistakes of a network trained on n photos for the time t is modelled as

    error(n, t) = a n^-b + c t^-d,

one term for each of the two (Hestness et al., 2017, https://arxiv.org/abs/1712.00409; Hoffmann
et al., 2022, https://arxiv.org/abs/2203.15556), but not above that of guessing. With the time fixed, the second
term is the floor that more photos do not go below.

The few networks that a user has time for cannot determine five parameters: priors measured on other sets of photos say
what is usual, and the posterior is sampled. Its intervals cover the photos that were predicted, the networks' random
weights and subsets, and the curve. Knows no files and no networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import CurvePrediction, LearningCurveDocument
from pati.locale.messages import N_, NP_, Message

# Priors, measured on cats-vs-dogs and clothing (see LOG.md): medians, and standard deviations of the logarithms.
SLOPE, SLOPE_SPREAD = 0.5, 0.35  # b
SPEED, SPEED_SPREAD = 0.2, 0.4  # d
# The floor's part of the mistakes, in log-odds: after so many epochs on all photos, and its change with each doubling.
FLOOR, FLOOR_EPOCHS, FLOOR_STEP, FLOOR_SPREAD = 2.2, 16.0, -0.85, 0.6
# Standard deviations of the log-odds of a mistake: between trainings with other weights and other photos of the kind,
# and of the curve around what is measured.
TRAINING_SPREAD, FORM_SPREAD = 0.1, 0.05
SHARPNESS = 4.0  # of the bend from the error of guessing into the curve
DRAWS, KEPT = 200_000, 20_000  # from the prior, and from the posterior
WIDE = 4.0  # standard errors: the level is drawn from as many around what was measured,
GUESSING = 0.7  # and so much above, in logarithms: near guessing, the curve lies above what is measured
VISIBLE = 0.005  # a gain that may be below half a percentage point cannot be told

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Point:
    """Networks trained alike, on parts of the photos: `right` `bool (N,)` of each photo, predicted by one of them.

    `photos`: how many each was trained on, on average; `length`: its training time relative to the longest.
    """

    photos: float
    length: float
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Draws from the posterior of a curve, each `(KEPT,)`.

    `level`: a + c, in units of `reference` photos and of the longest training; `floor`: c as a part of it; `slope`: b;
    `speed`: d. `chance`: the error of guessing.
    """

    reference: float
    chance: float
    level: Floats
    floor: Floats
    slope: Floats
    speed: Floats

    def accuracy(self, photos: float, length: float = 1.0) -> Estimate:
        """The accuracy of one network trained on `photos` for `length` times as long as the longest so far."""
        noise = np.random.default_rng(1).normal(0, TRAINING_SPREAD, len(self.level))
        errors = self._errors(photos, length)
        return _estimate(1 - _expit(_logit(errors) + noise))

    def gain(self, photos: float, length: float, *, over: float) -> Estimate:
        """By how much the mean accuracy of such networks differs from that of networks trained on `over` photos."""
        return _estimate(self._errors(over, 1.0) - self._errors(photos, length))

    def _errors(self, photos: float, length: float) -> Floats:
        return _errors(
            photos / self.reference, length, self.level, self.floor, self.slope, self.speed, chance=self.chance
        )


def fit(
    points: Sequence[Point],
    folds: NDArray[np.int64],
    *,
    classes: int,
    epochs: float,
    clusters: Clusters | None = None,
) -> LearningCurve:
    """Fit a curve to points on the same photos, of which each of `folds` `(N,)` was predicted by its own networks.

    `epochs`: of the longest training on the most photos, which is one of the points.
    """
    reference, chance = max(point.photos for point in points), 1 - 1 / classes
    right = np.stack([point.right for point in points], 1).astype(np.float64)  # (N, P)
    shares = (len(right) - right.sum(0) + 0.5) / (len(right) + 1)  # of mistakes; never 0 or 1
    steepness = 1 / (shares * (1 - shares))
    noise = _covariance(right, clusters) * np.outer(steepness, steepness)
    noise += np.eye(len(points)) * (TRAINING_SPREAD**2 / len(np.unique(folds)) + FORM_SPREAD**2)
    most = max(range(len(points)), key=lambda index: (points[index].photos, points[index].length))

    generator = np.random.default_rng(0)
    reach = WIDE * np.sqrt(noise[most, most])
    level = shares[most] * np.exp(generator.uniform(-reach, reach + GUESSING, DRAWS))
    usual = FLOOR + FLOOR_STEP * np.log2(max(epochs, 1.0) / FLOOR_EPOCHS)
    floor = _expit(generator.normal(usual, FLOOR_SPREAD, DRAWS))
    slope = SLOPE * np.exp(generator.normal(0, SLOPE_SPREAD, DRAWS))
    speed = SPEED * np.exp(generator.normal(0, SPEED_SPREAD, DRAWS))
    modelled = [
        _errors(point.photos / reference, point.length, level, floor, slope, speed, chance=chance) for point in points
    ]
    deviations = np.stack([_logit(errors) for errors in modelled], 1) - _logit(shares)
    fits = -0.5 * (deviations @ np.linalg.inv(noise) * deviations).sum(1)
    weights = np.exp(fits - fits.max()).cumsum()
    kept = np.searchsorted(weights, (np.arange(KEPT) + 0.5) / KEPT * weights[-1])  # systematic resampling
    return LearningCurve(reference, chance, level[kept], floor[kept], slope[kept], speed[kept])


def findings(document: LearningCurveDocument) -> list[Message]:
    """What the curve says, in sentences: now, with more photos, with more time."""
    now, twice, four = document["now"], *document["more_photos"]
    if now["interval"][0] <= 1 / document["classes"]:
        return [
            N_(
                "these networks are not measurably better than guessing, so nothing can be predicted: measure again "
                "with more time (--budget), or with more photos"
            )
        ]
    return [
        NP_(
            "predicted for a network trained on all {n} photo: {accuracy}",
            "predicted for a network trained on all {n} photos: {accuracy}",
            n=now["photos"],
            accuracy=_about(now),
        ),
        N_("twice the photos: {accuracy}", accuracy=_expected(twice)),
        N_("four times the photos: {accuracy}", accuracy=_expected(four)),
        N_("twice the time: {accuracy}", accuracy=_expected(document["more_time"])),
    ]


def setting(document: LearningCurveDocument) -> Message:
    """How the networks were trained, which the predictions are for."""
    if document["by_time"]:
        return NP_(
            "{n} network, trained for {length:duration}, or half as long to measure the effect of time; predictions "
            "for more photos are for the same time. Accuracy is on photos that it was not trained on, with its 95 % "
            "interval",
            "{n} networks, trained for {length:duration} each, or half as long to measure the effect of time; "
            "predictions for more photos are for the same time. Accuracy is on photos that a network was not trained "
            "on, with its 95 % interval",
            n=document["networks"],
            length=document["length"],
        )
    return NP_(
        "{n} network, trained for as many steps as {length:.0f} epochs on all photos, or half as many to measure the "
        "effect of training length. Accuracy is on photos that it was not trained on, with its 95 % interval",
        "{n} networks, trained for as many steps as {length:.0f} epochs on all photos, or half as many to measure the "
        "effect of training length. Accuracy is on photos that a network was not trained on, with its 95 % interval",
        n=document["networks"],
        length=document["length"],
    )


def _expected(prediction: CurvePrediction) -> Message:
    """A prediction, if the gain can be told from none."""
    told = prediction["gain_interval"][0] >= VISIBLE
    return _about(prediction) if told else N_("no clear difference")


def _about(prediction: CurvePrediction) -> Message:
    low, high = prediction["interval"]
    return N_(
        "about {accuracy:percent0} ({low:percent0} to {high:percent0})",
        accuracy=prediction["accuracy"],
        low=low,
        high=high,
    )


def _errors(
    times: float, length: float, level: Floats, floor: Floats, slope: Floats, speed: Floats, *, chance: float
) -> Floats:
    """Errors for `times` the reference's photos: the curve, bent to stay below the error of guessing."""
    straight = level * ((1 - floor) * times**-slope + floor * length**-speed)
    return np.asarray((straight**-SHARPNESS + chance**-SHARPNESS) ** (-1 / SHARPNESS))


def _covariance(right: Floats, clusters: Clusters | None) -> Floats:
    """Covariance `(P, P)` of the mean of each column of `right` `(N, P)`.

    With half a photo more on each side, so that no mistake in few photos does not mean that there is none.
    """
    padded = np.concatenate([right, np.full((1, right.shape[1]), 0.5)])
    deviations = padded - padded.mean(0)
    if clusters is not None:
        alone = np.append(clusters.of, len(clusters))
        deviations = np.stack([Clusters(alone).sums(column) for column in deviations.T], 1)
    count = len(deviations)
    return np.asarray(deviations.T @ deviations / len(padded) ** 2 * count / (count - 1))


def _estimate(draws: Floats) -> Estimate:
    low, value, high = np.quantile(draws, [0.025, 0.5, 0.975]).tolist()
    return Estimate(value, low, high)


def _logit(shares: Floats) -> Floats:
    return np.asarray(np.log(shares / (1 - shares)))


def _expit(odds: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-odds)))
