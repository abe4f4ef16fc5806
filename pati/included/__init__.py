"""Models included with pati, each trained from scratch by this project, with its model card.

`pati predict photo.jpg` and `pati app` use the first one if no other model is given.
"""

from __future__ import annotations

from pathlib import Path

from pati.locale.messages import NC_, Message, as_is

NAME = "cats-vs-dogs"
FOLDER = Path(__file__).parent
_CLASSES = {"Cat": NC_("class", "Cat"), "Dog": NC_("class", "Dog")}


def model() -> Path:
    """The model file that is used if no other one is given."""
    return FOLDER / f"{NAME}.safetensors"


def exported() -> Path:
    """The same model as `pati export` writes it, which needs no torch."""
    return FOLDER / f"{NAME}.onnx"


def card() -> Path:
    """Its model card: training data, training procedure and results."""
    return FOLDER / f"{NAME}.md"


def class_named(name: str) -> Message:
    """A class's name for display: translated if it is one of the included models', else as it is."""
    return _CLASSES.get(name, as_is(name))
