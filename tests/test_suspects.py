"""Confident learning against cleanlab, and what it finds."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from hypothesis import given, settings
from hypothesis import strategies as st

from pati.evaluation import label_errors


def answers(
    seed: int, count: int, classes: int, flipped: float
) -> tuple[label_errors.Floats, label_errors.Labels, label_errors.Labels]:
    """Probabilities by a fair net, the labels given, and the true ones; every class is given to some photo."""
    generator = np.random.default_rng(seed)
    truth = np.arange(count) % classes
    logits = generator.normal(0, 1, (count, classes)) + 2 * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wrong = generator.random(count) < flipped
    wrong[:classes] = False
    given_labels = np.where(wrong, (truth + generator.integers(1, classes, count)) % classes, truth)
    return probabilities, given_labels, truth


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(10, 150), st.integers(2, 6))
def test_equal_to_cleanlab(seed: int, count: int, classes: int) -> None:
    probabilities, labels, _ = answers(seed, count, classes, 0.2)
    order, believed = label_errors.ranked(probabilities, labels)
    expected = find_label_issues(
        labels, probabilities, filter_by="confident_learning", return_indices_ranked_by="self_confidence", n_jobs=1
    )
    assert [index for index in order.tolist() if believed[index]] == expected.tolist()


def test_flipped_labels_come_first() -> None:
    probabilities, labels, truth = answers(0, 2000, 3, 0.05)
    order, believed = label_errors.ranked(probabilities, labels)
    wrong = labels != truth
    assert wrong[order[: wrong.sum()]].mean() > 0.6
    assert wrong[believed].mean() > 5 * wrong.mean()


def test_a_class_without_photos_is_never_believed() -> None:
    probabilities = np.array([[0.2, 0.1, 0.7], [0.1, 0.9, 0.0], [0.8, 0.2, 0.0]])
    assert label_errors.confident_labels(probabilities, np.array([0, 1, 0])).tolist() == [-1, 1, 0]


@pytest.mark.parametrize("count", [0, 1])
def test_few_photos(count: int) -> None:
    order, believed = label_errors.ranked(np.full((count, 2), 0.5), np.zeros(count, np.int64))
    assert len(order) == len(believed) == count
