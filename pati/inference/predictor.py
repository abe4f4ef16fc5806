"""`Predictor`: what every kind of model does with photos, and what it returns. Needs no torch.

From a photo to pixels, and from probabilities to an answer, there is one code, whatever computes between the two:
torch (`Classifier`) or ONNX Runtime (`OnnxClassifier`).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pati.data import decode
from pati.data.preprocess import Photo, Preprocess
from pati.errors import PatiError
from pati.evaluation.calibration import RISK, Calibration
from pati.evaluation.out_of_distribution import LEVEL
from pati.inference.documents import Facts
from pati.locale.messages import N_, Message
from pati.system.machine import cores

_BATCH = 64  # photos decoded while the previous batch is classified


@dataclass(frozen=True)
class Prediction:
    """The prediction for one photo.

    `label`: the most likely class. `unsure`: its confidence is too low, or the photo is `out_of_distribution`, unlike
    the training photos (see `Classifier.predict`). `ood_p_value`: the fraction of in-distribution photos that look at
    least as unusual; NaN without an out-of-distribution detector. For an unreadable photo, `error` and its `reason`, a
    key of `decode.REASONS`, are set, and the rest is empty.
    """

    path: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    error: Message | None = None
    reason: str = ""
    unsure: bool = False
    out_of_distribution: bool = False
    ood_p_value: float = math.nan

    @classmethod
    def unreadable(cls, path: str, error: decode.Unreadable) -> Prediction:
        """The row of a photo that can't be decoded."""
        return cls(path, "", math.nan, {}, error.message, error.reason)


@dataclass(frozen=True)
class Explanation:
    """A saliency map for `label`: `map` `float32 (h, w)` in 0..1, at the network's own resolution.

    `photo`: `uint8 (H, W, 3)` as decoded. `peak`: the map's maximum before scaling. `covered`: the part of the photo
    under the map (left, top, right, bottom as fractions of its sides); smaller than the photo if it was cropped, larger
    if it was padded.
    """

    photo: NDArray[np.uint8]
    map: NDArray[np.float32]
    label: str
    peak: float
    prediction: Prediction
    covered: tuple[float, float, float, float]

    @property
    def even(self) -> bool:
        """Whether the map is uniform, as an empty one is, and so highlights nothing."""
        return bool(self.map.min() == self.map.max())


@dataclass(frozen=True)
class Refused:
    """An input that was rejected before decoding; its row contains `error`."""

    path: str
    error: decode.Unreadable


@dataclass(frozen=True)
class Named:
    """The bytes of a photo that is no file of its own, and its path."""

    path: str
    data: bytes


class UnreadablePhoto(PatiError):
    """A photo that can't be decoded; `reason`: a key of `decode.REASONS`."""

    def __init__(self, photo: Photo, reason: str, error: Message) -> None:
        self.reason = reason
        super().__init__(N_("can't read {path}: {error}", path=name_of(photo), error=error), decode.REASONS.get(reason))


class Unsupported(PatiError):
    """What this kind of model can't do, but another one can."""


