"""The numbers that a reader of a report sees, against scikit-learn, cleanlab and slow counting, from what a run keeps.

Intervals by bootstrap, the corruptions and the checks of explanations have independent references of their own beside
`test_metrics`, `test_curves`, `test_corruptions` and `test_explain_checks`.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as reference

import pati
from pati.data.manifest import Manifest
from pati.recipe import Recipe
from pati.report import labels
from pati.workflows import measure
from pati.workflows.report import report_again
from pati.workflows.score import outside
from pati.workflows.train import train
from tests.support.commands import undrawn
from tests.support.photos import SHAPES, write_shapes

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Told:
    """A report, as a reader of English sees it, section by section, and what the run keeps."""

    run: Path
    sections: dict[str, str]
    logits: NDArray[Any]
    labels: NDArray[Any]
    familiarity: NDArray[Any]
    validation_logits: NDArray[Any]
    validation_labels: NDArray[Any]
    temperature: float
    found: Manifest

    @property
    def classes(self) -> tuple[str, ...]:
        return self.found.classes

    @property
    def probabilities(self) -> NDArray[Any]:
        return np.asarray(softmax(self.logits.astype(np.float64) / self.temperature, axis=1))

    def rows(self, section: str) -> list[list[str]]:
        """Cells of the section's tables."""
        found = re.findall(r"<tr>(.*?)</tr>", self.sections[section], re.S)
        return [[text(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)] for row in found]


def text(markup: str) -> str:
    plain = re.sub(r'<span[^>]* lang="(?!en")[^"]*">.*?</span>', "", markup, flags=re.S)
    plain = re.sub(r"</?(span|code)[^>]*>", "", plain)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", plain)).split())


def percent(share: float) -> str:
    """Nothing is called none or all by rounding alone."""
    size = abs(share)
    if 0 < size < 0.0005:
        return "< 0.1 %" if share > 0 else "> -0.1 %"
    if 0.9995 <= size < 1:
        return "> 99.9 %" if share > 0 else "< -99.9 %"
    return f"{100 * share:.1f} %"


def percents(low: float, high: float) -> str:
    return f"{100 * low:.1f} % – {100 * high:.1f} %"


def points(difference: float) -> str:
    """In percentage points."""
    return percent(difference).removesuffix(" %").replace("-", "\N{MINUS SIGN}")


def point_span(low: float, high: float) -> str:
    return f"{100 * low:z.1f} – {100 * high:z.1f}".replace("-", "\N{MINUS SIGN}")


def wilson(hits: int, count: int) -> str:
    found = binomtest(int(hits), int(count)).proportion_ci(method="wilson")
    return percents(found.low, found.high)


def newcombe(hits: int, count: int, other_hits: int, other_count: int) -> tuple[float, float]:
    """The difference of two shares, step by step as in the paper."""
    one, two = hits / count, other_hits / other_count
    first, second = (
        binomtest(int(n), int(of)).proportion_ci(method="wilson")
        for n, of in ((hits, count), (other_hits, other_count))
    )
    below = np.sqrt((one - first.low) ** 2 + (second.high - two) ** 2)
    above = np.sqrt((first.high - one) ** 2 + (two - second.low) ** 2)
    return one - two - below, one - two + above


def span(cell: str) -> list[float]:
    return [float(end) for end in cell.split("–")]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Told:
    base = tmp_path_factory.mktemp("told")
    run, data = base / "run", write_shapes(base / "shapes", per_class=100)
    for name, other in zip(SHAPES, SHAPES[1:] + SHAPES[:1], strict=True):  # some labels are wrong, so that it errs
        for number in range(0, 100, 8):
            (data / name / f"{number}.jpg").rename(data / other / f"from-{name}-{number}.jpg")
    recipe = Recipe(epochs=8, batch=16, size=32, growth=(1.0,), width=0.5, validation=0.2, test=0.4)
    with undrawn():
        assert 0.5 < train(data, recipe, out=run).metrics["test"]["accuracy"] < 0.95
        outside(run, write_shapes(base / "strange", per_class=20, first=900))
    few = dataclasses.replace(measure.PROBES["explanations"], most=16)  # as many would say the same
    with mock.patch.dict(measure.PROBES, explanations=few):
        page = report_again(run)[0].report.read_text(encoding="utf-8")
    sections = {}
    for part in re.findall(r"<section>(.*?)</section>", page, re.S):
        heading = re.search(r"<h2[^>]*>(.*?)</h2>", part, re.S)
        if heading:
            sections[text(heading[1])] = part
    made = pati.load(run)
    assert made.calibration is not None
    with np.load(run / "predictions.npz") as stored:
        names = ("test_logits", "test_labels", "test_familiarity", "validation_logits", "validation_labels")
        arrays = [stored[name] for name in names]
    return Told(run, sections, *arrays, made.calibration.temperature, Manifest.read(run / "manifest.jsonl"))


