"""Answers for training photos by nets that have not trained on them: k-fold cross-fitting.

The training photos are dealt into folds, copies and groups together. For each fold a net of the recipe trains on the
others and answers on it; the validation photos set its temperature. A folder keeps what is finished, and checkpoints.
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
from pati.system import files
from pati.workflows.fit import fit
from pati.workflows.prepare import Prepared
from pati.workflows.reserve import time_answers


@dataclass(frozen=True)
class Answers:
    """For one fold: the `numbers` of its photos among the training ones; their `probabilities` `float64 (N, K)`, not
    numbers where all photos of a class lie in it; and `facts` of the training: photos answered, epochs, seconds, and
    `agreement`, the share answered as they are labelled.
    """

    numbers: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    facts: FoldFacts


class CrossFit:
    """The folds of prepared data. `pace`: what the trainings depend on beside recipe and data, such as a budget.

    Raises `PatiError` if there are too few photos for so many.
    """

    def __init__(self, ready: Prepared, folder: Path, folds: int, *, pace: float | None, listen: Listen) -> None:
        self._ready, self._folder, self._folds, self._pace, self._listen = ready, folder, folds, pace, listen
        entries = ready.found.of_split("train")
        units = manifest.units(entries)
        if folds > len(units):
            raise PatiError(
                f"--folds {folds}, but the training photos are {len(units)} groups that must stay together",
                f"expected at most {len(units)}",
            )
        dealt = split.deal([unit for unit, _ in units], folds, seed=ready.recipe.split_seed)
        fold = {entry.path: dealt[unit.identity] for unit, members in units for entry in members}
        self._fold_of = torch.tensor([fold[entry.path] for entry in entries])

    def answers(self, fold: int, seconds: float | None, stopped: Callable[[], bool]) -> Answers:
        """Train on all folds but `fold`, for `seconds` or by the recipe's epochs, and answer on it.

        What was finished before is read; a training that was stopped goes on. Raises `Interrupted`.
        """
        ready, kept = self._ready, self._folder / f"{fold + 1}.npz"
        owner = json.dumps([ready.found.hash(), ready.recipe.to_json(), self._folds, fold, self._pace])
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
        made = ready.classifier(net)
        made.calibration = Calibration.of(all_logits(made, ready.validation), _labels(ready.validation))
        logits = all_logits(made, held)
        facts: FoldFacts = {
            "photos": len(held),
            "epochs": state.epoch,
            "seconds": round(state.seconds, 1),
            "agreement": metrics.accuracy(logits, _labels(held)),
        }
        probabilities = made.calibrated(logits).numpy()
        taught = rest.targets.sum(0).cpu() > 0
        probabilities[~taught[_labels(held)].numpy()] = math.nan  # of a class whose photos are all in this fold
        found = Answers(numbers.numpy(), probabilities, facts)
        with files.atomic(kept) as file:
            np.savez_compressed(
                file, owner=np.array(owner), probabilities=found.probabilities, facts=np.array(json.dumps(facts))
            )
        shutil.rmtree(checkpoints, ignore_errors=True)
        return found

    def answering_seconds(self) -> float:
        """About what a net's answers for a fold and the validation photos take."""
        photos = len(self._ready.training) / self._folds + len(self._ready.validation)
        return photos * time_answers(self._ready.classifier(self._ready.net()), self._ready)[0]


def _labels(data: Samples) -> torch.Tensor:
    return data.targets.argmax(1).cpu()
