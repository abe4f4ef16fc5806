"""Evaluation beyond the scores, as plain values for metrics.json and the report.

Everything is computed from the predictions made once; no photo of the test split is scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.entries import Entry
from pati.data.manifest import units
from pati.evaluation import calibration, curves, label_errors, metrics, slices
from pati.evaluation.calibration import RISK, Calibration, CrossCalibration
from pati.evaluation.clusters import Clusters
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
from pati.evaluation.intervals import log_loss_interval, mean_interval, proportion_interval, wilson
from pati.evaluation.out_of_distribution import FEWEST, LEVEL

POINTS = 200  # per curve: more would not be visible
MOST_CURVES = 60  # classes: with more, each would have too few photos for a curve
MOST_SUSPECTS = 24
DECIDED = {"confirmed", "relabelled"}  # flags of photos whose label a person has decided on
MOST_SLICED = 5000  # photos, as their pixels are read again


def clusters_of(entries: Sequence[Entry]) -> Clusters | None:
    """The clusters of photos that are not independent: duplicates and the user's groups; None if there are none."""
    return Clusters.named(units(entries)[1].tolist())


def of_answers(
    kept: Calibration,
    logits: torch.Tensor,
    labels: torch.Tensor,
    p_values: torch.Tensor,
    classes: Sequence[str],
    clusters: Clusters | None = None,
    validation: Clusters | None = None,
    crossed: CrossCalibration | None = None,
) -> Analysis:
    """The analysis that needs only the predictions on the test split; `clusters`: of its photos.

    `validation`: the clusters of the photos that the calibration was fitted on; `crossed`: see `calibrated`.
    """
    return {
        "calibration": calibrated(kept, logits, labels, p_values, clusters, validation, crossed),
        "curves": curves_of(logits, labels, classes, clusters),
    }


def calibrated(
    kept: Calibration,
    logits: torch.Tensor,
    labels: torch.Tensor,
    p_values: torch.Tensor,
    clusters: Clusters | None = None,
    validation: Clusters | None = None,
    crossed: CrossCalibration | None = None,
) -> CalibrationResult:
    """Calibration before and after temperature scaling, and coverage and accuracy at the default risk.

    `crossed`: what calibrates these predictions if `kept` was fitted to them.

    Photos count as answered if their confidence reaches the threshold and they are not out-of-distribution (p-value
    above `LEVEL`). `threshold` is None if no threshold keeps the risk on the validation photos. `risk_bound`: upper
    bound of the error rate if none of this number of validation photos is wrong. `odd_needs`: number of validation
    photos needed to flag a photo as out-of-distribution.
    """
    temperature = kept.temperature if crossed is None else crossed.temperatures
    confidence, right = calibration.confidences(logits, labels, temperature)
    threshold = kept.threshold()
    odd = (p_values <= LEVEL).numpy()
    answered = (confidence >= (threshold if crossed is None else crossed.thresholds)) & ~odd
    count, hits = int(answered.sum()), int(right[answered].sum())
    _, coverage, risk = calibration.risk_coverage(confidence, right)
    some = spread(len(coverage), POINTS)
    return {
        "temperature": kept.temperature,
        "validation_photos": kept.photos,
        "before": _reliability(logits, labels, 1.0, clusters),
        "after": _reliability(logits, labels, temperature, clusters),
        "risk": RISK,
        "risk_bound": wilson(0, kept.photos if validation is None else validation.effective())[1],
        "threshold": threshold if threshold <= 1 else None,
        "odd_needs": FEWEST,
        "odd": float(odd.mean()),
        "coverage": count / len(labels),
        "coverage_interval": list(proportion_interval(answered, clusters)),
        "answered_accuracy": hits / count if count else None,
        "answered_interval": list(proportion_interval(right[answered], clusters and clusters.take(answered))),
        "coverages": coverage[some].tolist(),
        "accuracies": (1 - risk[some]).tolist(),
    }


def _reliability(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float | torch.Tensor, clusters: Clusters | None
) -> Reliability:
    answers = calibration.confidences(logits, labels, temperature)
    rows = calibration.reliability(*answers, clusters=clusters)
    interval, by_chance = calibration.error_interval(*answers, clusters=clusters)
    return {
        "error": calibration.calibration_error(rows),
        "error_interval": list(interval),
        "error_by_chance": by_chance,
        "log_loss": metrics.log_loss(logits.double() / temperature, labels),
        "log_loss_interval": list(log_loss_interval(logits.double() / temperature, labels, clusters)),
        "bins": rows,
    }


def curves_of(
    logits: torch.Tensor, labels: torch.Tensor, classes: Sequence[str], clusters: Clusters | None = None
) -> list[ClassCurve]:
    """ROC and precision-recall curves of each class with their areas; empty for more than `MOST_CURVES` classes."""
    if len(classes) > MOST_CURVES:
        return []
    probabilities, rows = logits.double().softmax(1).numpy(), list[ClassCurve]()
    for number, name in enumerate(classes):
        curve = curves.curve(probabilities[:, number], (labels == number).numpy(), clusters)
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


def robustness(right: torch.Tensor, clusters: Clusters | None = None) -> Robustness:
    """Accuracy by type and severity of corruption, from the result of `damaged`.

    `lost`: decrease of the accuracy on the same photos.
    """

    def row(hits: NDArray[np.float64]) -> Accuracy:
        return {"accuracy": float(hits.mean()), "interval": list(proportion_interval(hits > 0, clusters))}

    before, *others = right.T.numpy()
    kinds: dict[str, list[CorruptionResult]] = {kind: [] for kind in CORRUPTIONS}
    for (kind, level), after in zip(CORRUPTION_LEVELS, others, strict=True):
        lost = before - after
        kinds[kind].append(
            {
                "strength": CORRUPTIONS[kind][1][level],
                **row(after),
                "lost": float(lost.mean()),
                "lost_interval": list(mean_interval(lost, (-1, 1), clusters)),
            }
        )
    return {"photos": len(before), "undamaged": row(before), "kinds": kinds}


def outside(
    p_values: torch.Tensor, strange: torch.Tensor, unsure: Sequence[bool], clusters: Clusters | None = None
) -> OutOfDistributionResult:
    """How well photos of another dataset are distinguished from the test photos.

    `p_values`: of the test photos; `strange`: p-values of the other photos; `unsure`: whether each of these is marked
    unsure. `roc_area`: the probability that a photo of the other set has a lower p-value than a test photo.
    """
    scores = -torch.cat([strange, p_values]).double().numpy()
    if clusters is not None:  # the other photos are independent, as far as is known
        clusters = Clusters(np.append(len(clusters) + np.arange(len(strange)), clusters.of))
    curve = curves.curve(scores, np.arange(len(scores)) < len(strange), clusters)
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


def sliced(
    entries: Sequence[Entry],
    photos: Callable[[int], NDArray[np.uint8]],
    right: Sequence[bool],
    clusters: Clusters | None = None,
) -> Slices:
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
    some = clusters and clusters.take(np.array(chosen))
    by = {name: slices.parts(values, hits, clusters=some) for name, values in properties.items()}
    return {"photos": len(chosen), "by": by}


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
