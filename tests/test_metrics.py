"""Scores against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from pati.evaluation import clusters, intervals, metrics
from pati.evaluation.clusters import FEWEST_RESAMPLES
from pati.evaluation.intervals import (
    bootstrap_indices,
    bootstrap_intervals,
    crossed_interval,
    log_loss_interval,
    mean_interval,
    resamples,
    wilson,
)


@st.composite
def outcomes(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    classes, count, seed = draw(st.integers(2, 6)), draw(st.integers(1, 80)), draw(st.integers(0, 10_000))
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(count, classes, generator=generator) * 2
    return logits, torch.randint(0, classes, (count,), generator=generator)


@pytest.mark.slow
@given(outcomes())
def test_equal_to_scikit_learn(outcome: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = outcome
    predicted, classes = logits.argmax(1), range(logits.shape[1])
    document = metrics.summary(logits, labels, tuple(map(str, classes)))
    assert document["accuracy"] == pytest.approx(reference.accuracy_score(labels, predicted))
    assert document["macro_f1"] == pytest.approx(
        reference.f1_score(labels, predicted, average="macro", zero_division=0)
    )
    np.testing.assert_array_equal(document["confusion"], reference.confusion_matrix(labels, predicted, labels=classes))
    expected = reference.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        found = [row[name] for row in document["per_class"]]
        assert not any(value is not None and np.isnan(value) for value in found)  # what is not defined is None
        np.testing.assert_allclose(np.array(found, float), values)
    present = sorted(set(labels.tolist()))
    recalls = reference.recall_score(labels, predicted, labels=present, average=None, zero_division=0)
    assert document["balanced_accuracy"] == pytest.approx(recalls.mean())
    probabilities = logits.double().softmax(1).numpy()
    assert document["log_loss"] == pytest.approx(reference.log_loss(labels, probabilities, labels=classes))


@given(st.integers(1, 500), st.data())
def test_wilson_equals_scipy(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    expected = binomtest(hits, count).proportion_ci(method="wilson")
    assert wilson(hits, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_wilson_of_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_intervals_of_a_mean_hold_it_about_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        low, high = mean_interval(np.random.default_rng(seed).exponential(1, 60), seed=seed)
        held += low <= 1 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_means_of_very_many_photos_take_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer draws, in parts: the same interval, about."""
    values = np.random.default_rng(0).exponential(1, 400)
    whole = mean_interval(values)
    monkeypatch.setattr(clusters, "_WORK", 400 * 500)
    monkeypatch.setattr(intervals, "_CELLS", 400 * 30)
    drawn = list(bootstrap_indices(400))
    assert sum(map(len, drawn)) == 500
    assert max(map(len, drawn)) == 30
    np.testing.assert_allclose(mean_interval(values), whole, atol=0.03)
    assert resamples(10**9) == FEWEST_RESAMPLES


def test_interval_of_the_log_loss_holds_it_about_as_often_as_it_says() -> None:
    def outcome(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        logits = 2 * torch.randn(count, 3, generator=generator)
        return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]

    truth = metrics.log_loss(*outcome(10**6, 300_000))
    held = [low <= truth <= high for low, high in (log_loss_interval(*outcome(n, 150)) for n in range(150))]
    assert 0.89 <= np.mean(held) <= 0.99


def test_a_net_that_says_nothing_loses_the_same_whatever_the_labels() -> None:
    low, high = log_loss_interval(torch.zeros(10, 4), torch.arange(10) % 4)
    assert low == high == pytest.approx(np.log(4))


def test_a_loss_without_a_mistake_is_not_taken_for_certain() -> None:
    """Two answers in a hundred are wrong; of 30 photos mostly none is, and the loss seen is far too low."""
    truth = 0.98 * np.log1p(np.exp(-6)) + 0.02 * np.log1p(np.exp(6))
    generator, held, perfect = np.random.default_rng(0), 0, 0
    for _ in range(200):
        labels = torch.from_numpy((generator.random(30) < 0.02).astype(np.int64))
        low, high = log_loss_interval(torch.tensor([6.0, 0.0]).expand(30, 2), labels)
        held += low <= truth <= high
        perfect += not labels.any()
    assert perfect > 80
    assert held / 200 > 0.9


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_mean_of_equal_values_is_not_taken_for_certain(value: float) -> None:
    """The ends are the means with as many others, at their lowest and highest, as Wilson allows for none of 20."""
    share = wilson(0, 20)[1]
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        found = mean_interval(np.full(20, value), (low, high))
        assert found == pytest.approx(((1 - share) * value + share * low, (1 - share) * value + share * high))
    assert mean_interval(np.full(20, 1.0)) == pytest.approx(wilson(20, 20))


