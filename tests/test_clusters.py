"""Intervals of photos that come in groups: never those of as many independent photos."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pati.data.entries import Entry
from pati.evaluation import analysis, calibration, curves, metrics, slices
from pati.evaluation.analysis import clusters_of
from pati.evaluation.clusters import Clusters
from pati.evaluation.intervals import (
    clustered_intervals,
    crossed_interval,
    difference_interval,
    log_loss_interval,
    mean_interval,
    proportion_interval,
    wilson,
)

Interval = tuple[float, float]


def predictions(count: int, seed: int = 0, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels, right most of the time."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    return 1.2 * torch.eye(classes)[labels] + torch.randn(count, classes, generator=generator), labels


def confidence(logits: torch.Tensor, labels: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    return calibration.confidences(logits, labels)


def score(name: str) -> Callable[[torch.Tensor, torch.Tensor, Clusters | None], Interval]:
    def of(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
        low, high = metrics.summary(logits, labels, ("a", "b", "c"), clusters)[f"{name}_interval"]  # type: ignore[literal-required]
        return low, high

    return of


def class_row(name: str) -> Callable[[torch.Tensor, torch.Tensor, Clusters | None], Interval]:
    def of(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
        low, high = metrics.summary(logits, labels, ("a", "b", "c"), clusters)["per_class"][1][f"{name}_interval"]  # type: ignore[literal-required]
        return low, high

    return of


def curve_of(which: str) -> Callable[[torch.Tensor, torch.Tensor, Clusters | None], Interval]:
    def of(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
        found = curves.curve(logits[:, 0].double().numpy(), (labels == 0).numpy(), clusters)
        assert found is not None
        return found.roc_interval if which == "roc" else found.average_precision_interval

    return of


def right(logits: torch.Tensor, labels: torch.Tensor) -> NDArray[np.bool_]:
    return np.asarray((logits.argmax(1) == labels).numpy())


def sliced(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
    low, high = slices.parts(labels.double().numpy(), right(logits, labels), clusters=clusters)[0]["interval"]
    return low, high


def part_difference(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
    return difference_interval(right(logits, labels), (labels == 0).numpy(), clusters)


def damage(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
    hits = torch.from_numpy(right(logits, labels)).double()
    columns = torch.stack([hits, *[hits.roll(3 * number) for number in range(len(analysis.CORRUPTION_LEVELS))]], 1)
    low, high = analysis.robustness(columns, clusters)["undamaged"]["interval"]
    return low, high


def coverage(logits: torch.Tensor, labels: torch.Tensor, clusters: Clusters | None) -> Interval:
    kept = calibration.Calibration(1.0, ((0.01, 0.8),), 100)
    low, high = analysis.calibrated(kept, logits, labels, torch.ones(len(labels)), clusters)["coverage_interval"]
    return low, high


INTERVALS: dict[str, Callable[[torch.Tensor, torch.Tensor, Clusters | None], Interval]] = {
    **{name: score(name) for name in ("accuracy", "macro_f1", "balanced_accuracy", "log_loss")},
    **{f"{name} of a class": class_row(name) for name in ("precision", "recall", "f1")},
    "calibration error": lambda logits, labels, clusters: calibration.error_interval(
        *confidence(3 * logits, labels), clusters=clusters
    )[0],
    "roc": curve_of("roc"),
    "average precision": curve_of("average precision"),
    "slice": sliced,
    "slice's difference": part_difference,
    "corruption": damage,
    "coverage": coverage,
    "mean": lambda logits, labels, clusters: mean_interval(logits[:, 0].double().numpy(), (-9, 9), clusters),
    "crossed": lambda logits, labels, clusters: crossed_interval(logits[:, :1].double().numpy(), (-9, 9), clusters),
    "log loss": log_loss_interval,
}


@pytest.mark.parametrize("name", INTERVALS)
def test_nine_copies_of_each_photo_are_worth_one(name: str) -> None:
    """The interval stays about as wide as that of the photos themselves; taken as independent, a third of it."""
    logits, labels = predictions(240)
    many, all_labels = logits.repeat_interleave(9, 0), labels.repeat_interleave(9)
    clusters = Clusters(np.repeat(np.arange(240), 9))
    (low, high), (least, most), (first, last) = (
        INTERVALS[name](*given)
        for given in ((logits, labels, None), (many, all_labels, clusters), (many, all_labels, None))
    )
    assert 0.8 * (high - low) <= most - least <= 1.25 * (high - low)
    assert last - first < 0.6 * (most - least)


def test_one_sender_of_half_the_photos_widens_the_interval() -> None:
    """113 of 226 photos by one person, better known than the others: Wilson's interval is far too narrow."""
    clusters = Clusters(np.append(np.zeros(113, int), np.arange(1, 114)))
    hits = np.append(np.arange(113) % 20 > 0, np.arange(113) % 4 > 0)
    low, high = proportion_interval(hits, clusters)
    least, most = wilson(int(hits.sum()), 226)
    assert high - low > 1.4 * (most - least)
    assert low < hits.mean() < high
    assert clusters.effective() < 10  # which is told to be unreliable


