"""The loss against torch's own, against numbers worked by hand, and its gradient against differences."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from pati.training.losses import loss


def batch(seed: int = 0, photos: int = 6, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(photos, classes, generator=generator)
    return logits, torch.rand(photos, classes, generator=generator).softmax(1)


@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
def test_nothing_chosen_is_cross_entropy_to_the_bit(smoothing: float) -> None:
    logits, targets = batch()
    assert torch.equal(
        loss(logits, targets, label_smoothing=smoothing), F.cross_entropy(logits, targets, label_smoothing=smoothing)
    )
    same = loss(logits, targets, label_smoothing=smoothing, weights=torch.ones(4), adjustment=torch.zeros(4))
    assert torch.equal(same, F.cross_entropy(logits, targets, label_smoothing=smoothing))


def test_weights_are_torchs() -> None:
    logits, _ = batch()
    labels, weights = torch.tensor([0, 1, 2, 3, 0, 0]), torch.tensor([0.5, 1.0, 2.0, 4.0])
    one_hot = F.one_hot(labels, 4).float()
    # For labels torch divides by the sum of the weights, for probabilities by the number of photos.
    total = F.cross_entropy(logits, labels, weight=weights, reduction="sum")
    torch.testing.assert_close(loss(logits, one_hot, weights=weights), total / len(labels))
    smoothed = F.cross_entropy(logits, labels, weight=weights, reduction="sum", label_smoothing=0.1) / len(labels)
    torch.testing.assert_close(loss(logits, one_hot, weights=weights, label_smoothing=0.1), smoothed)


def test_focal_loss_by_hand() -> None:
    # Two classes with probabilities 0.9 and 0.1.
    logits = torch.tensor([[math.log(9), 0.0]], dtype=torch.float64)
    sure, unsure = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert loss(logits, sure, gamma=2).item() == pytest.approx(-(0.1**2) * math.log(0.9))
    assert loss(logits, unsure, gamma=2).item() == pytest.approx(-(0.9**2) * math.log(0.1))
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    expected = -0.5 * 0.4**2 * math.log(0.9) - 0.5 * 0.4**2 * math.log(0.1)
    assert loss(logits, half, gamma=2).item() == pytest.approx(expected)
    assert loss(logits, sure, gamma=2, label_smoothing=1.0).item() == pytest.approx(expected)
    weighted = loss(logits, unsure, gamma=2, weights=torch.tensor([1.0, 3.0])).item()
    assert weighted == pytest.approx(-3 * 0.9**2 * math.log(0.1))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.05, 0.3])
def test_the_least_loss_lies_at_the_target(gamma: float, smoothing: float) -> None:
    classes = 17
    target = F.one_hot(torch.tensor([0]), classes).double()
    own = torch.linspace(0.2, 0.999, 800, dtype=torch.float64)
    found = []
    for share in own:
        row = torch.full((1, classes), (1 - share.item()) / (classes - 1), dtype=torch.float64)
        row[0, 0] = share
        found.append(loss(row.log(), target, label_smoothing=smoothing, gamma=gamma).item())
    at_target = 1 - smoothing + smoothing / classes
    assert own[int(torch.tensor(found).argmin())].item() == pytest.approx(min(at_target, 0.999), abs=0.002)


def test_focal_loss_comes_near_cross_entropy_as_gamma_vanishes() -> None:
    logits, targets = batch()
    torch.testing.assert_close(loss(logits, targets, gamma=1e-6), F.cross_entropy(logits, targets))


def test_logit_adjustment_by_hand() -> None:
    # A net that knows nothing, with classes of 3 and 1 photos: it is expected to answer 3/4 and 1/4.
    logits, prior = torch.zeros(1, 2), torch.tensor([0.75, 0.25])
    for label in (0, 1):
        target = F.one_hot(torch.tensor([label]), 2).float()
        assert loss(logits, target, adjustment=prior.log()).item() == pytest.approx(-math.log(prior[label]))
        assert loss(logits, target, adjustment=2 * prior.log()).item() == pytest.approx(
            -math.log(prior[label] ** 2 / (0.75**2 + 0.25**2))
        )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradients_are_those_of_the_loss(gamma: float, smoothing: float) -> None:
    logits, targets = (tensor.double() for tensor in batch())
    logits.requires_grad_()
    weights, adjustment = torch.tensor([0.5, 1, 2, 4]).double(), torch.tensor([0, -1, -2, -3]).double()

    def of(logits: torch.Tensor) -> torch.Tensor:
        return loss(
            logits, targets, label_smoothing=smoothing, gamma=gamma, weights=weights, adjustment=adjustment
        )  # fmt: skip

    assert torch.autograd.gradcheck(of, (logits,))


@given(st.floats(0, 5), st.floats(0, 100))
def test_sure_answers_have_finite_losses_and_gradients(gamma: float, sureness: float) -> None:
    logits = torch.tensor([[sureness, 0.0], [0.0, sureness]], requires_grad=True)
    value = loss(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]]), gamma=gamma)
    value.backward()  # type: ignore[no-untyped-call]
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
