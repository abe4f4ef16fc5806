"""Augmentation: identity without strength, same seed same result, and what each one does."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pati.data.preprocess import Preprocess
from pati.recipe import Recipe
from pati.training import augment as augment_module
from pati.training.augment import MOST, OPERATIONS, Draws, augment, augmentations
from tests.support.photos import draw

NOTHING = Recipe(flip=0, rotate=0, crop=1, brightness=0, contrast=0, saturation=0, hue=0)
PLAIN = Preprocess(size=32, mean=(0, 0, 0), std=(1, 1, 1))
STRONG: dict[str, Any] = {
    "flip": 1.0, "rotate": 40.0, "crop": 0.4, "shear": 30.0, "translate": 0.3, "zoom": 0.5, "brightness": 0.5,
    "contrast": 0.5, "saturation": 0.5, "hue": 0.3, "policy": "randaugment", "erase": 1.0,
}  # fmt: skip


def batch(count: int = 16) -> torch.Tensor:
    return torch.tensor(np.stack([np.asarray(draw("circle", number, 32)) for number in range(count)]))


def draws(count: int = 16, seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, torch.arange(count))


def run(recipe: Recipe, count: int = 16, preprocess: Preprocess = PLAIN) -> torch.Tensor:
    return augment(batch(count), draws(count), recipe, preprocess, 32)


def test_strengths_cover_every_augmentation() -> None:
    assert set(STRONG) == set(augmentations)


@pytest.mark.slow
def test_no_strength_is_the_identity() -> None:
    preprocess = Preprocess(size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    torch.testing.assert_close(run(NOTHING, preprocess=preprocess), preprocess.normalise(batch()), atol=1e-4, rtol=0)


def test_what_is_new_is_off_unless_asked_for() -> None:
    numbers = draws()
    for name in ("shear", "translate", "zoom", "policy", "erase"):
        assert augmentations[name](numbers, Recipe(), torch.rand(16, 3, 8, 8)) is None
    assert torch.equal(numbers.uniform(), draws().uniform())  # nor does it use up random numbers of the others


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


def maps(name: str, count: int = 2000, strength: Any = 1.0, **fields: Any) -> torch.Tensor:
    """What an augmentation alone draws for photos without content."""
    numbers = Draws(0, 0, torch.arange(count), strength)
    change = augmentations[name](numbers, dataclasses.replace(NOTHING, **fields), torch.zeros(count, 3, 8, 8))
    assert isinstance(change, torch.Tensor)
    return change


def test_shear_slants_and_keeps_the_area() -> None:
    change = maps("shear", shear=20.0)
    torch.testing.assert_close(change[:, :2, :2].det(), torch.ones(2000))
    for slope in (change[:, 0, 1], change[:, 1, 0]):
        degrees = slope.atan() * 180 / math.pi
        assert scipy.stats.kstest(degrees, scipy.stats.uniform(-20, 40).cdf).pvalue > 1e-3
    assert abs(torch.corrcoef(change[:, [0, 1], [1, 0]].T)[0, 1]) < 0.1
    assert not change[:, :2, 2].any()


def test_translate_moves_by_a_share_of_the_side() -> None:
    change = maps("translate", translate=0.25)
    for move in (change[:, 0, 2], change[:, 1, 2]):
        assert scipy.stats.kstest(move / 2, scipy.stats.uniform(-0.25, 0.5).cdf).pvalue > 1e-3
    assert torch.equal(change[:, :2, :2], torch.eye(2).expand(2000, 2, 2))
    ramp = torch.arange(32, dtype=torch.uint8) * 8
    pixels = torch.stack([ramp.expand(32, 32), ramp[:, None].expand(32, 32), torch.zeros(32, 32).byte()], 2)
    images = augment(
        pixels.expand(100, -1, -1, -1), draws(100), dataclasses.replace(NOTHING, translate=0.25), PLAIN, 32
    )
    moved = (images - images.new_tensor(pixels.tolist()).permute(2, 0, 1) / 255)[:, :2, 12:20, 12:20] * 255 / 8
    expected = maps("translate", 100, translate=0.25)[:, :2, 2] * 16  # pixels: the side is 2 long, and 32
    torch.testing.assert_close(moved, expected[:, :, None, None].expand_as(moved), atol=1e-2, rtol=0)


def test_zoom_enlarges_as_often_as_it_shrinks() -> None:
    change = maps("zoom", zoom=0.5)
    side = change[:, 0, 0]
    assert torch.equal(side, change[:, 1, 1])
    assert side.min() >= 1 / 1.5 - 1e-6
    assert side.max() <= 1.5 + 1e-6
    assert scipy.stats.kstest(side.log(), scipy.stats.uniform(-math.log(1.5), 2 * math.log(1.5)).cdf).pvalue > 1e-3


@settings(max_examples=30)
@given(st.sampled_from(sorted(set(MOST) & {"rotate", "shear", "translate", "zoom", "brightness", "contrast",
                                           "saturation", "hue"})), st.floats(0, 1000))  # fmt: skip
def test_no_strength_leaves_the_recipes_range(name: str, strength: float) -> None:
    change = maps(name, 200, strength, **{name: MOST[name] / 4})
    allowed = maps(name, 200, 1.0, **{name: MOST[name]})
    limit = torch.full((), min(strength, 4) / 4)
    plain = torch.eye(3, change.shape[2])
    if name in ("translate", "brightness", "contrast", "saturation"):  # maps in proportion to the amount
        torch.testing.assert_close(change - plain, limit * (allowed - plain), atol=1e-5, rtol=1e-4)
    elif strength >= 4:
        torch.testing.assert_close(change, allowed, atol=1e-5, rtol=1e-4)


def test_policies_choose_every_operation_as_often() -> None:
    chosen = augment_module.chosen_operations(draws(20_000))
    assert scipy.stats.chisquare(torch.bincount(chosen, minlength=len(OPERATIONS))).pvalue > 1e-3


def policy_maps(count: int, images: torch.Tensor, strength: Any = 1.0, **fields: Any) -> tuple[torch.Tensor, ...]:
    change = augmentations["policy"](
        Draws(0, 0, torch.arange(count), strength), dataclasses.replace(NOTHING, **fields), images
    )
    assert isinstance(change, tuple)
    return change


def test_trivial_does_one_operation_of_any_strength() -> None:
    count = 4000
    images = torch.rand(count, 3, 4, 4)
    space, colour = policy_maps(count, images, policy="trivial")
    numbers = draws(count)
    chosen, share = augment_module.chosen_operations(numbers), numbers.spread(1, most=math.inf)
    assert scipy.stats.kstest(share, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3
    grey = images.mean((2, 3)) @ torch.tensor([0.299, 0.587, 0.114])
    for number, operation in enumerate(OPERATIONS.values()):
        mine = chosen == number
        expected = operation.change(operation.strongest * share[mine], grey[mine])
        other = colour if expected.shape[2] == 3 else space
        torch.testing.assert_close((space if expected.shape[2] == 3 else colour)[mine], expected)
        assert torch.equal(other[mine], torch.eye(3, other.shape[2]).expand_as(other[mine]))


def test_randaugment_does_several_operations_of_one_strength() -> None:
    count = 4000
    images = torch.rand(count, 3, 4, 4)
    space, colour = policy_maps(count, images, policy="randaugment", policy_operations=1, policy_strength=0.5)
    chosen = augment_module.chosen_operations(draws(count))
    names = list(OPERATIONS)
    turned = space[chosen == names.index("rotate")]
    degrees = torch.atan2(turned[:, 1, 0], turned[:, 0, 0]) * 180 / math.pi
    torch.testing.assert_close(degrees.abs(), torch.full_like(degrees, 15.0), atol=1e-3, rtol=0)
    assert scipy.stats.binomtest(int((degrees > 0).sum()), len(degrees)).pvalue > 1e-3
    changed = [
        (policy_maps(count, images, policy="randaugment", policy_operations=operations)[1] != torch.eye(3, 4))
        .flatten(1).any(1).float().mean().item() for operations in (1, 2, 8)
    ]  # fmt: skip
    for operations, share in zip((1, 2, 8), changed, strict=True):  # 4 of 10 operations change colours
        assert share == pytest.approx(1 - 0.6**operations, abs=0.04)
    space, colour = policy_maps(count, images, torch.zeros(count), policy="randaugment", policy_operations=3)
    torch.testing.assert_close(space, torch.eye(3).expand_as(space))
    torch.testing.assert_close(colour, torch.eye(3, 4).expand_as(colour))


def test_erasing_covers_its_share_as_often_as_asked() -> None:
    rectangles = maps("erase", 20_000, erase=0.4)
    left, top, width, height = rectangles.T
    erased = width > 0
    assert scipy.stats.binomtest(int(erased.sum()), 20_000, 0.4).pvalue > 1e-3
    assert ((left + width)[erased] <= 1 + 1e-6).all()
    assert ((top + height)[erased] <= 1 + 1e-6).all()
    assert rectangles.min() >= 0
    assert scipy.stats.kstest((width * height)[erased], scipy.stats.uniform(0.02, 0.31).cdf).pvalue > 1e-3
    aspect = (height / width)[erased]
    assert aspect.min() >= 0.3 - 1e-4
    assert aspect.max() <= 3.3 + 1e-4
    strong = maps("erase", 20_000, torch.tensor([0.5, 10.0]).repeat(10_000), erase=1.0)
    area = (strong[:, 2] * strong[:, 3]).view(-1, 2)
    assert area[:, 0].max() <= 0.165 + 1e-5
    assert area[:, 1].max() <= 0.5 + 1e-5


def test_erased_pixels_are_a_rectangle_of_the_mean_colour() -> None:
    preprocess = Preprocess(size=32, mean=(0.9, 0.9, 0.9), std=(0.2, 0.3, 0.25))  # a colour that no photo here has
    recipe = dataclasses.replace(NOTHING, erase=1.0)
    images = run(recipe, preprocess=preprocess)
    untouched = run(NOTHING, preprocess=preprocess)
    rectangles = maps("erase", 16, erase=1.0)
    for image, plain, (left, top, width, height) in zip(images, untouched, rectangles.tolist(), strict=True):
        covered = (image == 0).all(0)
        rows, columns = covered.any(1).nonzero().flatten(), covered.any(0).nonzero().flatten()
        assert covered[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert torch.equal(image[:, ~covered], plain[:, ~covered])
        assert abs(rows[0] - 32 * top) <= 0.5 + 1e-3
        assert abs(columns[0] - 32 * left) <= 0.5 + 1e-3
        assert abs(len(rows) - 32 * height) <= 1
        assert abs(len(columns) - 32 * width) <= 1


def test_every_device_gives_the_same() -> None:
    recipe = Recipe(**(STRONG | {"flip": 0.5, "erase": 0.5}))
    expected = run(recipe)
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        images = augment(batch().to(device), draws(), recipe, PLAIN, 32)
        assert images.device.type == device
        assert images.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(images.cpu(), expected, atol=1e-3, rtol=0)


def test_shrinking_looks_at_all_pixels() -> None:
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 255
    pixels = board.to(torch.uint8)[None, :, :, None].expand(1, 64, 64, 3)
    images = augment(pixels, draws(1), NOTHING, PLAIN, 32)
    assert (images - 0.5).abs().max() < 0.01