class Predictor(abc.ABC):
    """Classifies photos and explains its predictions.

    `preprocess`: from a photo to pixels; `classes`: their names; `facts`: JSON about model and training. Without a
    `calibration`, no prediction is unsure for its confidence. `has_map`: whether it explains its predictions;
    `any_class`: whether for any class, or for the predicted one only.
    """

    preprocess: Preprocess
    classes: tuple[str, ...]
    facts: Facts
    calibration: Calibration | None

    has_map = True
    any_class = True

    @property
    @abc.abstractmethod
    def methods(self) -> tuple[str, ...]:
        """The methods that `explain` takes."""

    @property
    @abc.abstractmethod
    def stages(self) -> int:
        """The number of stages that `explain` takes."""

    @abc.abstractmethod
    def answer(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Preprocessed pixels `uint8 (N, size, size, 3)` -> calibrated probabilities `(N, K)`, and p-values `(N,)`.

        A p-value is the fraction of in-distribution photos that look at least as unusual; NaN without an
        out-of-distribution detector.
        """

    @abc.abstractmethod
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
        """Like `explain`, for a photo that has been read: its pixels `uint8 (H, W, 3)`, and the preprocessed ones.

        `name`: the path in its prediction.
        """

    def explain(
        self, photo: Photo, *, label: str | None = None, method: str = "grad-cam", stage: int | None = None
    ) -> Explanation:
        """Saliency map of the evidence for `label` (default: the predicted class).

        `stage`: number of the stage, from 1, whose features are used (default: the last). Raises `Unsupported` for what
        this kind of model can't explain, and `PatiError` for unknown names.
        """
        if label is not None:
            self.class_number(label)
        return self.explain_pixels(*self.shown(photo), name=name_of(photo), label=label, method=method, stage=stage)

    @overload
    def predict(self, photos: Photo, *, risk: float | None = None) -> Prediction: ...
    @overload
    def predict(self, photos: list[Photo] | tuple[Photo, ...], *, risk: float | None = None) -> list[Prediction]: ...
    def predict(
        self, photos: Photo | list[Photo] | tuple[Photo, ...], *, risk: float | None = None
    ) -> Prediction | list[Prediction]:
        """Predict the class of one photo (path, bytes, Pillow image or array), or a list of predictions for a list.

        A single photo that can't be read raises `UnreadablePhoto`; in a list it gets a row with `error`. `risk`:
        accepted error rate (default: 1 %). Predictions are marked `unsure` if their confidence is below the threshold
        for this risk, estimated on the validation photos, or if the photo is out-of-distribution.
        """
        if isinstance(photos, list | tuple):
            return list(self.predict_stream(photos, risk=risk))
        (prediction,) = self.predict_stream([photos], risk=risk)
        if prediction.error:
            raise UnreadablePhoto(photos, prediction.reason, prediction.error)
        return prediction

    def predict_stream(
        self, photos: Iterable[Photo | Named | Refused], *, risk: float | None = None
    ) -> Iterator[Prediction]:
        """Predict while the photos are read, in their order and in bounded memory. `risk`: see `predict`."""
        threshold = self.threshold(risk)
        source = iter(photos)
        with ThreadPoolExecutor(cores()) as pool:
            # While the network processes one batch, the next one is decoded.
            waiting = [pool.submit(self._pixels, photo) for photo in islice(source, 2 * _BATCH)]
            while waiting:
                results = [future.result() for future in waiting[:_BATCH]]
                waiting = waiting[_BATCH:] + [pool.submit(self._pixels, photo) for photo in islice(source, _BATCH)]
                yield from self._rows(results, threshold)

    def threshold(self, risk: float | None = None) -> float:
        """The confidence below which a prediction is unsure at this `risk` (see `predict`). Raises `PatiError`."""
        if risk is not None and not 0 <= risk < 1:
            raise PatiError(
                N_("--risk is {risk:g}", risk=risk),
                N_("expected an error rate of at least 0 and below 1, such as 0.01"),
            )
        if self.calibration is None:
            if risk is not None:
                raise PatiError(
                    N_("this model file has no calibration, which --risk needs"),
                    N_("train it again with this version of pati"),
                )
            return 0.0
        return self.calibration.threshold(RISK if risk is None else risk)

    def _pixels(self, photo: Photo | Named | Refused) -> tuple[str, NDArray[np.uint8] | decode.Unreadable]:
        if isinstance(photo, Refused):
            return photo.path, photo.error
        name = photo.path if isinstance(photo, Named) else name_of(photo)
        try:
            return name, self.preprocess(photo.data if isinstance(photo, Named) else photo)
        except decode.Unreadable as error:
            return name, error

    def _rows(
        self, results: list[tuple[str, NDArray[np.uint8] | decode.Unreadable]], threshold: float
    ) -> Iterator[Prediction]:
        readable = [(name, pixels) for name, pixels in results if not isinstance(pixels, decode.Unreadable)]
        names, photos = [name for name, _ in readable], [pixels for _, pixels in readable]
        thresholds = [threshold] * len(names)
        predictions = iter(self.predictions(names, np.stack(photos), thresholds) if photos else [])
        for name, pixels in results:
            if isinstance(pixels, decode.Unreadable):
                yield Prediction.unreadable(name, pixels)
            else:
                yield next(predictions)

    def predictions(
        self, names: Sequence[str], pixels: NDArray[np.uint8], thresholds: Sequence[float]
    ) -> Iterator[Prediction]:
        """The predictions for preprocessed pixels `uint8 (N, size, size, 3)`.

        For each photo, its path, and the confidence below which its prediction is unsure. Raises `PatiError`.
        """
        probabilities, p_values = self.answer(pixels)
        if not np.isfinite(probabilities).all():
            raise PatiError(
                N_("the probabilities of this model are not numbers"),
                N_("the file is damaged, or its training failed: train it again"),
            )
        rows = zip(names, probabilities.tolist(), p_values.tolist(), thresholds, strict=True)
        for name, row, p, threshold in rows:
            best = max(range(len(row)), key=row.__getitem__)
            strange = p <= LEVEL
            unsure = strange or row[best] < threshold
            named = dict(zip(self.classes, row, strict=True))
            yield Prediction(
                name, self.classes[best], row[best], named, unsure=unsure, out_of_distribution=strange, ood_p_value=p
            )

    def shown(self, photo: Photo) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """A photo's pixels at its own size, and preprocessed. Raises `UnreadablePhoto`."""
        try:
            pixels = self.preprocess.photo(photo)
        except decode.Unreadable as error:
            raise UnreadablePhoto(photo, error.reason, error.message) from None
        return pixels, self.preprocess.fit(pixels)

    def class_number(self, label: str) -> int:
        """The number of a class. Raises `PatiError` if the model has no such class."""
        if label not in self.classes:
            raise PatiError(
                N_("the model has no class {label!r}", label=label),
                N_("its classes: {classes}", classes=self.classes),
            )
        return self.classes.index(label)


def explanation(
    shown: NDArray[np.uint8], map_: NDArray[np.float32], label: str, prediction: Prediction, preprocess: Preprocess
) -> Explanation:
    """The explanation of a photo by a saliency map, which is scaled to 0..1."""
    peak = float(map_.max())
    height, width = shown.shape[:2]
    scaled = map_ / peak if peak > 0 else map_
    return Explanation(shown, scaled, label, peak, prediction, preprocess.covered(width, height))


def name_of(photo: Photo) -> str:
    """The path of a photo, or its type."""
    return str(photo) if isinstance(photo, str | Path) else f"<{type(photo).__name__}>"
