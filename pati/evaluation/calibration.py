"""Calibrate confidence: temperature scaling, calibration error, and thresholds for abstaining.

Functions of numbers alone: logits `(N, K)` and labels `int64 (N,)`, or confidences `float64 (N,)` and whether each
prediction is correct, `bool (N,)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import Bin
from pati.evaluation.intervals import bootstrap_indices, proportion_interval

if TYPE_CHECKING:
    import torch

BINS = 15
MAX_TEMPERATURE = 20.0  # highest temperature considered; the lowest one is its reciprocal
RISK = 0.01  # default accepted error rate among the photos that are not unsure

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class CalibrationDocument(TypedDict):
    """A `Calibration` in a model file."""

    temperature: float
    thresholds: Sequence[Sequence[float]]
    photos: int


@dataclass(frozen=True)
class Calibration:
    """Calibration of a classifier's confidence, fitted to its `photos` validation photos.

    `temperature`: see the function; `thresholds`: see the function, for confidences at that temperature.
    """

    temperature: float
    thresholds: tuple[tuple[float, float], ...]
    photos: int

    @classmethod
    def of(cls, logits: torch.Tensor, labels: torch.Tensor) -> Calibration:
        """Fit to the logits `(N, K)` and labels `(N,)` of validation photos."""
        fitted = temperature(logits, labels)
        return cls(fitted, tuple(thresholds(*confidences(logits, labels, fitted))), len(labels))

    def threshold(self, risk: float = RISK) -> float:
        """The confidence above which the error rate is at most `risk`.

        Above 1, so that every prediction is unsure, if no threshold achieves this.
        """
        found = threshold_for(risk, self.thresholds)
        return math.nextafter(1.0, 2.0) if found is None else found

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(N, K)` -> probabilities `float64 (N, K)`."""
        return (logits.double() / self.temperature).softmax(1)

    def to_json(self) -> CalibrationDocument:
        """As plain values."""
        return {"temperature": self.temperature, "thresholds": self.thresholds, "photos": self.photos}

    @classmethod
    def from_json(cls, document: CalibrationDocument) -> Calibration:
        """Inverse of `to_json`, for any JSON value; raises `ValueError`, `TypeError` or `KeyError`."""
        calibration = cls(
            float(document["temperature"]),
            tuple((float(risk), float(threshold)) for risk, threshold in document["thresholds"]),
            int(document["photos"]),
        )
        if not (1 / MAX_TEMPERATURE <= calibration.temperature <= MAX_TEMPERATURE) or any(
            not 0 <= v <= 1 for p in calibration.thresholds for v in p
        ):
            raise ValueError(f"a temperature of {calibration.temperature}, or a threshold beyond 0 and 1")
        return calibration


