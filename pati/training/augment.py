"""Augmentation: batched tensor operations, with one affine map and one colour matrix per photo.

An augmentation is a function registered here. A geometric one returns maps `(N, 3, 3)` from output to input coordinates
in -1..1 (x right, y down). A colour one returns `(N, 3, 4)`, a matrix and an offset for RGB in 0..1. One that covers a
part of the photo returns rectangles `(N, 4)`: left, top, width and height in 0..1. All maps are multiplied, and each
photo is resampled once. Anything else, such as a blur, is a filter: a function of the resampled images. Knows nothing
of files, networks or the meaning of labels.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F

from pati.data.preprocess import Preprocess, downscaled
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.plugins import blamed
from pati.recipe import SettledRecipe, field_named
from pati.registry import Registry


class Draws:
    """Random numbers that depend only on (seed, epoch, sample), never on the batch or a worker.

    A counter-based generator: each call hashes the sample's number with a running counter. Numbers are generated on the
    CPU, so that every device gets the same ones.
    """

    def __init__(self, seed: int, epoch: int, samples: torch.Tensor, strength: float | torch.Tensor = 1.0) -> None:
        """`samples`: `int64 (N,)` numbers of the photos in the batch.

        `strength`: 0 or more, one number or `(N,)`: multiplies each photo's ranges.
        """
        self._key = _mixed(_mixed(torch.tensor(seed) * 1_000_003 + epoch) + samples.to("cpu", torch.int64))
        self._calls = 0
        self.strength = torch.as_tensor(strength, dtype=torch.float64, device="cpu")

    def of(self, rows: torch.Tensor) -> Draws:
        """The same numbers for some of the photos: what is drawn from the one is not drawn from the other."""
        part = copy.copy(self)
        part._key = self._key[rows]
        part.strength = self.strength[rows] if self.strength.ndim else self.strength
        return part

    def after(self, part: Draws) -> Draws:
        """These draws from where those of a part have come to."""
        rest = copy.copy(self)
        rest._calls = part._calls
        return rest

    def uniform(self, low: float | torch.Tensor = 0.0, high: float | torch.Tensor = 1.0) -> torch.Tensor:
        """`float32 (N,)`, uniform in low..high, which are numbers or `(N,)`; every call returns new values."""
        self._calls += 1
        step = (self._calls * 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63  # as a signed 64-bit number
        bits = _mixed(self._key + step) >> 11
        low, high = (torch.as_tensor(end, dtype=torch.float64) for end in (low, high))
        share = (bits & (2**53 - 1)).to(torch.float64).mul(2.0**-53).to(torch.float32)
        return low.to(torch.float32) + (high - low).to(torch.float32) * share

    def spread(self, limit: float, *, most: float, centre: float = 0.0) -> torch.Tensor:
        """`float32 (N,)`, uniform within `centre` ± `limit` × strength, and never farther away than `most`."""
        reach = (limit * self.strength).clamp_max(most)
        return self.uniform(centre - reach, centre + reach)


def _mixed(value: torch.Tensor) -> torch.Tensor:
    """The finaliser of splitmix64 (Steele et al., 2014) on wrapping int64."""
    value = (value ^ _shifted(value, 30)) * -4658895280553007687
    value = (value ^ _shifted(value, 27)) * -7723592293110705685
    return value ^ _shifted(value, 31)


def _shifted(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


Filter = Callable[[torch.Tensor], torch.Tensor]  # of images (N, 3, H, W) in 0..1
Change = torch.Tensor | Filter
Augmentation = Callable[[Draws, SettledRecipe, torch.Tensor], Change | tuple[Change, ...] | None]
augmentations: Registry[Augmentation] = Registry(N_("augmentation"))

# At any strength, values stay within the ranges of the recipe's fields.
MOST: dict[str, float] = {
    item.name: item.metadata["high"] for item in dataclasses.fields(SettledRecipe) if item.metadata["high"] is not None
}
SMALLEST_CROP: float = field_named("crop").metadata["low"]


# Maps from amounts (N,) ----------------------------------------------------------------


def _affine(images: torch.Tensor, *rows: tuple[float | torch.Tensor, ...]) -> torch.Tensor:
    """Maps `(N, 3, 3)` from their two upper rows, whose entries are numbers or `(N,)`; `images` gives only N."""
    result = torch.zeros(len(images), 3, 3)
    result[:, 2, 2] = 1
    for row, entries in enumerate(rows):
        for column, entry in enumerate(entries):
            result[:, row, column] = entry
    return result


def _rotation(degrees: torch.Tensor) -> torch.Tensor:
    angle = degrees * (math.pi / 180)
    return _affine(angle, (angle.cos(), -angle.sin(), 0), (angle.sin(), angle.cos(), 0))


def _shear(degrees: torch.Tensor, axis: int) -> torch.Tensor:
    """Shear along x (axis 0) or y (axis 1); the area is preserved."""
    shear = (degrees * (math.pi / 180)).tan()
    return _affine(shear, *(((1, shear, 0), (0, 1, 0)) if axis == 0 else ((1, 0, 0), (shear, 1, 0))))


def _translation(share: torch.Tensor, axis: int) -> torch.Tensor:
    """Translation by a fraction of the side, which has length 2, along x (axis 0) or y (axis 1)."""
    along, across = 2 * share, torch.zeros_like(share)
    return _affine(share, (1, 0, along if axis == 0 else across), (0, 1, across if axis == 0 else along))


def _colour(matrix: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
    shift = torch.zeros(len(matrix), 3, 1) if offset is None else offset
    return torch.cat([matrix, shift], 2)


def _scaled(factor: torch.Tensor) -> torch.Tensor:
    return factor[:, None, None] * torch.eye(3)


_LUMA = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601


def _grey(images: torch.Tensor) -> torch.Tensor:
    """Mean grey of each photo, `(N,)`."""
    return images.mean((2, 3)).cpu() @ _LUMA


def _contrasted(factor: torch.Tensor, grey: torch.Tensor) -> torch.Tensor:
    return _colour(_scaled(factor), ((1 - factor) * grey)[:, None, None].expand(-1, 3, 1))


def _saturated(factor: torch.Tensor) -> torch.Tensor:
    return _colour(_scaled(factor) + (1 - factor)[:, None, None] * _LUMA.expand(3, 3))


def _hue_shift(circles: torch.Tensor) -> torch.Tensor:
    """Hue shift: rotation about the grey axis (1, 1, 1)/√3, by Rodrigues' formula."""
    angle = circles * (2 * math.pi)
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return _colour(_scaled(angle.cos()) + angle.sin()[:, None, None] * axis + (1 - angle.cos())[:, None, None] / 3)


