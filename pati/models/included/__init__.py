"""Models that come with pati, each trained from scratch by this project, beside its model card.

`pati predict photo.jpg` and `pati app` answer with the first one where no other model is named.
"""

from __future__ import annotations

from pathlib import Path

NAME = "cats-vs-dogs"
FOLDER = Path(__file__).parent


def model() -> Path:
    """The model file that answers where no other is named."""
    return FOLDER / f"{NAME}.safetensors"


def card() -> Path:
    """What it was trained on, how, and what came out."""
    return FOLDER / f"{NAME}.md"
