"""Scores: pure functions of logits `(N, K)` and labels `int64 (N,)` of a whole set.

Nothing here guesses whether its input are probabilities: it is always logits. Knows no
files, nets or splits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from pati.errors import PatiError
from pati.registry import Registry

Metric = Callable[[torch.Tensor, torch.Tensor], float]
metrics: Registry[Metric] = Registry("metric")

_Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


@metrics.register("accuracy")
def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of photos whose most likely class is the right one."""
    return (logits.argmax(1) == labels).double().mean().item()


@metrics.register("macro_f1")
def macro_f1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of the classes' F1, each class counting the same; one neither present nor predicted counts not at all."""
    rows = [row for row in per_class(confusion(logits, labels)) if row["support"] or row["predicted"]]
    return float(sum(row["f1"] for row in rows) / max(1, len(rows)))


@metrics.register("balanced_accuracy")
def balanced_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of the classes' recalls, each class counting the same."""
    recalls = [row["recall"] for row in per_class(confusion(logits, labels)) if row["support"]]
    return float(sum(recalls) / max(1, len(recalls)))


@metrics.register("log_loss")
def log_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean negative logarithm (natural) of the probability given to the right class."""
    return torch.nn.functional.cross_entropy(logits.double(), labels).item()


def confusion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Counts `int64 (K, K)`: row the true class, column the predicted one."""
    classes = logits.shape[1]
    return torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).reshape(classes, classes)


def per_class(counts: torch.Tensor) -> list[dict[str, Any]]:
    """Precision, recall, F1, support and number predicted of each class; 0 where undefined."""
    rows = []
    for index in range(len(counts)):
        hits = counts[index, index].item()
        support, predicted = counts[index].sum().item(), counts[:, index].sum().item()
        rows.append(
            {
                "precision": hits / predicted if predicted else 0.0,
                "recall": hits / support if support else 0.0,
                "f1": 2 * hits / (support + predicted) if support + predicted else 0.0,
                "support": int(support),
                "predicted": int(predicted),
            }
        )
    return rows


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927): keeps inside 0..1 and holds for small counts."""
    if count == 0:
        return 0.0, 1.0
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _number(name: str, value: object) -> float:
    """Users write metrics too, and err."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise PatiError(f"the metric {name!r} gives a {type(value).__name__}", "expected a number") from None


def summary(logits: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """All registered scores, the accuracy's interval, the confusion matrix and the per-class table.

    A score that is no number, as one that divides by a class of which no photo is there, is None.
    """
    counts = confusion(logits, labels)
    hits = int(counts.diagonal().sum().item())
    scores = {name: _number(name, metrics[name](logits, labels)) for name in metrics}
    return {
        "photos": len(labels),
        **{name: score if math.isfinite(score) else None for name, score in scores.items()},
        "accuracy_interval": list(wilson(hits, len(labels))),
        "confusion": counts.tolist(),
        "per_class": [{"class": name, **row} for name, row in zip(classes, per_class(counts), strict=True)],
    }
