"""Augmentation: batched work on tensors, in one affine map and one colour matrix a photo.

An augmentation is a function registered here. A geometric one returns maps `(N, 3, 3)`
from output to input coordinates in -1..1 (x right, y down); a colour one returns
`(N, 3, 4)`, a matrix and an offset for RGB in 0..1. All maps are multiplied, and each
photo is resampled once. Knows nothing of files, labels' meaning or nets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from pati.preprocess import Preprocess, shrunk
from pati.recipe import Recipe
from pati.registry import Registry


class Draws:
    """Random numbers that depend on (seed, epoch, sample) alone, never on the batch or a worker.

    A counter-based generator: each call hashes the sample's number with a running counter. Numbers live in the CPU's
    memory wherever the photos are, so that every device gets the same ones.
    """

    def __init__(self, seed: int, epoch: int, samples: torch.Tensor, strength: float | torch.Tensor = 1.0) -> None:
        """`samples`: `int64 (N,)` numbers of the photos in the batch.

        `strength`: 0 or more, one number or `(N,)`: what each photo's ranges are multiplied by.
        """
        self._key = _mixed(_mixed(torch.tensor(seed) * 1_000_003 + epoch) + samples.to("cpu", torch.int64))
        self._calls = 0
        self.strength = torch.as_tensor(strength, dtype=torch.float64, device="cpu")

    def uniform(self, low: float | torch.Tensor = 0.0, high: float | torch.Tensor = 1.0) -> torch.Tensor:
        """`float32 (N,)` in low..high, which are numbers or `(N,)`; every call draws anew."""
        self._calls += 1
        step = (self._calls * 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63  # as a signed 64-bit number
        bits = _mixed(self._key + step) >> 11
        low, high = (torch.as_tensor(end, dtype=torch.float64) for end in (low, high))
        share = (bits & (2**53 - 1)).to(torch.float64).mul(2.0**-53).to(torch.float32)
        return low.to(torch.float32) + (high - low).to(torch.float32) * share

    def spread(self, limit: float, *, most: float, centre: float = 0.0) -> torch.Tensor:
        """`float32 (N,)` about `centre`, evenly within ± `limit` × strength, and never farther away than `most`."""
        reach = (limit * self.strength).clamp_max(most)
        return self.uniform(centre - reach, centre + reach)


def _mixed(value: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64 (Steele et al., 2014) on wrapping int64."""
    value = (value ^ _shifted(value, 30)) * -4658895280553007687
    value = (value ^ _shifted(value, 27)) * -7723592293110705685
    return value ^ _shifted(value, 31)


