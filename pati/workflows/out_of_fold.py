"""Out-of-fold predictions: k-fold cross-validation on the training photos.

The training photos are divided into folds, with duplicates and groups kept together. For each fold, a network with the
recipe is trained on the other folds and predicts this one; the validation photos calibrate its temperature. A folder
stores finished folds and checkpoints.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
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
from pati.evaluation.calibration import Calibration
from pati.evaluation.documents import FoldFacts
from pati.events import FoldBegan, Listen
from pati.inference.splits import all_logits
from pati.locale.messages import N_
from pati.system import files
from pati.workflows.fit import fit
from pati.workflows.prepare import Prepared
from pati.workflows.reserve import time_predictions


@dataclass(frozen=True)
class Answers:
    """The predictions for one fold.

    `numbers`: positions of its photos among the training photos. `probabilities` `float64 (N, K)`; NaN for photos whose
    class occurs only in this fold. `facts` of the training run: photos predicted, epochs, seconds, and `agreement`, the
    fraction predicted as labelled.
    """

    numbers: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    facts: FoldFacts


class CrossFit:
    """The folds of prepared data. `pace`: what training depends on besides recipe and data, such as a budget.

    Raises `PatiError` if there are too few photos for this number of folds.
    """

    def __init__(self, ready: Prepared, folder: Path, folds: int, *, pace: float | None, listen: Listen) -> None:
        self._ready, self._folder, self._folds, self._pace, self._listen = ready, folder, folds, pace, listen
        entries = ready.manifest.of_split("train")
        units = manifest.units(entries)
        if folds > len(units):
            raise PatiError(
                N_(
                    "--folds is {folds}, but the training photos form only {n} groups that must stay together",
                    folds=folds,
                    n=len(units),
                ),
                N_("expected at most {n}", n=len(units)),
            )
        dealt = split.assign_folds([unit for unit, _ in units], folds, seed=ready.recipe.split_seed)
        fold = {entry.path: dealt[unit.identity] for unit, members in units for entry in members}
        self._fold_of = torch.tensor([fold[entry.path] for entry in entries])

    def answers(self, fold: int, seconds: float | None, stopped: Callable[[], bool]) -> Answers:
        """Train on all folds but `fold`, for `seconds` or the recipe's epochs, and predict `fold`.

        A finished fold is read from the folder; an interrupted one is resumed. Raises `Interrupted`.
        """
        ready, kept = self._ready, self._folder / f"{fold + 1}.npz"
        owner = json.dumps([ready.manifest.hash(), ready.recipe.to_json(), self._folds, fold, self._pace])
        inside = self._fold_of == fold
        numbers = inside.nonzero().flatten()
        if kept.exists():
            with np.load(kept, allow_pickle=False) as stored:
                if str(stored["owner"]) == owner:
                    return Answers(
                        numbers.numpy(), stored["probabilities"], cast(FoldFacts, json.loads(str(stored["facts"])))
                    )
        rest, held = ready.training.take((~inside).nonzero().flatten()), ready.training.take(numbers)
        self._listen(FoldBegan(fold + 1, self._folds, len(rest), seconds))
        checkpoints = self._folder / str(fold + 1)
        net, state = fit(ready, rest, checkpoints, owner=owner, seconds=seconds, stopped=stopped, log=self._listen)
        classifier = ready.classifier(net)
        classifier.calibration = Calibration.of(all_logits(classifier, ready.validation), _labels(ready.validation))
        logits = all_logits(classifier, held)
        facts: FoldFacts = {
            "photos": len(held),
            "epochs": state.epoch,
            "seconds": round(state.seconds, 1),
            "agreement": metrics.accuracy(logits, _labels(held)),
        }
        probabilities = classifier.calibrated(logits).numpy()
        taught = rest.targets.sum(0).cpu() > 0
        probabilities[~taught[_labels(held)].numpy()] = math.nan  # photos whose class occurs only in this fold
        answers = Answers(numbers.numpy(), probabilities, facts)
        with files.atomic(kept) as file:
            np.savez_compressed(
                file, owner=np.array(owner), probabilities=answers.probabilities, facts=np.array(json.dumps(facts))
            )
        shutil.rmtree(checkpoints, ignore_errors=True)
        return answers

    def prediction_seconds(self) -> float:
        """Estimated seconds for a network's predictions on a fold and the validation photos."""
        photos = len(self._ready.training) / self._folds + len(self._ready.validation)
        return photos * time_predictions(self._ready.classifier(self._ready.net()), self._ready)[0]


def _labels(data: Samples) -> torch.Tensor:
    return data.targets.argmax(1).cpu()
