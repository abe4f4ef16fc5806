"""Augmentation: batched work on tensors, in one affine map and one colour matrix a photo.

An augmentation is a function registered here. A geometric one returns maps `(N, 3, 3)`
from output to input coordinates in -1..1 (x right, y down); a colour one returns
`(N, 3, 4)`, a matrix and an offset for RGB in 0..1; one that covers a part of the photo returns
rectangles `(N, 4)`: left, top, width and height in 0..1. All maps are multiplied, and each
photo is resampled once. What no map can do, such as a blur, is a filter: a function of the
resampled images. Knows nothing of files, labels' meaning or nets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F

from pati.data.preprocess import Preprocess, shrunk
from pati.errors import PatiError
from pati.plugins import blamed
from pati.recipe import SettledRecipe, field_named
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


Filter = Callable[[torch.Tensor], torch.Tensor]  # of images (N, 3, H, W) in 0..1
Change = torch.Tensor | Filter
Augmentation = Callable[[Draws, SettledRecipe, torch.Tensor], Change | tuple[Change, ...] | None]
augmentations: Registry[Augmentation] = Registry("augmentation")

# However strongly a photo is changed, the recipe's own ranges are never left.
MOST: dict[str, float] = {
    item.name: item.metadata["high"] for item in dataclasses.fields(SettledRecipe) if item.metadata["high"] is not None
}
SMALLEST_CROP: float = field_named("crop").metadata["low"]


# Maps, from amounts (N,) ---------------------------------------------------------------


def _affine(images: torch.Tensor, *rows: tuple[float | torch.Tensor, ...]) -> torch.Tensor:
    """Maps `(N, 3, 3)` from their two upper rows, each entry a number or `(N,)`; `images` only counts them."""
    result = torch.zeros(len(images), 3, 3)
    result[:, 2, 2] = 1
    for row, entries in enumerate(rows):
        for column, entry in enumerate(entries):
            result[:, row, column] = entry
    return result


def _turned(degrees: torch.Tensor) -> torch.Tensor:
    angle = degrees * (math.pi / 180)
    return _affine(angle, (angle.cos(), -angle.sin(), 0), (angle.sin(), angle.cos(), 0))


def _slanted(degrees: torch.Tensor, axis: int) -> torch.Tensor:
    """Rows (axis 0) or columns (axis 1) slide along themselves; the area stays."""
    slope = (degrees * (math.pi / 180)).tan()
    return _affine(slope, *(((1, slope, 0), (0, 1, 0)) if axis == 0 else ((1, 0, 0), (slope, 1, 0))))


def _moved(share: torch.Tensor, axis: int) -> torch.Tensor:
    """By a share of the side, which is 2 long, along x (axis 0) or y (axis 1)."""
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


def _tinted(circles: torch.Tensor) -> torch.Tensor:
    """Turned about the grey axis by Rodrigues' formula, about (1, 1, 1)/√3."""
    angle = circles * (2 * math.pi)
    axis = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return _colour(_scaled(angle.cos()) + angle.sin()[:, None, None] * axis + (1 - angle.cos())[:, None, None] / 3)


# Augmentations -------------------------------------------------------------------------


