"""The intervals of the comparison study: they hold what is there, also the luck of training."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score

from bench.study import Pooled


def answers(shares: list[float], *, seed: int, photos: int = 400, senders: int = 40) -> Pooled:
    """Trainings that are right on these shares of their own photos, in three classes."""
    generator = np.random.default_rng(0)  # the photos are the same for all
    labels = generator.integers(0, 3, photos * len(shares))
    trainings = np.repeat(np.arange(len(shares)), photos)
    names = generator.integers(0, senders, len(labels)) + senders * trainings
    right = np.random.default_rng(seed).random(len(labels)) < np.array(shares)[trainings]
    return Pooled(labels, np.where(right, labels, (labels + 1) % 3), names, trainings, 3)


def test_scores_are_scikit_learns() -> None:
    pooled = answers([0.6, 0.8], seed=1)
    scores = pooled.scores()
    assert scores["macro_f1"] == pytest.approx(f1_score(pooled.labels, pooled.answers, average="macro"), abs=1e-4)
    expected = balanced_accuracy_score(pooled.labels, pooled.answers)
    assert scores["balanced_accuracy"] == pytest.approx(expected, abs=1e-4)
    assert scores["accuracy"] == pytest.approx((pooled.labels == pooled.answers).mean(), abs=1e-4)


def test_a_clear_difference_is_told_and_none_is_not() -> None:
    better, worse = answers([0.8] * 5, seed=1), answers([0.7] * 5, seed=2)
    found = better.difference(worse)
    low, high = found["interval"]
    assert 0.03 < low < found["macro_f1"] < high < 0.17
    low, high = answers([0.7] * 5, seed=3).difference(worse)["interval"]
    assert low < 0 < high
    assert better.difference(better) == {"macro_f1": 0, "interval": [0, 0]}


def test_a_difference_that_is_one_trainings_luck_is_not_told() -> None:
    lucky, usual = answers([0.7, 0.7, 0.7, 0.7, 0.95], seed=1), answers([0.7] * 5, seed=2)
    found = lucky.difference(usual)
    assert found["macro_f1"] > 0.03
    assert found["interval"][0] < 0.01


def test_other_photos_are_refused() -> None:
    with pytest.raises(SystemExit, match="other photos"):
        answers([0.7, 0.7], seed=1).difference(answers([0.7], seed=1, photos=800))
