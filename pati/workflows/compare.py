"""Finished runs side by side: their scores and costs, and which differences are more than chance.

Reads what the runs left and scores nothing anew. Pairs are judged on the same test photos, by which of the two answers
each one right. It can't tell how much of a difference is the luck of a seed: that takes runs with other seeds.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pati import plugins
from pati.errors import PatiError
from pati.evaluation.documents import Comparison, Pair, RunDocument, RunRow
from pati.evaluation.intervals import RESAMPLES, bootstrapped, paired_interval, resampled, unpaired_interval
from pati.evaluation.metrics import further
from pati.evaluation.significance import fisher, holm, mcnemar
from pati.inference.classifier import Classifier
from pati.models.counting import cost_of
from pati.recipe import Recipe
from pati.runs.history import epochs
from pati.runs.predictions import Predictions
from pati.runs.run import Run, RunStage

ALPHA = 0.05  # a smaller p is called a difference
MOST_EACH_WITH_EACH = 4  # more runs are compared with the first one only


@dataclass(frozen=True)
class _Scored:
    """What a run says of itself, and its answers: `right` `bool (N,)` for the photos of `photos` (content hashes)."""

    row: RunRow
    manifest: str
    classes: tuple[str, ...]
    photos: NDArray[np.str_]
    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    by_class: bool  # classes are uneven, or were made to count alike

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which answers are right, `(N,)`."""
        return np.asarray(self.answers == self.labels)


def compare(folders: Sequence[str | Path], *, paired: bool = True) -> Comparison:
    """The document of a comparison: `runs` with scores and costs, `pairs` with difference, interval and p.

    Pairs are every two of up to four runs, each run with the first one of more; `p` is corrected for their number by
    Holm's method (1979, https://www.jstor.org/stable/4615733), the intervals are not. Differences are first minus
    second. `by_class`: scores that count all classes alike lead, as some run's classes are uneven or were made to
    count; paired runs are then told apart by macro F1 as well. Not `paired` are runs on different test photos: their
    differences are less certain.
    Raises `PatiError` for fewer than two runs, unfinished ones, and paired ones whose data is not the same.
    """
    if len(folders) < 2:
        raise PatiError(f"a comparison wants at least two runs, got {len(folders)}", "pati compare RUN RUN …")
    seen: set[Path] = set()
    for folder in map(Path, folders):
        if folder.resolve() in seen:
            raise PatiError(f"{folder} is named twice", "name each run once")
        seen.add(folder.resolve())
    names = _names([Path(folder) for folder in folders])
    scored = [_read(Run.open(folder), name) for folder, name in zip(folders, names, strict=True)]
    _require_comparable(scored, paired)
    everyone = len(scored) <= MOST_EACH_WITH_EACH
    chosen = list(itertools.combinations(scored, 2)) if everyone else [(scored[0], other) for other in scored[1:]]
    pairs = [_paired(*pair) if paired else _unpaired(*pair) for pair in chosen]
    for pair, p in zip(pairs, holm([pair["p_alone"] for pair in pairs]), strict=True):
        pair["p"] = p
        pair["verdict"] = _verdict(pair)
    return {
        "paired": paired,
        "test": "McNemar, exact" if paired else "Fisher, exact",
        "by_class": any(one.by_class for one in scored),
        "runs": [one.row for one in scored],
        "pairs": pairs,
    }


