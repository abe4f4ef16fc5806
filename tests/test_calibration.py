"""Temperature, calibration error, risk and coverage against slow textbook versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from pati import calibration
from pati.metrics import wilson


def outcomes(seed: int, count: int, classes: int, heat: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose labels are drawn by their own probabilities at temperature `heat`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial((logits / heat).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.5])
def test_temperature_finds_the_one_that_labels_were_drawn_with(heat: float) -> None:
    assert calibration.temperature(*outcomes(0, 20_000, 4, heat)) == pytest.approx(heat, rel=0.05)


@pytest.mark.parametrize("seed", range(2))
def test_temperature_has_the_least_loss_of_a_fine_grid(seed: int) -> None:
    logits, labels = outcomes(seed, 300, 3, 1.7)
    grid = np.exp(np.linspace(-1, 1, 401))
    known = range(logits.shape[1])
    losses = [
        log_loss(labels, (logits.double() / heat).softmax(1), labels=known, normalize=False) + math.log(heat) ** 2 / 2
        for heat in grid
    ]
    assert calibration.temperature(logits, labels) == pytest.approx(grid[int(np.argmin(losses))], rel=4e-3)


def test_few_photos_all_answered_rightly_ask_for_no_boundless_confidence() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    heat = calibration.temperature(logits, torch.tensor([0, 1, 0]))
    assert 1 / 5 < heat < 1


@given(st.integers(0, 10_000), st.integers(1, 120), st.integers(1, 20))
def test_calibration_error_equals_the_textbook(seed: int, count: int, bins: int) -> None:
    logits, labels = outcomes(seed, count, 3, 2.0)
    confidence, right = calibration.confidences(logits, labels, heat=1.3)
    expected_confidence = (logits.double() / 1.3).softmax(1).max(1).values
    np.testing.assert_allclose(confidence, expected_confidence)
    np.testing.assert_array_equal(right, logits.argmax(1) == labels)
    rows = calibration.reliability(confidence, right, bins)
    ranked = sorted(zip(confidence.tolist(), right.tolist(), strict=True))
    error, at = 0.0, 0
    for row in rows:
        part = ranked[at : at + row["photos"]]
        at += row["photos"]
        mean = sum(value for value, _ in part) / len(part)
        hits = sum(hit for _, hit in part)
        assert row["confidence"] == pytest.approx(mean)
        assert row["accuracy"] == pytest.approx(hits / len(part))
        assert row["interval"] == list(wilson(hits, len(part)))
        error += len(part) / count * abs(hits / len(part) - mean)
    assert at == count
    assert len(rows) == min(bins, count)
    sizes = [row["photos"] for row in rows]
    assert max(sizes) - min(sizes) <= 1
    assert calibration.calibration_error(rows) == pytest.approx(error)


def test_the_error_falls_to_noise_at_the_right_temperature() -> None:
    logits, labels = outcomes(3, 20_000, 4, 2.0)
    error = {
        heat: calibration.calibration_error(
            calibration.reliability(*calibration.confidences(logits, labels, heat=heat))
        )
        for heat in (1.0, 2.0)
    }
    assert error[1.0] > 0.1
    assert error[2.0] < 0.015


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60))
def test_risk_and_coverage_equal_counting(answers: list[tuple[int, bool]]) -> None:
    confidence = np.array([level / 10 for level, _ in answers])
    right = np.array([hit for _, hit in answers])
    found = calibration.risk_coverage(confidence, right)
    assert found[0].tolist() == sorted(set(confidence.tolist()), reverse=True)
    for threshold, coverage, risk in zip(*found, strict=True):
        answered = confidence >= threshold
        assert coverage == pytest.approx(answered.mean())
        assert risk == pytest.approx((~right[answered]).mean())


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60), st.integers(0, 1000))
def test_a_threshold_keeps_its_risk_and_none_answers_more(answers: list[tuple[int, bool]], thousandths: int) -> None:
    risk = thousandths / 1000
    confidence = np.array([level / 30 for level, _ in answers])
    right = np.array([hit for _, hit in answers])
    found = calibration.threshold_for(risk, calibration.thresholds(confidence, right))
    able = [
        level
        for level in set(confidence.tolist())
        if math.ceil(1000 * (~right[confidence >= level]).mean() - 1e-9) <= thousandths
    ]
    assert found == min(able, default=None)
