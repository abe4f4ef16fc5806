"""Mixing: what the pixels hold is what the targets say, and whom a photo is mixed with."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pati.recipe import Recipe
from pati.training import mixing
from pati.training.augment import Draws
from pati.training.mixing import mix

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
BOTH = Recipe(mixup=1.0, cutmix=1.0)


def draws(count: int, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, torch.arange(count))


def plain(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Photos of one colour each, its own number, and targets of one class each."""
    numbers = torch.arange(count, dtype=torch.float32)
    images = numbers[:, None, None, None].expand(-1, 3, size, size).contiguous(memory_format=torch.channels_last)
    return images, torch.eye(count)


def test_no_mixing_hands_back_what_it_got() -> None:
    images, targets = plain(4, 8)
    mixed = mix(images, targets, draws(4), Recipe())
    assert mixed[0] is images
    assert mixed[1] is targets


@settings(max_examples=60)
@given(
    st.integers(2, 12), st.integers(8, 40), st.integers(0, 2**31), st.floats(0.05, 10),
    st.sampled_from(["up", "cut", "both"])
)  # fmt: skip
def test_targets_say_what_the_pixels_hold(count: int, size: int, seed: int, alpha: float, kind: str) -> None:
    recipe = Recipe(mixup=alpha if kind != "cut" else 0, cutmix=alpha if kind != "up" else 0)
    images, targets = plain(count, size)
    mixed, labels = mix(images, targets, draws(count, seed), recipe)
    torch.testing.assert_close(labels.sum(1), torch.ones(count))
    assert ((labels > 0).sum(1) <= 2).all()
    # A photo's mean colour is the mean of the two numbers, weighted as they are mixed: read the weight back from it.
    torch.testing.assert_close(mixed.double().mean((1, 2, 3)), labels.double() @ torch.arange(count).double())
    for number, image in enumerate(mixed):
        held = image.unique()
        if kind == "cut":
            assert set(held.tolist()) <= set(range(count))  # pixels of the one or the other, nothing between
            own = (image == number).float().mean()
            assert labels[number, number].item() == pytest.approx(own.item(), abs=1e-6)
        elif kind == "up":
            assert len(held) == 1


def test_a_pasted_piece_is_a_rectangle_of_whole_pixels() -> None:
    images, targets = plain(200, 24)
    mixed, _ = mix(images, targets, draws(200), Recipe(cutmix=1.0))
    for number, image in enumerate(mixed[:, 0]):
        foreign = image != number
        rows, columns = foreign.any(1).nonzero().flatten(), foreign.any(0).nonzero().flatten()
        if len(rows):
            box = foreign[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert box.all()


@pytest.mark.parametrize("alpha", [1e-5, 0.05, 0.2, 0.5, 1.0, 2.0, 10.0])
def test_beta_has_its_distribution(alpha: float) -> None:
    numbers = draws(20_000, seed=3)
    first, second = mixing.beta(numbers, alpha).numpy(), mixing.beta(numbers, alpha).numpy()
    assert first.min() >= 0
    assert first.max() <= 1
    expected = scipy.stats.beta(alpha, alpha)
    if alpha >= 0.5:
        assert scipy.stats.kstest(first, expected.cdf).pvalue > 1e-3
    # Of smaller alphas single precision makes many an exact 0 or 1: Kolmogorov and Smirnov's distance between them,
    # with the bound of Dvoretzky, Kiefer, Wolfowitz and Massart, which holds for those too.
    near_0 = np.logspace(-6, math.log10(0.5), 200)
    at = np.concatenate([near_0, 1 - near_0])
    distance = np.abs(np.searchsorted(np.sort(first), at, side="right") / len(first) - expected.cdf(at)).max()
    assert distance < math.sqrt(math.log(2 / 1e-3) / (2 * len(first)))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_with_both_each_photo_takes_one_by_equal_chance() -> None:
    images, targets = plain(1000, 16)
    mixed, labels = mix(images, targets, draws(1000), BOTH)
    own = torch.arange(1000.0)
    partner = targets.new_tensor((labels - torch.diag(labels.diag())).argmax(1).tolist())
    values = mixed[:, 0].flatten(1)
    pieces = ((values == own[:, None]) | (values == partner[:, None])).all(1)
    assert abs(pieces.float().mean().item() - 0.5) < 4 * 0.5 / math.sqrt(1000)


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_without_weights_everyone_is_partner_once_and_nobodys_own(count: int) -> None:
    partner = mixing.cyclic_partners(draws(count))
    assert sorted(partner.tolist()) == list(range(count))
    assert count == 1 or (partner != torch.arange(count)).all()
    seen, at = set(), 0
    while at not in seen:
        seen.add(at)
        at = int(partner[at])
    assert len(seen) == count  # one circle, not several


def test_partners_come_as_often_as_their_weights_say() -> None:
    weights = torch.tensor([0.0, 1.0, 2.0, 5.0, 0.0])
    numbers = Draws(0, 0, torch.arange(5000))
    found = torch.bincount(mixing.drawn(numbers, weights.repeat(1000)) % 5, minlength=5).numpy()
    assert found[0] == found[4] == 0
    assert scipy.stats.chisquare(found[1:4], 5000 * np.array([1, 2, 5]) / 8).pvalue > 1e-3


def test_weights_choose_the_partners_of_a_mix() -> None:
    images, targets = plain(6, 16)
    weights = torch.tensor([0.0, 0, 0, 1, 0, 0])
    for recipe in (Recipe(mixup=1.0), Recipe(cutmix=1.0), BOTH):
        _, labels = mix(images, targets, draws(6), recipe, weights)
        others = labels - torch.diag(labels.diag())
        assert (others.sum(0) > 0).tolist() == [False, False, False, True, False, False]
        assert labels[3, 3] == 1  # mixed with itself


def test_same_draws_same_mix_on_any_device_and_in_any_format() -> None:
    images, targets = torch.randn(9, 3, 20, 20), torch.eye(9)
    for recipe in (Recipe(mixup=0.4), Recipe(cutmix=0.4), BOTH):
        expected = mix(images, targets, draws(9), recipe)
        for device in DEVICES:
            strided = images.to(device, memory_format=torch.channels_last)
            mixed, labels = mix(strided, targets.to(device), draws(9), recipe)
            assert mixed.device.type == labels.device.type == device
            assert mixed.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(mixed.cpu(), expected[0])
            torch.testing.assert_close(labels.cpu(), expected[1])
        assert not torch.equal(mix(images, targets, draws(9, epoch=1), recipe)[0], expected[0])
        assert not torch.equal(mix(images, targets, draws(9, seed=1), recipe)[0], expected[0])
