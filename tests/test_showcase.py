"""The picture of augmentations: complete, true to the pixels of training, and the same every time."""

from __future__ import annotations

import dataclasses
import functools
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.errors import PatiError
from pati.recipe import Recipe, field_named
from pati.report import figures
from pati.training.augment import augmentations
from pati.workflows import augmentation_preview
from tests.support.commands import pati
from tests.support.photos import draw, write_shapes
from tests.support.recipes import settled

NOTHING = Recipe(flip=0, rotate=0, crop=1, brightness=0, policy="none", size=32)
PHOTO, OTHER = (torch.tensor(np.asarray(draw(shape, 1, 32))) for shape in ("circle", "square"))


@functools.cache
def shown(recipe: Recipe = NOTHING) -> dict[str, list[figures.Tile]]:
    """Tiles by the row's name and setting."""
    found = augmentation_preview.rows(PHOTO, OTHER, settled(recipe), Preprocess(size=32))
    return {f"{name} {setting}".splitlines()[0]: tiles for name, setting, tiles in found}


def change(tile: figures.Tile) -> float:
    assert tile is not None
    return float(np.abs(tile.astype(float) - PHOTO.numpy()).mean())


def test_every_augmentation_and_policy_has_a_row() -> None:
    names = [name for name, _, _ in augmentation_preview.rows(PHOTO, OTHER, settled(NOTHING), Preprocess(size=32))]
    assert set(names) == {*augmentations, "mixup", "cutmix", "recipe"}
    assert names[-1] == "recipe"
    assert names.count("policy") == len(field_named("policy").metadata["among"]) - 1
    assert set(augmentation_preview.STRONGEST) <= set(augmentations)


def test_rows_begin_with_the_photo_and_end_with_the_strongest_change() -> None:
    for name, tiles in shown().items():
        assert len(tiles) == len(augmentation_preview.STRENGTHS), name
        assert change(tiles[0]) < 0.5, name
        if not name.startswith("recipe"):
            assert change(tiles[-1]) > 1, name


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue", "erase", "mixup", "cutmix", "policy"])
def test_changes_rise_with_the_strength(name: str) -> None:
    for tiles in (tiles for row, tiles in shown().items() if row.startswith(name)):
        changes = [change(tile) for tile in tiles]
        assert changes == sorted(changes)


def test_a_flip_has_no_strength_between() -> None:
    first, *between, last = shown()["flip flip=1"]
    assert between == [None, None, None]
    assert first is not None
    np.testing.assert_allclose(last, first[:, ::-1], atol=1)


def test_half_of_the_other_photo_is_mixed_in() -> None:
    blend = (PHOTO.double() + OTHER.double()) / 2
    np.testing.assert_allclose(shown()["mixup up to half of another photo"][-1], blend, atol=1)
    pasted = shown()["cutmix up to half of another photo"][-1]
    assert pasted is not None
    own, foreign = (np.abs(pasted.astype(int) - photo.numpy()).max(2) <= 1 for photo in (PHOTO, OTHER))
    assert (own | foreign).all()


def test_the_last_row_is_what_the_recipe_does() -> None:
    for tile in shown(NOTHING)["recipe all augmentations,"]:
        assert change(tile) < 0.5
    tiles = shown(dataclasses.replace(NOTHING, brightness=0.5))["recipe all augmentations,"]
    assert len({round(change(tile), 2) for tile in tiles}) == len(tiles)
    only_mixed = shown(dataclasses.replace(NOTHING, mixup=10.0))["recipe all augmentations,"]
    for tile in only_mixed:
        assert tile is not None
        away = (tile.astype(float) - PHOTO.numpy()) / np.where(OTHER == PHOTO, 1, OTHER.double() - PHOTO.double())
        large = (OTHER.int() - PHOTO.int()).abs() > 60
        assert np.ptp(away[large]) < 0.05  # the same share of the other photo everywhere
        assert 0.05 < away[large].mean() < 0.95


def test_the_picture_holds_the_tiles_as_they_are(tmp_path: Path) -> None:
    tile = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    data = figures.tiles(
        [("first", "a=1"), ("last", "")], [[[tile, None], [None, tile]]], ["one", "two"], language="en"
    )
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("RGB"))
    large = tile.repeat(2, 0).repeat(2, 1)
    found = [
        (y, x)
        for y in range(pixels.shape[0] - 63)
        for x in range(pixels.shape[1] - 63)
        if (pixels[y, x] == large[0, 0]).all() and np.array_equal(pixels[y : y + 64, x : x + 64], large)
    ]
    assert len(found) == 2
    assert found[0][0] < found[1][0]
    assert found[0][1] < found[1][1]


@pytest.mark.slow
def test_same_data_and_seed_same_picture(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", per_class=3)
    (data / "circle" / "0.jpg").write_bytes(b"broken")  # passed over, wherever the seed puts it
    recipe = Recipe(size=32)
    first = augmentation_preview.picture(data, recipe)
    assert first == augmentation_preview.picture(data, recipe)
    other = augmentation_preview.picture(data, dataclasses.replace(recipe, seed=1), photos=2)
    with Image.open(io.BytesIO(first)) as one, Image.open(io.BytesIO(other)) as two:
        assert one.height == two.height
        assert one.width < two.width
        assert not np.array_equal(np.asarray(one), np.asarray(two)[:, : one.width])


def test_photos_are_of_different_classes(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", per_class=5)
    source = find_source(data)
    for seed in range(5):
        found = augmentation_preview._read(source, 3, seed)
        files = {shape: {(data / shape / f"{n}.jpg").read_bytes() for n in range(5)} for shape in ("circle", "square")}
        decoded = {
            shape: [Preprocess(size=1).photo(content) for content in contents] for shape, contents in files.items()
        }
        for photos in decoded.values():
            assert sum(np.array_equal(one, other) for one in found for other in photos) == 1


def test_data_without_a_photo_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.jpg").write_bytes(b"broken")
    with pytest.raises(PatiError, match="can be read"):
        augmentation_preview.picture(tmp_path, Recipe())


@pytest.mark.slow
def test_command_line(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", per_class=2)
    out = tmp_path / "new" / "grid.png"
    command = ["show-augment", data, "--out", out, "--recipe", "bootcamp", "--set", "size=32", "erase=0.5"]
    done = pati(*command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert out.read_bytes().startswith(b"\x89PNG")
