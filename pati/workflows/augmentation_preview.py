"""A picture of what augmentation does to photos: each kind at rising strengths, and the recipe's own mixture.

The rows come from the registry of augmentations, the pixels from the functions that training calls.
"""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.decode import Unreadable
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.recipe import Recipe, SettledRecipe, Value, field_named
from pati.report import figures
from pati.report.figures import Tile
from pati.training import mixing, plan
from pati.training.augment import MOST, Draws, augment, augmentations

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HEADS = ("as it is", "1/4", "1/2", "3/4", "strongest")
# What the last column shows; an augmentation that is not named here goes to the end of its field's range.
STRONGEST = {
    "rotate": 45.0, "crop": 0.2, "shear": 30.0, "translate": 0.3, "zoom": 0.6, "brightness": 0.7, "contrast": 0.8,
    "saturation": 0.9, "hue": 0.3,
}  # fmt: skip
MOST_PHOTOS = 8
SPEED, READING = 1000.0, 0.001  # of a machine with two cores: the picture must not depend on this one's
_TRIES = 16

# Numbers of draws (N,) and strengths (N,) -> normalised images (N, 3, H, W) of one photo.
Effect = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def picture(data: str | Path, recipe: Recipe, *, photos: int = 1, columns: Columns = Columns()) -> bytes:
    """PNG of `photos` photos side by side, the same bytes for the same data and recipe.

    What the recipe leaves open is chosen as for a run on two cores. Raises `PatiError`.
    """
    if not 1 <= photos <= MOST_PHOTOS:
        raise PatiError(f"--photos wants a whole number from 1 to {MOST_PHOTOS}, got {photos}")
    source = find_source(data, columns)
    found = _read(source, photos + 1, recipe.seed)
    recipe = plan.settle(
        recipe,
        photos=len(source.items),
        natural=plan.natural_size([(pixels.shape[1], pixels.shape[0]) for pixels in found]),
        mirrored=source.mirrored,
        turned=source.turned,
        minimum_size=field_named("size").metadata["low"],
        precision="float32",
        speed=SPEED,
        reading=READING,
    )
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize)
    squares = torch.from_numpy(np.stack([preprocess.fit(pixels) for pixels in found]))
    red, green, blue = (squares.float() / 255).mean((0, 1, 2)).tolist()
    preprocess = dataclasses.replace(preprocess, mean=(red, green, blue))  # what is erased becomes this colour
    shown = min(photos, len(found))
    blocks = [rows(squares[n], squares[(n + 1) % len(found)], recipe, preprocess) for n in range(shown)]
    labels = [(name, setting) for name, setting, _ in blocks[0]]
    return figures.tiles(labels, [[tiles for _, _, tiles in block] for block in blocks], HEADS)


