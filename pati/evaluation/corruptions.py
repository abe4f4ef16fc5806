"""Common image corruptions at three severities each, to measure the robustness of a network.

The types follow ImageNet-C (Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261), plus rotation and
occlusion; lengths are relative to the side, as networks differ in input size. Photos are `uint8 (H, W, 3)`, at the
network's input size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageEnhance, ImageFilter

Photo = NDArray[np.uint8]
Corruption = Callable[[Photo, float, np.random.Generator], Photo]


def blur(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """Gaussian blur whose standard deviation is `severity` of the side."""
    radius = severity * max(photo.shape[:2])
    return np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(radius)))


def noise(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """Gaussian noise in every value, with a standard deviation of `severity` of the range."""
    return _bytes(photo + generator.normal(0, 255 * severity, photo.shape))


def jpeg(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """JPEG compression with quality 100 - `severity`."""
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=round(100 - severity))
    return np.asarray(Image.open(buffer))


def brightness(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """Darker or brighter, equally likely, by the factor 1 + `severity`."""
    factor = 1 + severity
    return _bytes(photo * (factor if generator.random() < 0.5 else 1 / factor))


def contrast(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """Contrast reduced by the fraction `severity`."""
    return np.asarray(ImageEnhance.Contrast(Image.fromarray(photo)).enhance(1 - severity))


def rotation(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """Rotation by `severity` degrees in either direction; corners are filled by reflection."""
    angle = severity if generator.random() < 0.5 else -severity
    height, width = photo.shape[:2]
    reach = math.ceil(0.21 * max(height, width)) + 1  # what a rotation by 45° brings into view
    padded = np.pad(photo, ((reach, reach), (reach, reach), (0, 0)), mode="symmetric")
    turned = Image.fromarray(padded).rotate(angle, Image.Resampling.BILINEAR)
    return np.asarray(turned)[reach : reach + height, reach : reach + width]


def occlusion(photo: Photo, severity: float, generator: np.random.Generator) -> Photo:
    """A grey rectangle at a random position covers `severity` of the area."""
    height, width = photo.shape[:2]
    high, wide = (max(1, round(math.sqrt(severity) * side)) for side in (height, width))
    top, left = generator.integers(height - high + 1), generator.integers(width - wide + 1)
    covered = photo.copy()
    covered[top : top + high, left : left + wide] = 128
    return covered


# Type -> its function, and its three severities.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float]]] = {
    "blur": (blur, (0.01, 0.02, 0.04)),
    "noise": (noise, (0.05, 0.1, 0.2)),
    "jpeg": (jpeg, (70, 85, 95)),
    "brightness": (brightness, (0.4, 0.8, 1.6)),
    "contrast": (contrast, (0.4, 0.6, 0.8)),
    "rotation": (rotation, (10, 20, 40)),
    "occlusion": (occlusion, (0.1, 0.2, 0.4)),
}


def corrupted(photos: NDArray[np.uint8], kind: str, level: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Photos `uint8 (N, H, W, 3)` with one of `CORRUPTIONS` at level 0, 1 or 2, randomised per photo."""
    damage, severities = CORRUPTIONS[kind]
    number = [*CORRUPTIONS].index(kind)
    return np.stack(
        [
            damage(photo, severities[level], np.random.default_rng([seed, number, level, index]))
            for index, photo in enumerate(photos)
        ]
    )


def _bytes(values: ArrayLike) -> Photo:
    return np.asarray(np.rint(values).clip(0, 255), np.uint8)
