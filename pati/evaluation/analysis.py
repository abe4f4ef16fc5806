"""Evaluation beyond the scores, as plain values for metrics.json and the report.

Everything is computed from the predictions made once; no photo of the test split is scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.manifest import Entry
from pati.evaluation import calibration, curves, label_errors, metrics, slices
from pati.evaluation.calibration import RISK, Calibration
from pati.evaluation.corruptions import CORRUPTIONS, corrupted
from pati.evaluation.documents import (
    Accuracy,
    Analysis,
    CalibrationResult,
    ClassCurve,
    CorruptionResult,
    LabelError,
    LabelErrors,
    OutOfDistributionResult,
    Reliability,
    Robustness,
    Slices,
)
from pati.evaluation.intervals import log_loss_interval, mean_interval, wilson
from pati.evaluation.out_of_distribution import FEWEST, LEVEL

POINTS = 200  # per curve: more would not be visible
MOST_CURVES = 60  # classes: with more, each would have too few photos for a curve
MOST_SUSPECTS = 24
DECIDED = {"confirmed", "relabelled"}  # flags of photos whose label a person has decided on
MOST_SLICED = 5000  # photos, as their pixels are read again


def of_answers(
    kept: Calibration, logits: torch.Tensor, labels: torch.Tensor, p_values: torch.Tensor, classes: Sequence[str]
) -> Analysis:
    """The analysis that needs only the predictions on the test split."""
    return {"calibration": calibrated(kept, logits, labels, p_values), "curves": curves_of(logits, labels, classes)}


def calibrated(
    kept: Calibration, logits: torch.Tensor, labels: torch.Tensor, p_values: torch.Tensor
) -> CalibrationResult:
    """Calibration before and after temperature scaling, and coverage and accuracy at the default risk.

    Photos count as answered if their confidence reaches the threshold and they are not out-of-distribution (p-value
    above `LEVEL`). `threshold` is None if no threshold keeps the risk on the validation photos. `risk_bound`: upper
    bound of the error rate if none of this number of validation photos is wrong. `odd_needs`: number of validation
    photos needed to flag a photo as out-of-distribution.
    """
    confidence, right = calibration.confidences(logits, labels, kept.temperature)
    threshold = kept.threshold()
    odd = (p_values <= LEVEL).numpy()
    answered = (confidence >= threshold) & ~odd
    count, hits = int(answered.sum()), int(right[answered].sum())
    _, coverage, risk = calibration.risk_coverage(confidence, right)
    some = spread(len(coverage), POINTS)
    return {
        "temperature": kept.temperature,
        "validation_photos": kept.photos,
        "before": _reliability(logits, labels, 1.0),
        "after": _reliability(logits, labels, kept.temperature),
        "risk": RISK,
        "risk_bound": wilson(0, kept.photos)[1],
        "threshold": threshold if threshold <= 1 else None,
        "odd_needs": FEWEST,
        "odd": float(odd.mean()),
        "coverage": count / len(labels),
        "coverage_interval": list(wilson(count, len(labels))),
        "answered_accuracy": hits / count if count else None,
        "answered_interval": list(wilson(hits, count)),
        "coverages": coverage[some].tolist(),
        "accuracies": (1 - risk[some]).tolist(),
    }


def _reliability(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> Reliability:
    answers = calibration.confidences(logits, labels, temperature)
    rows, (interval, by_chance) = calibration.reliability(*answers), calibration.error_interval(*answers)
    return {
        "error": calibration.calibration_error(rows),
        "error_interval": list(interval),
        "error_by_chance": by_chance,
        "log_loss": metrics.log_loss(logits.double() / temperature, labels),
        "log_loss_interval": list(log_loss_interval(logits.double() / temperature, labels)),
        "bins": rows,
    }


def curves_of(logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> list[ClassCurve]:
    """ROC and precision-recall curves of each class with their areas; empty for more than `MOST_CURVES` classes."""
    if len(classes) > MOST_CURVES:
        return []
    probabilities, rows = logits.double().softmax(1).numpy(), list[ClassCurve]()
    for number, name in enumerate(classes):
        curve = curves.curve(probabilities[:, number], (labels == number).numpy())
        if curve is None:
            continue
        some = spread(len(curve.recall), POINTS)
        rows.append(
            {
                "class": name,
                "roc_area": curve.roc_area,
                "roc_interval": list(curve.roc_interval),
                "average_precision": curve.average_precision,
                "average_precision_interval": list(curve.average_precision_interval),
                "false_rate": curve.false_rate[some].tolist(),
                "recall": curve.recall[some].tolist(),
                "precision": curve.precision[some].tolist(),
            }
        )
    return rows


def spread(count: int, most: int) -> NDArray[np.int64]:
    """At most `most` of the numbers 0..count-1, evenly spaced, including both ends."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


