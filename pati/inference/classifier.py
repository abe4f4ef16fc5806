"""`Classifier`: the object that users work with after training.

A network, its preprocessing, the class names, and facts about its training. Saved as one safetensors file with a JSON
header: loading runs no code from the file. Needs nothing of the training code.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.preprocess import Photo, Preprocess
from pati.errors import PatiError
from pati.evaluation import metrics
from pati.evaluation.calibration import Calibration
from pati.evaluation.documents import Ancestor, Scores
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.explain.cams import explainer, explainers
from pati.inference import model_file
from pati.inference.documents import Architecture, Facts, ModelScores
from pati.inference.forward import BATCH, SecondView, batch_logits, batch_logits_and_moments, batch_moments
from pati.inference.model_file import ModelFile
from pati.inference.predictor import Explanation, Predictor, explanation
from pati.locale.messages import N_
from pati.models import Net, channels_last, folded, models
from pati.recipe import SettledRecipe
from pati.system import machine, tensors

if TYPE_CHECKING:
    from pati.inference.export import Export


class Classifier(Predictor):
    """Classifies photos and explains its predictions."""

    def __init__(
        self,
        net: Net,
        preprocess: Preprocess,
        classes: Sequence[str],
        *,
        mirror: bool,
        center_crop: float = 1.0,
        facts: Facts,
        calibration: Calibration | None = None,
        detector: OutOfDistributionDetector | None = None,
        precision: str | None = None,
    ) -> None:
        """`mirror`, `center_crop`: the second view to average the logits with (see `SecondView`), if any.

        `facts`: JSON about model and training.

        `precision`: float32 or bfloat16, the number format of predictions; default: the faster one on this processor.

        Without a `calibration`, probabilities are the softmax of the logits; without it and without a `detector`, no
        prediction is unsure.
        """
        self.net = channels_last(net).eval()
        self._device = next(net.parameters()).device
        # This network predicts; the unfolded one is used for explanations.
        self._ready = folded(net, getattr(torch, precision or machine.faster_precision(self._device.type)))
        self.preprocess = preprocess
        self.classes = tuple(classes)
        self.second_view = SecondView(mirror, center_crop)
        self.facts = facts
        self.calibration = calibration
        self.detector = detector

    def on(self, device: torch.device) -> Classifier:
        """A copy with its network on `device`."""
        return Classifier(
            copy.deepcopy(self.net).to(device), self.preprocess, self.classes, mirror=self.second_view.mirror,
            center_crop=self.second_view.crop, facts=self.facts, calibration=self.calibration, detector=self.detector,
        )  # fmt: skip

    def in_float32(self) -> Classifier:
        """The same classifier, with predictions in float32 whatever is faster on this processor."""
        return Classifier(
            self.net, self.preprocess, self.classes, mirror=self.second_view.mirror, center_crop=self.second_view.crop,
            facts=self.facts, calibration=self.calibration, detector=self.detector, precision="float32",
        )  # fmt: skip

    def weights(self) -> str:
        """The hash of the network's weights, which its predictions are stored with."""
        return tensors.digest(self.net.state_dict())

    # Predicting ----------------------------------------------------------------------

    def answer(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """See `Predictor`."""
        # One photo is computed as two: alone, it would go through other kernels, with other rounding.
        batch = torch.tensor(pixels if len(pixels) > 1 else pixels.repeat(2, 0))
        logits, moments = self.answers(batch)
        count = len(pixels)
        return self.calibrated(logits).numpy()[:count], self.p_values(logits, moments).numpy()[:count]

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
        return torch.cat([batch_logits(self._ready, images, self.second_view).cpu() for images in batches])

    @torch.inference_mode()
    def answers(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The logits, and the moments `(N, D)` that the out-of-distribution detector uses, on the CPU."""
        batches = (
            self.preprocess.normalise(part.to(self._device))
            for part in torch.split(pixels, min(BATCH, self.net.at_once))
        )
        parts = [batch_logits_and_moments(self._ready, images, self.second_view) for images in batches]
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

    @property
    def methods(self) -> tuple[str, ...]:
        """See `Predictor`."""
        return tuple(explainers)

    @property
    def stages(self) -> int:
        """See `Predictor`."""
        return len(self.net.stages)

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
        """See `Predictor`."""
        net = self.cut(stage)
        explain = explainer(method)
        number = None if label is None else self.class_number(label)
        (answer,) = self.predictions([name], fitted[None], [self.threshold()])
        target = answer.label if label is None else label
        images = self.preprocess.normalise(torch.tensor(fitted[None]).to(self._device))
        asked = self.classes.index(target) if number is None else number
        (map_,) = explain(net, images, torch.tensor([asked]).to(self._device))
        return explanation(shown, map_.cpu().numpy(), target, answer, self.preprocess)

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
            self.net, self.preprocess, self.classes, self.second_view, self.facts, self.calibration, self.detector
        )
        stored.write(Path(path))

    def export(self, path: str | Path, *, to: str = "onnx", photos: Sequence[Photo] = ()) -> Export:
        """Write the model in the format `to`, for programs without torch, if its answers there are the same.

        Checked on pictures that are made for this, and on `photos`. Raises `PatiError`, and writes nothing, if a class,
        a probability, a p-value or a saliency map differs by more than rounding. See `pati.inference.export`.
        """
        from pati.inference.export import export

        return export(self, Path(path), to=to, photos=photos)

    @classmethod
    def load(cls, path: str | Path) -> Classifier:
        """The classifier in a model file, or in a run's folder. Raises `PatiError` for anything else."""
        stored = model_file.read(Path(path))
        return cls(
            stored.net, stored.preprocess, stored.classes, mirror=stored.second_view.mirror,
            center_crop=stored.second_view.crop, facts=stored.facts, calibration=stored.calibration,
            detector=stored.detector,
        )  # fmt: skip


def file_scores(scores: Scores, *, folds: int = 0) -> ModelScores:
    """The scores in a model file: every registered metric, the interval of the accuracy, and the number of photos.

    `folds`: number of cross-validation folds that gave them, if any.
    """
    named = {name: metrics.value(scores, name) for name in metrics.metrics}
    document = {**named, "accuracy_interval": scores["accuracy_interval"], "photos": scores["photos"]}
    return cast(ModelScores, {**document, "folds": folds} if folds else document)


def facts(
    *,
    recipe: SettledRecipe,
    metrics: ModelScores,
    source: str,
    training_photos: int,
    manifest_hash: str,
    versions: dict[str, str],
    lineage: Sequence[Ancestor],
) -> Facts:
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
    facts: Facts = {
        "model": model,
        "recipe": recipe.to_json(),
        "metrics": metrics,
        "data": source,
        "training_photos": training_photos,
        "manifest": manifest_hash,
        "versions": versions,
    }
    return {**facts, "lineage": [*lineage]} if lineage else facts