def test_equal_answers_are_not_taken_for_certain() -> None:
    """All right, all wrong, and one class always taken for the other: no draw differs from another."""
    right = bootstrap_intervals(torch.diag(torch.tensor([10, 40])))
    for name in ("macro_f1", "balanced_accuracy"):
        low, high = right[name]
        assert 0.85 < low < 0.98
        assert high == 1
    few, many = 1 - right["f1"][:, 0]
    assert few > 2 * many > 0
    wrong = bootstrap_intervals(torch.tensor([[0, 10, 0], [0, 0, 40], [0, 0, 0]]))
    assert wrong["balanced_accuracy"][0] == 0
    assert 0.02 < wrong["balanced_accuracy"][1] < 0.3
    low, high = bootstrap_intervals(torch.tensor([[20, 0], [20, 0]]))["balanced_accuracy"]
    assert 0.4 < low < 0.5 < high < 0.6
    # Several answers, and none of them right.
    few, many = (
        bootstrap_intervals(torch.tensor([[0, half, half], [0, 40, 0], [0, 20, 20]]))["f1"][0] for half in (2, 20)
    )
    assert few[0] == many[0] == 0
    assert 0.4 < few[1] < 0.8
    assert 0.02 < many[1] < 0.15
    # A class of which there is nothing is no class that was got wrong.
    low, high = bootstrap_intervals(torch.diag(torch.tensor([30, 30, 0])))["macro_f1"]
    assert low > 0.9


@pytest.mark.slow
def test_classes_of_few_photos_leave_an_interval_wide() -> None:
    """Of three photos all answered rightly by a net that gets one of five wrong."""
    generator, held, truth = np.random.default_rng(0), 0, (0.99 + 0.8 + 0.8) / 3
    for _ in range(300):
        rows = [
            generator.multinomial(size, shares)
            for size, shares in ((1000, [0.99, 0.01, 0]), (3, [0.1, 0.8, 0.1]), (3, [0.1, 0.1, 0.8]))
        ]
        low, high = bootstrap_intervals(torch.tensor(np.array(rows)))["balanced_accuracy"]
        held += low <= truth <= high
    assert held / 300 > 0.85


def test_intervals_of_a_good_net_hold_its_balanced_accuracy() -> None:
    """Mostly no mistake is seen at all: the interval must not be a point then."""
    generator, held, perfect = np.random.default_rng(0), 0, 0
    for _ in range(300):
        hits = generator.binomial(25, 0.99, 2)
        counts = torch.tensor([[hits[0], 25 - hits[0]], [25 - hits[1], hits[1]]])
        low, high = bootstrap_intervals(counts)["balanced_accuracy"]
        held += low <= 0.99 <= high
        perfect += hits.sum() == 50
    assert perfect > 150
    assert held / 300 > 0.9


@pytest.mark.slow
def test_bootstrapped_intervals_equal_a_slow_bootstrap() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [120, 60, 20])
    answers = np.where(generator.random(200) < 0.7, labels, generator.integers(0, 3, 200))
    logits = torch.nn.functional.one_hot(torch.tensor(answers), 3).float()
    document = metrics.summary(logits, torch.tensor(labels), ("a", "b", "c"))
    drawn: dict[str, list[float]] = {"macro_f1": [], "balanced_accuracy": []}
    f1 = []
    for _ in range(1000):
        chosen = np.concatenate(
            [generator.choice(np.flatnonzero(labels == index), (labels == index).sum()) for index in range(3)]
        )
        some = labels[chosen], answers[chosen]
        drawn["macro_f1"].append(reference.f1_score(*some, average="macro"))
        drawn["balanced_accuracy"].append(reference.balanced_accuracy_score(*some))
        f1.append(reference.f1_score(*some, average=None))
    for name, values in drawn.items():
        np.testing.assert_allclose(document[f"{name}_interval"], np.percentile(values, [2.5, 97.5]), atol=0.012)
        assert document[f"{name}_interval"][0] < document[name] < document[f"{name}_interval"][1]
    for row, slow in zip(document["per_class"], np.percentile(f1, [2.5, 97.5], 0).T, strict=True):
        np.testing.assert_allclose(row["f1_interval"], slow, atol=0.03)
        hits = round(row["recall"] * row["support"])
        assert row["recall_interval"] == list(wilson(hits, row["support"]))
        assert row["precision_interval"] == list(wilson(hits, row["predicted"]))


@pytest.mark.parametrize(
    ("count", "draws", "photo_spread", "draw_spread"), [(8, 1, 1, 0), (100, 3, 1, 0.3), (100, 10, 0, 1)]
)
def test_an_interval_over_photos_and_draws_holds_the_mean(
    count: int, draws: int, photo_spread: float, draw_spread: float
) -> None:
    """About nineteen times of twenty, or more often; and not by being endless."""
    generator, held, widths = np.random.default_rng(0), 0, []
    for _ in range(1000):
        photos = generator.normal(0, photo_spread, (count, 1))
        values = photos + generator.normal(0, draw_spread, (1, draws)) + generator.normal(0, 0.1, (count, draws))
        low, high = crossed_interval(values, (-9, 9))
        held += low <= 0 <= high
        widths.append(high - low)
    assert 0.92 <= held / 1000 <= 0.995
    deviation = (photo_spread**2 / count + draw_spread**2 / draws) ** 0.5
    assert 3.5 * deviation < np.median(widths) < 9 * deviation


def test_an_interval_over_photos_and_draws_leaves_out_what_is_missing() -> None:
    values = np.random.default_rng(1).normal(3, 1, (50, 2))
    missing = values.copy()
    missing[::5, 0] = np.nan
    whole, less = (crossed_interval(some, (-9, 9)) for some in (values, missing))
    np.testing.assert_allclose(whole, less, atol=0.3)
    assert less[0] < np.nanmean(missing) < less[1]
