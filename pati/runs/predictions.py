"""A run's answers for its validation and test photos, given once by the final weights: predictions.npz."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pati.runs.run import Run
from pati.system import files


@dataclass(frozen=True, eq=False)
class Split:
    """The answers for a split's photos, in the manifest's order: `logits` `float32 (N, K)`, `labels` `int64 (N,)`,
    and the photos by their contents."""

    logits: torch.Tensor
    labels: torch.Tensor
    sha256: list[str]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Both splits' answers; `familiarity` `float64 (N,)`: of the test photos, see `scope`."""

    validation: Split
    test: Split
    familiarity: torch.Tensor

    @property
    def splits(self) -> dict[str, Split]:
        """By name."""
        return {"validation": self.validation, "test": self.test}

    def write(self, run: Run) -> None:
        """Keep them in the run's folder."""
        with files.atomic(run.predictions) as file:
            np.savez_compressed(
                file,
                validation_logits=self.validation.logits.numpy(),
                validation_labels=self.validation.labels.numpy(),
                validation_sha256=np.array(self.validation.sha256),
                test_logits=self.test.logits.numpy(),
                test_labels=self.test.labels.numpy(),
                test_sha256=np.array(self.test.sha256),
                test_familiarity=self.familiarity.numpy(),
            )

    @classmethod
    def read(cls, run: Run) -> Predictions:
        """Those of a scored run; raises `PatiError` where they are damaged or gone."""
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

            familiarity = torch.from_numpy(stored["test_familiarity"])
            return cls(split("validation"), split("test"), familiarity)
