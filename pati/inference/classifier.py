"""`Classifier`: what people hold after training.

A net, its preprocessing, the class names, and the facts of its making. Saved as one
safetensors file whose header is JSON: loading runs no code from the file. Needs nothing of
the training code.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as deserialised
from safetensors.torch import save as serialised

from pati import plugins
from pati.data import decode
from pati.data.preprocess import Photo, Preprocess
from pati.errors import PatiError
from pati.evaluation.calibration import RISK, Calibration
from pati.evaluation.out_of_distribution import ODD, SIZES, Scope
from pati.explain.cams import explainer
from pati.inference.forward import BATCH, batch_answers, batch_logits, batch_moments
from pati.models import Net, Options, channels_last, folded, models, without_memory
from pati.recipe import field_named
from pati.system import files, machine
from pati.system.machine import cores

FORMAT = 2
KIND = "pati-model"
_LARGEST_HEADER = 10_000_000
_NO_CHECKSUM = "0" * 64  # stands in the header while the checksum of the whole file is taken
_TYPES = {torch.float32: "F32", torch.int64: "I64"}  # as safetensors names them
_SCOPE = "scope."  # before the names of its tensors in a model file
_BATCH = 64  # photos decoded while as many are answered


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo; `error` is set, and the rest empty, where it could not be read.

    `label` is the likeliest class; `unsure`: not likely enough to be answered, or the photo is `odd`: unlike those
    that were trained on (see `Classifier.predict`). `familiarity`: the share of photos of that kind that are as odd;
    not a number where the model doesn't know.
    """

    path: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    error: str = ""
    unsure: bool = False
    odd: bool = False
    familiarity: float = math.nan


@dataclass(frozen=True)
class Explanation:
    """Why: `map` `float32 (h, w)` in 0..1 at the net's own resolution, for `label`.

    `photo` is `uint8 (H, W, 3)` as decoded; `peak` the map's highest value before scaling. `covered`: the part of the
    photo that the map lies over (left, top, right, bottom as shares of its sides), less than the photo where that was
    cropped, more where it was padded.
    """

    photo: NDArray[np.uint8]
    map: NDArray[np.float32]
    label: str
    peak: float
    prediction: Prediction
    covered: tuple[float, float, float, float]

    @property
    def even(self) -> bool:
        """Whether the map is the same all over, as an empty one is, and so points nowhere."""
        return bool(self.map.min() == self.map.max())


@dataclass(frozen=True)
class Refused:
    """An input that must not be opened: its row says the reason."""

    path: str
    reason: str


class UnreadablePhoto(PatiError):
    """A photo that can't be decoded; the message names the `reason`, a code of `decode.REASONS` first."""

    def __init__(self, photo: Photo, reason: str) -> None:
        self.reason = reason
        super().__init__(f"can't read {_name(photo)}: {reason}", decode.REASONS.get(reason.split(":")[0], ""))


