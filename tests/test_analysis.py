"""What a result is worth, each number against an independent computation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score

from pati.data.entries import Entry
from pati.evaluation import analysis
from pati.evaluation.calibration import Calibration
from pati.evaluation.corruptions import CORRUPTIONS, corrupted
from pati.evaluation.intervals import wilson

CLASSES = ("cat", "dog", "hen")
HEAT = 2.0


def answers(seed: int, count: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are too sure: labels are drawn at temperature `HEAT`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(count, 3, generator=generator)
    return logits, torch.multinomial((logits / HEAT).softmax(1), 1, generator=generator)[:, 0]


@pytest.fixture(scope="module")
def kept() -> Calibration:
    return Calibration.of(*answers(1, 5000))


def test_calibration_section(kept: Calibration) -> None:
    logits, labels = answers(2)
    p_values = torch.rand(600, generator=torch.Generator().manual_seed(5), dtype=torch.float64) / 10
    found = analysis.calibrated(kept, logits, labels, p_values)
    assert found["temperature"] == pytest.approx(HEAT, rel=0.1)
    for part, heat in (("before", 1.0), ("after", kept.temperature)):
        probabilities = (logits.double() / heat).softmax(1).numpy()
        assert found[part]["log_loss"] == pytest.approx(log_loss(labels, probabilities, labels=range(3)))
        order = np.argsort(probabilities.max(1), kind="stable")
        right = (probabilities.argmax(1) == labels.numpy())[order]
        error = sum(
            len(part) / 600 * abs(part.mean() - sure.mean())
            for part, sure in zip(np.split(right, 15), np.split(probabilities.max(1)[order], 15), strict=True)
        )
        assert found[part]["error"] == pytest.approx(error)
        low, high = found[part]["error_interval"]
        assert low <= error <= high
        low, high = found[part]["log_loss_interval"]
        assert low < found[part]["log_loss"] < high
    assert found["after"]["error"] < found["after"]["error_by_chance"]
    assert found["after"]["error_interval"][0] == 0
    assert found["risk_bound"] == wilson(0, 5000)[1] < found["risk"]
    assert found["after"]["error"] < found["before"]["error"] / 2
    confidence = (logits.double() / kept.temperature).softmax(1).max(1).values.numpy()
    odd = p_values.numpy() <= 0.01
    assert found["odd"] == odd.mean()
    assert 0.05 < odd.mean() < 0.2
    answered = (confidence >= kept.threshold()) & ~odd
    right = (logits.argmax(1) == labels).numpy()
    assert found["coverage"] == answered.mean()
    assert found["answered_accuracy"] == right[answered].mean()
    assert found["coverage_interval"] == list(wilson(int(answered.sum()), 600))
    assert found["answered_interval"] == list(wilson(int(right[answered].sum()), int(answered.sum())))
    assert found["coverages"][-1] == 1
    assert found["accuracies"][-1] == pytest.approx(accuracy_score(labels, logits.argmax(1)))
    assert len(found["coverages"]) <= analysis.POINTS


def test_robustness_is_scored_on_the_damaged_photos() -> None:
    """A "net" that answers by brightness alone: only what changes that can lead it astray."""
    generator = np.random.default_rng(0)
    labels = torch.arange(60) % 2
    photos = (generator.integers(60, 90, (60, 16, 16, 3)) + 50 * labels.numpy()[:, None, None, None]).astype(np.uint8)

    def answers(pixels: torch.Tensor) -> torch.Tensor:
        light = pixels.float().mean((1, 2, 3))
        return torch.stack([100 - light, light - 100], 1)

    found = analysis.robustness(analysis.damaged(answers, photos, labels))
    assert found["undamaged"] == {"accuracy": 1.0, "interval": list(wilson(60, 60))}
    assert set(found["kinds"]) == set(CORRUPTIONS)
    for kind, rows in found["kinds"].items():
        for level, row in enumerate(rows):
            right = (answers(torch.from_numpy(corrupted(photos, kind, level))).argmax(1) == labels).double()
            assert row["accuracy"] == right.mean().item()
            assert row["interval"] == list(wilson(int(right.sum()), 60))
            assert row["lost"] == pytest.approx(1 - right.mean().item())
            assert row["lost_interval"][0] <= row["lost"] <= row["lost_interval"][1]
    assert found["kinds"]["blur"][2]["lost"] == 0
    assert found["kinds"]["brightness"][2]["lost"] > 0.2


def test_photos_from_elsewhere() -> None:
    generator = np.random.default_rng(0)
    usual, strange = generator.random(300), generator.random(200) ** 3
    unsure = [value <= 0.3 for value in strange]
    found = analysis.outside(torch.from_numpy(usual), torch.from_numpy(strange), unsure)
    assert found["roc_area"] == pytest.approx(roc_auc_score([0] * 300 + [1] * 200, -np.concatenate([usual, strange])))
    assert found["roc_interval"][0] < found["roc_area"] < found["roc_interval"][1]
    assert found["odd"] == (strange <= 0.01).mean()
    assert found["odd_interval"] == list(wilson(int((strange <= 0.01).sum()), 200))
    assert found["unsure"] == np.mean(unsure)
    assert found["unsure_interval"] == list(wilson(sum(unsure), 200))
    assert found["photos"] == 200


def test_a_risk_that_cannot_be_had_answers_nothing() -> None:
    logits, labels = answers(3)
    kept = Calibration(1.0, ((0.2, 0.1),), 600)
    found = analysis.calibrated(kept, logits, labels, torch.ones(len(labels)))
    assert (found["coverage"], found["answered_accuracy"], found["threshold"]) == (0, None, None)
    sure = Calibration(1.0, ((0.0, 1.0),), 600)  # a threshold that no photo here reaches
    found = analysis.calibrated(sure, logits, labels, torch.ones(len(labels)))
    assert (found["coverage"], found["answered_accuracy"], found["threshold"]) == (0, None, 1.0)


def test_curves_section() -> None:
    logits, labels = answers(4)
    rows = analysis.curves_of(logits, labels, CLASSES)
    assert [row["class"] for row in rows] == list(CLASSES)
    for number, row in enumerate(rows):
        scores = logits.double().softmax(1)[:, number]
        assert row["roc_area"] == pytest.approx(roc_auc_score(labels == number, scores))
        assert row["average_precision"] == pytest.approx(average_precision_score(labels == number, scores))
        assert row["roc_interval"][0] < row["roc_area"] < row["roc_interval"][1]
        for name in ("false_rate", "recall", "precision"):
            assert len(row[name]) <= analysis.POINTS
        assert (row["recall"][0], row["recall"][-1], row["false_rate"][-1]) == (0, 1, 1)
    present = labels != 2
    assert [row["class"] for row in analysis.curves_of(logits[present], labels[present], CLASSES)] == ["cat", "dog"]


def entries(count: int) -> list[Entry]:
    return [
        Entry(f"{n}.jpg", "cat", "kept", sha256=str(n), width=100 + n, height=100, split="test") for n in range(count)
    ]


def test_slices_section(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [np.full((8, 8, 3), n, np.uint8) for n in range(200)]
    right = [n >= 50 for n in range(200)]
    found = analysis.sliced(entries(200), photos.__getitem__, right)
    assert found["photos"] == 200
    assert [row["accuracy"] for row in found["by"]["brightness"]] == [0, 1, 1, 1]
    assert [row["accuracy"] for row in found["by"]["aspect"]] == [0, 1, 1, 1]
    assert found["by"]["sharpness"] == []
    assert found["by"]["size"][0]["low"] == pytest.approx(100)
    monkeypatch.setattr(analysis, "MOST_SLICED", 20)
    some = analysis.sliced(entries(200), photos.__getitem__, right)
    assert some["photos"] == sum(row["photos"] for row in some["by"]["aspect"]) == 20


def test_suspects_section() -> None:
    logits = torch.full((60, 3), -2.0)
    labels = torch.arange(60) % 3
    logits[range(60), labels] = 2.0
    wrong = [7, 31]
    for n in wrong:
        logits[n] = torch.tensor([-3.0, -3.0, -3.0]).scatter(0, (labels[n] + 1) % 3, 4.0 + n / 100)
    named = [
        dataclasses.replace(entry, split="validation" if n < 30 else "test") for n, entry in enumerate(entries(60))
    ]
    found = analysis.likely_label_errors(named, logits, labels, 1.0, CLASSES)
    assert (found["photos"], found["count"]) == (60, 2)
    assert [row["path"] for row in found["first"]] == ["31.jpg", "7.jpg"]  # the surer one first
    assert found["decided"] == 0
    for flag in ("confirmed", "relabelled"):  # a person has said that the label is right
        decided = [dataclasses.replace(entry, flags=(flag,) * (n == 31)) for n, entry in enumerate(named)]
        again = analysis.likely_label_errors(decided, logits, labels, 1.0, CLASSES)
        assert (again["count"], again["decided"]) == (1, 1)
        assert [row["path"] for row in again["first"]] == ["7.jpg"]
    for row, n in zip(found["first"], (31, 7), strict=True):
        probabilities = logits[n].double().softmax(0)
        assert row["label"] == CLASSES[labels[n]]
        assert row["answer"] == CLASSES[(labels[n] + 1) % 3]
        assert row["label_probability"] == pytest.approx(probabilities[labels[n]].item())
        assert row["split"] == named[n].split