def test_scores(told: Told) -> None:
    shown = text(told.sections["Result on the test split"])
    answers = told.logits.argmax(1)
    hits, count = int((answers == told.labels).sum()), len(told.labels)
    assert f"Accuracy {percent(hits / count)} 95 % CI: {wilson(hits, count)}" in shown
    assert f"Macro F1 {reference.f1_score(told.labels, answers, average='macro'):.3f}" in shown
    assert f"Balanced accuracy: {percent(reference.balanced_accuracy_score(told.labels, answers))}" in shown
    probabilities = softmax(told.logits.astype(float), axis=1)
    found = re.search(r"Log loss: ([\d.]+) \(([^)]+)\)", shown)
    assert found
    assert found[1] == f"{reference.log_loss(told.labels, probabilities):.3f}"
    losses, generator = -np.log(probabilities[np.arange(count), told.labels]), np.random.default_rng(2)
    means = [generator.choice(losses, count).mean() for _ in range(2000)]
    assert span(found[2]) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.02)
    assert f"Photos {count}" in shown


def test_each_class(told: Told) -> None:
    answers = told.logits.argmax(1)
    table = reference.precision_recall_fscore_support(told.labels, answers, zero_division=0)
    for name, precision, recall, f1, support in zip(told.classes, *table, strict=True):
        (row,) = [row for row in told.rows("Result on the test split") if row[0] == name]
        assert [cell.split()[0] for cell in row[1:4]] == [f"{value:.3f}" for value in (precision, recall, f1)]
        assert row[4] == str(support)
        low, high = row[2].split()[1].split("–")
        found = binomtest(round(recall * support), int(support)).proportion_ci(method="wilson")
        assert (low, high) == (f"{found.low:.3f}", f"{found.high:.3f}")


def test_confusion_matrix(told: Told) -> None:
    counts = reference.confusion_matrix(told.labels, told.logits.argmax(1))
    drawings = re.findall(r"<div lang=\"en\" role=\"img\".*?</svg>", told.sections["Confusion matrix"], re.S)
    shares = counts / counts.sum(1, keepdims=True)
    for drawing, cells in zip(
        drawings, ([str(n) for n in counts[counts > 0]], [f"{100 * s:.1f}" for s in shares[counts > 0]]), strict=True
    ):
        texts = [text(part) for part in re.findall(r"<text[^>]*>.*?</text>", drawing, re.S)]
        assert [part for part in texts if re.fullmatch(r"[\d.]+", part)] == cells


def test_calibration(told: Told) -> None:
    labels = told.labels
    rows = {row[0]: row[1:] for row in told.rows("Calibration")}
    for name, heat in (("Before temperature scaling", 1.0), ("After temperature scaling", told.temperature)):
        probabilities = softmax(told.logits.astype(np.float64) / heat, axis=1)
        confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
        order, error = sorted(range(len(labels)), key=lambda number: (confidence[number], number)), 0.0
        bins = min(15, len(order))
        larger = len(order) % bins  # the first bins hold one photo more
        start = 0
        for number in range(bins):
            inside = order[start : start + len(order) // bins + (number < larger)]
            start += len(inside)
            error += abs(sum(confidence[i] for i in inside) - sum(right[i] for i in inside)) / len(order)
        cells = [cell.split() for cell in rows[name]]
        assert [cell[0] for cell in cells[:2]] == [f"{heat:.2f}", f"{error:.3f}"]
        assert cells[3][0] == f"{reference.log_loss(labels, probabilities):.3f}"
        losses = -np.log(probabilities[np.arange(len(labels)), labels])
        generator = np.random.default_rng(1)
        means = [generator.choice(losses, len(losses)).mean() for _ in range(2000)]
        assert span(cells[3][1]) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.02)
        parts, sure, hits = np.array_split(np.array(order), bins), confidence, right

        def error_of(hits: NDArray[Any], times: NDArray[Any], parts: Any = parts, sure: Any = sure) -> float:
            return sum(abs((times * (hits - sure))[part].sum()) for part in parts) / len(hits)

        once = np.ones(len(labels))
        fair = [error_of(generator.random(len(labels)) < sure, once) for _ in range(1000)]
        assert float(cells[2][0]) == pytest.approx(np.percentile(fair, 97.5), abs=0.01)
        anew = [
            error_of(hits, np.bincount(generator.integers(0, len(labels), len(labels)), minlength=len(labels)))
            for _ in range(1000)
        ]
        low, high = np.percentile(anew, [2.5, 97.5])
        chance = error <= float(cells[2][0])
        accuracy = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
        off = max(abs(accuracy.low - sure.mean()), abs(accuracy.high - sure.mean()))
        expected = (0 if chance else max(0, 2 * error - high), max(error, 2 * error - low, off))
        assert span(cells[1][1]) == pytest.approx(expected, abs=0.012)
    photos = len(told.validation_labels)
    fitted = f"The temperature was fitted on {photos} held-out photos of the run."
    assert fitted in text(told.sections["Calibration"])