def rows(
    photo: torch.Tensor, other: torch.Tensor, recipe: SettledRecipe, preprocess: Preprocess
) -> list[tuple[str, str, list[Tile]]]:
    """Name, setting and a tile for each of `STRENGTHS`, of a photo `uint8 (H, H, 3)`; `other` is mixed into it.

    The last row is the settled recipe itself, drawn as many times.
    """
    uncropped = dataclasses.replace(recipe, crop=1.0)  # the crop decides how far a photo is shrunk before the others

    def augmented(names: Sequence[str], changes: dict[str, Value], photo: torch.Tensor = photo) -> Effect:
        alone = uncropped.changed(changes)

        def effect(numbers: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
            draws = Draws(recipe.seed, 0, numbers, strengths)
            return augment(photo.expand(len(numbers), -1, -1, -1), draws, alone, preprocess, preprocess.size, names)

        return effect

    first = torch.zeros(1, dtype=torch.int64)
    one, two = (augmented((), {}, square)(first, torch.zeros(1)) for square in (photo, other))

    def mixed(cut: bool) -> Effect:
        def effect(numbers: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
            share = (strengths / 2)[:, None, None]
            if cut:
                draws = Draws(recipe.seed, 0, numbers)
                share = mixing.rectangles(draws, strengths / 2, preprocess.size, preprocess.size)
            return mixing.blended(one.expand(len(numbers), -1, -1, -1), two, share)

        return effect

    effects: list[tuple[str, str, Effect]] = []
    for name in augmentations:
        for changes in _choices(name):
            setting = "\n".join(
                f"{field}={value:g}" if isinstance(value, float) else f"{field}={value}"
                for field, value in changes.items()
            )
            effects.append((name, setting or f"plugin {augmentations.plugin(name)}", augmented([name], changes)))
    effects += [(name, "up to half of another photo", mixed(name == "cutmix")) for name in ("mixup", "cutmix")]
    result = [(name, setting, _rising(effect, one, preprocess)) for name, setting, effect in effects]
    return [*result, ("recipe", "all that it does,\ndrawn five times", _whole(photo, other, recipe, preprocess))]


def _choices(name: str) -> list[dict[str, Value]]:
    """What an augmentation's rows set in the recipe: nothing for one of a plugin, which has no field."""
    if augmentations.plugin(name) is not None:
        return [{}]
    values = [value for value in field_named(name).metadata["among"] if value != "none"]
    return [
        {name: value} | ({"policy_strength": 1.0} if value == "randaugment" else {})
        for value in values or [STRONGEST.get(name, MOST.get(name))]
    ]


def _rising(effect: Effect, plain: torch.Tensor, preprocess: Preprocess) -> list[Tile]:
    """The image `plain` `(1, 3, H, W)`, then a tile for each strength above 0, all of one draw.

    It is one that changes the photo more than three quarters of some others do. What is done or not done, as a flip,
    leaves the strengths between out.
    """
    change = (effect(torch.arange(_TRIES), torch.ones(_TRIES)) - plain).abs().mean((1, 2, 3))
    number = change.argsort(stable=True)[_TRIES * 3 // 4]
    images = effect(number.expand(len(STRENGTHS)), torch.tensor(STRENGTHS))
    first, *between, last = _pixels(torch.cat([plain, images[1:]]), preprocess)
    return [first, *(None if np.array_equal(tile, last) else tile for tile in between), last]


def _whole(photo: torch.Tensor, other: torch.Tensor, recipe: SettledRecipe, preprocess: Preprocess) -> list[Tile]:
    count = len(STRENGTHS)
    batch = torch.cat([photo.expand(count, -1, -1, -1), other.expand(count, -1, -1, -1)])
    draws = Draws(recipe.seed, 0, torch.arange(2 * count))
    images = augment(batch, draws, recipe, preprocess, preprocess.size)
    partners = torch.arange(2 * count) >= count
    images, _ = mixing.mix(images, torch.eye(2 * count), draws, recipe, partners)
    return list(_pixels(images[:count], preprocess))


def _pixels(images: torch.Tensor, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Normalised images `(N, 3, H, W)` as people see them, `uint8 (N, H, W, 3)`."""
    values = images.permute(0, 2, 3, 1) * torch.tensor(preprocess.std) + torch.tensor(preprocess.mean)
    return np.asarray((values.clamp(0, 1) * 255).round().to(torch.uint8))


def _read(source: Source, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Up to `count` photos that can be read, drawn by the seed, and of as many classes as there are."""
    items = list(source.items)
    random.Random(seed).shuffle(items)
    seen: Counter[str] = Counter()
    turns = []
    for item in items:
        turns.append(seen[item.label])
        seen[item.label] += 1
    order = sorted(range(len(items)), key=turns.__getitem__)
    place, reader = storage.at(source.root), Preprocess(size=1)
    found: list[NDArray[np.uint8]] = []
    for number in order:
        try:
            found.append(reader.photo(place.read(items[number].path)))
        except Unreadable:
            continue
        if len(found) == count:
            break
    if not found:
        raise PatiError(f"no photo in {source.root} can be read", "pati check says what is wrong with them")
    return found