def _shifted(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift to the right."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


Augmentation = Callable[[Draws, Recipe, torch.Tensor], torch.Tensor | None]
augmentations: Registry[Augmentation] = Registry("augmentation")
# Stronger augmentation of some photos ends where the recipe's own range does.
MOST: dict[str, float] = {item.name: item.metadata["high"] for item in dataclasses.fields(Recipe)}

SMALLEST_CROP = 0.05  # of the area


def _affine(images: torch.Tensor, *rows: tuple[float | torch.Tensor, ...]) -> torch.Tensor:
    """Maps `(N, 3, 3)` from their two upper rows, each entry a number or `(N,)`."""
    result = torch.zeros(len(images), 3, 3)
    result[:, 2, 2] = 1
    for row, entries in enumerate(rows):
        for column, entry in enumerate(entries):
            result[:, row, column] = entry
    return result


@augmentations.register("flip")
def flip(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Mirror left and right with chance `flip`."""
    if not recipe.flip:
        return None
    sign = torch.where(draws.uniform() < recipe.flip, -1.0, 1.0)
    return _affine(images, (sign, 0, 0), (0, 1, 0))


@augmentations.register("rotate")
def rotate(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Turn by up to `rotate` degrees either way."""
    if not recipe.rotate:
        return None
    angle = draws.spread(recipe.rotate, most=MOST["rotate"]) * (math.pi / 180)
    return _affine(images, (angle.cos(), -angle.sin(), 0), (angle.sin(), angle.cos(), 0))


@augmentations.register("crop")
def crop(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Keep a random window of at least `crop` of the area, sides within 3:4 and 4:3, and resize it."""
    if recipe.crop is None or recipe.crop >= 1:
        return None
    smallest = recipe.crop + (1 - recipe.crop) * (1 - draws.strength)
    area = draws.uniform(smallest.clamp_min(SMALLEST_CROP), 1)
    stretch = torch.exp(draws.spread(0.5, most=0.5) * math.log(4 / 3))
    # A window can't be larger than the photo.
    width, height = (area.sqrt() * stretch).clamp_max(1), (area.sqrt() / stretch).clamp_max(1)
    left, top = draws.uniform(-1, 1) * (1 - width), draws.uniform(-1, 1) * (1 - height)
    return _affine(images, (width, 0, left), (0, height, top))


def _colour(matrix: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    shift = torch.zeros(len(matrix), 3, 1) if offset is None else offset
    return torch.cat([matrix, shift], 2)


def _scaled(factor: torch.Tensor) -> torch.Tensor:
    return factor[:, None, None] * torch.eye(3)


_LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601


@augmentations.register("brightness")
def brightness(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Multiply by 1 ± `brightness`."""
    if not recipe.brightness:
        return None
    return _colour(_scaled(draws.spread(recipe.brightness, most=MOST["brightness"], centre=1)))


@augmentations.register("contrast")
def contrast(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Stretch by 1 ± `contrast` about the photo's mean grey."""
    if not recipe.contrast:
        return None
    factor = draws.spread(recipe.contrast, most=MOST["contrast"], centre=1)
    grey = images.mean((2, 3)).cpu() @ _LUMA
    return _colour(_scaled(factor), ((1 - factor) * grey)[:, None, None].expand(-1, 3, 1))


@augmentations.register("saturation")
def saturation(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Move colours towards grey or away from it by 1 ± `saturation`."""
    if not recipe.saturation:
        return None
    factor = draws.spread(recipe.saturation, most=MOST["saturation"], centre=1)
    return _colour(_scaled(factor) + (1 - factor)[:, None, None] * _LUMA.expand(3, 3))


@augmentations.register("hue")
def hue(draws: Draws, recipe: Recipe, images: torch.Tensor) -> torch.Tensor | None:
    """Turn colours by up to `hue` of the circle, about the grey axis."""
    if not recipe.hue:
        return None
    angle = draws.spread(recipe.hue, most=MOST["hue"]) * (2 * math.pi)
    # Rodrigues' formula about (1, 1, 1)/√3.
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = _scaled(angle.cos()) + angle.sin()[:, None, None] * axis + (1 - angle.cos())[:, None, None] / 3
    return _colour(turn)


def source_size(recipe: Recipe, size: int) -> int:
    """Side to which photos are shrunk before they are sampled at `size`: then the average crop is sampled at 1:1."""
    area = 1.0 if recipe.crop is None else (1 + recipe.crop) / 2
    return round(size / math.sqrt(area))


def augment(pixels: torch.Tensor, draws: Draws, recipe: Recipe, preprocess: Preprocess, size: int) -> torch.Tensor:
    """`uint8 (N, H, H, 3)` -> normalised `float32 (N, 3, size, size)`, channels last, each changed at random."""
    images = shrunk(pixels, source_size(recipe, size)).permute(0, 3, 1, 2)
    images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    space = torch.eye(3).expand(len(images), 3, 3)
    colour = torch.eye(3, 4).expand(len(images), 3, 4)
    for name in augmentations:
        change = augmentations[name](draws, recipe, images)
        if change is None:
            continue
        if change.shape[1:] == (3, 3):
            space = space @ change.to(space)
        else:
            colour = torch.cat(
                [change[:, :, :3] @ colour[:, :, :3], change[:, :, :3] @ colour[:, :, 3:] + change[:, :, 3:]], 2
            )
    scale, shift = preprocess.normalisation()
    colour = colour * scale[:, None]
    colour = torch.cat([colour[:, :, :3], colour[:, :, 3:] + shift[:, None]], 2).to(images.device)
    grid = F.affine_grid(space[:, :2].to(images.device), [len(images), 3, size, size], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # Colours after sampling, which is linear too: the result is the same, and the sampled photo is smaller.
    images = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], images.flatten(2)).view_as(images)
    return images.contiguous(memory_format=torch.channels_last)
