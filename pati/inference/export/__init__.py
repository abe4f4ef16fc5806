"""Export a classifier to formats that other programs read. One format a file.

An export is written only if it answers as its source does: see `parity`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pati.data.preprocess import Photo
from pati.errors import PatiError
from pati.inference.documents import ExportDocument, ParityDocument
from pati.inference.onnx_classifier import FORMAT, KIND
from pati.inference.predictor import Predictor
from pati.locale.messages import N_
from pati.registry import Registry
from pati.system import files

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier


class Format(ABC):
    """A file format of exported models."""

    suffix: str

    @staticmethod
    @abstractmethod
    def written(classifier: Classifier, document: ExportDocument) -> bytes:
        """The contents of the file. Completes `document` with what the format adds."""

    @staticmethod
    @abstractmethod
    def stated(data: bytes, document: ExportDocument) -> bytes:
        """The contents with another document."""

    @staticmethod
    @abstractmethod
    def read(data: bytes) -> Predictor:
        """The model in the contents of a file."""


formats: Registry[type[Format]] = Registry(N_("export format"), __name__)


@dataclass(frozen=True)
class Export:
    """A file that was written: its place, its size in bytes, and what was checked."""

    path: Path
    size: int
    document: ExportDocument
    parity: ParityDocument


def export(
    classifier: Classifier, path: Path, *, to: str = "onnx", source: str | None = None, photos: Sequence[Photo] = ()
) -> Export:
    """Write the classifier to `path` in the format `to`, if it answers as the classifier does in float32.

    `source`: the SHA-256 of its model file; `photos`: of its own data, to compare on, in addition to pictures that are
    made for this. Raises `PatiError`, and writes nothing, if the answers differ, or for a name without the format's
    suffix, by which `load` knows it.
    """
    from pati.inference.export import parity

    chosen = formats[to]
    if path.suffix.lower() != chosen.suffix:
        raise PatiError(
            N_("{path} does not end in {suffix}", path=path, suffix=chosen.suffix),
            N_("such as {path}", path=path.with_name(path.name + chosen.suffix)),
        )
    document = cast(
        ExportDocument,
        {
            **classifier.facts,
            "kind": KIND,
            "format": FORMAT,
            "classes": classifier.classes,
            "preprocess": classifier.preprocess.to_json(),
            "calibration": None if classifier.calibration is None else classifier.calibration.to_json(),
            "source": source or classifier.weights(),
            "at_once": classifier.net.at_once,
            "detector": classifier.detector is not None,
            "map": False,
        },
    )
    data = chosen.written(classifier, document)
    found = parity.checked(classifier, chosen.read(data), photos)
    document["parity"] = found
    data = chosen.stated(data, document)
    files.write_bytes(path, data)
    return Export(path, len(data), document, found)
