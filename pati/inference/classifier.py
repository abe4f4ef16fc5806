"""`Classifier`: what people hold after training.

A net, its preprocessing, the class names, and the facts of its making. Saved as one
safetensors file whose header is JSON: loading runs no code from the file. Needs nothing of
the training code.
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
from pati.evaluation.out_of_distribution import ODD, Scope
from pati.explain.cams import explainer
from pati.inference import model_file
from pati.inference.forward import BATCH, batch_answers, batch_logits, batch_moments
from pati.inference.model_file import Architecture, Facts, ModelFile, ModelScores
from pati.models import Net, channels_last, folded, models
from pati.recipe import SettledRecipe
from pati.system import machine
from pati.system.machine import cores

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
        facts: Facts,
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
        stored = ModelFile(
            self.net, self.preprocess, self.classes, self.mirror, self.facts, self.calibration, self.scope
        )
        stored.write(Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """The classifier in a model file, or in a run's folder. Raises `PatiError` for anything else."""
        stored = model_file.read(Path(path))
        return cls(
            stored.net, stored.preprocess, stored.classes, mirror=stored.mirror, facts=stored.facts,
            calibration=stored.calibration, scope=stored.scope,
        )  # fmt: skip


def told(scores: Scores) -> ModelScores:
    """What a model file says of its scores: every registered metric, the interval of the accuracy, and the photos."""
    named = {name: metrics.value(scores, name) for name in metrics.metrics}
    return cast(ModelScores, {**named, "accuracy_interval": scores["accuracy_interval"], "photos": scores["photos"]})


def facts(*, recipe: SettledRecipe, metrics: ModelScores, manifest_hash: str, versions: dict[str, str]) -> Facts:
    """What a model file says of its making."""
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
