"""A picture of what augmentation does to photos: each augmentation at increasing strength, and the whole recipe.

The rows come from the registry of augmentations, the pixels from the functions used in training.
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
from pati.locale import catalogues
from pati.locale.messages import N_, Message
from pati.recipe import Recipe, SettledRecipe, Value, field_named
from pati.report import figures
from pati.report.figures import Tile
from pati.training import mixing, plan
from pati.training.augment import MOST, Draws, augment, augmentations

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
HEADS = (N_("original"), "1/4", "1/2", "3/4", N_("strongest"))
# Values in the last column; augmentations not listed here use the upper end of their field's range.
STRONGEST = {
    "rotate": 45.0, "crop": 0.2, "shear": 30.0, "translate": 0.3, "zoom": 0.6, "brightness": 0.7, "contrast": 0.8,
    "saturation": 0.9, "hue": 0.3,
}  # fmt: skip
MOST_PHOTOS = 8
SPEED, READING = 1000.0, 0.001  # of a machine with two cores, so that the picture does not depend on this one
_TRIES = 16

# Sample numbers (N,), which seed the random draws, and strengths (N,) -> normalised images (N, 3, H, W) of one photo.
Effect = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def picture(data: str | Path, recipe: Recipe, *, photos: int = 1, columns: Columns = Columns()) -> bytes:
    """PNG of `photos` photos side by side; identical bytes for the same data and recipe.

    Open fields of the recipe are chosen as for a run on two cores. Raises `PatiError`.
    """
    if not 1 <= photos <= MOST_PHOTOS:
        raise PatiError(
            N_(
                "--photos: expected an integer from 1 to {most}, got {photos}",
                most=MOST_PHOTOS,
                photos=photos,
            )
        )
    source = find_source(data, columns)
    pictures = _read(source, photos + 1, recipe.seed)
    recipe = plan.settle(
        recipe,
        photos=len(source.items),
        natural=plan.natural_size([(pixels.shape[1], pixels.shape[0]) for pixels in pictures]),
        flip_invariant=source.flip_invariant,
        rotation_invariant=source.rotation_invariant,
        minimum_size=field_named("size").metadata["low"],
        precision="float32",
        speed=SPEED,
        reading=READING,
    )
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize)
    squares = torch.from_numpy(np.stack([preprocess.fit(pixels) for pixels in pictures]))
    red, green, blue = (squares.float() / 255).mean((0, 1, 2)).tolist()
    preprocess = dataclasses.replace(preprocess, mean=(red, green, blue))  # the colour of erased rectangles
    shown = min(photos, len(pictures))
    blocks = [rows(squares[n], squares[(n + 1) % len(pictures)], recipe, preprocess) for n in range(shown)]
    labels = [(name, setting) for name, setting, _ in blocks[0]]
    tiles = [[tiles for _, _, tiles in block] for block in blocks]
    return figures.tiles(labels, tiles, HEADS, language=catalogues.current())


def rows(
    photo: torch.Tensor, other: torch.Tensor, recipe: SettledRecipe, preprocess: Preprocess
) -> list[tuple[str, str | Message, list[Tile]]]:
    """Name, setting and one tile per value of `STRENGTHS`, for a photo `uint8 (H, H, 3)`; `other` is mixed into it.

    The last row is the settled recipe itself, with as many random draws.
    """
    uncropped = dataclasses.replace(recipe, crop=1.0)  # the crop determines how far photos are shrunk before sampling

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

    effects: list[tuple[str, str | Message, Effect]] = []
    for name in augmentations:
        for changes in _choices(name):
            setting = "\n".join(
                f"{field}={value:g}" if isinstance(value, float) else f"{field}={value}"
                for field, value in changes.items()
            )
            plugin = N_("plugin {name}", name=augmentations.plugin(name))
            effects.append((name, setting or plugin, augmented([name], changes)))
    half = N_("up to half of another photo")
    effects += [(name, half, mixed(name == "cutmix")) for name in ("mixup", "cutmix")]
    result = [(name, setting, _rising(effect, one, preprocess)) for name, setting, effect in effects]
    whole = N_("all augmentations,\ndrawn {times} times", times=len(STRENGTHS))
    return [*result, ("recipe", whole, _whole(photo, other, recipe, preprocess))]


def _choices(name: str) -> list[dict[str, Value]]:
    """The recipe fields that each row of an augmentation sets; none for one from a plugin, which has no field."""
    if augmentations.plugin(name) is not None:
        return [{}]
    values = [value for value in field_named(name).metadata["among"] if value != "none"]
    return [
        {name: value} | ({"policy_strength": 1.0} if value == "randaugment" else {})
        for value in values or [STRONGEST.get(name, MOST.get(name))]
    ]


def _rising(effect: Effect, plain: torch.Tensor, preprocess: Preprocess) -> list[Tile]:
    """The image `plain` `(1, 3, H, W)`, then a tile for each strength above 0, all with the same random draw.

    The chosen draw changes the photo more than three quarters of `_TRIES` draws do. If an augmentation is all or
    nothing, such as a flip, the strengths between are left empty.
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
    """Normalised images `(N, 3, H, W)` converted back for display, `uint8 (N, H, W, 3)`."""
    values = images.permute(0, 2, 3, 1) * torch.tensor(preprocess.std) + torch.tensor(preprocess.mean)
    return np.asarray((values.clamp(0, 1) * 255).round().to(torch.uint8))


def _read(source: Source, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Up to `count` readable photos, sampled by the seed, from as many classes as possible."""
    items = list(source.items)
    random.Random(seed).shuffle(items)
    seen: Counter[str] = Counter()
    turns = []
    for item in items:
        turns.append(seen[item.label])
        seen[item.label] += 1
    order = sorted(range(len(items)), key=turns.__getitem__)
    store, reader = storage.at(source.root), Preprocess(size=1)
    pictures: list[NDArray[np.uint8]] = []
    for number in order:
        try:
            pictures.append(reader.photo(store.read(items[number].path)))
        except Unreadable:
            continue
        if len(pictures) == count:
            break
    if not pictures:
        raise PatiError(
            N_("no photo in {root} can be read", root=source.root), N_("`pati check` lists what is wrong with them")
        )
    return pictures