# Type and level of each corruption.
CORRUPTION_LEVELS = [(kind, level) for kind, (_, severities) in CORRUPTIONS.items() for level in range(len(severities))]


def damaged(
    answers: Callable[[torch.Tensor], torch.Tensor], photos: NDArray[np.uint8], labels: torch.Tensor, *, seed: int = 0
) -> torch.Tensor:
    """Which photos `uint8 (N, size, size, 3)` are predicted correctly, clean and at each of `CORRUPTION_LEVELS`.

    Returns 0 or 1, `float64 (N, 1 + D)`. `answers`: function from photos to logits.
    """
    kinds = [photos, *(corrupted(photos, kind, level, seed=seed) for kind, level in CORRUPTION_LEVELS)]
    return torch.stack([(answers(torch.from_numpy(some)).argmax(1) == labels).double() for some in kinds], 1)


def robustness(right: torch.Tensor) -> Robustness:
    """Accuracy by type and severity of corruption, from the result of `damaged`.

    `lost`: decrease of the accuracy on the same photos.
    """

    def row(hits: NDArray[np.float64]) -> Accuracy:
        return {"accuracy": float(hits.mean()), "interval": list(wilson(float(hits.sum()), len(hits)))}

    before, *others = right.T.numpy()
    kinds: dict[str, list[CorruptionResult]] = {kind: [] for kind in CORRUPTIONS}
    for (kind, level), after in zip(CORRUPTION_LEVELS, others, strict=True):
        lost = before - after
        kinds[kind].append(
            {
                "strength": CORRUPTIONS[kind][1][level],
                **row(after),
                "lost": float(lost.mean()),
                "lost_interval": list(mean_interval(lost, (-1, 1))),
            }
        )
    return {"photos": len(before), "undamaged": row(before), "kinds": kinds}


def outside(p_values: torch.Tensor, strange: torch.Tensor, unsure: Sequence[bool]) -> OutOfDistributionResult:
    """How well photos of another dataset are distinguished from the test photos.

    `p_values`: of the test photos; `strange`: p-values of the other photos; `unsure`: whether each of these is marked
    unsure. `roc_area`: the probability that a photo of the other set has a lower p-value than a test photo.
    """
    scores = -torch.cat([strange, p_values]).double().numpy()
    curve = curves.curve(scores, np.arange(len(scores)) < len(strange))
    assert curve is not None, "there are photos of both kinds"
    odd = int((strange <= LEVEL).sum())
    return {
        "photos": len(strange),
        "roc_area": curve.roc_area,
        "roc_interval": list(curve.roc_interval),
        "odd": odd / len(strange),
        "odd_interval": list(wilson(odd, len(strange))),
        "unsure": sum(unsure) / len(strange),
        "unsure_interval": list(wilson(sum(unsure), len(strange))),
    }


def sliced(entries: Sequence[Entry], photos: Callable[[int], NDArray[np.uint8]], right: Sequence[bool]) -> Slices:
    """Accuracy by properties of the photos; on `MOST_SLICED` of them, evenly spaced, if there are more.

    `photos` returns a photo by number, preprocessed, `uint8 (size, size, 3)`.
    """
    chosen = spread(len(entries), MOST_SLICED).tolist()
    width, height = (np.array([float(getattr(entries[n], side)) for n in chosen]) for side in ("width", "height"))
    hits = np.array([right[n] for n in chosen], bool)
    properties = {
        "size": np.sqrt(width * height),
        "aspect": width / np.maximum(height, 1),
        "brightness": slices.brightness(photos(n) for n in chosen),
        "sharpness": slices.sharpness(photos(n) for n in chosen),
    }
    return {"photos": len(chosen), "by": {name: slices.parts(values, hits) for name, values in properties.items()}}


def likely_label_errors(
    entries: Sequence[Entry], logits: torch.Tensor, labels: torch.Tensor, temperature: float, classes: Sequence[str]
) -> LabelErrors:
    """Likely label errors, the most likely first; labels that a person has decided on only count as `decided`."""
    probabilities = (logits.double() / temperature).softmax(1).numpy()
    order, believed = label_errors.ranked(probabilities, labels.numpy())
    rows: list[LabelError] = [
        {
            "path": entries[index].path,
            "split": entries[index].split,
            "label": classes[int(labels[index])],
            "answer": classes[int(probabilities[index].argmax())],
            "label_probability": float(probabilities[index, int(labels[index])]),
        }
        for index in order.tolist()
        if believed[index] and not DECIDED & {*entries[index].flags}
    ]
    decided = int(believed.sum()) - len(rows)
    return {"photos": len(labels), "count": len(rows), "decided": decided, "first": rows[:MOST_SUSPECTS]}
