"""Learning curves: the accuracy after training on more photos, or for longer, predicted from smaller trainings.

The log-odds of a mistake are modelled as a polynomial of the logarithm of the number of photos, and as linear in the
logarithm of the training time (Viering and Loog, 2023, https://arxiv.org/abs/2103.10948, compare such curves; for rare
mistakes, it is the power law of Hestness et al., 2017, https://arxiv.org/abs/1712.00409). The few networks of a user
cannot determine a curve: a Gaussian prior, measured on other sets of photos, says what is usual, and the regression is
Bayesian (Bishop, 2006, section 3.3). Its intervals cover the photos that were predicted, the networks' random weights
and subsets, and the form of the curve. Knows no files and no networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import CurvePrediction, LearningCurveDocument
from pati.locale.messages import N_, NP_, Message

# Means and standard deviations, per doubling, of the changes of the log-odds of a mistake: measured, see LOG.md.
SLOPE, SLOPE_SPREAD = -0.25, 0.12  # with the number of photos,
BEND, BEND_SPREAD = 0.0, 0.03  # by which this slope changes with each doubling,
GAIN, GAIN_SPREAD = -0.05, 0.1  # and with the training time
TRAINING_SPREAD = 0.1  # standard deviation between networks trained on other photos of the kind, with other weights
LEVEL_SPREAD = 10.0  # nothing is known of the accuracy itself
_NORMAL = 1.959964  # 97.5 % quantile

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
    """A fitted curve: `mean` `(4,)` and `covariance` `(4, 4)` of its coefficients, around `reference` photos."""

    reference: float
    mean: Floats
    covariance: Floats

    def accuracy(self, photos: float, length: float = 1.0) -> Estimate:
        """The accuracy of a network trained on `photos` for `length` times as long as the longest so far."""
        row = _features(photos / self.reference, length)
        odds, spread = float(row @ self.mean), float(np.sqrt(row @ self.covariance @ row + TRAINING_SPREAD**2))
        value, low, high = (1 - _expit(odds + side * spread) for side in (0, _NORMAL, -_NORMAL))
        return Estimate(value, low, high)

    def gain(self, photos: float, length: float, *, over: float) -> Estimate:
        """By how much the accuracy differs from that of networks trained on `over` photos; its interval for the mean
        of many networks."""
        before, after = _features(over / self.reference, 1.0), _features(photos / self.reference, length)
        change = after - before
        odds, spread = float(change @ self.mean), float(np.sqrt(change @ self.covariance @ change))
        level = float(before @ self.mean)
        value, low, high = (_expit(level) - _expit(level + odds + side * spread) for side in (0, _NORMAL, -_NORMAL))
        return Estimate(value, low, high)


def fit(points: Sequence[Point], folds: NDArray[np.int64], clusters: Clusters | None = None) -> LearningCurve:
    """Fit a curve to points on the same photos, of which each of `folds` `(N,)` was predicted by its own networks."""
    reference = max(point.photos for point in points)
    right = np.stack([point.right for point in points], 1).astype(np.float64)  # (N, P)
    networks = len(np.unique(folds))
    shares = (len(right) - right.sum(0) + 0.5) / (len(right) + 1)  # of mistakes; never 0 or 1
    odds = np.log(shares / (1 - shares))
    steepness = 1 / (shares * (1 - shares))
    noise = _covariance(right, clusters) * np.outer(steepness, steepness)
    noise += np.eye(len(points)) * TRAINING_SPREAD**2 / networks
    rows = np.stack([_features(point.photos / reference, point.length) for point in points])
    prior = np.diag([LEVEL_SPREAD, SLOPE_SPREAD, BEND_SPREAD, GAIN_SPREAD]) ** 2
    expected = np.array([0.0, SLOPE, BEND, GAIN])
    weights = prior @ rows.T @ np.linalg.inv(rows @ prior @ rows.T + noise)
    return LearningCurve(reference, expected + weights @ (odds - rows @ expected), prior - weights @ rows @ prior)


def findings(document: LearningCurveDocument) -> list[Message]:
    """What the curve says, in sentences: now, with more photos, with more time."""
    now, twice, four = document["now"], *document["more_photos"]
    return [
        NP_("all {n} photo: {accuracy}", "all {n} photos: {accuracy}", n=now["photos"], accuracy=_about(now)),
        N_("twice the photos: {accuracy}", accuracy=_expected(twice)),
        N_("four times the photos: {accuracy}", accuracy=_expected(four)),
        N_("twice the time: {accuracy}", accuracy=_expected(document["more_time"])),
    ]


def setting(document: LearningCurveDocument) -> Message:
    """How the networks were trained, which the predictions are for."""
    if document["by_time"]:
        return NP_(
            "{n} network, each trained for {length:duration}, also for more photos; accuracy on photos that it was not "
            "trained on, with 95 % interval",
            "{n} networks, each trained for {length:duration}, also for more photos; accuracy on photos that they were "
            "not trained on, with 95 % interval",
            n=document["networks"],
            length=document["length"],
        )
    return NP_(
        "{n} network, each trained for as many steps as {length:.0f} epochs on all photos; accuracy on photos that it "
        "was not trained on, with 95 % interval",
        "{n} networks, each trained for as many steps as {length:.0f} epochs on all photos; accuracy on photos that "
        "they were not trained on, with 95 % interval",
        n=document["networks"],
        length=document["length"],
    )


def _expected(prediction: CurvePrediction) -> Message:
    """A prediction, if the gain can be told from none."""
    low, high = prediction["gain_interval"]
    return N_("no difference can be told") if low <= 0 <= high else _about(prediction)


def _about(prediction: CurvePrediction) -> Message:
    low, high = prediction["interval"]
    return N_(
        "about {accuracy:percent0} ({low:percent0} to {high:percent0})",
        accuracy=prediction["accuracy"],
        low=low,
        high=high,
    )


def _features(times: float, length: float) -> Floats:
    doublings = np.log2(times)
    return np.array([1.0, doublings, doublings**2 / 2, np.log2(length)])


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


def _expit(odds: float) -> float:
    return float(1 / (1 + np.exp(-odds)))
