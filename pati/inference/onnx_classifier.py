"""`OnnxClassifier`: answers with a model that `pati export` wrote, in ONNX Runtime. Needs no torch.

The model takes pixels as `Preprocess` leaves them and contains all that follows: normalisation, the average over the
second view, temperature, the out-of-distribution detector and the saliency map.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from pati.data.preprocess import Preprocess
from pati.errors import PatiError, os_reason
from pati.evaluation.calibration import Calibration
from pati.inference.documents import ExportDocument, Facts
from pati.inference.predictor import Explanation, Predictor, Unsupported, explanation
from pati.locale.messages import N_
from pati.system import files, machine

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

KIND, FORMAT = "pati-export", 1
DOCUMENT = "pati"  # the name of the document among the model's metadata
PIXELS, PROBABILITIES, P_VALUES, MAP = "pixels", "probabilities", "p_values", "map"
_BATCH = 8  # photos computed at once: 64 are hardly faster, and take 2.3 GB instead of 0.4 with the included model
_NOWHERE = "/nonexistent"
LARGEST = 2**31  # bytes of an ONNX file without external data
_NO_CHECKSUM = "0" * 64  # placeholder while the checksum of the whole file is computed
_OWN = ("kind", "format", "classes", "preprocess", "calibration", "source", "at_once", "detector", "map", "card",
        "checksum")  # fmt: skip


class OnnxClassifier(Predictor):
    """Classifies photos and explains its predictions, with an exported model.

    Its only saliency map is Grad-CAM for the predicted class, if the model has one. `document`: what the model states
    about itself.
    """

    any_class = False
    methods = ("grad-cam",)
    stages = 1

    def __init__(self, data: bytes, name: str = "model.onnx") -> None:
        """`data`: the contents of the file `name`. Raises `PatiError` for anything but an exported model."""
        self._name, self._session = name, _session(data, name)
        self.document = document = _document(self._session, name)
        try:
            if document["kind"] != KIND:
                raise KeyError("kind")
            if document["format"] != FORMAT:
                raise PatiError(
                    N_(
                        "{path} has format {version}, this pati reads {format}",
                        path=name,
                        version=repr(document["format"]),
                        format=FORMAT,
                    ),
                    N_("update pati"),
                )
            if "checksum" in document and _checksum(data, document["checksum"]) != document["checksum"]:
                raise PatiError(
                    N_("{path} is damaged: its checksum does not match", path=name),
                    N_("copy it again from the original"),
                )
            self.classes = _distinct(document["classes"])
            self.preprocess = Preprocess.from_json(document["preprocess"])
            kept = document["calibration"]
            self.calibration = None if kept is None else Calibration.from_json(kept)
            self._at_once = min(_BATCH, max(1, int(document["at_once"])))
            self._has_detector, self.has_map = bool(document["detector"]), bool(document["map"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise _foreign(name) from None
        self.facts = cast(Facts, {key: value for key, value in document.items() if key not in _OWN})
        size = self.preprocess.size
        inputs = [(one.name, one.type, one.shape[1:]) for one in self._session.get_inputs()]
        outputs = {one.name: (one.type, len(one.shape), one.shape[1:2]) for one in self._session.get_outputs()}
        shapes = {PROBABILITIES: (2, [len(self.classes)]), P_VALUES: (1, []), MAP: (3, None)}
        if inputs != [(PIXELS, "tensor(uint8)", [size, size, 3])] or len(self.classes) < 2:
            raise _foreign(name)
        for wanted in self._wanted(map_=True):
            kind, sides, second = outputs.get(wanted, ("", 0, []))
            if (kind, sides) != ("tensor(float)", shapes[wanted][0]) or shapes[wanted][1] not in (None, second):
                raise _foreign(name)

    @classmethod
    def load(cls, path: str | Path) -> OnnxClassifier:
        """The model in a file. Raises `PatiError` for anything but an exported model."""
        path = Path(path)
        try:
            data = files.contents(path, LARGEST)
        except OSError as error:
            raise PatiError(N_("can't read the model {path}: {reason}", path=path, reason=os_reason(error))) from None
        if data is None:
            raise _foreign(str(path))
        return cls(data, str(path))

    def answer(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Predictor`."""
        parts = [self._run(pixels[at : at + self._at_once]) for at in range(0, len(pixels), self._at_once)]
        probabilities = np.concatenate([part[PROBABILITIES] for part in parts]).astype(np.float64)
        if not self._has_detector:
            return probabilities, np.full(len(pixels), np.nan)
        return probabilities, np.concatenate([part[P_VALUES] for part in parts]).astype(np.float64)

    def explain_pixels(
        self,
        shown: NDArray[np.uint8],
        fitted: NDArray[np.uint8],
        *,
        name: str = "",
        label: str | None = None,
        method: str = "grad-cam",
        stage: int | None = None,
    ) -> Explanation:
        """See `Predictor`: Grad-CAM of the last stage for the predicted class, if the model has a map."""
        needs_torch = N_("with torch installed, explain the model that it was exported from")
        if method != "grad-cam" or stage is not None:
            raise Unsupported(N_("an exported model has Grad-CAM of the last stage only"), needs_torch)
        if not self.has_map:
            raise Unsupported(
                N_("this exported model has no saliency map: its head is not a linear layer"), needs_torch
            )
        (answer,) = self.predictions([name], fitted[None], [self.threshold()])
        if label is not None and label != answer.label:
            raise Unsupported(
                N_("an exported model explains the predicted class only, here {label}", label=answer.label), needs_torch
            )
        map_ = self._run(fitted[None], map_=True)[MAP][0]
        return explanation(shown, map_, answer.label, answer, self.preprocess)

    def _wanted(self, *, map_: bool) -> list[str]:
        return [PROBABILITIES, *([P_VALUES] if self._has_detector else []), *([MAP] if map_ and self.has_map else [])]

    def _run(self, pixels: NDArray[np.uint8], *, map_: bool = False) -> dict[str, NDArray[np.float32]]:
        wanted = self._wanted(map_=map_)
        try:
            found = self._session.run(wanted, {PIXELS: np.ascontiguousarray(pixels)})
        except Exception as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise PatiError(
                N_("{path} cannot be computed: {error}", path=self._name, error=reason),
                N_("its network needs more memory than there is, or the file is damaged"),
            ) from error
        return dict(zip(wanted, found, strict=True))


