"""ROC and precision-recall curves against scikit-learn, and their intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from pati.evaluation import curves
from pati.evaluation.intervals import wilson


@given(st.integers(0, 10_000), st.integers(2, 60), st.booleans())
def test_equal_to_scikit_learn(seed: int, count: int, tied: bool) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(count) < 0.4
    scores = generator.normal(positive, 1)
    if tied:
        scores = scores.round()
    found = curves.curve(scores, positive)
    if positive.all() or not positive.any():
        assert found is None
        return
    assert found is not None
    assert found.roc_area == pytest.approx(reference.roc_auc_score(positive, scores))
    assert found.average_precision == pytest.approx(reference.average_precision_score(positive, scores))
    rate, recall, _ = reference.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_rate, rate)
    np.testing.assert_allclose(found.recall, recall)
    precision, recall, _ = reference.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(found.precision, precision[::-1])
    np.testing.assert_allclose(found.recall, recall[::-1])


@pytest.mark.slow
@pytest.mark.parametrize(("own", "count"), [(120, 300), (15, 900)])
def test_intervals_equal_a_slow_bootstrap(own: int, count: int) -> None:
    generator = np.random.default_rng(1)
    positive = np.arange(count) < own
    scores = generator.normal(positive * 1.5, 1).round(2)  # some are equal
    found = curves.curve(scores, positive)
    assert found is not None
    places = [np.flatnonzero(part) for part in (positive, ~positive)]
    areas, averages = [], []
    for _ in range(1000):
        drawn = np.concatenate([generator.choice(part, len(part)) for part in places])
        areas.append(reference.roc_auc_score(positive[drawn], scores[drawn]))
        averages.append(reference.average_precision_score(positive[drawn], scores[drawn]))
    for mine, slow in ((found.roc_interval, areas), (found.average_precision_interval, averages)):
        low, high = np.percentile(slow, [2.5, 97.5])
        np.testing.assert_allclose(mine, (low, high), atol=0.1 * (high - low))
        assert mine[1] - mine[0] > 0.02


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_perfect_ranking_is_not_taken_for_certain(own: int, rest: int) -> None:
    positive = np.arange(own + rest) < own
    generator = np.random.default_rng(own)
    found = curves.curve(positive + 0.9 * generator.random(own + rest), positive)
    assert found is not None
    assert found.roc_area == found.average_precision == 1  # not nearly
    fewer = min(own, rest)
    for low, high in (found.roc_interval, found.average_precision_interval):
        assert (low, high) == pytest.approx((fewer / (fewer + 1.959964**2), 1))


def test_no_ranking_at_all_is_not_taken_for_certain() -> None:
    positive = np.arange(40) < 10
    worst, none = curves.curve(-positive.astype(np.float64), positive), curves.curve(np.zeros(40), positive)
    assert worst is not None
    assert none is not None
    assert (worst.roc_area, worst.roc_interval) == (0, wilson(0, 10))
    assert (none.roc_area, none.roc_interval) == (0.5, wilson(5, 10))
    assert (none.average_precision, none.average_precision_interval) == (0.25, wilson(2.5, 10))


def test_a_rare_class_is_not_drawn_photo_by_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """What 60 classes of 5,000 photos cost hangs on it."""
    sizes: list[int] = []
    resampled = curves._resampled

    def counted(counts: curves.Counts, *rest: object) -> curves.Counts:
        sizes.append(len(counts))
        return resampled(counts, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(curves, "_resampled", counted)
    positive = np.arange(5000) % 60 == 0
    curves.curve(np.random.default_rng(0).normal(positive, 1), positive)
    assert max(sizes) <= 2 * positive.sum() + 1


@pytest.mark.slow
def test_intervals_hold_the_true_area_about_as_often_as_they_say() -> None:
    # Two normal distributions, one standard deviation apart: the area is the normal distribution function at 1/√2.
    held = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        positive = np.arange(200) < 80
        found = curves.curve(generator.normal(positive, 1), positive, seed=seed)
        assert found is not None
        held += found.roc_interval[0] <= 0.7602499 <= found.roc_interval[1]
    assert 88 <= held <= 100


def test_memory_stays_bounded_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    positive = generator.random(50) < 0.5
    scores = generator.normal(positive, 1)
    whole = curves.curve(scores, positive)
    monkeypatch.setattr(curves, "_CELLS", 50 * 7)
    parts = curves.curve(scores, positive)
    assert whole is not None
    assert parts is not None
    assert parts.roc_area == whole.roc_area
    np.testing.assert_allclose(parts.roc_interval, whole.roc_interval, atol=0.03)


def test_an_area_of_one_photo_is_hardly_known() -> None:
    scores = np.random.default_rng(0).random(1000)
    found = curves.curve(scores, np.arange(1000) == 500)
    assert found is not None
    assert found.roc_interval == wilson(found.roc_area, 1)
    assert found.roc_interval[1] - found.roc_interval[0] > 0.7