# Augmentations -------------------------------------------------------------------------


@augmentations.register("flip")
def flip(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Flip horizontally with probability `flip`."""
    if not recipe.flip:
        return None
    sign = torch.where(draws.uniform() < recipe.flip, -1.0, 1.0)
    return _affine(images, (sign, 0, 0), (0, 1, 0))


@augmentations.register("rotate")
def rotate(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Rotate by up to `rotate` degrees either way."""
    return _rotation(draws.spread(recipe.rotate, most=MOST["rotate"])) if recipe.rotate else None


@augmentations.register("crop")
def crop(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Crop a random window of at least `crop` of the area, with an aspect ratio of 3:4 to 4:3, and resize it."""
    if recipe.crop is None or recipe.crop >= 1:
        return None
    smallest = recipe.crop + (1 - recipe.crop) * (1 - draws.strength)
    area = draws.uniform(smallest.clamp_min(SMALLEST_CROP), 1)
    stretch = torch.exp(draws.spread(0.5, most=0.5) * math.log(4 / 3))
    # A window can't be larger than the photo.
    width, height = (area.sqrt() * stretch).clamp_max(1), (area.sqrt() / stretch).clamp_max(1)
    left, top = draws.uniform(-1, 1) * (1 - width), draws.uniform(-1, 1) * (1 - height)
    return _affine(images, (width, 0, left), (0, height, top))


@augmentations.register("shear")
def shear(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Shear along both axes by up to `shear` degrees each."""
    if not recipe.shear:
        return None
    sideways, upwards = (draws.spread(recipe.shear, most=MOST["shear"]) for _ in range(2))
    return _shear(sideways, 0) @ _shear(upwards, 1)


@augmentations.register("translate")
def translate(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Translate along both axes by up to `translate` of the side; the border is filled by reflection."""
    if not recipe.translate:
        return None
    across, down = (draws.spread(recipe.translate, most=MOST["translate"]) for _ in range(2))
    return _translation(across, 0) @ _translation(down, 1)


@augmentations.register("zoom")
def zoom(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Zoom in or out about the centre by a factor of up to 1 + `zoom`."""
    if not recipe.zoom:
        return None
    side = torch.exp(draws.spread(math.log1p(recipe.zoom), most=math.log1p(MOST["zoom"])))
    return _affine(images, (side, 0, 0), (0, side, 0))


@augmentations.register("brightness")
def brightness(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Change brightness: multiply by 1 ± `brightness`."""
    if not recipe.brightness:
        return None
    return _colour(_scaled(draws.spread(recipe.brightness, most=MOST["brightness"], centre=1)))


@augmentations.register("contrast")
def contrast(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Change contrast by 1 ± `contrast` about the mean grey of the photo."""
    if not recipe.contrast:
        return None
    return _contrasted(draws.spread(recipe.contrast, most=MOST["contrast"], centre=1), _grey(images))


@augmentations.register("saturation")
def saturation(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Change saturation by 1 ± `saturation`."""
    if not recipe.saturation:
        return None
    return _saturated(draws.spread(recipe.saturation, most=MOST["saturation"], centre=1))


@augmentations.register("hue")
def hue(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Shift the hue by up to `hue` of the colour circle."""
    return _hue_shift(draws.spread(recipe.hue, most=MOST["hue"])) if recipe.hue else None


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a policy: maps from amounts within ± `strongest` and the photos' mean greys, both `(N,)`.

    `field`: the recipe field whose range limits the amounts.
    """

    strongest: float
    field: str
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


# The strongest amounts are those of the two papers, except for hue, which neither has.
OPERATIONS: dict[str, Operation] = {
    "identity": Operation(0, "zoom", lambda amount, grey: _affine(amount, (1, 0, 0), (0, 1, 0))),
    "shear x": Operation(17, "shear", lambda amount, grey: _shear(amount, 0)),
    "shear y": Operation(17, "shear", lambda amount, grey: _shear(amount, 1)),
    "translate x": Operation(0.3, "translate", lambda amount, grey: _translation(amount, 0)),
    "translate y": Operation(0.3, "translate", lambda amount, grey: _translation(amount, 1)),
    "rotate": Operation(30, "rotate", lambda amount, grey: _rotation(amount)),
    "brightness": Operation(0.9, "brightness", lambda amount, grey: _colour(_scaled(1 + amount))),
    "contrast": Operation(0.9, "contrast", lambda amount, grey: _contrasted(1 + amount, grey)),
    "saturation": Operation(0.9, "saturation", lambda amount, grey: _saturated(1 + amount)),
    "hue": Operation(0.2, "hue", lambda amount, grey: _hue_shift(amount)),
}


@augmentations.register("policy")
def policy(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
    """Apply random operations to each photo: TrivialAugment or RandAugment.

    TrivialAugment (Müller and Hutter, 2021, https://arxiv.org/abs/2103.10158) and RandAugment (Cubuk et al., 2020,
    https://arxiv.org/abs/1909.13719), with those of their operations that are an affine or a colour map. Both
    directions are equally likely.
    """
    if not recipe.policy or recipe.policy == "none":
        return None
    grey = _grey(images)
    space, colour = torch.eye(3).expand(len(images), 3, 3), torch.eye(3, 4).expand(len(images), 3, 4)
    for _ in range(1 if recipe.policy == "trivial" else recipe.policy_operations):
        chosen = chosen_operations(draws)
        if recipe.policy == "trivial":
            share = draws.spread(1, most=math.inf)
        else:
            share = (recipe.policy_strength * draws.strength).float() * torch.where(draws.uniform() < 0.5, -1.0, 1.0)
        place, paint = torch.eye(3).expand_as(space), torch.eye(3, 4).expand_as(colour)
        for number, operation in enumerate(OPERATIONS.values()):
            most = MOST[operation.field]
            change = operation.change((operation.strongest * share).clamp(-most, most), grey)
            here = (chosen == number)[:, None, None]
            if change.shape[2] == 3:
                place = torch.where(here, change, place)
            else:
                paint = torch.where(here, change, paint)
        space, colour = space @ place, _compose_colours(colour, paint)
    return space, colour


def chosen_operations(draws: Draws) -> torch.Tensor:
    """Numbers of operations, `int64 (N,)`, all equally likely."""
    return (draws.uniform() * len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)


@augmentations.register("erase")
def erase(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Random erasing: cover a rectangle with the mean colour of the training photos, with probability `erase`.

    Zhong et al., 2017, https://arxiv.org/abs/1708.04896: 2 to 33 % of the area, height to width between 0.3 and 3.3.
    """
    if not recipe.erase:
        return None
    erased = draws.uniform() < recipe.erase
    area = (draws.uniform(0.02, 0.33) * draws.strength).clamp_max(0.5).float()
    aspect = torch.exp(draws.uniform(math.log(0.3), math.log(3.3)))
    # A side longer than the photo's is clipped, and the other one extended to keep the area.
    height = (area * aspect).sqrt().clamp_max(1).maximum(area)
    width = area / height.clamp_min(1e-9)  # at strength 0 both are 0
    left, top = draws.uniform() * (1 - width), draws.uniform() * (1 - height)
    return torch.stack([left, top, width, height], 1) * erased[:, None]


# All of them -----------------------------------------------------------------------------


def source_size(recipe: SettledRecipe, size: int) -> int:
    """Size to which photos are shrunk before they are sampled at `size`, so that the average crop is sampled at 1:1."""
    area = 1.0 if recipe.crop is None else (1 + recipe.crop) / 2
    return round(size / math.sqrt(area))


def augment(
    pixels: torch.Tensor,
    draws: Draws,
    recipe: SettledRecipe,
    preprocess: Preprocess,
    size: int,
    names: Iterable[str] = augmentations,
) -> torch.Tensor:
    """`uint8 (N, H, H, 3)` -> normalised `float32 (N, 3, size, size)`, channels-last, randomly augmented.

    `names`: the augmentations to apply. Raises `PatiError` if one of them returns an invalid value.
    """
    images = downscaled(pixels, source_size(recipe, size)).permute(0, 3, 1, 2)
    images = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    space = torch.eye(3).expand(len(images), 3, 3)
    colour = torch.eye(3, 4).expand(len(images), 3, 4)
    covered: list[torch.Tensor] = []
    filters: list[tuple[str, Filter]] = []
    for name in names:
        changes = augmentations[name](draws, recipe, images)
        for change in changes if isinstance(changes, tuple) else (changes,):
            if change is None:
                continue
            if not isinstance(change, torch.Tensor) and callable(change):
                filters.append((name, change))
                continue
            match _kind(name, change, len(images)):
                case "place":
                    space = space @ change
                case "colour":
                    colour = _compose_colours(colour, change)
                case "cover":
                    covered.append(change)
    scale, shift = preprocess.normalisation()
    colour = colour * scale[:, None]
    colour = torch.cat([colour[:, :, :3], colour[:, :, 3:] + shift[:, None]], 2).to(images.device)
    grid = F.affine_grid(space[:, :2].to(images.device), [len(images), 3, size, size], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    for name, change in filters:
        images = _filtered(name, change, images)
    # Colours after sampling: both are linear, so the result is the same, and the sampled photo is smaller.
    images = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], images.flatten(2)).view_as(images)
    for rectangles in covered:
        images.masked_fill_(_inside(rectangles, size)[:, None].to(images.device), 0)  # the mean, once normalised
    return images.contiguous(memory_format=torch.channels_last)


_SHAPES = {"place": (3, 3), "colour": (3, 4), "cover": (4,)}  # of the change of one photo


def _kind(name: str, change: object, photos: int) -> str:
    """The kind of a change, a key of `_SHAPES`. Plugins' augmentations are checked: raises `PatiError`."""
    if isinstance(change, torch.Tensor) and change.dtype == torch.float32 and change.device.type == "cpu":
        for kind, shape in _SHAPES.items():
            if change.shape == (photos, *shape):
                return kind
    got = f"{change.dtype} {tuple(change.shape)}" if isinstance(change, torch.Tensor) else type(change).__name__
    expected = ", ".join(str((photos, *shape)) for shape in _SHAPES.values())
    raise PatiError(
        N_("the augmentation {name!r} returned {got}", name=name, got=got),
        N_("expected a float32 tensor of shape {shape}, a function, or None", shape=str(expected)),
    )


def _filtered(name: str, change: Filter, images: torch.Tensor) -> torch.Tensor:
    plugin = augmentations.plugin(name)
    with blamed(plugin) if plugin else contextlib.nullcontext():
        after = change(images)
    if not isinstance(after, torch.Tensor) or after.shape != images.shape or after.dtype != images.dtype:
        got = f"{after.dtype} {tuple(after.shape)}" if isinstance(after, torch.Tensor) else type(after).__name__
        raise PatiError(
            N_("the filter of the augmentation {name!r} returned {got}", name=name, got=got),
            N_("expected a float32 tensor of shape {shape}", shape=str(tuple(images.shape))),
        )
    return after


def _compose_colours(before: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """The colour map `(N, 3, 4)` that applies `before`, then `change`."""
    matrix, offset = change[:, :, :3], change[:, :, 3:]
    return torch.cat([matrix @ before[:, :, :3], matrix @ before[:, :, 3:] + offset], 2)


def _inside(rectangles: torch.Tensor, size: int) -> torch.Tensor:
    """Mask of the pixels whose centre lies in the rectangles `(N, 4)`, `bool (N, size, size)`."""
    at = (torch.arange(size) + 0.5) / size
    left, top, width, height = rectangles[:, :, None].unbind(1)
    across, down = ((at >= start) & (at < start + length) for start, length in ((left, width), (top, height)))
    return down[:, :, None] & across[:, None, :]