@dataclass(frozen=True, eq=False)
class CrossCalibration:
    """Calibration of each photo's prediction by those for the photos of other folds.

    A calibration fitted to the same photos would look better than it is. `temperatures` `float64 (N, 1)`, `thresholds`
    `float64 (N,)` at the default risk.
    """

    temperatures: torch.Tensor
    thresholds: Floats

    @classmethod
    def of(cls, logits: torch.Tensor, labels: torch.Tensor, folds: NDArray[np.int64]) -> CrossCalibration:
        """Fit to out-of-fold logits `(N, K)` and labels `(N,)`; `folds` `(N,)`: the fold of each photo."""
        temperatures, limits = logits.new_ones((len(logits), 1)).double(), np.ones(len(logits))
        for fold in np.unique(folds):
            inside = folds == fold
            others = Calibration.of(logits[~inside], labels[~inside])
            temperatures[inside], limits[inside] = others.temperature, others.threshold()
        return cls(temperatures, limits)


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The temperature that minimises the log loss of these photos (Guo et al., 2017, https://arxiv.org/abs/1706.04599).

    Its logarithm has a standard normal prior; otherwise a few photos that are all correct would lead to unbounded
    confidence.
    """
    from scipy.optimize import minimize_scalar  # takes half a second, which `pati predict` doesn't need
    from torch.nn.functional import cross_entropy

    logits = logits.double()

    def loss(logarithm: float) -> float:
        total = cross_entropy(logits / math.exp(logarithm), labels, reduction="sum").item()
        return total + logarithm**2 / 2

    end = math.log(MAX_TEMPERATURE)
    return math.exp(minimize_scalar(loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-6}).x)


def confidences(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float | torch.Tensor = 1.0
) -> tuple[Floats, Flags]:
    """Confidence of each prediction at this temperature, a number or `(N, 1)`, and whether it is correct."""
    best = (logits.double() / temperature).softmax(1).max(1)
    return best.values.numpy(), (logits.argmax(1) == labels).numpy()


def reliability(confidence: Floats, right: Flags, bins: int = BINS, clusters: Clusters | None = None) -> list[Bin]:
    """Bins of (nearly) equal size by increasing confidence: count, mean confidence, accuracy and its interval."""
    order = np.argsort(confidence, kind="stable")
    rows: list[Bin] = []
    for part in np.array_split(order, min(bins, len(order))):
        hits = int(right[part].sum())
        rows.append(
            {
                "photos": len(part),
                "confidence": float(confidence[part].mean()),
                "accuracy": hits / len(part),
                "interval": list(proportion_interval(right[part], clusters and clusters.take(part))),
            }
        )
    return rows


def calibration_error(rows: list[Bin]) -> float:
    """Expected calibration error of `reliability`'s bins: mean |accuracy - confidence|, weighted by count.

    With bins of equal size: Nixon et al., 2019, https://arxiv.org/abs/1904.01685.
    """
    total = sum(row["photos"] for row in rows)
    return float(sum(row["photos"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / max(1, total))


def error_interval(
    confidence: Floats, right: Flags, bins: int = BINS, clusters: Clusters | None = None, *, seed: int = 0
) -> tuple[tuple[float, float], float]:
    """95 % interval of the expected calibration error, and the error that chance alone can explain.

    The latter is the 97.5th percentile of the error of a perfectly calibrated classifier with these confidences.

    Random deviations add up, so the estimate of the error is biased upwards, the more so the fewer the photos. A
    bootstrap over photos doubles the bias, so its percentiles are mirrored at the estimate (the basic bootstrap,
    Davison and Hinkley, 1997). If chance alone can explain the error, the interval starts at 0. It extends at least to
    the largest plausible difference between accuracy and mean confidence, so that a set without errors is not taken as
    certain.

    `clusters`: whole clusters are resampled, and chance also contains the errors that those of one cluster share: their
    deviations with random signs.
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    starts = np.cumsum([0, *map(len, parts[:-1])])
    sure, gaps = confidence[order], (right - confidence)[order]
    place = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    generator, anew, fair = np.random.default_rng(seed), [], []
    for numbers in bootstrap_indices(len(order), seed=seed):
        if clusters is None:
            cells = place[numbers] + len(parts) * np.arange(len(numbers))[:, None]
            sums = np.bincount(cells.ravel(), gaps[numbers].ravel(), len(numbers) * len(parts))
            anew.append(np.abs(sums.reshape(len(numbers), -1)).sum(1) / len(order))
        chance = np.add.reduceat((generator.random(numbers.shape) < sure) - sure, starts, 1)
        fair.append(np.abs(chance).sum(1) / len(order))
    by_chance = float(np.percentile(np.concatenate(fair), 97.5))
    if clusters is not None:
        anew, shared = _resampled_errors(gaps, place, Clusters(clusters.of[order]), seed)
        by_chance = max(by_chance, float(np.percentile(shared, 97.5)))
    error = float(np.abs(np.add.reduceat(gaps, starts)).sum() / len(order))
    low, high = map(float, np.percentile(np.concatenate(anew), [2.5, 97.5]))
    off = max(abs(end - float(sure.mean())) for end in proportion_interval(right, clusters))
    least = 0.0 if error <= by_chance else min(error, max(0.0, 2 * error - high))
    return (least, max(error, 2 * error - low, off)), by_chance


def _resampled_errors(
    gaps: Floats, place: NDArray[np.int64], clusters: Clusters, seed: int
) -> tuple[list[Floats], Floats]:
    """Calibration errors of resampled clusters, in parts, and of clusters whose deviations have random signs, `(B,)`.

    `gaps`, `place` `(N,)`: correct minus confidence, and the bin, of each photo.
    """
    bins = int(place.max()) + 1
    flat = np.bincount(clusters.of * bins + place, gaps, len(clusters) * bins)
    deviations, sizes = flat.reshape(len(clusters), bins), clusters.sums(np.ones(len(gaps)))
    centred = deviations - clusters.table(place, bins) * (deviations.sum(0) / np.maximum(np.bincount(place), 1))
    generator, anew, shared = np.random.default_rng(seed), [], []
    for totals in clusters.resampled(np.column_stack([deviations, sizes]), seed=seed):
        anew.append(np.abs(totals[:, :-1]).sum(1) / totals[:, -1])
        signs = generator.integers(0, 2, (len(totals), len(clusters)), np.int8).astype(np.float32)
        # Signs from 0 and 1: twice the sum of the chosen, less the sum of all, which is 0 in each bin.
        shared.append(np.abs(2 * (signs @ centred.astype(np.float32)) - centred.sum(0)).sum(1) / len(gaps))
    return anew, np.concatenate(shared)


def risk_coverage(confidence: Floats, right: Flags) -> tuple[Floats, Floats, Floats]:
    """Risk-coverage curve (El-Yaniv and Wiener, 2010, https://jmlr.org/papers/v11/el-yaniv10a.html).

    Decreasing thresholds `(T,)`; for each, the fraction of photos with at least that confidence (coverage), and the
    error rate among them (risk).
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal confidences share a threshold
    answered = last + 1.0
    return ordered[last], answered / len(ordered), np.cumsum(~right[order])[last] / answered


def thresholds(confidence: Floats, right: Flags) -> list[tuple[float, float]]:
    """Pairs (risk, threshold) by increasing risk, where `threshold` is the lowest that keeps the error rate at `risk`.

    Risks are rounded up to a thousandth.
    """
    falling, _, risks = risk_coverage(confidence, right)
    steps: dict[float, float] = {}
    for threshold, risk in zip(falling.tolist(), risks.tolist(), strict=True):  # the last one has the most coverage
        steps[math.ceil(risk * 1000 - 1e-9) / 1000] = threshold
    pairs: list[tuple[float, float]] = []
    for risk, threshold in sorted(steps.items()):
        if not pairs or threshold < pairs[-1][1]:
            pairs.append((risk, threshold))
    return pairs


def threshold_for(risk: float, pairs: Sequence[tuple[float, float]]) -> float | None:
    """The lowest threshold for a risk; None if there is none."""
    return min((threshold for known, threshold in pairs if known <= risk + 1e-12), default=None)
