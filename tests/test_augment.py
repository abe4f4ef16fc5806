"""Augmentation: identity without strength, same seed same result, and what each one does."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from pati.augment import Draws, augment, augmentations
from pati.preprocess import Preprocess
from pati.recipe import Recipe
from tests.conftest import draw

NOTHING = Recipe(flip=0, rotate=0, crop=1, brightness=0, contrast=0, saturation=0, hue=0)
PLAIN = Preprocess(size=32, mean=(0, 0, 0), std=(1, 1, 1))
STRONG = {"flip": 1.0, "rotate": 40.0, "crop": 0.4, "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.3}


def batch(count: int = 16) -> torch.Tensor:
    return torch.tensor(np.stack([np.asarray(draw("circle", number, 32)) for number in range(count)]))


def draws(count: int = 16, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, torch.arange(count))


def run(recipe: Recipe, count: int = 16, preprocess: Preprocess = PLAIN) -> torch.Tensor:
    return augment(batch(count), draws(count), recipe, preprocess, 32)


def test_strengths_cover_every_augmentation() -> None:
    assert set(STRONG) == set(augmentations)


def test_no_strength_is_the_identity() -> None:
    preprocess = Preprocess(size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    torch.testing.assert_close(run(NOTHING, preprocess=preprocess), preprocess.normalise(batch()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", list(STRONG))
def test_each_one_changes_photos_and_repeats_itself(name: str) -> None:
    recipe = dataclasses.replace(NOTHING, **{name: STRONG[name]})
    first, second = run(recipe), run(recipe)
    assert torch.equal(first, second)
    changed = (first - run(NOTHING)).abs().amax((1, 2, 3)) > 1e-3
    assert changed.float().mean() > 0.9
    other = augment(batch(), draws(epoch=1), recipe, PLAIN, 32)
    assert name == "flip" or not torch.equal(first, other)


@pytest.mark.parametrize("name", list(STRONG))
def test_a_photo_is_changed_alike_in_any_batch(name: str) -> None:
    recipe = dataclasses.replace(NOTHING, **{name: STRONG[name]})
    whole = run(recipe)
    picked = torch.tensor([11, 3, 7])
    part = augment(batch()[picked], Draws(0, 0, picked), recipe, PLAIN, 32)
    torch.testing.assert_close(part, whole[picked], atol=1e-5, rtol=0)


def test_draws_are_uniform_and_independent() -> None:
    numbers = Draws(1, 2, torch.arange(20_000))
    first, second = numbers.uniform(), numbers.uniform()
    for values in (first, second):
        counts = torch.histc(values, 20, 0, 1)
        chi2 = ((counts - 1000) ** 2 / 1000).sum()
        assert chi2 < 43.8  # the 0.999 point of chi-squared with 19 degrees of freedom
        assert values.min() >= 0
        assert values.max() < 1
    assert abs(torch.corrcoef(torch.stack([first, second]))[0, 1]) < 0.025
    assert abs(torch.corrcoef(torch.stack([first[:-1], first[1:]]))[0, 1]) < 0.025
    assert not torch.equal(first, Draws(1, 3, torch.arange(20_000)).uniform())
    assert not torch.equal(first, Draws(2, 2, torch.arange(20_000)).uniform())


def test_spread_follows_each_photos_strength() -> None:
    strength = torch.tensor([0.0, 0.5, 1.0, 2.0, 100.0]).repeat(4000)
    values = Draws(0, 0, torch.arange(20_000), strength).spread(10, most=30, centre=5).view(-1, 5) - 5
    reach = torch.tensor([0.0, 5, 10, 20, 30])
    assert (values.abs().amax(0) <= reach).all()
    assert (values.abs().amax(0) >= 0.99 * reach).all()
    torch.testing.assert_close(values.mean(0), torch.zeros(5), atol=1.3, rtol=0)  # 4.5 standard errors
    plain = Draws(0, 0, torch.arange(100)).uniform(-10, 10)
    assert torch.equal(Draws(0, 0, torch.arange(100)).spread(10, most=30), plain)
    assert torch.equal(Draws(0, 0, torch.arange(100), torch.ones(100)).spread(10, most=30), plain)


@pytest.mark.parametrize("name", list(STRONG))
def test_strength_is_each_photos_own(name: str) -> None:
    recipe = dataclasses.replace(NOTHING, **{name: STRONG[name]})
    strength = torch.tensor([0.0, 1.0]).repeat(8)
    mixed = augment(batch(), Draws(0, 0, torch.arange(16), strength), recipe, PLAIN, 32)
    torch.testing.assert_close(mixed[1::2], run(recipe)[1::2])
    if name != "flip":
        torch.testing.assert_close(mixed[::2], run(NOTHING)[::2], atol=1e-4, rtol=0)


def test_strength_makes_crops_smaller() -> None:
    recipe = dataclasses.replace(NOTHING, crop=0.8)
    strength = torch.tensor([0.0, 1.0, 2.0, 50.0]).repeat(1000)
    maps = augmentations["crop"](Draws(0, 0, torch.arange(4000), strength), recipe, torch.zeros(4000, 3, 8, 8))
    assert maps is not None
    area = (maps[:, 0, 0] * maps[:, 1, 1]).view(-1, 4).amin(0)
    for smallest, expected in zip(area.tolist(), (1, 0.8, 0.6, 0.05), strict=True):
        assert 0.8 * expected < smallest < 1.05 * expected + 0.02


def test_flip_mirrors_as_often_as_asked() -> None:
    whole = batch(1).expand(4000, -1, -1, -1)[:, ::4, ::4].contiguous()
    recipe = dataclasses.replace(NOTHING, flip=0.3)
    images = augment(whole, draws(4000), recipe, PLAIN, 8)
    plain = augment(whole[:1], draws(1), NOTHING, PLAIN, 8)[0]
    mirrored = ((images - plain.flip(2)).abs().amax((1, 2, 3)) < 1e-4).float().mean().item()
    same = ((images - plain).abs().amax((1, 2, 3)) < 1e-4).float().mean().item()
    assert mirrored + same == pytest.approx(1)
    assert abs(mirrored - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4000)


def test_rotation_turns_like_pillow() -> None:
    recipe = dataclasses.replace(NOTHING, rotate=30.0)
    pixels = batch(6)
    images = augment(pixels, draws(6), recipe, PLAIN, 32)
    angles = draws(6)
    turned = angles.uniform(-30, 30)  # the only draw that rotation alone makes
    for image, pixel, angle in zip(images, pixels, turned.tolist(), strict=True):
        expected = Image.fromarray(pixel.numpy()).rotate(angle, Image.Resampling.BILINEAR)
        inner = (image.permute(1, 2, 0)[10:22, 10:22] * 255).numpy()
        assert np.abs(inner - np.asarray(expected)[10:22, 10:22]).mean() < 3


def test_crop_keeps_at_least_the_area_asked_for() -> None:
    maps = augmentations["crop"](
        draws(2000), dataclasses.replace(NOTHING, crop=0.5), batch(2000 // 125).repeat(125, 1, 1, 1)
    )
    assert maps is not None
    width, height = maps[:, 0, 0], maps[:, 1, 1]
    area = width * height
    assert area.min() > 0.43  # sides are cut at the photo's own, which can cost a little of the area
    assert area.max() <= 1
    assert ((maps[:, 0, 2].abs() + width) <= 1 + 1e-5).all()
    assert ((maps[:, 1, 2].abs() + height) <= 1 + 1e-5).all()


def test_colour_maps_by_hand() -> None:
    image = batch(1).permute(0, 3, 1, 2).float() / 255
    luma = torch.tensor([0.299, 0.587, 0.114])

    def applied(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        recipe = dataclasses.replace(NOTHING, **{name: STRONG[name]})
        change = augmentations[name](draws(1), recipe, image)
        assert change is not None
        result = torch.einsum("nij,njhw->nihw", change[:, :, :3], image) + change[:, :, 3:, None]
        low = -STRONG[name] * 2 * math.pi if name == "hue" else 1 - STRONG[name]
        high = STRONG[name] * 2 * math.pi if name == "hue" else 1 + STRONG[name]
        return result, draws(1).uniform(low, high)

    result, factor = applied("brightness")
    torch.testing.assert_close(result, image * factor)
    result, factor = applied("contrast")
    grey = (image.mean((2, 3)) @ luma).item()
    torch.testing.assert_close(result, grey + (image - grey) * factor)
    result, factor = applied("saturation")
    grey_image = torch.einsum("c,nchw->nhw", luma, image)[:, None]
    torch.testing.assert_close(result, grey_image + (image - grey_image) * factor)
    result, _ = applied("hue")
    torch.testing.assert_close(result.sum(1), image.sum(1))  # a turn about the grey axis keeps the sum
    torch.testing.assert_close(result.norm(dim=1), image.norm(dim=1))


def test_shrinking_looks_at_all_pixels() -> None:
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    pixels = board.to(torch.uint8)[None, :, :, None].expand(1, 64, 64, 3)
    images = augment(pixels, draws(1), NOTHING, PLAIN, 32)
    assert (images - 0.5).abs().max() < 0.01
