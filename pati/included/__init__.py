"""Models included with pati, each trained from scratch by this project, with its model card.

`pati predict photo.jpg` and `pati app` use the first one if no other model is given.
"""

from __future__ import annotations

from pathlib import Path

NAME = "cats-vs-dogs"
FOLDER = Path(__file__).parent


def model() -> Path:
    """The model file that is used if no other one is given."""
    return FOLDER / f"{NAME}.safetensors"


def exported() -> Path:
    """The same model as `pati export` writes it, which needs no torch."""
    return FOLDER / f"{NAME}.onnx"


def card() -> Path:
    """Its model card: training data, training procedure and results."""
    return FOLDER / f"{NAME}.md"
