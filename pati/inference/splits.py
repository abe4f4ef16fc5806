"""A classifier's predictions for whole splits, or for as many photos as the time allows."""

from __future__ import annotations

import math

import torch

from pati.data import loader
from pati.data.loader import Samples
from pati.evaluation import out_of_distribution
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.system import clock
from pati.system.threads import Threads

FEWEST_SCORED = 384  # validation photos, however little time is left: they calibrate the confidence


class SplitPredictor:
    """Predictions for whole splits; with a budget, the number of torch's threads adapts to the machine as in training.

    `cost`: of one prediction, in the same unit as training steps.
    """

    def __init__(self, classifier: Classifier, following: Threads | None, cost: float) -> None:
        self.classifier, self._following, self._cost = classifier, following, cost

    def answers(self, data: Samples, *, until: float = math.inf) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sample numbers, logits and moments of all samples, or of a random subset.

        If all would take longer than `until`, it stops there, after at least `FEWEST_SCORED` samples.
        """
        order = torch.arange(len(data)) if until == math.inf else loader.order(0, 0, len(data))
        parts: list[tuple[torch.Tensor, torch.Tensor]] = []
        for start in range(0, len(order), forward.BATCH):
            at = clock.now()
            if at > until and start >= FEWEST_SCORED:
                break
            pixels, _ = data.at(order[start : start + forward.BATCH])
            parts.append(self.classifier.answers(pixels))
            if self._following is not None:
                taken = clock.now() - at
                self._following.follow(taken / (len(pixels) * self._cost), taken)
        logits, moments = (torch.cat(side) for side in zip(*parts, strict=True))
        numbers, places = order[: len(logits)].sort()
        return numbers, logits[places], moments[places]

    def some(self, training: Samples) -> Samples:
        """The training photos that the out-of-distribution detector is fitted on, in random order."""
        return training.take(loader.order(0, 0, len(training))[: out_of_distribution.PHOTOS])

    def moments(self, data: Samples, *, until: float = math.inf) -> torch.Tensor:
        """Moments of the samples: of all, or of as many as there is time for.

        Stops at `until`, after at least `out_of_distribution.FEWEST_PHOTOS` samples.
        """
        parts: list[torch.Tensor] = []
        for pixels, _ in data.in_order(forward.BATCH):
            if clock.now() > until and sum(map(len, parts)) >= out_of_distribution.FEWEST_PHOTOS:
                break
            parts.append(self.classifier.moments(pixels))
        return torch.cat(parts)


def all_logits(classifier: Classifier, data: Samples) -> torch.Tensor:
    """A classifier's logits `float32 (N, K)` of all samples, on the CPU."""
    return torch.cat([classifier.logits(pixels) for pixels, _ in data.in_order(forward.BATCH)])
