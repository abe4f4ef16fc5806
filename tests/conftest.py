"""Fixtures: drawn pictures that need no download, a cache of our own, and the real photos."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image, ImageDraw

from pati.data.sources.known_sets import mirror
from pati.recipe import Recipe, SettledRecipe
from pati.training import plan

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so; the commands that tests start and stop would be deaf to Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("pati", deadline=None)  # a busy machine is slow at times
settings.load_profile("pati")

SHAPES = ("circle", "square", "triangle")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test shares a fresh cache; nothing outside the test run is read or written."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PATI_CACHE"] = str(folder)
    return folder


def draw(shape: str, number: int, size: int = 48) -> Image.Image:
    """A drawn picture that is the same for the same arguments: one shape on a textured ground."""
    rng = random.Random(f"{shape}-{number}")
    noise = np.random.default_rng([SHAPES.index(shape), number])
    ground = np.array([rng.randint(0, 110) for _ in range(3)])
    coarse = noise.integers(-40, 40, (6, 6, 3)) + ground
    image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    side = rng.randint(size // 3, size // 2)
    x, y = rng.randint(2, size - side - 3), rng.randint(2, size - side - 3)
    colour = tuple(rng.randint(150, 255) for _ in range(3))
    if shape == "circle":
        pen.ellipse((x, y, x + side, y + side), fill=colour)
    elif shape == "square":
        pen.rectangle((x, y, x + side, y + side), fill=colour)
    else:
        pen.polygon([(x, y + side), (x + side, y + side), (x + side // 2, y)], fill=colour)
    return image


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def write_shapes(folder: Path, per_class: int = 30, classes: tuple[str, ...] = SHAPES, first: int = 0) -> Path:
    """A folder of class folders with drawn pictures."""
    for shape in classes:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + per_class):
            (folder / shape / f"{number}.jpg").write_bytes(jpeg(draw(shape, number)))
    return folder


def settled(recipe: Recipe, photos: int = 100, size: int = 32) -> SettledRecipe:
    """The recipe as the pipeline would hand it to the loop."""
    return plan.settle(
        dataclasses.replace(recipe, size=recipe.size or size), photos=photos, natural=size, mirrored=True, turned=True,
        minimum_size=8, precision="float32", speed=1000.0, reading=0.001,
    )  # fmt: skip


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes")


@pytest.fixture(scope="session")
def photos() -> Callable[[str], Path]:
    """Finds a data set's archive in $PATI_MIRROR; skips the test where it is absent."""

    def find(name: str) -> Path:
        base = mirror()
        if base is None or not (base / f"{name}.zip").is_file():
            pytest.skip(f"{name}.zip is not in PATI_MIRROR ({base}): these tests need the real photos")
        return base / f"{name}.zip"

    return find


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished run on drawn pictures; read it, don't change it."""
    from pati.workflows.train import train

    base = tmp_path_factory.mktemp("trained")
    data = write_shapes(base / "shapes", per_class=60)
    recipe = Recipe(epochs=6, size=32, growth=(1.0,), width=0.5, split_seed=1)
    return train(data, recipe, out=base / "run").run.folder
