"""Load a model of any kind: with torch, or, where it is not installed or the model is an exported one, without."""

from __future__ import annotations

from pathlib import Path

from pati import included
from pati.errors import PatiError
from pati.inference.onnx_classifier import OnnxClassifier
from pati.inference.predictor import Predictor
from pati.locale.messages import N_
from pati.system import extras, files

SUFFIX = ".onnx"


def load(path: str | Path | None = None) -> Predictor:
    """The model in a file or in the folder of a run; default: the included one.

    A `Classifier` where torch is installed and the model is not an exported one; otherwise an `OnnxClassifier`. Raises
    `PatiError`.
    """
    if path is not None and Path(path).suffix.lower() == SUFFIX:
        return OnnxClassifier.load(path)
    if extras.installed("torch"):
        from pati.inference.classifier import Classifier

        return Classifier.load(included.model() if path is None else path)
    if path is None:
        return OnnxClassifier.load(included.exported())
    model = Path(path) / "model.safetensors" if Path(path).is_dir() else Path(path)
    exported = model.with_suffix(SUFFIX)
    if exported.is_file():
        loaded = OnnxClassifier.load(exported)
        if not model.is_file() or loaded.document["source"] == files.sha256_file(model):
            return loaded
    raise PatiError(
        N_("{path} needs torch, which is not installed", path=path),
        N_("where torch is installed, write a model that does not: pati export {path} --to onnx", path=path),
    )
