"""Compare finished runs: scores, costs, and which differences are statistically significant.

Uses the stored predictions and scores nothing again. Pairs are compared on the same test photos, by which of the two
predicts each photo correctly. Can't tell how much of a difference is due to the seed: that takes runs with other seeds.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from pati import plugins
from pati.data.manifest import Manifest
from pati.errors import PatiError
from pati.evaluation.analysis import clusters_of
from pati.evaluation.clusters import FEW, RESAMPLES, Clusters, few_clusters
from pati.evaluation.documents import Comparison, Interval, Pair, RunDocument, RunRow
from pati.evaluation.intervals import (
    bootstrap_intervals,
    clustered_intervals,
    difference_interval,
    mean_interval,
    paired_interval,
    proportion_interval,
    stratified_bootstrap_counts,
    unpaired_interval,
)
from pati.evaluation.metrics import other_metrics
from pati.evaluation.significance import design_effect, fisher, holm, mcnemar, sign_flips
from pati.inference.classifier import Classifier
from pati.locale.messages import N_, Message, as_is
from pati.models.counting import cost_of
from pati.recipe import Recipe
from pati.runs.history import epochs
from pati.runs.predictions import Predictions
from pati.runs.run import Run, RunStage

ALPHA = 0.05  # significance level
MOST_EACH_WITH_EACH = 4  # with more runs, each is compared with the first one only


@dataclass(frozen=True)
class _Scored:
    """A run's row and its predictions: `labels` and `answers` `int64 (N,)` for `photos` (content hashes)."""

    row: RunRow
    manifest: str
    classes: tuple[str, ...]
    photos: NDArray[np.str_]
    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    clusters: Clusters | None
    by_class: bool  # the classes are imbalanced, or training balanced them

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which predictions are correct, `(N,)`."""
        return np.asarray(self.answers == self.labels)


def compare(folders: Sequence[str | Path], *, paired: bool = True) -> Comparison:
    """Compare runs: `runs` with scores and costs, `pairs` with difference, interval and p-value.

    Up to four runs are compared pairwise, more of them each with the first one. `p` is corrected for the number of
    pairs by Holm's method (1979, https://www.jstor.org/stable/4615733); the intervals are not. Differences are first
    minus second. `by_class`: scores that weight all classes equally are the main ones, because the classes of a run are
    imbalanced or were balanced in training; pairs then also have the difference in macro F1. With `paired=False`, runs
    may have different test photos, and their differences are less certain.

    Raises `PatiError` for fewer than two runs, unfinished runs, and paired runs on different data.
    """
    if len(folders) < 2:
        raise PatiError(
            N_("expected at least two runs to compare, got {n}", n=len(folders)),
            N_("for example: pati compare runs/a runs/b"),
        )
    seen: set[Path] = set()
    for folder in map(Path, folders):
        if folder.resolve() in seen:
            raise PatiError(N_("{folder} is given twice", folder=folder), N_("give each run once"))
        seen.add(folder.resolve())
    names = _names([Path(folder) for folder in folders])
    scored = [_read(Run.open(folder), name) for folder, name in zip(folders, names, strict=True)]
    _require_comparable(scored, paired)
    everyone = len(scored) <= MOST_EACH_WITH_EACH
    chosen = list(itertools.combinations(scored, 2)) if everyone else [(scored[0], other) for other in scored[1:]]
    pairs = [_paired(*pair) if paired else _unpaired(*pair) for pair in chosen]
    for pair, p in zip(pairs, holm([pair["p_alone"] for pair in pairs]), strict=True):
        pair["p"] = p
        pair["verdict"] = verdict(pair).shown("en")
    return {
        "paired": paired,
        "test": _test(paired, grouped=any(one.clusters is not None for one in scored)),
        "by_class": any(one.by_class for one in scored),
        "runs": [one.row for one in scored],
        "pairs": pairs,
    }


def _test(paired: bool, *, grouped: bool) -> str:
    if paired:
        return "McNemar of groups: sign flips, exact" if grouped else "McNemar, exact"
    return "Fisher, counts divided by the design effect" if grouped else "Fisher, exact"


def _names(folders: list[Path]) -> list[str]:
    """The shortest path suffixes that distinguish all runs."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts))):
        names = [str(Path(*part[-count:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _require_comparable(scored: list[_Scored], paired: bool) -> None:
    first = scored[0]
    for other in scored[1:]:
        names = N_("{first} and {second}", first=first.row["name"], second=other.row["name"])
        if other.classes != first.classes:
            raise PatiError(
                N_(
                    "{names} have different classes: {first}; {second}",
                    names=names,
                    first=first.classes[:5],
                    second=other.classes[:5],
                ),
                N_("compare runs with the same classes"),
            )
        if paired and other.manifest != first.manifest:
            raise PatiError(
                N_("{names} were trained on different data or splits", names=names),
                N_("train both on the same data with the same split_seed, or use --unpaired, a less powerful test"),
            )
        if paired and not np.array_equal(other.photos, first.photos):
            raise PatiError(N_("{names} were not tested on the same photos", names=names), N_("use --unpaired"))


def _read(run: Run, name: str) -> _Scored:
    if run.stage is not RunStage.DONE:
        again = plugins.command("train", "--resume", str(run.folder))
        raise PatiError(
            N_("the run {folder} is not finished", folder=run.folder), N_("resume it with: {again}", again=again)
        )
    classifier = Classifier.load(run.folder)
    document, tested = run.read_metrics(), Predictions.of(run, classifier.weights()).test
    clusters = clusters_of(Manifest.read(run.manifest).scored())
    with run.reading_scores():  # the document may be incomplete
        by_class = bool(document.get("balance", {}).get("by_class"))
        answers = tested.logits.argmax(1).numpy()
        row = _row(run, classifier, name, document, clusters)
        if not document.get("folds"):  # those of a cross-validation are for the final model, and wider
            row = {**row, **_intervals(tested.labels.numpy(), answers, len(document["classes"]), clusters)}
        scored = np.array(tested.sha256), tested.labels.numpy(), answers, clusters, by_class
        return _Scored(row, document["manifest"], tuple(document["classes"]), *scored)


def _row(run: Run, classifier: Classifier, name: str, document: RunDocument, clusters: Clusters | None) -> RunRow:
    recipe, test = Recipe.read(run.recipe), document["test"]
    speeds = [epoch.photos_per_second for epoch in epochs(run)]
    parameters, multiply_adds = cost_of(classifier.net, classifier.preprocess.size)
    return {
        "name": name,
        "run": str(run.folder),
        "model": recipe.model,
        "size": classifier.preprocess.size,
        "accuracy": test["accuracy"],
        "accuracy_interval": test["accuracy_interval"],
        "macro_f1": test["macro_f1"],
        "macro_f1_interval": test["macro_f1_interval"],
        "balanced_accuracy": test["balanced_accuracy"],
        "log_loss": test["log_loss"],
        "further": other_metrics(test),
        "photos": test["photos"],
        "folds": len(document.get("folds", [])),
        "clusters": None if clusters is None else len(clusters),
        "effective_clusters": None if clusters is None else clusters.effective(),
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "training_seconds": document["seconds"]["training"],
        # Epochs have about equally many photos, so this is total photos over total seconds.
        "photos_per_second": statistics.harmonic_mean(speeds) if speeds else None,
        "epochs": document["epochs"],
        "seed": document["seed"],
    }


class _Intervals(TypedDict):
    accuracy_interval: Interval
    macro_f1_interval: Interval


def _intervals(
    labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int, clusters: Clusters | None
) -> _Intervals:
    """The intervals of a run's scores, which an older version may have stored otherwise."""
    if clusters is None:
        counts = torch.from_numpy(np.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, -1))
        macro_f1 = bootstrap_intervals(counts)["macro_f1"]
    else:
        macro_f1 = clustered_intervals(labels, answers, classes, clusters)["macro_f1"]
    return {
        "accuracy_interval": list(proportion_interval(answers == labels, clusters)),
        "macro_f1_interval": macro_f1.tolist(),
    }


def notes(document: Comparison) -> list[Message]:
    """Notes that a reader needs to interpret the pairs."""
    count = len(document["pairs"])
    if document["paired"] and any(row["clusters"] for row in document["runs"]):
        lines = [N_("pairs are compared on the same photos, by an exact test of their groups (sign flips)")]
    elif document["paired"]:
        lines = [N_("pairs are compared by McNemar's exact test on the same photos")]
    else:
        lines = [
            N_("the runs are compared as if tested on different photos (Fisher's exact test), which has less power")
        ]
    crossed = [row["name"] for row in document["runs"] if row["folds"]]
    if crossed:
        lines.append(
            N_(
                "scored by cross-validation: {names}; each photo by a network that was not trained on it, and the "
                "intervals are for the model that was then trained on all photos",
                names=[as_is(name) for name in crossed],
            )
        )
    if count > 1:
        lines.append(
            N_(
                "p-values are adjusted for {count} comparisons by Holm's method; each interval is 95 % by itself",
                count=count,
            )
        )
    if len(document["runs"]) > MOST_EACH_WITH_EACH:
        lines.append(
            N_("with more than {most} runs, each is compared with the first one only", most=MOST_EACH_WITH_EACH)
        )
    if any(row["clusters"] for row in document["runs"]):
        lines.append(
            N_(
                "photos of a group are not independent: intervals resample whole groups (cluster bootstrap), and tests "
                "count groups"
            )
        )
    few = [row["effective_clusters"] for row in document["runs"] if (row["effective_clusters"] or FEW) < FEW]
    if few:
        lines.append(few_clusters(min(count for count in few if count is not None)))
    lines.append(
        N_("this compares these trained models; another seed may differ, and choosing by test scores is optimistic")
    )
    return lines


# Pairs -------------------------------------------------------------------------------


def _paired(first: _Scored, second: _Scored) -> Pair:
    only_first, only_second = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
    both = int((first.right & second.right).sum())
    neither = len(first.right) - both - only_first - only_second
    clusters = first.clusters or second.clusters
    if clusters is None:
        interval, p = paired_interval(both, only_first, only_second, neither), mcnemar(only_first, only_second)
    else:
        gains = first.right.astype(float) - second.right
        interval, p = mean_interval(gains, (-1, 1), clusters), sign_flips(clusters.sums(gains).round().astype(int))
    f1_interval = macro_f1_interval(first.labels, first.answers, second.answers, len(first.classes), clusters)
    return {
        **_pair(first, second, interval, p),
        "macro_f1_difference": first.row["macro_f1"] - second.row["macro_f1"],
        "macro_f1_interval": list(f1_interval),
        "only_first_right": only_first,
        "only_second_right": only_second,
    }


def macro_f1_interval(
    labels: NDArray[np.int64],
    answers: NDArray[np.int64],
    others: NDArray[np.int64],
    classes: int,
    clusters: Clusters | None = None,
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the difference in macro F1 of two runs' predictions on the same photos, `(N,)` each.

    Percentiles of a bootstrap within each class, with the same resamples for both (Efron and Tibshirani, 1993); of
    whole `clusters`, if there are some. If all
    predictions agree, every resample would be the same: then the interval for as many such photos as the rarest class
    has.
    """
    if np.array_equal(answers, others):
        rarest = min(np.unique(labels), key=lambda label: int((labels == label).sum()))
        right = answers[labels == rarest] == rarest
        if clusters is not None:
            return mean_interval(np.zeros(len(right)), (-1, 1), clusters.take(labels == rarest))
        return paired_interval(int(right.sum()), 0, 0, int((~right).sum()))
    drawn = [
        _macro_f1(times, labels, answers, classes) - _macro_f1(times, labels, others, classes)
        for times in stratified_bootstrap_counts(labels, clusters, resamples=RESAMPLES, seed=seed)
    ]
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return float(low), float(high)


def _macro_f1(
    times: NDArray[np.float64], labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Macro F1 `(B,)` with photos weighted by `times` `(B, N)`."""
    unit = np.eye(classes)
    either = times @ (unit[labels] + unit[answers])
    hits = times @ (unit[labels] * unit[answers])
    shares = 2 * hits / np.maximum(either, 1)
    return np.asarray(shares.sum(1) / np.maximum((either > 0).sum(1), 1))


def _unpaired(first: _Scored, second: _Scored) -> Pair:
    counts = int(first.right.sum()), len(first.right), int(second.right.sum()), len(second.right)
    if first.clusters is None and second.clusters is None:
        return _pair(first, second, unpaired_interval(*counts), fisher(*counts))
    effects = [design_effect(one.right, one.clusters) for one in (first, second)]
    fewer = [round(count / effect) for count, effect in zip(counts, np.repeat(effects, 2), strict=True)]
    right = np.concatenate([first.right, second.right])
    together = [one.clusters or Clusters(np.arange(len(one.right))) for one in (first, second)]
    both = Clusters(np.append(together[0].of, len(together[0]) + together[1].of))
    interval = difference_interval(right, np.arange(len(right)) < len(first.right), both)
    return _pair(first, second, interval, fisher(*fewer))


def _pair(first: _Scored, second: _Scored, interval: tuple[float, float], p: float) -> Pair:
    difference = float(first.right.mean() - second.right.mean())
    return {
        "first": first.row["name"],
        "second": second.row["name"],
        "difference": difference,
        "interval": list(interval),
        "p_alone": p,
        "p": p,
        "verdict": "",
    }


def verdict(pair: Pair) -> Message:
    """The result for a pair in words, with its p-value."""
    p = N_("p < {limit:g}", limit=1e-4) if pair["p"] < 1e-4 else N_("p = {p:.2g}", p=pair["p"])
    first, second = pair["first"], pair["second"]
    if pair["p"] >= ALPHA:
        return N_("no significant difference between {first} and {second} ({p})", first=first, second=second, p=p)
    better, worse = (first, second) if pair["difference"] > 0 else (second, first)
    return N_("{better} is more accurate than {worse} ({p})", better=better, worse=worse, p=p)
