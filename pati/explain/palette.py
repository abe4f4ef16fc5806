"""The colours of saliency maps. Needs no torch."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

OPACITY = 0.7  # of a map over a photo, where it is highest


@functools.cache
def viridis() -> NDArray[np.uint8]:
    """The 256 colours of matplotlib's viridis (van der Walt and Smith, 2015, CC0), `uint8 (256, 3)`."""
    with Image.open(Path(__file__).parent / "viridis.png") as image:
        return np.asarray(image).reshape(256, 3).copy()


def palette(values: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.uint8]:
    """Values in 0..1, as in maps, in the colours of a perceptually uniform palette, `uint8 (..., 3)`."""
    return np.asarray(viridis()[np.clip(values * 256, 0, 255).astype(int)])
