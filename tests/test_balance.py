"""Class balance: what each method does by its numbers, and in the loop."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pati import models
from pati.data.loader import Samples, order
from pati.data.preprocess import Preprocess
from pati.errors import Interrupted
from pati.events import StepDone, TrainingEvent
from pati.recipe import Recipe, field_named
from pati.runs.history import ClassBalance
from pati.training import balance, loop, plan
from tests.support.recipes import settled
from tests.support.trainings import TRAINING, VALIDATION

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
METHODS = tuple(name for name in field_named("balance").metadata["among"] if name != "auto")


def labels(*counts: int) -> torch.Tensor:
    """The class indices of so many photos of each class."""
    return torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))


def of(method: str, *counts: int, **choices: Any) -> balance.Balance:
    return balance.of(Recipe(balance=method, **{"balance_power": 1.0} | choices), labels(*counts), counts, CPU)


def test_ratio_and_advice() -> None:
    assert balance.ratio([30, 10, 20]) == 3
    assert balance.ratio([3, 0]) == math.inf
    assert balance.advised([10, 10]) == "none"
    assert balance.advised([29, 10]) == "none"
    assert balance.advised([30, 10]) == "sampling"
    assert {method for _, method in balance.ADVISED} <= set(METHODS)
    assert balance.settled(Recipe(balance="auto"), [90, 10]).balance == "sampling"
    assert balance.settled(Recipe(balance="focal"), [90, 10]).balance == "focal"
    assert balance.class_balance("none", [29, 10]) == ClassBalance("none", 2.9, by_class=False)
    assert balance.class_balance("none", [30, 10]).by_class
    assert balance.class_balance("focal", [10, 10]).by_class


def test_weights_by_hand() -> None:
    # 30 and 10 photos: weights 1 and 3, of mean (30·1 + 10·3)/40 = 1.5 over the photos.
    assert of("weights", 30, 10).weights.tolist() == pytest.approx([2 / 3, 2])
    # By the square root: 1 and √3.
    mean = (30 + 10 * 3**0.5) / 40
    assert of("weights", 30, 10, balance_power=0.5).weights.tolist() == pytest.approx([1 / mean, 3**0.5 / mean])


def test_effective_numbers_by_hand() -> None:
    # With beta 0.5 the effective numbers of 2 and 1 photos are 1 + 0.5 and 1: weights 1 and 1.5, of mean 3.5/3.
    weights = of("effective", 2, 1, effective_beta=0.5).weights
    assert weights.tolist() == pytest.approx([3 / 3.5, 4.5 / 3.5])
    assert of("effective", 30, 10, effective_beta=0.0).weights.tolist() == [1, 1]
    # Near 1 every photo counts in full, as in weights.
    torch.testing.assert_close(
        of("effective", 30, 10, effective_beta=0.999999).weights, of("weights", 30, 10).weights, rtol=1e-4, atol=0
    )


def test_adjustment_is_the_priors_logarithm() -> None:
    adjustment = of("logits", 30, 10, balance_power=2.0).adjustment
    prior = torch.tensor([0.75, 0.25]).log() * 2
    torch.testing.assert_close(adjustment.log_softmax(0), prior.log_softmax(0))


def test_strength_grows_from_1_to_2_with_rarity() -> None:
    found = of("augment", 100, 10, 1)
    assert found.strength[[0, 100, 110]].tolist() == pytest.approx([1, 1.5, 2])
    assert found.sampling_weights is not None
    assert found.sampling_weights[[0, 100, 110]].tolist() == pytest.approx([1, 10, 100])


def test_partners_even_out_the_batch() -> None:
    batch = labels(6, 2)
    sampling_weights = of("augment", 60, 20).partners(batch)
    assert sampling_weights is not None
    assert batch.bincount(sampling_weights).tolist() == pytest.approx([1, 1])
    assert of("sampling", 60, 20).partners(batch) is None


def drawn(epoch: int, *counts: int, power: float = 1.0) -> torch.Tensor:
    sampling_weights = of("sampling", *counts, balance_power=power).sampling_weights
    return order(7, epoch, sum(counts), sampling_weights)


def test_sampling_by_power() -> None:
    counts, photos = (90, 9, 1), 100
    for power, expected in ((1.0, [33.3, 33.3, 33.3]), (0.0, [90, 9, 1]), (0.5, [70.3, 22.2, 7.4])):
        keys = drawn(0, *counts, power=power)
        classes = labels(*counts)[keys % photos].bincount(minlength=len(counts))
        assert classes.tolist() == pytest.approx(expected, abs=1.01)  # each rounded up or down


@given(
    st.lists(st.integers(1, 60), min_size=2, max_size=6),
    st.floats(0, 2),
    st.integers(0, 2**31),
    st.integers(0, 50),
)
def test_resampling_rounds_every_expectation(counts: list[int], power: float, seed: int, epoch: int) -> None:
    sampling_weights = of("sampling", *counts, balance_power=power).sampling_weights
    assert sampling_weights is not None
    photos = sum(counts)
    keys = order(seed, epoch, photos, sampling_weights)
    assert len(keys) == photos
    assert len(keys.unique()) == photos  # no appearance is that of another
    times = (keys % photos).bincount(minlength=photos)
    expected = photos * sampling_weights / sampling_weights.sum()
    assert ((times - expected).abs() < 1 + 1e-6).all()
    for number, count in Counter((keys % photos).tolist()).items():
        assert sorted(keys[keys % photos == number].tolist()) == [number + time * photos for time in range(count)]
    assert torch.equal(keys, order(seed, epoch, photos, sampling_weights))


def test_resampling_reaches_everyone_in_time() -> None:
    seen = torch.cat([drawn(epoch, 90, 9, 1) % 100 for epoch in range(40)]).bincount(minlength=100)
    assert seen.min() > 0
    assert seen[:90].float().mean().item() == pytest.approx(40 * 100 / 3 / 90, rel=0.1)
    assert not torch.equal(drawn(0, 90, 9, 1), drawn(1, 90, 9, 1))


@pytest.mark.parametrize("method", METHODS)
def test_even_classes_are_left_as_they_are(method: str) -> None:
    found = of(method, 7, 7, 7, focal_gamma=0.0)
    same = of("none", 7, 7, 7)
    assert torch.equal(found.strength, same.strength)
    assert torch.equal(order(0, 3, 21, found.sampling_weights), order(0, 3, 21))
    assert found.weights is None or found.weights.tolist() == [1, 1, 1]
    assert found.adjustment is None or found.adjustment.tolist() == [0, 0, 0]
    assert found.gamma == 0
    assert found.partners(labels(3, 1, 1)) is None


# In the loop -------------------------------------------------------------------------

RECIPE = settled(
    Recipe(epochs=3, size=32, batch=8, width=0.25, rotate=10, flip=0.5, mixup=0.5, dropout=0.2, learning_rate=0.05)
)
UNEVEN = Samples(*(part[[*range(0, 60, 3), *range(1, 30, 3), *range(2, 12, 3)]] for part in (
    TRAINING.pixels, TRAINING.rows, TRAINING.labels)), 3)  # fmt: skip
UNEVEN = dataclasses.replace(UNEVEN, rows=torch.arange(len(UNEVEN)))  # 20, 10 and 4 photos


def run(folder: Path, recipe: Recipe, data: Samples = UNEVEN, stop_after: int = -1) -> dict[str, torch.Tensor]:
    net = models.build("scratch", 3, models.Options(width=0.25, dropout=recipe.dropout))
    steps = 0

    def log(event: TrainingEvent) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)

    paced = plan.Plan(batch=8, sizes=(16,), costs=(1.0,), validated=6, epochs=3)
    loop.train(
        net, data, VALIDATION, Preprocess(size=32), recipe, paced, folder,
        owner="test", device=CPU, log=log, stopped=lambda: steps == stop_after,
    )  # fmt: skip
    return net.state_dict()


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_resumes_exactly(tmp_path: Path, method: str) -> None:
    recipe = dataclasses.replace(RECIPE, balance=method)
    whole = run(tmp_path / "whole", recipe)
    assert all(value.isfinite().all() for value in whole.values())
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", recipe, stop_after=6)
    assert same(run(tmp_path / "cut", recipe), whole)
    assert same(run(tmp_path / "none", RECIPE), whole) == (method == "none")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_training_on_even_classes_is_the_same_to_the_bit(tmp_path: Path, method: str) -> None:
    recipe = dataclasses.replace(RECIPE, balance=method)
    even = TRAINING.some(10**6)
    assert len(set(even.counts())) == 1
    assert same(run(tmp_path / "a", recipe, even), run(tmp_path / "b", RECIPE, even)) == (method != "focal")


def test_a_photo_drawn_twice_is_changed_differently(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[torch.Tensor] = []

    class Net(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            shown.append(images)
            return torch.zeros(len(images), 3)

    keys = torch.tensor([5, 5 + len(UNEVEN), 5])
    recipe = dataclasses.replace(RECIPE, mixup=0.0, rotate=30)
    loop.forward(
        Net(), UNEVEN, keys, balance.of(recipe, UNEVEN.labels, UNEVEN.counts(), CPU), Preprocess(size=32), recipe,
        epoch=0, step=0, size=32, device=CPU,
    )  # fmt: skip
    first, second, third = shown[0]
    assert torch.equal(first, third)
    assert not torch.equal(first, second)