class Classifier:
    """Photos in, classes out."""

    def __init__(
        self,
        net: Net,
        preprocess: Preprocess,
        classes: Sequence[str],
        *,
        mirror: bool,
        facts: dict[str, Any],
        calibration: Calibration | None = None,
        scope: Scope | None = None,
    ) -> None:
        """`mirror`: average over the mirror image. `facts`: JSON about model and training, see `save`. Without a
        `calibration` probabilities are the softmax of the logits, and without that or a `scope` no answer is unsure."""
        self.net = channels_last(net).eval()
        self._device = next(net.parameters()).device
        # The net that answers; the other one explains.
        self._ready = folded(net, getattr(torch, machine.faster_precision(self._device.type)))
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.mirror = mirror
        self.facts = facts
        self.calibration = calibration
        self.scope = scope

    def on(self, device: torch.device) -> Classifier:
        """A copy with its net on a device."""
        return Classifier(
            copy.deepcopy(self.net).to(device), self.preprocess, self.classes, mirror=self.mirror, facts=self.facts,
            calibration=self.calibration, scope=self.scope,
        )  # fmt: skip

    # Predicting ----------------------------------------------------------------------

    @overload
    def predict(self, photos: Photo, *, risk: float | None = None) -> Prediction: ...
    @overload
    def predict(self, photos: list[Photo] | tuple[Photo, ...], *, risk: float | None = None) -> list[Prediction]: ...
    def predict(
        self, photos: Photo | list[Photo] | tuple[Photo, ...], *, risk: float | None = None
    ) -> Prediction | list[Prediction]:
        """Prediction of one photo (path, bytes, Pillow image or array), or a list for a list.

        One photo that can't be read raises `UnreadablePhoto`; in a list it gets a row with `error`. `risk`: the share
        of wrong answers that is put up with (default: 1 %); answers less sure than that asks for, by the validation
        photos, are marked `unsure`, and so are photos odder than nearly all of these.
        """
        if isinstance(photos, list | tuple):
            return list(self.predict_stream(photos, risk=risk))
        (prediction,) = self.predict_stream([photos], risk=risk)
        if prediction.error:
            raise UnreadablePhoto(photos, prediction.error)
        return prediction

    def predict_stream(self, photos: Iterable[Photo | Refused], *, risk: float | None = None) -> Iterator[Prediction]:
        """Predictions in the photos' order, one each, while they are read, in bounded memory. `risk`: see `predict`."""
        threshold = self._threshold(risk)
        source = iter(photos)
        with ThreadPoolExecutor(cores()) as pool:
            # While the net works on one batch, the next one is being decoded.
            waiting = [pool.submit(self._pixels, photo) for photo in islice(source, 2 * _BATCH)]
            while waiting:
                results = [future.result() for future in waiting[:_BATCH]]
                waiting = waiting[_BATCH:] + [pool.submit(self._pixels, photo) for photo in islice(source, _BATCH)]
                yield from self._answers(results, threshold)

    def _threshold(self, risk: float | None) -> float:
        if risk is not None and not 0 <= risk < 1:
            raise PatiError(f"a risk of {risk:g}", "expected a share of wrong answers from 0 to below 1, such as 0.01")
        if self.calibration is None:
            if risk is not None:
                raise PatiError("this model knows nothing of its risks", "train it again with this version of pati")
            return 0.0
        return self.calibration.threshold(RISK if risk is None else risk)

    def _pixels(self, photo: Photo | Refused) -> tuple[str, NDArray[np.uint8] | None, str]:
        if isinstance(photo, Refused):
            return photo.path, None, photo.reason
        try:
            return _name(photo), self.preprocess(photo), ""
        except decode.Unreadable as error:
            return _name(photo), None, str(error)

    def _answers(
        self, results: list[tuple[str, NDArray[np.uint8] | None, str]], threshold: float
    ) -> Iterator[Prediction]:
        readable = [pixels for _, pixels, _ in results if pixels is not None]
        names = [name for name, pixels, _ in results if pixels is not None]
        predictions = iter(self._predictions(names, np.stack(readable), threshold) if readable else [])
        for name, pixels, error in results:
            yield Prediction(name, "", math.nan, {}, error) if pixels is None else next(predictions)

    def _predictions(self, names: Sequence[str], pixels: NDArray[np.uint8], threshold: float) -> Iterator[Prediction]:
        logits, moments = self.answers(torch.tensor(pixels))
        probabilities, familiar = self.calibrated(logits), self.familiarity(logits, moments)
        for name, row, share in zip(names, probabilities.tolist(), familiar.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            odd = share <= ODD
            unsure = odd or row[best] < threshold
            named = dict(zip(self.classes, row, strict=True))
            yield Prediction(name, self.classes[best], row[best], named, unsure=unsure, odd=odd, familiarity=share)

    def probabilities(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Preprocessed pixels `uint8 (N, size, size, 3)` -> calibrated probabilities `float64 (N, K)`."""
        return self.calibrated(self.logits(torch.tensor(pixels)))

    def calibrated(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(N, K)` -> probabilities `float64 (N, K)`."""
        return logits.double().softmax(1) if self.calibration is None else self.calibration.probabilities(logits)

    def familiarity(self, logits: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
        """What `answers` gave -> the share of photos of the kind trained on that are as odd, `float64 (N,)`.

        Not numbers where the model doesn't know.
        """
        if self.scope is None:
            return torch.full((len(logits),), math.nan, dtype=torch.float64)
        return self.scope.familiarity(moments, self.calibrated(logits).max(1).values)

    @torch.inference_mode()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Preprocessed pixels `uint8 (N, size, size, 3)` -> logits `float32 (N, K)`, on the CPU."""
        batches = (self.preprocess.normalise(part.to(self._device)) for part in torch.split(pixels, BATCH))
        return torch.cat([batch_logits(self._ready, images, mirror=self.mirror).cpu() for images in batches])

    @torch.inference_mode()
    def answers(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same logits, and the moments `(N, D)` by which `familiarity` tells what is in scope, on the CPU."""
        batches = (self.preprocess.normalise(part.to(self._device)) for part in torch.split(pixels, BATCH))
        parts = [batch_answers(self._ready, images, mirror=self.mirror) for images in batches]
        logits, moments = (torch.cat([part.cpu() for part in side]) for side in zip(*parts, strict=True))
        return logits, moments

    @torch.inference_mode()
    def moments(self, pixels: torch.Tensor) -> torch.Tensor:
        """The moments alone."""
        batches = (self.preprocess.normalise(part.to(self._device)) for part in torch.split(pixels, BATCH))
        return torch.cat([batch_moments(self._ready, images).cpu() for images in batches])

    # Explaining ----------------------------------------------------------------------

    def explain(
        self, photo: Photo, *, label: str | None = None, method: str = "grad-cam", stage: int | None = None
    ) -> Explanation:
        """Where the net found its reasons for `label` (default: the predicted class).

        `stage`: the number of the net's stage, from 1 on, whose features are looked at (default: the last).
        """
        net = self.cut(stage)
        if label is not None and label not in self.classes:
            raise PatiError(f"the model knows no class {label!r}", f"its classes: {', '.join(self.classes)}")
        explain = explainer(method)
        try:
            shown = self.preprocess.photo(photo)
        except decode.Unreadable as error:
            raise UnreadablePhoto(photo, str(error)) from None
        fitted = self.preprocess.fit(shown)
        (answer,) = self._predictions([_name(photo)], fitted[None], self._threshold(None))
        asked = label or answer.label
        images = self.preprocess.normalise(torch.tensor(fitted[None]).to(self._device))
        (found,) = explain(net, images, torch.tensor([self.classes.index(asked)]).to(self._device))
        raw = found.cpu().numpy()
        peak = float(raw.max())
        height, width = shown.shape[:2]
        covered = self.preprocess.covered(width, height)
        return Explanation(shown, raw / peak if peak > 0 else raw, asked, peak, answer, covered)

    def asked(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Preprocessed pixels -> what explainers take: normalised images and the class that each is answered as."""
        images = self.preprocess.normalise(pixels.to(self._device))
        return images, self.logits(pixels).argmax(1).to(self._device)

    def cut(self, stage: int | None) -> Net:
        """The net whose last stage is the one of this number, from 1 on; None: the net as it is."""
        stages = len(self.net.stages)
        if stage is not None and not 1 <= stage <= stages:
            raise PatiError(f"the net has no stage {stage}", f"expected a number from 1 to {stages}")
        return self.net if stage is None else self.net.cut(stage)

    # The model file --------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the model as one safetensors file, atomically."""
        document = {
            "kind": KIND,
            "format": FORMAT,
            "classes": self.classes,
            "preprocess": self.preprocess.to_json(),
            "mirror": self.mirror,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "scope": None if self.scope is None else self.scope.sizes(),
            **self.facts,
        }
        known = {} if self.scope is None else {_SCOPE + name: value for name, value in self.scope.tensors().items()}
        tensors = {name: value.cpu().contiguous() for name, value in (self.net.state_dict() | known).items()}
        data = serialised(tensors, {"pati": json.dumps(document), "sha256": _NO_CHECKSUM})
        checksum = hashlib.sha256(data).hexdigest()
        files.write_bytes(Path(path), data.replace(_checksum_field(_NO_CHECKSUM), _checksum_field(checksum), 1))

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """The classifier in a model file, or in a run's folder. Raises `PatiError` for anything else."""
        path = Path(path)
        if path.is_dir():
            if not (path / "model.safetensors").is_file():
                unfinished = (path / "recipe.json").is_file()
                again = plugins.command("train", "--resume", str(path))
                raise PatiError(
                    f"{path} holds no model",
                    f"the run is not finished: {again}" if unfinished else "expected a run's folder",
                )
            path = path / "model.safetensors"
        header, document, start = _header(path)
        try:
            architecture, classes = document["model"], tuple(document["classes"])
            if "plugin" in architecture and models.plugin(str(architecture["name"])) is None:
                raise plugins.missing(f"the model {str(architecture['name'])!r}", architecture["plugin"])
            preprocess = Preprocess.from_json(document["preprocess"])
            if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
                raise PatiError(f"{path} names no classes")
            options = Options(
                width=float(architecture["width"]),
                dropout=float(architecture["dropout"]),
                drop_path=float(architecture.get("drop_path", 0.0)),  # older files have none
                size=preprocess.size,
            )
            net = _empty_net(str(architecture["name"]), len(classes), options)
            mirror = bool(document["mirror"])
            kept = document.get("calibration")  # older files have none
            calibration = None if kept is None else Calibration.from_json(kept)
            sizes = document.get("scope")
            shapes = {} if sizes is None else Scope.shapes(*(int(sizes[name]) for name in SIZES))
        except KeyError as error:
            raise PatiError(f"{path} lacks {error.args[0]!r} in its header", "it is not a whole pati model") from None
        except (TypeError, ValueError, OverflowError) as error:
            raise PatiError(f"the header of {path} can't be read: {error}") from None
        expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in net.state_dict().items()}
        expected |= {_SCOPE + name: (shape, torch.float32) for name, shape in shapes.items()}
        _check_tensors(path, expected, header, start)
        tensors = _tensors(path, header)
        scope = Scope(**{name: tensors.pop(_SCOPE + name) for name in shapes}) if shapes else None
        net.load_state_dict(tensors, assign=True)
        taken = ("kind", "format", "classes", "preprocess", "mirror", "calibration", "scope")
        facts = {key: value for key, value in document.items() if key not in taken}
        return cls(net, preprocess, classes, mirror=mirror, facts=facts, calibration=calibration, scope=scope)


def facts(*, recipe: Any, metrics: dict[str, Any], manifest_hash: str, versions: dict[str, str]) -> dict[str, Any]:
    """What a model file says of its making."""
    plugin = models.plugin(recipe.model)
    return {
        "model": {
            "name": recipe.model,
            "width": recipe.width,
            "dropout": recipe.dropout,
            "drop_path": recipe.drop_path,
        }
        | ({"plugin": plugin} if plugin else {}),
        "recipe": recipe.to_json(),
        "metrics": metrics,
        "manifest": manifest_hash,
        "versions": versions,
    }


def _name(photo: Photo) -> str:
    return str(photo) if isinstance(photo, str | Path) else f"<{type(photo).__name__}>"


def _header(path: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A model file's table of tensors, the JSON that `save` wrote, and where the tensors start.

    After the checks that need no more than the file's first bytes.
    """
    foreign = PatiError(f"{path} is not a pati model", "expected a model.safetensors made by `pati train`")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise foreign
        with path.open("rb") as file:
            head = file.read(8)
            if len(head) < 8:
                raise foreign
            (length,) = struct.unpack("<Q", head)
            if length > _LARGEST_HEADER:
                raise foreign
            header = json.loads(file.read(length))
        document = json.loads(header["__metadata__"]["pati"])
        kind, version = document["kind"], document["format"]
    except OSError as error:
        raise PatiError(f"can't read the model {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise foreign from None
    if kind != KIND:
        raise foreign
    if version != FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise PatiError(
            f"{path} has format {version!r}, this pati reads {FORMAT}", "update pati" if newer else "train it again"
        )
    return header, dict(document), 8 + length


def _checksum_field(checksum: str) -> bytes:
    return f'"sha256":"{checksum}"'.encode("ascii", "replace")


def _tensors(path: Path, header: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors, after the checksum over the whole file has been found right."""
    try:
        data = path.read_bytes()
        field = _checksum_field(str(header["__metadata__"].get("sha256")))
        at = data.find(field)
        digest = hashlib.sha256(data[: max(at, 0)])
        digest.update(_checksum_field(_NO_CHECKSUM))
        digest.update(memoryview(data)[at + len(field) :])
        if at < 0 or _checksum_field(digest.hexdigest()) != field:
            raise PatiError(f"{path} is damaged: its checksum does not fit", "copy it again from where it came")
        return deserialised(data)
    except OSError as error:
        raise PatiError(f"can't read the model {path}: {error.strerror}") from None
    except SafetensorError as error:
        raise PatiError(f"{path} is damaged: {error}", "copy it again from where it came") from None


def _empty_net(name: str, classes: int, options: Options) -> Net:
    """The net without memory for its weights: a small file must not claim gigabytes."""
    widest = field_named("width").metadata["high"]
    rates = (options.dropout, options.drop_path)
    if not (0 < options.width <= widest and all(0 <= rate < 1 for rate in rates) and classes <= 100_000):
        raise ValueError(f"{options}, {classes} classes")
    with without_memory(name):
        return models[name](classes, options)


def _check_tensors(
    path: Path, expected: dict[str, tuple[tuple[int, ...], torch.dtype]], header: dict[str, Any], start: int
) -> None:
    """Names, shapes, types and the file's size, by the header alone: no tensor is read for a file that lies."""
    table = {name: entry for name, entry in header.items() if name != "__metadata__"}
    missing, extra = sorted(expected.keys() - table.keys()), sorted(table.keys() - expected.keys())
    if missing or extra:
        told = f"{path} lacks {missing[0]!r}" if missing else f"{path} has an unknown tensor {extra[0]!r}"
        raise PatiError(told, "it was made by another version, or is not whole")
    for name, (sides, dtype) in expected.items():
        shape, kind = list(sides), _TYPES[dtype]
        found = table[name] if isinstance(table[name], dict) else {}
        if found.get("shape") != shape or found.get("dtype") != kind:
            raise PatiError(
                f"{path}: {name} is {found.get('dtype')} {found.get('shape')}, expected {kind} {shape}",
                "it was made by another version, or is not whole",
            )
    size = start + sum(math.prod(sides) * dtype.itemsize for sides, dtype in expected.values())
    if path.stat().st_size != size:
        raise PatiError(
            f"{path} has {path.stat().st_size:,} bytes, expected {size:,}", "it is not whole: copy it again"
        )
