"""Metrics: pure functions of logits `(N, K)` and labels `int64 (N,)` of a whole set.

The input is always logits; nothing here guesses whether it is probabilities. Knows no files, networks or splits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict, cast

import numpy as np

from pati.errors import PatiError
from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import ClassRow, Scores
from pati.evaluation.intervals import (
    KeptModel,
    bootstrap_intervals,
    clustered_intervals,
    log_loss_interval,
    proportion_interval,
    wilson,
)
from pati.locale.messages import N_
from pati.registry import Registry

if TYPE_CHECKING:
    import torch  # elsewhere inside functions: the audit's tables need this module, and no torch

Metric = Callable[["torch.Tensor", "torch.Tensor"], float]
metrics: Registry[Metric] = Registry(N_("metric"))


@metrics.register("accuracy")
def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Fraction of photos whose most likely class is the true one."""
    return (logits.argmax(1) == labels).double().mean().item()


@metrics.register("macro_f1")
def macro_f1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Unweighted mean of the F1 scores of the classes; a class neither present nor predicted is skipped."""
    scores = [row["f1"] for row in per_class(confusion(logits, labels)) if row["f1"] is not None]
    return float(sum(scores) / max(1, len(scores)))


@metrics.register("balanced_accuracy")
def balanced_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Unweighted mean of the recalls of the classes."""
    recalls = [row["recall"] for row in per_class(confusion(logits, labels)) if row["recall"] is not None]
    return float(sum(recalls) / max(1, len(recalls)))


@metrics.register("log_loss")
def log_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean negative natural logarithm of the probability of the true class."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(logits.double(), labels).item()


def confusion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Confusion matrix `int64 (K, K)`: rows are true classes, columns predicted ones."""
    from torch import bincount

    classes = logits.shape[1]
    return bincount(labels * classes + logits.argmax(1), minlength=classes**2).reshape(classes, classes)


class Counted(TypedDict):
    """Scores of one class without intervals."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


def per_class(counts: torch.Tensor) -> list[Counted]:
    """Precision, recall, F1, support and number of predictions of each class.

    An undefined score is None: precision without predictions, recall without photos, F1 without either.
    """
    rows: list[Counted] = []
    for index in range(len(counts)):
        hits = counts[index, index].item()
        support, predicted = counts[index].sum().item(), counts[:, index].sum().item()
        rows.append(
            {
                "precision": hits / predicted if predicted else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / (support + predicted) if support + predicted else None,
                "support": int(support),
                "predicted": int(predicted),
            }
        )
    return rows


def _number(name: str, value: object) -> float:
    """Convert a metric's result to float. Plugins' metrics are checked: raises `PatiError`."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise PatiError(
            N_("the metric {name!r} returned a {type}", name=name, type=type(value).__name__), N_("expected a number")
        ) from None


MAIN_METRICS = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")  # metrics shown separately, with intervals


def absent(scores: Scores) -> list[str]:
    """The classes without photos in a split: no score says anything about them."""
    return [row["class"] for row in scores["per_class"] if not row["support"]]


def weakest(scores: Scores, most: int) -> list[ClassRow]:
    """The rows of all classes, in order; of more than `most` classes, those with the lowest F1, the lowest first."""
    rows = scores["per_class"]
    if len(rows) <= most:
        return rows
    return sorted(rows, key=lambda row: (row["f1"] is None, row["f1"] or 0.0))[:most]


def other_metrics(scores: Scores) -> dict[str, float | None]:
    """The other metrics in a document of `summary`, such as a plugin's, by display name."""
    names = scores.get("metrics", [name for name in metrics if name in scores])
    return {name.replace("_", " "): value(scores, name) for name in names if name not in MAIN_METRICS}


def value(scores: Scores, name: str) -> float | None:
    """The value of a registered metric in a document of `summary`; None if it is not finite."""
    return cast(dict[str, float | None], scores)[name]


def check_plugin_metrics(classes: int) -> None:
    """Raise `PatiError` if a plugin's metric fails on random logits for `classes` classes."""
    import torch

    answers = min(2 * classes, 64)
    logits = torch.randn(answers, classes, generator=torch.Generator().manual_seed(0))
    for name in filter(metrics.plugin, metrics):
        _number(name, metrics[name](logits, torch.arange(answers) % classes))


PHOTOS, CLUSTERS = "Wilson and bootstrap over photos", "cluster bootstrap"  # methods of intervals,
FOLDS = ", for the model trained on all photos"  # and what is added where cross-validation gave the scores


def summary(
    logits: torch.Tensor,
    labels: torch.Tensor,
    classes: tuple[str, ...],
    clusters: Clusters | None = None,
    kept: KeptModel | None = None,
) -> Scores:
    """All registered metrics, 95 % intervals, the confusion matrix and the table of classes.

    `clusters`: photos that are not independent. `kept`: the model that the intervals are for, if the predictions are
    those of cross-validation. A value that is not finite, such as a division by the count of a class
    without photos, is None.
    """
    counts = confusion(logits, labels)
    answers = logits.argmax(1)
    scores = {name: _number(name, metrics[name](logits, labels)) for name in metrics}
    rows = per_class(counts)
    if clusters is None:
        intervals = bootstrap_intervals(counts)
        right, asked, there = counts.diagonal().tolist(), counts.sum(0).tolist(), counts.sum(1).tolist()
        intervals["precision"] = np.array([wilson(*pair) for pair in zip(right, asked, strict=True)])
        intervals["recall"] = np.array([wilson(*pair) for pair in zip(right, there, strict=True)])
    else:
        intervals = clustered_intervals(labels.numpy(), answers.numpy(), len(classes), clusters)
    accuracy_interval = proportion_interval((answers == labels).numpy(), clusters)
    loss_interval = log_loss_interval(logits, labels, clusters)
    if kept is not None:
        accuracy_interval = kept.interval(scores["accuracy"], accuracy_interval)
        loss_interval = kept.loss_interval(scores["log_loss"], loss_interval)
        for name in ("macro_f1", "balanced_accuracy"):
            intervals[name] = np.array(kept.interval(scores[name], tuple(intervals[name])))
        for name in ("precision", "recall", "f1"):
            points = [float(row[name] or 0.0) for row in rows]  # type: ignore[literal-required]
            pairs = zip(points, intervals[name], strict=True)
            intervals[name] = np.array([kept.interval(point, tuple(ends)) for point, ends in pairs])
    by_class = zip(*(intervals[name].tolist() for name in ("precision", "recall", "f1")), strict=True)
    table: list[ClassRow] = [
        {"class": name, **row, "precision_interval": precision, "recall_interval": recall, "f1_interval": f1}
        for name, row, (precision, recall, f1) in zip(classes, rows, by_class, strict=True)
    ]
    document = {
        "photos": len(labels),
        "interval_method": (PHOTOS if clusters is None else CLUSTERS) + ("" if kept is None else FOLDS),
        "clusters": None if clusters is None else len(clusters),
        "effective_clusters": None if clusters is None else clusters.effective(),
        "metrics": list(scores),
        **{name: score if math.isfinite(score) else None for name, score in scores.items()},
        "accuracy_interval": list(accuracy_interval),
        **{f"{name}_interval": intervals[name].tolist() for name in ("macro_f1", "balanced_accuracy")},
        "log_loss_interval": list(loss_interval),
        "confusion": counts.tolist(),
        "per_class": table,
    }
    return cast(Scores, document)  # with additional keys for registered metrics