def _names(folders: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell all runs apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts))):
        names = [str(Path(*part[-count:])) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _require_comparable(scored: list[_Scored], paired: bool) -> None:
    first = scored[0]
    for other in scored[1:]:
        names = f"{first.row['name']} and {other.row['name']}"
        if other.classes != first.classes:
            raise PatiError(
                f"{names} have different classes: {', '.join(first.classes[:5])}; {', '.join(other.classes[:5])}",
                "compare runs that answer the same question",
            )
        if paired and other.manifest != first.manifest:
            raise PatiError(
                f"{names} were made from different data or splits",
                "train both on the same data with the same split_seed, or compare with --unpaired, which is less sure",
            )
        if paired and not np.array_equal(other.photos, first.photos):
            raise PatiError(f"{names} were not tested on the same photos", "compare with --unpaired")


def _read(run: Run, name: str) -> _Scored:
    if run.stage is not RunStage.DONE:
        again = plugins.command("train", "--resume", str(run.folder))
        raise PatiError(f"the run {run.folder} is not finished", f"go on with it: {again}")
    made = Classifier.load(run.folder)
    document, tested = run.read_metrics(), Predictions.read(run).test
    with run.reading_scores():  # a document that lacks something
        by_class = bool(document.get("balance", {}).get("by_class"))
        row = _row(run, made, name, document)
        answers = tested.logits.argmax(1).numpy()
        scored = np.array(tested.sha256), tested.labels.numpy(), answers, by_class
        return _Scored(row, document["manifest"], tuple(document["classes"]), *scored)


def _row(run: Run, made: Classifier, name: str, document: RunDocument) -> RunRow:
    recipe, test = Recipe.read(run.recipe), document["test"]
    speeds = [epoch.photos_per_second for epoch in epochs(run)]
    parameters, multiply_adds = cost_of(made.net, made.preprocess.size)
    intervals = bootstrapped(torch.tensor(test["confusion"]))
    return {
        "name": name,
        "run": str(run.folder),
        "model": recipe.model,
        "size": made.preprocess.size,
        "accuracy": test["accuracy"],
        "accuracy_interval": test["accuracy_interval"],
        "macro_f1": test["macro_f1"],
        "macro_f1_interval": intervals["macro_f1"].tolist(),
        "balanced_accuracy": test["balanced_accuracy"],
        "log_loss": test["log_loss"],
        "further": further(test),
        "photos": test["photos"],
        "group_by": recipe.group_by,
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "training_seconds": document["seconds"]["training"],
        # Epochs have about equally many photos, so this is photos over seconds.
        "photos_per_second": statistics.harmonic_mean(speeds) if speeds else None,
        "epochs": document["epochs"],
        "seed": document["seed"],
    }


def notes(document: Comparison) -> list[str]:
    """What a reader of the document must know to read its pairs right."""
    count = len(document["pairs"])
    if document["paired"]:
        found = ["pairs are judged by McNemar's exact test on the same test photos"]
    else:
        found = ["the runs are compared as if on different photos (Fisher's exact test): only large differences show"]
    if count > 1:
        found.append(f"p is corrected for {count} comparisons by Holm's method; the intervals are each 95 % alone")
    if len(document["runs"]) > MOST_EACH_WITH_EACH:
        found.append(f"with more than {MOST_EACH_WITH_EACH} runs, each is compared with the first one only")
    if any(row["group_by"] for row in document["runs"]):
        found.append("photos of one group are alike: p and the intervals count photos, so they are too sure")
    found.append("this is about these trained nets; another seed may change it, and choosing by test scores flatters")
    return found


# Pairs -------------------------------------------------------------------------------


def _paired(first: _Scored, second: _Scored) -> Pair:
    only_first, only_second = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
    both = int((first.right & second.right).sum())
    neither = len(first.right) - both - only_first - only_second
    interval = paired_interval(both, only_first, only_second, neither)
    return {
        **_pair(first, second, interval, mcnemar(only_first, only_second)),
        "macro_f1_difference": first.row["macro_f1"] - second.row["macro_f1"],
        "macro_f1_interval": list(macro_f1_interval(first.labels, first.answers, second.answers, len(first.classes))),
        "only_first_right": only_first,
        "only_second_right": only_second,
    }


def macro_f1_interval(
    labels: NDArray[np.int64], answers: NDArray[np.int64], others: NDArray[np.int64], classes: int, *, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the difference in macro F1 of two runs' answers to the same photos, `(N,)` each.

    Percentiles of a bootstrap that draws photos within each class, the same ones for both (Efron and Tibshirani, 1993).
    Answers that all agree leave nothing to draw: then the interval of as many such photos as the rarest class has.
    """
    if np.array_equal(answers, others):
        rarest = min(np.unique(labels), key=lambda label: int((labels == label).sum()))
        right = answers[labels == rarest] == rarest
        return paired_interval(int(right.sum()), 0, 0, int((~right).sum()))
    drawn = [
        _macro_f1(times, labels, answers, classes) - _macro_f1(times, labels, others, classes)
        for times in resampled(labels, resamples=RESAMPLES, seed=seed)
    ]
    low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
    return float(low), float(high)


def _macro_f1(
    times: NDArray[np.float64], labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    """Macro F1 `(B,)` where each photo counts so many times, `(B, N)`."""
    unit = np.eye(classes)
    either = times @ (unit[labels] + unit[answers])
    hits = times @ (unit[labels] * unit[answers])
    shares = 2 * hits / np.maximum(either, 1)
    return np.asarray(shares.sum(1) / np.maximum((either > 0).sum(1), 1))


def _unpaired(first: _Scored, second: _Scored) -> Pair:
    counts = int(first.right.sum()), len(first.right), int(second.right.sum()), len(second.right)
    return _pair(first, second, unpaired_interval(*counts), fisher(*counts))


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


def _verdict(pair: Pair) -> str:
    """The pair in words, with its p."""
    p = "p < 0.0001" if pair["p"] < 1e-4 else f"p = {pair['p']:.2g}"
    first, second = pair["first"], pair["second"]
    if pair["p"] >= ALPHA:
        return f"no difference can be told between {first} and {second} ({p})"
    better, worse = (first, second) if pair["difference"] > 0 else (second, first)
    return f"{better} is more accurate than {worse} ({p})"
