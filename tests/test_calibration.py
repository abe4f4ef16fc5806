"""Temperature, calibration error, risk and coverage against slow textbook versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from pati.evaluation import calibration, clusters
from pati.evaluation.intervals import wilson


def outcomes(seed: int, count: int, classes: int, heat: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose labels are drawn by their own probabilities at temperature `heat`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial((logits / heat).softmax(1), 1, generator=generator)[:, 0]
    return logits, labels


@pytest.mark.parametrize("heat", [0.5, 1.0, 2.5])
def test_temperature_finds_the_one_that_labels_were_drawn_with(heat: float) -> None:
    assert calibration.temperature(*outcomes(0, 20_000, 4, heat)) == pytest.approx(heat, rel=0.05)


@pytest.mark.slow
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
    confidence, right = calibration.confidences(logits, labels, temperature=1.3)
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
            calibration.reliability(*calibration.confidences(logits, labels, temperature=heat))
        )
        for heat in (1.0, 2.0)
    }
    assert error[1.0] > 0.1
    assert error[2.0] < 0.015


@pytest.mark.slow
@pytest.mark.parametrize(("heat", "count"), [(1.0, 60), (1.0, 1000), (1.3, 200), (2.0, 200), (2.0, 1000)])
def test_intervals_of_the_error_hold_it_about_as_often_as_they_say(
    heat: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where every confidence is right, and the error found is chance alone."""
    monkeypatch.setattr(clusters, "_WORK", 300 * count)  # 300 resamples
    answers = calibration.confidences(*outcomes(10**6, 200_000, 3, heat))
    truth = calibration.calibration_error(calibration.reliability(*answers))
    held = []
    for seed in range(100):
        answers = calibration.confidences(*outcomes(seed, count, 3, heat))
        (low, high), by_chance = calibration.error_interval(*answers, seed=seed)
        error = calibration.calibration_error(calibration.reliability(*answers))
        assert low - 1e-12 <= error <= high + 1e-12
        held.append((low <= truth <= high, error <= by_chance))
    shares = np.mean(held, 0)
    assert shares[0] >= 0.84
    assert (shares[1] > 0.9) == (heat == 1.0)


@pytest.mark.slow
@given(st.integers(0, 1000), st.integers(20, 200))
def test_what_chance_alone_gives_equals_a_slow_simulation(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    confidence = generator.uniform(0.3, 1, count)
    _, by_chance = calibration.error_interval(confidence, generator.random(count) < confidence, 5)
    errors = [
        calibration.calibration_error(calibration.reliability(confidence, generator.random(count) < confidence, 5))
        for _ in range(400)
    ]
    assert by_chance == pytest.approx(np.percentile(errors, 97.5), rel=0.25)


def test_no_mistake_is_not_taken_for_certain() -> None:
    (low, high), _ = calibration.error_interval(np.full(30, 0.9999), np.ones(30, bool))
    assert low == 0
    assert high == pytest.approx(0.9999 - wilson(30, 30)[0])


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