@pytest.mark.slow
def test_intervals_of_groups_hold_the_truth_nineteen_times_of_twenty() -> None:
    """40 groups of 1 to 12 photos that share much of their luck."""
    held = {"clusters": 0, "photos": 0}
    for seed in range(300):
        generator = np.random.default_rng(seed)
        sizes = generator.integers(1, 13, 40)
        shares = generator.beta(2.4, 0.6, 40)  # 0.8 on average
        hits = np.concatenate([generator.random(size) < share for size, share in zip(sizes, shares, strict=True)])
        for name, clusters in (("clusters", Clusters(np.repeat(np.arange(40), sizes))), ("photos", None)):
            low, high = proportion_interval(hits, clusters)
            held[name] += low <= 0.8 <= high
    assert 270 <= held["clusters"] <= 297
    assert held["photos"] < 250


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_groups_without_an_error_are_not_certain(share: float) -> None:
    clusters, hits = Clusters(np.arange(60) // 6), np.full(60, bool(share))
    assert proportion_interval(hits, clusters) == wilson(share * 10, 10)
    labels = np.repeat([0, 1], 30)
    found = clustered_intervals(labels, labels if share else 1 - labels, 2, clusters)
    for name in ("balanced_accuracy", "macro_f1"):
        low, high = found[name]
        assert high - low > 0.1
    np.testing.assert_allclose(found["recall"][0], wilson(5 * share, 5))


def test_a_class_of_one_group_is_uncertain() -> None:
    """However often its group is drawn, its photos say nothing of other groups."""
    labels = np.append(np.zeros(20, int), np.ones(20, int))
    answers = np.where(np.arange(40) % 2, labels, 1 - labels)
    clusters = Clusters(np.append(np.zeros(20, int), np.arange(1, 21)))
    low, high = clustered_intervals(labels, answers, 2, clusters)["recall"][0]
    assert high - low > 0.7


def test_duplicates_and_groups_are_clusters() -> None:
    entries = [
        Entry(f"{number}", "a", "kept", sha256=f"{number:064}", group=group, duplicate=duplicate)
        for number, (group, duplicate) in enumerate([("x", None), ("x", None), (None, "d"), ("y", "d"), (None, None)])
    ]
    clusters = clusters_of(entries)
    assert clusters is not None
    assert clusters.of.tolist() == [0, 0, 1, 1, 2]
    assert clusters_of([entries[0], entries[2], entries[4]]) is None
    assert len(clusters) == 3
    assert clusters.effective() == 25 / 9
    assert clusters.take(np.array([0, 2, 4])) is None


def test_the_method_is_named() -> None:
    logits, labels = predictions(30)
    alone = metrics.summary(logits, labels, ("a", "b", "c"))
    grouped = metrics.summary(logits, labels, ("a", "b", "c"), Clusters(np.arange(30) // 2))
    assert (alone["interval_method"], alone["clusters"]) == ("Wilson and bootstrap over photos", None)
    assert (grouped["interval_method"], grouped["clusters"]) == ("cluster bootstrap", 15)
    assert grouped["accuracy"] == alone["accuracy"]
