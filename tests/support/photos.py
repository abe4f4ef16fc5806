"""Drawn pictures that need no download."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "square", "triangle")


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
