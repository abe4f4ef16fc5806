"""Train image classifiers from scratch, with an honest evaluation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from pati.system.version import VERSION

if TYPE_CHECKING:
    from pati.api import compare as compare
    from pati.api import load as load
    from pati.api import train as train
    from pati.data.preprocess import Preprocess as Preprocess
    from pati.errors import PatiError as PatiError
    from pati.inference.classifier import Classifier as Classifier
    from pati.inference.predictor import Explanation as Explanation
    from pati.inference.predictor import Prediction as Prediction
    from pati.plugins import load_plugin as load_plugin
    from pati.recipe import Recipe as Recipe

__version__ = VERSION

# Imported on first use: `import pati` must not import torch.
_HOMES = {
    "Classifier": "pati.inference.classifier",
    "Explanation": "pati.inference.predictor",
    "PatiError": "pati.errors",
    "Prediction": "pati.inference.predictor",
    "Preprocess": "pati.data.preprocess",
    "Recipe": "pati.recipe",
    "compare": "pati.api",
    "load": "pati.api",
    "load_plugin": "pati.plugins",
    "train": "pati.api",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from pati.system import extras

        with extras.required(f"pati.{name}"):
            return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'pati' has no attribute {name!r}")
