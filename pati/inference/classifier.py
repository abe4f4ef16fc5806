"""`Classifier`: the object that users work with after training.

A network, its preprocessing, the class names, and facts about its training. Saved as one safetensors file with a JSON
header: loading runs no code from the file. Needs nothing of the training code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast, overload

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data import decode
from pati.data.preprocess import Photo, Preprocess
from pati.errors import PatiError
from pati.evaluation import metrics
from pati.evaluation.calibration import RISK, Calibration
from pati.evaluation.documents import Scores
from pati.evaluation.out_of_distribution import LEVEL, OutOfDistributionDetector
from pati.explain.cams import explainer
from pati.inference import model_file
from pati.inference.forward import BATCH, batch_logits, batch_logits_and_moments, batch_moments
from pati.inference.model_file import Architecture, Facts, ModelFile, ModelScores
from pati.locale.messages import N_, Message
from pati.models import Net, channels_last, folded, models
from pati.recipe import SettledRecipe
from pati.system import machine, tensors
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


class UnreadablePhoto(PatiError):
    """A photo that can't be decoded; `reason`: a key of `decode.REASONS`."""

    def __init__(self, photo: Photo, reason: str, error: Message) -> None:
        self.reason = reason
        super().__init__(N_("can't read {path}: {error}", path=_name(photo), error=error), decode.REASONS.get(reason))


