"""A run's predictions on validation and test photos, made once with the final weights: predictions.npz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pati import plugins
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.runs.run import Run
from pati.system import files

_ALIKE = 0.05  # relative difference of logits by the same weights, in other precisions about 0.01


@dataclass(frozen=True, eq=False)
class Split:
    """Predictions on the photos of a split, in the manifest's order.

    `logits` `float32 (N, K)`, `labels` `int64 (N,)`, and the content hash of each photo.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    sha256: list[str]

    def agrees(self, other: Split) -> bool:
        """Whether these are the predictions of the same weights, on the photos in both; machines differ in bits."""
        mine = {digest: number for number, digest in enumerate(self.sha256)}
        both = [(mine[digest], number) for number, digest in enumerate(other.sha256) if digest in mine]
        numbers, others = (list(part) for part in zip(*both, strict=True)) if both else ([], [])
        difference = (self.logits[numbers] - other.logits[others]).norm()
        return bool(both) and bool(difference <= _ALIKE * self.logits[numbers].norm())


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions on both splits; `p_values` `float64 (N,)` of the test photos, see `out_of_distribution`.

    `weights`: the hash of the weights that made them (`system.tensors.digest`); empty in files of older versions.
    """

    validation: Split
    test: Split
    p_values: torch.Tensor
    weights: str

    @property
    def splits(self) -> dict[str, Split]:
        """Both by name."""
        return {"validation": self.validation, "test": self.test}

    def write(self, run: Run) -> None:
        """Write them to the run folder."""
        with files.atomic(run.predictions) as file:
            np.savez_compressed(
                file,
                validation_logits=self.validation.logits.numpy(),
                validation_labels=self.validation.labels.numpy(),
                validation_sha256=np.array(self.validation.sha256),
                test_logits=self.test.logits.numpy(),
                test_labels=self.test.labels.numpy(),
                test_sha256=np.array(self.test.sha256),
                test_familiarity=self.p_values.numpy(),
                weights=np.array(self.weights),
            )

    @classmethod
    def read(cls, run: Run) -> Predictions:
        """The predictions of a scored run; raises `PatiError` if they are damaged or missing."""
        with (
            run.reading_scores(),
            run.predictions.open("rb") as file,
            np.load(file, allow_pickle=False) as stored,
        ):

            def split(name: str) -> Split:
                logits, labels = (torch.from_numpy(stored[f"{name}_{part}"]) for part in ("logits", "labels"))
                digests = stored[f"{name}_sha256"].tolist()
                if not (logits.ndim == 2 and len(logits) == len(labels) == len(digests)):
                    raise ValueError(f"{len(logits)} answers, {len(labels)} labels, {len(digests)} photos")
                return Split(logits, labels.long(), digests)

            p_values = torch.from_numpy(stored["test_familiarity"])
            weights = str(stored["weights"]) if "weights" in stored else ""
            return cls(split("validation"), split("test"), p_values, weights)

    @classmethod
    def of(cls, run: Run, weights: str) -> Predictions:
        """The predictions of a finished run, whose model has these `weights`; raises `PatiError` for any others."""
        found = cls.read(run)
        if found.weights not in ("", weights):
            raise PatiError(
                N_("the stored predictions of {folder} are not those of its model", folder=run.folder),
                N_("resume it with: {again}", again=plugins.command("train", "--resume", str(run.folder))),
            )
        return found
