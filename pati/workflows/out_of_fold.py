"""Out-of-fold predictions: k-fold cross-validation on the training photos.

For each fold, a network with the recipe is trained on the photos of the other folds and predicts this one. The colour
statistics are those of its own training photos, and validation photos, if there are any, calibrate its temperature. A
folder stores finished folds and checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data import manifest, split
from pati.data.loader import Samples
from pati.errors import PatiError
from pati.evaluation import metrics
from pati.evaluation.calibration import Calibration, CrossCalibration
from pati.evaluation.documents import FoldFacts
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.events import FoldBegan, Listen
from pati.inference.classifier import Classifier, facts, file_scores
from pati.inference.splits import SplitPredictor, all_logits
from pati.locale.messages import N_
from pati.runs.run import versions
from pati.system import files
from pati.workflows.fit import fit
from pati.workflows.prepare import Prepared
from pati.workflows.reserve import time_predictions


@dataclass(frozen=True)
class Answers:
    """The predictions for one fold.

    `numbers`: positions of its photos among the training photos. `logits` `float32 (N, K)`. `distances` `float32 (N,)`:
    from the network's training photos (see `out_of_distribution`), if the network is kept, else empty. `temperature`:
    fitted to the validation photos; 1 without any. `taught` `bool (N,)`: whether other photos of its class were trained
    on. `facts` of the training: photos predicted, epochs, seconds, and `agreement`, the fraction predicted as labelled.
    """

    numbers: NDArray[np.int64]
    logits: torch.Tensor
    distances: torch.Tensor
    temperature: float
    taught: NDArray[np.bool_]
    facts: FoldFacts


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The predictions of all folds, in the manifest's order: `Manifest.scored`.

    `logits` `float32 (N, K)`, `labels` `int64 (N,)`, `distances` `float32 (N,)`, `folds` `int64 (N,)`; `facts` by fold.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    distances: torch.Tensor
    folds: NDArray[np.int64]
    facts: list[FoldFacts]

    @classmethod
    def of(cls, parts: Sequence[Answers], labels: torch.Tensor) -> OutOfFold:
        """Merge the folds; `labels` of all training photos."""
        numbers = np.concatenate([part.numbers for part in parts])
        order = numbers.argsort()
        return cls(
            torch.cat([part.logits for part in parts])[order],
            labels[numbers[order]],
            torch.cat([part.distances for part in parts])[order],
            np.repeat(np.arange(len(parts)), [len(part.numbers) for part in parts])[order],
            [part.facts for part in parts],
        )

    def calibration(self) -> Calibration:
        """The calibration for a network trained on all photos."""
        return Calibration.of(self.logits, self.labels)

    def p_values(self, detector: OutOfDistributionDetector) -> torch.Tensor:
        """p-values `float64 (N,)` of each photo, ranked among the photos of other folds; `detector`: of any network."""
        temperatures = CrossCalibration.of(self.logits, self.labels, self.folds).temperatures
        confidences = (self.logits.double() / temperatures).softmax(1).max(1).values
        result = torch.zeros(len(self.labels), dtype=torch.float64)
        for fold in range(len(self.facts)):
            inside = self.folds == fold
            others = detector.ranked(self.distances[~inside], confidences[~inside])
            result[inside] = others.p_values_of(self.distances[inside], confidences[inside])
        return result


def dealt(ready: Prepared, folds: int) -> torch.Tensor:
    """The fold of each training photo, `int64 (N,)`; raises `PatiError` if there are too few for this number of folds.

    Duplicates and groups are kept together.
    """
    entries = ready.manifest.of_split("train")
    units, number = manifest.units(entries)
    if folds > len(units):
        raise PatiError(
            N_(
                "--folds is {folds}, but the training photos form only {n} groups that must stay together",
                folds=folds,
                n=len(units),
            ),
            N_("expected at most {n}", n=len(units)),
        )
    return torch.from_numpy(split.assign_folds(units, folds, seed=ready.recipe.split_seed)[number])


class CrossFit:
    """The folds of prepared data.

    `fold_of` `int64 (N,)`: the fold of each training photo, or -1 if it is in none. `pace`: what training depends on
    besides recipe and data, such as a budget. `networks`: a folder for the trained networks, if they are to be kept.
    """

    def __init__(
        self,
        ready: Prepared,
        folder: Path,
        fold_of: torch.Tensor,
        *,
        pace: float | None,
        listen: Listen,
        networks: Path | None = None,
    ) -> None:
        self._ready, self._folder, self._fold_of, self._pace = ready, folder, fold_of, pace
        self._listen, self._networks = listen, networks
        self._folds = int(fold_of.max()) + 1

    def answers(self, fold: int, seconds: float | None, stopped: Callable[[], bool]) -> Answers:
        """Train on all folds but `fold`, for `seconds` or the recipe's epochs, and predict `fold`.

        A finished fold is read from the folder; an interrupted one is resumed. Raises `Interrupted`.
        """
        ready, stored = self._ready, self._folder / f"{fold + 1}.npz"
        owner = json.dumps([ready.manifest.hash(), ready.recipe.to_json(), self._folds, fold, self._pace])
        inside = self._fold_of == fold
        numbers = inside.nonzero().flatten()
        rest, held = ready.trained_on((~inside).nonzero().flatten()), ready.training.take(numbers)
        taught = torch.isin(held.labels.cpu(), rest.training.labels.cpu()).numpy()
        finished = _read(stored, owner, numbers.numpy(), taught)
        if finished is not None:
            return finished
        self._listen(FoldBegan(fold + 1, self._folds, len(rest.training), seconds))
        checkpoints = self._folder / str(fold + 1)
        net, state = fit(rest, checkpoints, owner=owner, seconds=seconds, stopped=stopped, log=self._listen)
        classifier, distances = rest.classifier(net), torch.zeros(0)
        if len(ready.validation):
            logits = all_logits(classifier, ready.validation)
            classifier.calibration = Calibration.of(logits, ready.validation.labels.cpu())
        if self._networks is None:
            logits = all_logits(classifier, held)
        else:
            logits, distances = self._keep(fold, classifier, rest, held, self._networks)
        calibration = classifier.calibration
        answers = Answers(
            numbers.numpy(),
            logits,
            distances,
            1.0 if calibration is None else calibration.temperature,
            taught,
            {
                "photos": len(held),
                "epochs": state.epoch,
                "seconds": round(state.seconds, 1),
                "agreement": metrics.accuracy(logits, held.labels.cpu()),
            },
        )
        _write(stored, owner, answers)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return answers

    def _keep(
        self, fold: int, classifier: Classifier, rest: Prepared, held: Samples, networks: Path
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the fold's network with its detector; returns its logits and distances for the held-out photos."""
        predictor = SplitPredictor(classifier, None, 0.0)
        usual = predictor.moments(predictor.some(rest.training))
        _, logits, moments = predictor.answers(held)
        confidences = classifier.calibrated(logits).max(1).values
        classifier.detector = OutOfDistributionDetector.of(usual, moments, confidences)
        classes = self._ready.manifest.classes
        classifier.facts = facts(
            recipe=rest.recipe,
            metrics=file_scores(metrics.summary(logits, held.labels.cpu(), classes)),
            source=self._ready.manifest.source,
            training_photos=len(rest.training),
            manifest_hash=self._ready.manifest.hash(),
            versions=versions(),
            lineage=[],
        )
        classifier.save(networks / f"{fold + 1}.safetensors")
        return logits, classifier.detector.distance(moments)

    def prediction_seconds(self) -> float:
        """Estimated seconds for a network's predictions on a fold and the validation photos."""
        photos = len(self._ready.training) / self._folds + len(self._ready.validation)
        return photos * time_predictions(self._ready.classifier(self._ready.net()), self._ready)[0]


def _read(path: Path, owner: str, numbers: NDArray[np.int64], taught: NDArray[np.bool_]) -> Answers | None:
    """The stored predictions for a fold of `owner`; None without any."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        if str(stored["owner"]) != owner or "logits" not in stored:
            return None
        return Answers(
            numbers,
            torch.from_numpy(stored["logits"]),
            torch.from_numpy(stored["distances"]),
            float(stored["temperature"]),
            taught,
            cast(FoldFacts, json.loads(str(stored["facts"]))),
        )


def _write(path: Path, owner: str, answers: Answers) -> None:
    with files.atomic(path) as file:
        np.savez_compressed(
            file,
            owner=np.array(owner),
            logits=answers.logits.numpy(),
            distances=answers.distances.numpy(),
            temperature=np.array(answers.temperature),
            facts=np.array(json.dumps(answers.facts)),
        )