class Classifier:
    """Classifies photos and explains its predictions."""

    def __init__(
        self,
        net: Net,
        preprocess: Preprocess,
        classes: Sequence[str],
        *,
        mirror: bool,
        facts: Facts,
        calibration: Calibration | None = None,
        detector: OutOfDistributionDetector | None = None,
    ) -> None:
        """`mirror`: average the logits over the photo and its mirror image. `facts`: JSON about model and training.

        Without a `calibration`, probabilities are the softmax of the logits; without it and without a `detector`, no
        prediction is unsure.
        """
        self.net = channels_last(net).eval()
        self._device = next(net.parameters()).device
        # This network predicts; the unfolded one is used for explanations.
        self._ready = folded(net, getattr(torch, machine.faster_precision(self._device.type)))
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.mirror = mirror
        self.facts = facts
        self.calibration = calibration
        self.detector = detector

    def on(self, device: torch.device) -> Classifier:
        """A copy with its network on `device`."""
        return Classifier(
            copy.deepcopy(self.net).to(device), self.preprocess, self.classes, mirror=self.mirror, facts=self.facts,
            calibration=self.calibration, detector=self.detector,
        )  # fmt: skip

    def weights(self) -> str:
        """The hash of the network's weights, which its predictions are stored with."""
        return tensors.digest(self.net.state_dict())

    # Predicting ----------------------------------------------------------------------

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

    def predict_stream(self, photos: Iterable[Photo | Refused], *, risk: float | None = None) -> Iterator[Prediction]:
        """Predict while the photos are read, in their order and in bounded memory. `risk`: see `predict`."""
        threshold = self._threshold(risk)
        source = iter(photos)
        with ThreadPoolExecutor(cores()) as pool:
            # While the network processes one batch, the next one is decoded.
            waiting = [pool.submit(self._pixels, photo) for photo in islice(source, 2 * _BATCH)]
            while waiting:
                results = [future.result() for future in waiting[:_BATCH]]
                waiting = waiting[_BATCH:] + [pool.submit(self._pixels, photo) for photo in islice(source, _BATCH)]
                yield from self._answers(results, threshold)

    def _threshold(self, risk: float | None) -> float:
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

    def _pixels(self, photo: Photo | Refused) -> tuple[str, NDArray[np.uint8] | decode.Unreadable]:
        if isinstance(photo, Refused):
            return photo.path, photo.error
        try:
            return _name(photo), self.preprocess(photo)
        except decode.Unreadable as error:
            return _name(photo), error

    def _answers(
        self, results: list[tuple[str, NDArray[np.uint8] | decode.Unreadable]], threshold: float
    ) -> Iterator[Prediction]:
        readable = [(name, pixels) for name, pixels in results if not isinstance(pixels, decode.Unreadable)]
        names, photos = [name for name, _ in readable], [pixels for _, pixels in readable]
        predictions = iter(self._predictions(names, np.stack(photos), threshold) if photos else [])
        for name, pixels in results:
            if isinstance(pixels, decode.Unreadable):
                yield Prediction(name, "", math.nan, {}, pixels.message, pixels.reason)
            else:
                yield next(predictions)

    def _predictions(self, names: Sequence[str], pixels: NDArray[np.uint8], threshold: float) -> Iterator[Prediction]:
        logits, moments = self.answers(torch.tensor(pixels))
        probabilities, p_values = self.calibrated(logits), self.p_values(logits, moments)
        for name, row, p in zip(names, probabilities.tolist(), p_values.tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            strange = p <= LEVEL
            unsure = strange or row[best] < threshold
            named = dict(zip(self.classes, row, strict=True))
            yield Prediction(
                name, self.classes[best], row[best], named, unsure=unsure, out_of_distribution=strange, ood_p_value=p
            )

    def probabilities(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Preprocessed pixels `uint8 (N, size, size, 3)` -> calibrated probabilities `float64 (N, K)`."""
        return self.calibrated(self.logits(torch.tensor(pixels)))

    def calibrated(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits `(N, K)` -> probabilities `float64 (N, K)`."""
        return logits.double().softmax(1) if self.calibration is None else self.calibration.probabilities(logits)

    def p_values(self, logits: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
        """p-values `float64 (N,)`: the fraction of in-distribution photos that look at least as unusual.

        Takes the results of `answers`. NaN without an out-of-distribution detector.
        """
        if self.detector is None:
            return torch.full((len(logits),), math.nan, dtype=torch.float64)
        return self.detector.p_values(moments, self.calibrated(logits).max(1).values)

    @torch.inference_mode()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Preprocessed pixels `uint8 (N, size, size, 3)` -> logits `float32 (N, K)`, on the CPU."""
        batches = (
            self.preprocess.normalise(part.to(self._device))
            for part in torch.split(pixels, min(BATCH, self.net.at_once))
        )
        return torch.cat([batch_logits(self._ready, images, mirror=self.mirror).cpu() for images in batches])

    @torch.inference_mode()
    def answers(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits, and the moments `(N, D)` that the out-of-distribution detector uses, on the CPU."""
        batches = (
            self.preprocess.normalise(part.to(self._device))
            for part in torch.split(pixels, min(BATCH, self.net.at_once))
        )
        parts = [batch_logits_and_moments(self._ready, images, mirror=self.mirror) for images in batches]
        logits, moments = (torch.cat([part.cpu() for part in side]) for side in zip(*parts, strict=True))
        return logits, moments

    @torch.inference_mode()
    def moments(self, pixels: torch.Tensor) -> torch.Tensor:
        """Only the moments."""
        batches = (
            self.preprocess.normalise(part.to(self._device))
            for part in torch.split(pixels, min(BATCH, self.net.at_once))
        )
        return torch.cat([batch_moments(self._ready, images).cpu() for images in batches])

    # Explaining ----------------------------------------------------------------------

    def explain(
        self, photo: Photo, *, label: str | None = None, method: str = "grad-cam", stage: int | None = None
    ) -> Explanation:
        """Saliency map of the evidence for `label` (default: the predicted class).

        `stage`: number of the stage, from 1, whose features are used (default: the last).
        """
        net = self.cut(stage)
        if label is not None and label not in self.classes:
            raise PatiError(
                N_("the model has no class {label!r}", label=label),
                N_("its classes: {classes}", classes=self.classes),
            )
        explain = explainer(method)
        try:
            shown = self.preprocess.photo(photo)
        except decode.Unreadable as error:
            raise UnreadablePhoto(photo, error.reason, error.message) from None
        fitted = self.preprocess.fit(shown)
        (answer,) = self._predictions([_name(photo)], fitted[None], self._threshold(None))
        target = label or answer.label
        images = self.preprocess.normalise(torch.tensor(fitted[None]).to(self._device))
        (map_,) = explain(net, images, torch.tensor([self.classes.index(target)]).to(self._device))
        raw = map_.cpu().numpy()
        peak = float(raw.max())
        height, width = shown.shape[:2]
        covered = self.preprocess.covered(width, height)
        return Explanation(shown, raw / peak if peak > 0 else raw, target, peak, answer, covered)

    def explainer_inputs(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Preprocessed pixels -> inputs of an explainer: normalised images, and the predicted class of each."""
        images = self.preprocess.normalise(pixels.to(self._device))
        return images, self.logits(pixels).argmax(1).to(self._device)

    def cut(self, stage: int | None) -> Net:
        """The network with stage number `stage`, from 1, as the last one; None: the network as it is."""
        stages = len(self.net.stages)
        if stage is not None and not 1 <= stage <= stages:
            raise PatiError(
                N_("the network has no stage {stage}", stage=stage),
                N_("expected a number from 1 to {stages}", stages=stages),
            )
        return self.net if stage is None else self.net.cut(stage)

    # The model file --------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the model as one safetensors file, atomically."""
        stored = ModelFile(
            self.net, self.preprocess, self.classes, self.mirror, self.facts, self.calibration, self.detector
        )
        stored.write(Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """The classifier in a model file, or in a run's folder. Raises `PatiError` for anything else."""
        stored = model_file.read(Path(path))
        return cls(
            stored.net, stored.preprocess, stored.classes, mirror=stored.mirror, facts=stored.facts,
            calibration=stored.calibration, detector=stored.detector,
        )  # fmt: skip


def file_scores(scores: Scores) -> ModelScores:
    """The scores in a model file: every registered metric, the interval of the accuracy, and the number of photos."""
    named = {name: metrics.value(scores, name) for name in metrics.metrics}
    return cast(ModelScores, {**named, "accuracy_interval": scores["accuracy_interval"], "photos": scores["photos"]})


def facts(*, recipe: SettledRecipe, metrics: ModelScores, manifest_hash: str, versions: dict[str, str]) -> Facts:
    """The facts that a model file states about its training."""
    model: Architecture = {
        "name": recipe.model,
        "width": recipe.width,
        "dropout": recipe.dropout,
        "drop_path": recipe.drop_path,
    }
    plugin = models.plugin(recipe.model)
    if plugin is not None:
        model["plugin"] = plugin
    return {
        "model": model,
        "recipe": recipe.to_json(),
        "metrics": metrics,
        "manifest": manifest_hash,
        "versions": versions,
    }


def _name(photo: Photo) -> str:
    return str(photo) if isinstance(photo, str | Path) else f"<{type(photo).__name__}>"
