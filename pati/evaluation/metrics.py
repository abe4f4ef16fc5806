"""Scores: pure functions of logits `(N, K)` and labels `int64 (N,)` of a whole set.

Nothing here guesses whether its input are probabilities: it is always logits. Knows no
files, nets or splits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypedDict, cast

import torch

from pati.errors import PatiError
from pati.evaluation.documents import ClassRow, Scores
from pati.evaluation.intervals import bootstrapped, log_loss_interval, wilson
from pati.registry import Registry

Metric = Callable[[torch.Tensor, torch.Tensor], float]
metrics: Registry[Metric] = Registry("metric")


@metrics.register("accuracy")
def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of photos whose most likely class is the right one."""
    return (logits.argmax(1) == labels).double().mean().item()


@metrics.register("macro_f1")
def macro_f1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of the classes' F1, each class counting the same; one neither present nor predicted counts not at all."""
    scores = [row["f1"] for row in per_class(confusion(logits, labels)) if row["f1"] is not None]
    return float(sum(scores) / max(1, len(scores)))


@metrics.register("balanced_accuracy")
def balanced_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of the classes' recalls, each class counting the same."""
    recalls = [row["recall"] for row in per_class(confusion(logits, labels)) if row["recall"] is not None]
    return float(sum(recalls) / max(1, len(recalls)))


@metrics.register("log_loss")
def log_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean negative logarithm (natural) of the probability given to the right class."""
    return torch.nn.functional.cross_entropy(logits.double(), labels).item()


def confusion(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Counts `int64 (K, K)`: row the true class, column the predicted one."""
    classes = logits.shape[1]
    return torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2).reshape(classes, classes)


class Counted(TypedDict):
    """One class's scores without intervals."""

    precision: float | None
    recall: float | None
    f1: float | None
    support: int
    predicted: int


def per_class(counts: torch.Tensor) -> list[Counted]:
    """Precision, recall, F1, support and number predicted of each class; a score that is not defined is None: the
    precision of a class never answered, the recall of one without photos, F1 where it is both."""
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
    """Users write metrics too, and err."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):
        raise PatiError(f"the metric {name!r} gives a {type(value).__name__}", "expected a number") from None


OWN_PLACE = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")  # metrics that are shown with their intervals


def further(scores: Scores) -> dict[str, float | None]:
    """The other metrics in a document of `summary`, such as a plugin's, by their names as people read them."""
    names = scores.get("metrics", [name for name in metrics if name in scores])
    return {name.replace("_", " "): value(scores, name) for name in names if name not in OWN_PLACE}


def value(scores: Scores, name: str) -> float | None:
    """A registered metric in a document of `summary`; None where it is no number."""
    return cast(dict[str, float | None], scores)[name]


def require_sound(classes: int) -> None:
    """Raise `PatiError` for a metric, of a plugin, that fails on answers for so many classes."""
    answers = min(2 * classes, 64)
    logits = torch.randn(answers, classes, generator=torch.Generator().manual_seed(0))
    for name in filter(metrics.plugin, metrics):
        _number(name, metrics[name](logits, torch.arange(answers) % classes))


def summary(logits: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...]) -> Scores:
    """All registered scores, 95 % intervals, the confusion matrix and the per-class table.

    A score that is no number, as one that divides by a class of which no photo is there, is None.
    """
    counts = confusion(logits, labels)
    hits = int(counts.diagonal().sum().item())
    scores = {name: _number(name, metrics[name](logits, labels)) for name in metrics}
    intervals = bootstrapped(counts)
    rows: list[ClassRow] = [
        {
            "class": name,
            **row,
            "precision_interval": list(wilson(right, row["predicted"])),
            "recall_interval": list(wilson(right, row["support"])),
            "f1_interval": f1,
        }
        for name, row, right, f1 in zip(
            classes, per_class(counts), counts.diagonal().tolist(), intervals["f1"].tolist(), strict=True
        )
    ]
    document = {
        "photos": len(labels),
        "metrics": list(scores),
        **{name: score if math.isfinite(score) else None for name, score in scores.items()},
        "accuracy_interval": list(wilson(hits, len(labels))),
        **{f"{name}_interval": intervals[name].tolist() for name in ("macro_f1", "balanced_accuracy")},
        "log_loss_interval": list(log_loss_interval(logits, labels)),
        "confusion": counts.tolist(),
        "per_class": rows,
    }
    return cast(Scores, document)  # which has a key for each registered metric