def test_temperature_has_the_least_loss_on_validation_photos(told: Told) -> None:
    def loss(logarithm: float) -> float:
        probabilities = softmax(told.validation_logits.astype(np.float64) / np.exp(logarithm), axis=1)
        total = reference.log_loss(told.validation_labels, probabilities, labels=range(3), normalize=False)
        return float(total) + logarithm**2 / 2

    grid = np.log(told.temperature) + np.linspace(-0.5, 0.5, 1001)
    assert abs(grid[int(np.argmin([loss(value) for value in grid]))] - np.log(told.temperature)) < 1e-3


def test_when_it_is_unsure(told: Told) -> None:
    shown = text(told.sections["Abstention (“unsure”)"])
    validation = softmax(told.validation_logits.astype(np.float64) / told.temperature, axis=1)
    sure, right = validation.max(1), validation.argmax(1) == told.validation_labels
    threshold = min((value for value in sure if (~right[sure >= value]).mean() <= 0.01), default=2.0)
    confidence = told.probabilities.max(1)
    odd = told.familiarity <= 0.01
    answered = (confidence >= threshold) & ~odd
    hits, count = int((told.probabilities.argmax(1) == told.labels)[answered].sum()), int(answered.sum())
    assert f"Threshold {percent(threshold) if threshold <= 1 else '–'}" in shown
    photos = len(told.validation_labels)
    bound = binomtest(0, photos).proportion_ci(method="wilson").high  # 60 photos can't show 1 %
    few = f"The threshold was chosen on only {photos} held-out photos: even with no wrong prediction among so few, "
    assert f"{few}the share of wrong predictions may be as high as {percent(bound)}." in shown
    assert "at most 1.0 % of the other predictions are wrong" in shown
    assert "Out-of-distribution photos are marked unsure too" in shown
    assert "Out-of-distribution photos cannot be detected" not in shown
    assert f"Out-of-distribution: {percent(odd.mean())}" in shown
    assert f"{percent(count / len(answered))} 95 % CI: {wilson(count, len(answered))}" in shown
    if count:
        assert f"Selective accuracy {percent(hits / count)} 95 % CI: {wilson(hits, count)}" in shown
    assert ("No threshold achieves this" in shown) == (threshold > 1)
    assert ("No photo here is both" in shown) == (threshold <= 1 and not count)


def test_areas_under_curves(told: Told) -> None:
    rows = {row[0]: row[1:] for row in told.rows("ROC and precision-recall")}
    raw = softmax(told.logits.astype(np.float64), axis=1)
    for number, name in enumerate(told.classes):
        own = told.labels == number
        area = reference.roc_auc_score(own, raw[:, number])
        average = reference.average_precision_score(own, raw[:, number])
        assert (rows[name][0], rows[name][2]) == (f"{area:.3f}", f"{average:.3f}")
        assert max(area, average) < 0.9995
        for value, cell in ((area, rows[name][1]), (average, rows[name][3])):
            low, high = span(cell)
            assert low < value < high


