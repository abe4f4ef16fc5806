"""Confidence that can be believed: temperature scaling, calibration error, and when not to answer.

Functions of numbers alone: logits `(N, K)` and labels `int64 (N,)`, or confidences `float64 (N,)` and whether each
answer was right, `bool (N,)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from pati.evaluation.documents import Bin
from pati.evaluation.intervals import drawn_anew, wilson

BINS = 15
HOTTEST = 20.0  # temperatures are looked for up to this and down to its reciprocal
RISK = 0.01  # of the answered photos, this share may be wrong unless a user says otherwise

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class CalibrationDocument(TypedDict):
    """A `Calibration` in a model file."""

    temperature: float
    thresholds: Sequence[Sequence[float]]
    photos: int


@dataclass(frozen=True)
class Calibration:
    """What makes a classifier's confidence believable, learnt from its `photos` validation photos.

    `temperature`: see the function; `thresholds`: see the function, of confidences at that temperature.
    """

    temperature: float
    thresholds: tuple[tuple[float, float], ...]
    photos: int

    @classmethod
    def of(cls, logits: torch.Tensor, labels: torch.Tensor) -> Calibration:
        """Learnt from validation photos."""
        heat = temperature(logits, labels)
        return cls(heat, tuple(thresholds(*confidences(logits, labels, heat))), len(labels))

    def threshold(self, risk: float = RISK) -> float:
        """The confidence from which on answers are given, so that at most the share `risk` of them is wrong.

        More than 1, so that none is given, where that can't be had.
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
        """Inverse of `to_json`, of any JSON that a file holds; raises `ValueError`, `TypeError` or `KeyError`."""
        made = cls(
            float(document["temperature"]),
            tuple((float(risk), float(threshold)) for risk, threshold in document["thresholds"]),
            int(document["photos"]),
        )
        if not (1 / HOTTEST <= made.temperature <= HOTTEST) or any(not 0 <= v <= 1 for p in made.thresholds for v in p):
            raise ValueError(f"a temperature of {made.temperature}, or a threshold beyond 0 and 1")
        return made


def temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """What logits are divided by so that these photos' log loss is least (Guo et al., 2017,
    https://arxiv.org/abs/1706.04599).

    The logarithm has a standard normal prior, lest a few photos, all answered rightly, ask for boundless confidence.
    """
    from scipy.optimize import minimize_scalar  # half a second that `pati predict` need not wait

    logits = logits.double()

    def loss(logarithm: float) -> float:
        total = torch.nn.functional.cross_entropy(logits / math.exp(logarithm), labels, reduction="sum").item()
        return total + logarithm**2 / 2

    end = math.log(HOTTEST)
    return math.exp(minimize_scalar(loss, bounds=(-end, end), method="bounded", options={"xatol": 1e-6}).x)


def confidences(logits: torch.Tensor, labels: torch.Tensor, heat: float = 1.0) -> tuple[Floats, Flags]:
    """Of each answer: its probability at temperature `heat`, and whether it is right."""
    best = (logits.double() / heat).softmax(1).max(1)
    return best.values.numpy(), (logits.argmax(1) == labels).numpy()


def reliability(confidence: Floats, right: Flags, bins: int = BINS) -> list[Bin]:
    """Bins of as equal a count as can be, by rising confidence: count, mean confidence, accuracy and its interval."""
    order = np.argsort(confidence, kind="stable")
    rows: list[Bin] = []
    for part in np.array_split(order, min(bins, len(order))):
        hits = int(right[part].sum())
        rows.append(
            {
                "photos": len(part),
                "confidence": float(confidence[part].mean()),
                "accuracy": hits / len(part),
                "interval": list(wilson(hits, len(part))),
            }
        )
    return rows


def calibration_error(rows: list[Bin]) -> float:
    """Expected calibration error of `reliability`'s bins: the mean distance of confidence and accuracy, by count.

    Bins of equal count: Nixon et al., 2019, https://arxiv.org/abs/1904.01685.
    """
    total = sum(row["photos"] for row in rows)
    return float(sum(row["photos"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / max(1, total))


def error_interval(
    confidence: Floats, right: Flags, bins: int = BINS, *, seed: int = 0
) -> tuple[tuple[float, float], float]:
    """95 % interval of the calibration error of `reliability`'s bins, and what it stays below in 97.5 % of cases by
    chance alone, if every confidence is right.

    Deviations by chance add up, so the error comes out too high, the more so the fewer the photos. A bootstrap over
    photos is too high by as much again: its percentiles are mirrored at the error found (the basic bootstrap, Davison
    and Hinkley, 1997). Where chance alone could give the error, the interval begins at 0; it reaches at least as far as
    accuracy may be from the mean confidence, so that a set without a mistake is not taken for certain.
    """
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    starts = np.cumsum([0, *map(len, parts[:-1])])
    sure, gaps = confidence[order], (right - confidence)[order]
    place = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    generator, anew, fair = np.random.default_rng(seed), [], []
    for numbers in drawn_anew(len(order), seed=seed):
        cells = place[numbers] + len(parts) * np.arange(len(numbers))[:, None]
        sums = np.bincount(cells.ravel(), gaps[numbers].ravel(), len(numbers) * len(parts))
        anew.append(np.abs(sums.reshape(len(numbers), -1)).sum(1))
        chance = np.add.reduceat((generator.random(numbers.shape) < sure) - sure, starts, 1)
        fair.append(np.abs(chance).sum(1))
    error = float(np.abs(np.add.reduceat(gaps, starts)).sum() / len(order))
    low, high = map(float, np.percentile(np.concatenate(anew), [2.5, 97.5]) / len(order))
    by_chance = float(np.percentile(np.concatenate(fair), 97.5) / len(order))
    off = max(abs(end - float(sure.mean())) for end in wilson(int(right.sum()), len(right)))
    least = 0.0 if error <= by_chance else min(error, max(0.0, 2 * error - high))
    return (least, max(error, 2 * error - low, off)), by_chance


def risk_coverage(confidence: Floats, right: Flags) -> tuple[Floats, Floats, Floats]:
    """Falling thresholds `(T,)`, and for each the share of photos answered (of at least that confidence) and the
    share of these that is wrong (El-Yaniv and Wiener, 2010, https://jmlr.org/papers/v11/el-yaniv10a.html)."""
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # equal ones are answered together
    answered = last + 1.0
    return ordered[last], answered / len(ordered), np.cumsum(~right[order])[last] / answered


def thresholds(confidence: Floats, right: Flags) -> list[tuple[float, float]]:
    """Pairs (risk, threshold), by rising risk: answering from `threshold` on, at most the share `risk` is wrong, and
    no lower threshold does as well. Risks are rounded up to a thousandth."""
    falling, _, risks = risk_coverage(confidence, right)
    steps: dict[float, float] = {}
    for threshold, risk in zip(falling.tolist(), risks.tolist(), strict=True):  # the last one answers most
        steps[math.ceil(risk * 1000 - 1e-9) / 1000] = threshold
    pairs: list[tuple[float, float]] = []
    for risk, threshold in sorted(steps.items()):
        if not pairs or threshold < pairs[-1][1]:
            pairs.append((risk, threshold))
    return pairs


def threshold_for(risk: float, pairs: Sequence[tuple[float, float]]) -> float | None:
    """The lowest threshold that keeps to a risk; None if none does."""
    return min((threshold for known, threshold in pairs if known <= risk + 1e-12), default=None)