@augmentations.register("flip")
def flip(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Mirror left and right with chance `flip`."""
    if not recipe.flip:
        return None
    sign = torch.where(draws.uniform() < recipe.flip, -1.0, 1.0)
    return _affine(images, (sign, 0, 0), (0, 1, 0))


@augmentations.register("rotate")
def rotate(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Turn by up to `rotate` degrees either way."""
    return _turned(draws.spread(recipe.rotate, most=MOST["rotate"])) if recipe.rotate else None


@augmentations.register("crop")
def crop(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
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


@augmentations.register("shear")
def shear(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Slant sideways and upwards, by up to `shear` degrees each."""
    if not recipe.shear:
        return None
    sideways, upwards = (draws.spread(recipe.shear, most=MOST["shear"]) for _ in range(2))
    return _slanted(sideways, 0) @ _slanted(upwards, 1)


@augmentations.register("translate")
def translate(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Move along both sides by up to `translate` of their length; the photo goes on as in a mirror."""
    if not recipe.translate:
        return None
    across, down = (draws.spread(recipe.translate, most=MOST["translate"]) for _ in range(2))
    return _moved(across, 0) @ _moved(down, 1)


@augmentations.register("zoom")
def zoom(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Enlarge or shrink by a factor of up to 1 + `zoom` either way, the middle staying where it is."""
    if not recipe.zoom:
        return None
    side = torch.exp(draws.spread(math.log1p(recipe.zoom), most=math.log1p(MOST["zoom"])))
    return _affine(images, (side, 0, 0), (0, side, 0))


@augmentations.register("brightness")
def brightness(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Multiply by 1 ± `brightness`."""
    if not recipe.brightness:
        return None
    return _colour(_scaled(draws.spread(recipe.brightness, most=MOST["brightness"], centre=1)))


@augmentations.register("contrast")
def contrast(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Stretch by 1 ± `contrast` about the photo's mean grey."""
    if not recipe.contrast:
        return None
    return _contrasted(draws.spread(recipe.contrast, most=MOST["contrast"], centre=1), _grey(images))


@augmentations.register("saturation")
def saturation(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Move colours towards grey or away from it by 1 ± `saturation`."""
    if not recipe.saturation:
        return None
    return _saturated(draws.spread(recipe.saturation, most=MOST["saturation"], centre=1))


@augmentations.register("hue")
def hue(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Turn colours by up to `hue` of the circle, about the grey axis."""
    return _tinted(draws.spread(recipe.hue, most=MOST["hue"])) if recipe.hue else None


@dataclasses.dataclass(frozen=True)
class Operation:
    """What a policy may choose for a photo: maps from amounts in ± `strongest` and the photos' mean greys, `(N,)` both.

    `field`: the recipe's, whose range is not left.
    """

    strongest: float
    field: str
    change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


# The strongest amounts are those of the two papers, as far as they have the operation: hue is ours.
OPERATIONS: dict[str, Operation] = {
    "identity": Operation(0, "zoom", lambda amount, grey: _affine(amount, (1, 0, 0), (0, 1, 0))),
    "shear x": Operation(17, "shear", lambda amount, grey: _slanted(amount, 0)),
    "shear y": Operation(17, "shear", lambda amount, grey: _slanted(amount, 1)),
    "translate x": Operation(0.3, "translate", lambda amount, grey: _moved(amount, 0)),
    "translate y": Operation(0.3, "translate", lambda amount, grey: _moved(amount, 1)),
    "rotate": Operation(30, "rotate", lambda amount, grey: _turned(amount)),
    "brightness": Operation(0.9, "brightness", lambda amount, grey: _colour(_scaled(1 + amount))),
    "contrast": Operation(0.9, "contrast", lambda amount, grey: _contrasted(1 + amount, grey)),
    "saturation": Operation(0.9, "saturation", lambda amount, grey: _saturated(1 + amount)),
    "hue": Operation(0.2, "hue", lambda amount, grey: _tinted(amount)),
}


@augmentations.register("policy")
def policy(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
    """Draw operations for each photo: `trivial` one of any strength, `randaugment` several of one strength.

    TrivialAugment (Müller and Hutter, 2021, https://arxiv.org/abs/2103.10158) and RandAugment (Cubuk et al., 2020,
    https://arxiv.org/abs/1909.13719), with those of their operations that are a map of places or colours. Either
    direction has the same chance.
    """
    if recipe.policy == "none":
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
        space, colour = space @ place, _painted(colour, paint)
    return space, colour


def chosen_operations(draws: Draws) -> torch.Tensor:
    """Numbers of operations, `int64 (N,)`, each with the same chance."""
    return (draws.uniform() * len(OPERATIONS)).long().clamp_max(len(OPERATIONS) - 1)


@augmentations.register("erase")
def erase(draws: Draws, recipe: SettledRecipe, images: torch.Tensor) -> torch.Tensor | None:
    """Cover a rectangle with the training photos' mean colour, with chance `erase`.

    Random erasing (Zhong et al., 2017, https://arxiv.org/abs/1708.04896): 2 to 33 % of the area, height to width
    between 0.3 and 3.3.
    """
    if not recipe.erase:
        return None
    erased = draws.uniform() < recipe.erase
    area = (draws.uniform(0.02, 0.33) * draws.strength).clamp_max(0.5).float()
    aspect = torch.exp(draws.uniform(math.log(0.3), math.log(3.3)))
    # A side that would be longer than the photo's is cut, and the other one made longer.
    height = (area * aspect).sqrt().clamp_max(1).maximum(area)
    width = area / height.clamp_min(1e-9)  # at strength 0 both are 0
    left, top = draws.uniform() * (1 - width), draws.uniform() * (1 - height)
    return torch.stack([left, top, width, height], 1) * erased[:, None]


# All of them -----------------------------------------------------------------------------


def source_size(recipe: SettledRecipe, size: int) -> int:
    """Side to which photos are shrunk before they are sampled at `size`: then the average crop is sampled at 1:1."""
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
    """`uint8 (N, H, H, 3)` -> normalised `float32 (N, 3, size, size)`, channels last, each changed at random.

    `names`: of the augmentations that may change them. Raises `PatiError` if one returns what is no change.
    """
    images = shrunk(pixels, source_size(recipe, size)).permute(0, 3, 1, 2)
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
                    colour = _painted(colour, change)
                case "cover":
                    covered.append(change)
    scale, shift = preprocess.normalisation()
    colour = colour * scale[:, None]
    colour = torch.cat([colour[:, :, :3], colour[:, :, 3:] + shift[:, None]], 2).to(images.device)
    grid = F.affine_grid(space[:, :2].to(images.device), [len(images), 3, size, size], align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    for name, change in filters:
        images = _filtered(name, change, images)
    # Colours after sampling, which is linear too: the result is the same, and the sampled photo is smaller.
    images = torch.baddbmm(colour[:, :, 3:], colour[:, :, :3], images.flatten(2)).view_as(images)
    for rectangles in covered:
        images.masked_fill_(_inside(rectangles, size)[:, None].to(images.device), 0)  # the mean, once normalised
    return images.contiguous(memory_format=torch.channels_last)


_SHAPES = {"place": (3, 3), "colour": (3, 4), "cover": (4,)}  # of a photo's change


def _kind(name: str, change: object, photos: int) -> str:
    """What a change of `photos` photos does: a name in `_SHAPES`. Users write augmentations too, and err."""
    if isinstance(change, torch.Tensor) and change.dtype == torch.float32 and change.device.type == "cpu":
        for kind, shape in _SHAPES.items():
            if change.shape == (photos, *shape):
                return kind
    got = f"{change.dtype} {tuple(change.shape)}" if isinstance(change, torch.Tensor) else type(change).__name__
    expected = ", ".join(str((photos, *shape)) for shape in _SHAPES.values())
    raise PatiError(f"the augmentation {name!r} gives {got}", f"expected float32 of {expected}, a function, or None")


def _filtered(name: str, change: Filter, images: torch.Tensor) -> torch.Tensor:
    plugin = augmentations.plugin(name)
    with blamed(plugin) if plugin else contextlib.nullcontext():
        after = change(images)
    if not isinstance(after, torch.Tensor) or after.shape != images.shape or after.dtype != images.dtype:
        got = f"{after.dtype} {tuple(after.shape)}" if isinstance(after, torch.Tensor) else type(after).__name__
        raise PatiError(
            f"the filter of the augmentation {name!r} gives {got}", f"expected float32 of {tuple(images.shape)}"
        )
    return after


def _painted(before: torch.Tensor, change: torch.Tensor) -> torch.Tensor:
    """The colour map `(N, 3, 4)` that does `change` after `before`."""
    matrix, offset = change[:, :, :3], change[:, :, 3:]
    return torch.cat([matrix @ before[:, :, :3], matrix @ before[:, :, 3:] + offset], 2)


def _inside(rectangles: torch.Tensor, size: int) -> torch.Tensor:
    """Pixels whose middle lies in the rectangles `(N, 4)`, `bool (N, size, size)`."""
    at = (torch.arange(size) + 0.5) / size
    left, top, width, height = rectangles[:, :, None].unbind(1)
    across, down = ((at >= start) & (at < start + length) for start, length in ((left, width), (top, height)))
    return down[:, :, None] & across[:, None, :]
