"""A classifier's predictions for whole splits, or for as many photos as the time allows."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from pati.data import loader
from pati.data.loader import Samples
from pati.evaluation import out_of_distribution
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.system import clock
from pati.system.ranks import ALONE, Ranks
from pati.system.threads import Threads

FEWEST_SCORED = 384  # validation photos, however little time is left: they calibrate the confidence


class SplitPredictor:
    """Predictions for whole splits; with a budget, the number of torch's threads adapts to the machine as in training.

    `cost`: of one prediction, in the same unit as training steps. `ranks`: share the photos, and each gets the
    predictions for all; the first one decides when it stops.
    """

    def __init__(self, classifier: Classifier, following: Threads | None, cost: float, ranks: Ranks = ALONE) -> None:
        self.classifier, self._following, self._cost, self._ranks = classifier, following, cost, ranks

    def answers(self, data: Samples, *, until: float = math.inf) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Sample numbers, logits and moments of all samples, or of a random subset.

        If all would take longer than `until`, it stops there, after at least `FEWEST_SCORED` samples.
        """
        order = torch.arange(len(data)) if until == math.inf else loader.order(0, 0, len(data))
        parts: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for numbers in self._rounds(order, until, FEWEST_SCORED):
            at = clock.now()
            own, pixels = self._own(data, numbers)
            logits, moments = self.classifier.answers(pixels)
            parts.append((own, logits[: len(own)], moments[: len(own)]))
            if self._following is not None:
                taken = clock.now() - at
                self._following.follow(taken / (len(pixels) * self._cost), taken)
        numbers, logits, moments = (self._ranks.gathered(torch.cat(side)) for side in zip(*parts, strict=True))
        numbers, places = numbers.sort()
        return numbers, logits[places], moments[places]

    def _rounds(self, order: torch.Tensor, until: float, least: int) -> Iterator[torch.Tensor]:
        """A batch for each rank at a time; at the time `until`, it stops after at least `least` samples."""
        step = forward.BATCH * self._ranks.size
        for start in range(0, len(order), step):
            if self._ranks.decided(clock.now() > until and start >= least):
                return
            yield order[start : start + step]

    def _own(self, data: Samples, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """This rank's part of the samples, and its pixels; those of one sample in place of none."""
        own = numbers[self._ranks.part(len(numbers))]
        pixels, _ = data.at(own if len(own) else numbers[:1])
        return own, pixels

    def some(self, training: Samples) -> Samples:
        """The training photos that the out-of-distribution detector is fitted on, in random order."""
        return training.take(loader.order(0, 0, len(training))[: out_of_distribution.PHOTOS])

    def moments(self, data: Samples, *, until: float = math.inf) -> torch.Tensor:
        """Moments of the samples: of all, or of as many as there is time for.

        Stops at `until`, after at least `out_of_distribution.FEWEST_PHOTOS` samples.
        """
        parts: list[tuple[torch.Tensor, torch.Tensor]] = []
        for numbers in self._rounds(torch.arange(len(data)), until, out_of_distribution.FEWEST_PHOTOS):
            own, pixels = self._own(data, numbers)
            parts.append((own, self.classifier.moments(pixels)[: len(own)]))
        numbers, moments = (self._ranks.gathered(torch.cat(side)) for side in zip(*parts, strict=True))
        return moments[numbers.argsort()]


def all_logits(classifier: Classifier, data: Samples) -> torch.Tensor:
    """A classifier's logits `float32 (N, K)` of all samples, on the CPU."""
    return torch.cat([classifier.logits(pixels) for pixels, _ in data.in_order(forward.BATCH)])
