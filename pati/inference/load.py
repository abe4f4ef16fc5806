"""Load a model of any kind: with torch, or, where it is not installed or the model is an exported one, without."""

from __future__ import annotations

from pathlib import Path

from pati import included
from pati.errors import PatiError
from pati.inference.header import read_header
from pati.inference.onnx_classifier import OnnxClassifier
from pati.inference.predictor import Predictor
from pati.locale.messages import N_
from pati.system import extras, files

SUFFIX = ".onnx"


def with_torch() -> bool:
    """Whether what a `Classifier` needs is installed."""
    return extras.installed("torch") and extras.installed("safetensors")


def included_model() -> Path:
    """The file of the included model that is used here."""
    return included.model() if with_torch() else included.exported()


def is_run(path: Path) -> bool:
    """Whether a folder is that of a run, finished or not, or of what was kept of one."""
    return any((path / name).exists() for name in ("recipe.json", "run.json", "model.safetensors", f"model{SUFFIX}"))


def model_of(run: Path) -> Path:
    """The model in the folder of a run, or the exported one if there is no other."""
    model, exported = run / "model.safetensors", run / f"model{SUFFIX}"
    return exported if exported.is_file() and not model.is_file() else model


def load(path: str | Path | None = None) -> Predictor:
    """The model in a file or in the folder of a run; default: the included one.

    A `Classifier` where torch is installed and the model is not an exported one; otherwise an `OnnxClassifier`, of the
    exported model beside a model file. Raises `PatiError`.
    """
    path = included_model() if path is None else Path(path)
    model = model_of(path) if path.is_dir() else path
    if model.suffix.lower() == SUFFIX:
        return OnnxClassifier.load(model)
    if with_torch():
        from pati.inference.classifier import Classifier

        return Classifier.load(path)
    expected = N_("expected a model file or the folder of a run")
    if not path.exists():
        raise PatiError(N_("{path} does not exist", path=path), expected)
    if not model.is_file():
        raise PatiError(N_("{path} contains no model", path=path), expected)
    if model.suffix != ".safetensors":
        raise PatiError(
            N_("{path} is not a pati model", path=path),
            N_("expected a model.safetensors written by `pati train`, or a model.onnx by `pati export`"),
        )
    read_header(model)  # raises for what is no model, which torch would not make one
    exported = exported_beside(model)
    if exported is not None:
        return exported
    raise PatiError(
        N_("{path} needs torch, which is not installed", path=path),
        N_("where torch is installed, write a model that does not: pati export {path} --to onnx", path=path),
    )


def exported_beside(model: Path) -> OnnxClassifier | None:
    """The exported model of a model file, in the same folder; None if there is none, or one of other weights."""
    file = model.with_suffix(SUFFIX)
    exported = OnnxClassifier.load(file) if file.is_file() else None
    return exported if exported and exported.document["source"] == files.sha256_file(model) else None
