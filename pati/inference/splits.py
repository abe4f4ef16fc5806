"""A classifier's answers for whole splits, of as many photos as there is time for."""

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

FEWEST_SCORED = 384  # validation photos, however little time is left: confidence is calibrated by them


class SplitAnswers:
    """Answers of whole splits; on a budget, torch's threads follow the machine here as they do in training.

    `cost`: of one answer, in steps' costs.
    """

    def __init__(self, made: Classifier, following: Threads | None, cost: float) -> None:
        self.made, self._following, self._cost = made, following, cost

    def answers(self, data: Samples, *, until: float = math.inf) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Numbers, logits and moments of the samples: of all, or, where that would take longer than until then, of
        some from everywhere, `FEWEST_SCORED` at least."""
        order = torch.arange(len(data)) if until == math.inf else loader.order(0, 0, len(data))
        parts: list[tuple[torch.Tensor, torch.Tensor]] = []
        for start in range(0, len(order), forward.BATCH):
            at = clock.now()
            if at > until and start >= FEWEST_SCORED:
                break
            pixels, _ = data.at(order[start : start + forward.BATCH])
            parts.append(self.made.answers(pixels))
            if self._following is not None:
                taken = clock.now() - at
                self._following.follow(taken / (len(pixels) * self._cost), taken)
        logits, moments = (torch.cat(side) for side in zip(*parts, strict=True))
        numbers, places = order[: len(logits)].sort()
        return numbers, logits[places], moments[places]

    def some(self, training: Samples) -> Samples:
        """The training photos that the scope is learnt from, in random order."""
        return training.take(loader.order(0, 0, len(training))[: out_of_distribution.PHOTOS])

    def moments(self, data: Samples, *, until: float = math.inf) -> torch.Tensor:
        """Moments of the samples: of all, or of as many as there is time for until then, `scope.FEWEST_PHOTOS` at
        least."""
        parts: list[torch.Tensor] = []
        for pixels, _ in data.in_order(forward.BATCH):
            if clock.now() > until and sum(map(len, parts)) >= out_of_distribution.FEWEST_PHOTOS:
                break
            parts.append(self.made.moments(pixels))
        return torch.cat(parts)


def all_logits(made: Classifier, data: Samples) -> torch.Tensor:
    """A classifier's logits `float32 (N, K)` of all samples, on the CPU."""
    return torch.cat([made.logits(pixels) for pixels, _ in data.in_order(forward.BATCH)])