def test_slices(told: Told) -> None:
    entries = told.found.of_split("test")
    right = told.logits.argmax(1) == told.labels
    brightness = []
    for entry in entries:
        photo = Image.open(Path(told.found.root) / entry.path).resize((32, 32), Image.Resampling.BOX)
        brightness.append(np.asarray(photo, np.float64) @ np.array([0.299, 0.587, 0.114]) / 255)
    means = np.array([values.mean() for values in brightness])
    rows, name = [], ""
    for row in told.rows("Accuracy by slice")[1:]:
        name = row[0] if len(row) != 5 else name  # it spans the rows of its parts
        rows += [row[-5:]] if name == "Brightness (0 to 1)" else []
    assert sum(int(row[1]) for row in rows) == len(entries)
    for number, row in enumerate(rows):
        # Their bounds are rounded to two digits: count the photos by rank.
        start = sum(int(other[1]) for other in rows[:number])
        inside = np.argsort(means, kind="stable")[start : start + int(row[1])]
        low, high = (float(end) for end in row[0].split("–"))
        assert (means[inside].min(), means[inside].max()) == pytest.approx((low, high), abs=0.02)
        assert row[2].startswith(percent(right[inside].mean()))
        assert row[3] == wilson(right[inside].sum(), len(inside))
        rest = np.setdiff1d(np.arange(len(entries)), inside)
        difference = right[inside].mean() - right[rest].mean()
        low, high = newcombe(right[inside].sum(), len(inside), right[rest].sum(), len(rest))
        same = " not significant" * bool(low <= 0 <= high)
        assert row[4] == f"{points(difference)} {point_span(low, high)}{same}"
    (size,) = [row for row in told.rows("Accuracy by slice") if row[0] == "Size (side in px)"]
    assert size[1] == "the same for all photos"


def test_suspected_labels(told: Told) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cleanlab.filter import find_label_issues

        logits = np.concatenate([told.validation_logits, told.logits]).astype(np.float64)
        given = np.concatenate([told.validation_labels, told.labels])
        probabilities = softmax(logits / told.temperature, axis=1)
        order = find_label_issues(
            given, probabilities, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
        )
    entries = [*told.found.of_split("validation"), *told.found.of_split("test")]
    shown = re.findall(r"<figcaption>.*?</figcaption>", told.sections["Likely label errors"], re.S)
    assert len(shown) == len(order)
    section = text(told.sections["Likely label errors"])
    assert "None of these photos was used for training." in section
    assert "of the photos examined" not in section
    assert "because a person has decided" not in section
    assert f"{len(order)} likely label errors among {len(entries)} photos." in section
    for caption, number in zip(shown, order, strict=True):
        assert entries[number].path in text(caption)
        label, share = told.classes[given[number]], percent(probabilities[number, given[number]])
        assert f"label: {label} ({share})" in text(caption)


def test_photos_from_elsewhere(told: Told) -> None:
    row = told.rows("Out-of-distribution photos")[1]
    answers = pati.load(told.run).predict(sorted((told.run.parent / "strange").rglob("*.jpg")))
    strange = np.array([answer.ood_p_value for answer in answers])
    area = reference.roc_auc_score(
        np.r_[np.ones(len(strange)), np.zeros(len(told.familiarity))], -np.r_[strange, told.familiarity]
    )
    odd, unsure = (strange <= 0.01).sum(), sum(answer.unsure for answer in answers)
    assert row[:2] == ["strange", str(len(strange))]
    assert "the former has the higher out-of-distribution score; 50 % is chance" in text(
        told.sections["Out-of-distribution photos"]
    )
    assert row[2].startswith(percent(area))
    assert row[3:] == [f"{percent(n / len(strange))} {wilson(n, len(strange))}" for n in (odd, unsure)]


def test_damaged_photos_and_explanations_are_those_kept(told: Told) -> None:
    kept = json.loads((told.run / "metrics.json").read_text())["analysis"]
    validation = told.validation_logits.argmax(1) == told.validation_labels
    rows = {row[0]: row[1:] for row in told.rows("Robustness to corruptions") if row[0]}
    assert kept["robustness"]["photos"] == len(validation)
    assert rows["none"][1:3] == [percent(validation.mean()), wilson(validation.sum(), len(validation))]
    told_rows = [row for row in told.rows("Robustness to corruptions")[1:] if row[0] != "none"]
    kept_rows = [row for kind in kept["robustness"]["kinds"].values() for row in kind]
    for shown, row in zip(told_rows, kept_rows, strict=True):
        low, high = row["lost_interval"]
        same = " not significant" * (low <= 0 <= high)
        assert shown[-1] == f"{points(validation.mean() - row['accuracy'])} {point_span(low, high)}{same}"
    rows = {row[0]: row[1:] for row in told.rows("Sanity checks of the explanations")}
    assert set(kept["explanations"]["measures"]) == {"insertion", "deletion", "road"}
    for name, found in kept["explanations"]["measures"].items():
        assert rows[labels.MEASURES[name].shown("en")][0] == f"{found['method']['mean']:.3f}"


def test_counts_of_the_data(told: Told) -> None:
    rows = {row[0]: row[1:] for row in told.rows("Data")}
    for name in told.classes:
        assert sum(map(int, rows[name])) == 100
    shown = text(told.sections["Data"])
    assert shown.startswith("Data 300 files found, 300 used.")
