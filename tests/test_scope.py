"""What is out of scope: distances against a slow computation, shares that hold what they say, and a model file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from pati.evaluation import out_of_distribution
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.inference.forward import SecondView, batch_logits, batch_logits_and_moments
from pati.models import Options, folded, models


def drawn(count: int, *, features: int = 40, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    """Moments whose logarithms are normal and depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(features) + torch.randn(features, features, generator=torch.Generator().manual_seed(99)) / 20
    return (0.5 * torch.randn(count, features, generator=generator) @ mixing + shift).exp()


@pytest.fixture(scope="module")
def made() -> OutOfDistributionDetector:
    sure = torch.rand(800, generator=torch.Generator().manual_seed(3))
    return OutOfDistributionDetector.of(drawn(3000), drawn(800, seed=1), sure)


def test_moments_are_the_channels_own() -> None:
    values = torch.randn(3, 4, 5, 6)
    flat = values.numpy().reshape(3, 4, -1)
    expected = np.concatenate([np.abs(flat).mean(2), flat.std(2)], 1)
    np.testing.assert_allclose(out_of_distribution.moments(values).numpy(), expected, rtol=1e-5)


def test_distance_equals_the_whole_covariances(made: OutOfDistributionDetector) -> None:
    """With directions for all but one feature, it is the Mahalanobis distance by the inverse of the covariance."""
    training, photos = drawn(3000).double().numpy(), drawn(50, seed=4).double().numpy()

    def logarithms(values: np.ndarray) -> np.ndarray:
        return np.log(values / training.mean(0) + 0.01)

    values = logarithms(training)
    scaled, asked = ((part - values.mean(0)) / values.std(0) for part in (values, logarithms(photos)))
    inverse = np.linalg.inv(scaled.T @ scaled / len(scaled))
    expected = np.einsum("nd,de,ne->n", asked, inverse, asked)
    assert made.directions.shape == (40, 39)
    np.testing.assert_allclose(made.distance(torch.from_numpy(photos).float()), expected, rtol=0.02)


def test_familiarity_is_fishers_share(made: OutOfDistributionDetector) -> None:
    photos, sure = drawn(50, seed=4), torch.rand(50, generator=torch.Generator().manual_seed(5))
    distances = made.distance(drawn(800, seed=1)).numpy()
    confidences = torch.rand(800, generator=torch.Generator().manual_seed(3)).numpy()
    found = made.p_values(photos, sure).numpy()
    for share, distance, confidence in zip(found, made.distance(photos).numpy(), sure.numpy(), strict=True):
        farther = (1 + (distances >= distance).sum()) / 801
        less_sure = (1 + (confidences <= confidence).sum()) / 801
        assert share == pytest.approx(chi2.sf(-2 * np.log(farther * less_sure), 4), rel=1e-6)


def test_usual_photos_are_odd_as_seldom_as_is_said(made: OutOfDistributionDetector) -> None:
    sure = torch.rand(4000, generator=torch.Generator().manual_seed(7))
    shares = made.p_values(drawn(4000, seed=8), sure)
    for level in (0.01, 0.1, 0.5):
        assert (shares <= level).double().mean().item() == pytest.approx(level, abs=0.5 * level)


def test_strange_and_unsure_photos_are_odd(made: OutOfDistributionDetector) -> None:
    sure = torch.full((200,), 0.9)
    assert (made.p_values(drawn(200, seed=9, shift=2.0), sure) <= out_of_distribution.LEVEL).all()
    usual = drawn(200, seed=9)
    assert made.p_values(usual, torch.full((200,), 1e-4)).mean() < made.p_values(usual, sure).mean() / 5


def test_by_fewer_photos_none_can_be_odd() -> None:
    oddest = drawn(1, seed=9, shift=100.0)
    for count in (out_of_distribution.FEWEST - 1, out_of_distribution.FEWEST):
        found = OutOfDistributionDetector.of(drawn(100), drawn(count, seed=1), torch.linspace(0.5, 1, count))
        odd = bool(found.p_values(oddest, torch.zeros(1)) <= out_of_distribution.LEVEL)
        assert odd == (count == out_of_distribution.FEWEST)


def test_the_same_photos_make_the_same_scope(made: OutOfDistributionDetector) -> None:
    before = torch.random.get_rng_state()
    again = OutOfDistributionDetector.of(
        drawn(3000), drawn(800, seed=1), torch.rand(800, generator=torch.Generator().manual_seed(3))
    )
    assert torch.equal(before, torch.random.get_rng_state())
    for name, value in again.tensors().items():
        assert torch.equal(value, made.tensors()[name]), name


@pytest.mark.parametrize("count", [3, 20, 1500])
def test_few_photos_and_many_features(count: int) -> None:
    found = OutOfDistributionDetector.of(drawn(count, features=200), drawn(12, features=200, seed=1), torch.rand(12))
    assert {name: tuple(value.shape) for name, value in found.tensors().items()} == OutOfDistributionDetector.shapes(
        **found.sizes()
    )
    shares = found.p_values(drawn(30, features=200, seed=2), torch.rand(30))
    assert ((shares > 0) & (shares <= 1)).all()


def test_a_dead_channel_is_no_matter() -> None:
    training = drawn(200)
    training[:, 3] = 0
    found = OutOfDistributionDetector.of(training, training, torch.rand(200))
    assert found.p_values(training, torch.rand(200)).isfinite().all()


@pytest.mark.parametrize("name", ["pati", "resnet18", "mobilenetv3-small", "convnext-atto", "vgg11"])
def test_looking_at_the_stages_changes_no_answer(name: str) -> None:
    net = models[name](3, Options(size=32, width=0.25)).eval()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    ready = folded(net, torch.float32)
    assert len(ready.stages) == len(net.stages)
    with torch.inference_mode():
        for mirror in (False, True):
            logits, moments = batch_logits_and_moments(ready, images, SecondView(mirror))
            torch.testing.assert_close(logits, batch_logits(ready, images, SecondView(mirror)), rtol=0, atol=0)
        seen = [net.stages[:end](images) for end in range(1, len(net.stages))]
    expected = torch.cat([out_of_distribution.moments(values) for values in seen], 1)
    torch.testing.assert_close(moments, expected, rtol=1e-3, atol=1e-4)