def _session(data: bytes, name: str) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = machine.cores()
    options.log_severity_level = 4  # errors are raised
    # The memory of each batch size would be kept: 550 MB instead of 300 with the included model, and no faster.
    options.enable_mem_pattern = False
    # A model may name other files that hold its weights; by default, they are looked for in the current folder.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NOWHERE)
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise _foreign(name) from error


def _document(session: InferenceSession, name: str) -> ExportDocument:
    try:
        return cast(ExportDocument, json.loads(session.get_modelmeta().custom_metadata_map[DOCUMENT]))
    except (KeyError, ValueError, RecursionError):
        raise _foreign(name) from None


def _distinct(classes: object) -> tuple[str, ...]:
    """The names of the classes; raises `TypeError` unless they are texts that differ."""
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise TypeError("classes")
    if len(set(classes)) < len(classes):
        raise TypeError("classes")
    return tuple(classes)


def with_document(data: bytes, document: ExportDocument) -> bytes:
    """The contents of an ONNX file with this document, and with a checksum of the whole."""
    import onnx

    model = onnx.load_model_from_string(data)
    onnx.helper.set_model_props(model, {DOCUMENT: json.dumps({**document, "checksum": _NO_CHECKSUM})})
    whole = bytes(model.SerializeToString())
    return whole.replace(_field(_NO_CHECKSUM), _field(_checksum(whole, _NO_CHECKSUM)), 1)


def _checksum(data: bytes, stated: object) -> str:
    """SHA-256 of the whole file but the checksum that it states."""
    return hashlib.sha256(data.replace(_field(stated), _field(_NO_CHECKSUM), 1)).hexdigest()


def _field(checksum: object) -> bytes:
    return json.dumps({"checksum": checksum})[1:-1].encode()


def _foreign(name: str) -> PatiError:
    return PatiError(
        N_("{path} is not a model that pati exported", path=name),
        N_("expected a file written by `pati export RUN --to onnx`"),
    )
