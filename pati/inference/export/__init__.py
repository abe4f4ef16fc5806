"""Export a classifier to formats that other programs read. One format a file.

An export is written only if it answers as its source does: see `parity`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pati.data.preprocess import Photo
from pati.errors import PatiError
from pati.inference.documents import ExportDocument, ParityDocument
from pati.inference.onnx_classifier import FORMAT, KIND, OnnxClassifier
from pati.locale.messages import N_
from pati.registry import Registry
from pati.system import files

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier


@dataclass(frozen=True)
class Tolerance:
    """The largest differences to the source in float32 that are accepted.

    `probability`: of a probability, and `spread` of its standard deviation over the photos, down to `rounding`, where
    photos hardly differ; `distance`: relative, of the out-of-distribution detector's distances; `p_value_ranks`: a
    photo may lie on the border between ranks; `correlation`: the smallest of a saliency map with Grad-CAM.
    """

    probability: float = 1e-4
    spread: float = 0.01
    rounding: float = 2e-6
    distance: float = 1e-4
    p_value_ranks: int = 3
    correlation: float = 0.999

    def limit(self, probabilities: NDArray[np.float64]) -> float:
        """The largest accepted difference of a probability, given those of some photos, `(N, K)`."""
        return min(self.probability, max(self.rounding, self.spread * float(np.std(probabilities, 0).max())))


class Format(ABC):
    """A file format of exported models."""

    suffix: str
    tolerance = Tolerance()

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
    def read(data: bytes) -> OnnxClassifier:
        """The model in the contents of a file. Raises `PatiError` for any other file."""


formats: Registry[type[Format]] = Registry(N_("export format"), __name__)


@dataclass(frozen=True)
class Export:
    """A file that was written: its place, its size in bytes, and what was checked."""

    path: Path
    size: int
    document: ExportDocument
    parity: ParityDocument


def export(
    classifier: Classifier, path: Path, *, to: str = "onnx", source: str | None = None, card: str = "",
    photos: Sequence[Photo] = (),
) -> Export:  # fmt: skip
    """Write the classifier to `path` in the format `to`, if it answers as the classifier does in float32.

    `source`: the SHA-256 of its model file; `card`: its model card; `photos`: of its own data, to compare on, in
    addition to pictures that are made for this. Raises `PatiError`, and writes nothing, if the answers differ, or for a
    name without the format's suffix, by which `load` knows it.
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
    if card:
        document["card"] = card
    data = chosen.written(classifier, document)
    found = parity.checked(classifier, chosen.read(data), photos, chosen.tolerance)
    document["parity"] = found
    data = chosen.stated(data, document)
    files.write_bytes(path, data)
    return Export(path, len(data), document, found)
