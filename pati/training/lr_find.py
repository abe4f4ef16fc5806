"""Learning-rate range test (Smith, 2015, https://arxiv.org/abs/1506.01186): which peak rate suits a recipe.

A fresh net trains for a few steps at rates that rise from far too low to far too high. Knows
training photos only; what it finds is drawn by `report.figures`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from pati.data import loader
from pati.data.loader import Samples
from pati.data.preprocess import Preprocess
from pati.errors import PatiError
from pati.models import Net
from pati.recipe import SettledRecipe
from pati.system import machine
from pati.training import balance, loop, plan
from pati.training.optim import Optimizers

RANGES = {"muon": (1e-4, 10.0), "sgd": (1e-5, 10.0), "adamw": (1e-6, 1.0)}  # lowest and highest rate
MEMORY = 0.9  # of the smoothed loss from step to step
DIVERGED = 4.0  # times the least smoothed loss: the test ends
FALL = 0.9  # of the whole fall that the suggested rate has reached
FEWEST = 20  # steps that make a curve


@dataclass(frozen=True)
class RangeTest:
    """Rates, the loss of the step at each of them, and its smoothed curve; `suggestion` is one of the rates."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    suggestion: float


def search(
    net: Net,
    samples: Samples,
    preprocess: Preprocess,
    recipe: SettledRecipe,
    *,
    device: torch.device,
    steps: int = 100,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RangeTest:
    """Train a fresh `net` in place on training samples at rising rates, in at most `steps` steps of a settled recipe.

    Under muon the rate is that of the kernels; the others keep their peak rate. Photos have the size that training
    begins with. Raises `PatiError` for fewer than 20 steps and where the loss never falls.
    """
    if steps < FEWEST:
        raise PatiError(f"--steps wants {FEWEST} or more, got {steps}", "100 steps make a smooth curve")
    low, high = RANGES[recipe.optimizer]
    batch, size = min(recipe.batch, len(samples)), plan.training_sizes(recipe, net.minimum_size)[0]
    balanced = balance.of(recipe, samples.targets, device)
    optimizers = Optimizers(net, recipe)
    net.train()
    rates: list[float] = []
    losses: list[float] = []
    with machine.enough_memory(batch):
        for step in range(steps):
            epoch, position = divmod(step, len(samples) // batch)
            if position == 0:
                order = loader.order(recipe.seed, epoch, len(samples), balanced.chances)
            loss, _, _ = loop.forward(
                net, samples, order[position * batch : (position + 1) * batch], balanced, preprocess, recipe,
                epoch=epoch, step=step, size=size, device=device,
            )  # fmt: skip
            value = loss.item()
            if not math.isfinite(value):
                break
            rates.append(low * (high / low) ** (step / (steps - 1)))
            losses.append(value)
            curve = smoothed(losses)
            if curve[-1] > DIVERGED * min(curve):
                break
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            optimizers.update(rates[-1], recipe.vector_learning_rate)
            progress(step + 1, steps)
    curve = smoothed(losses)
    return RangeTest(tuple(rates), tuple(losses), tuple(curve), suggested(rates, curve))


def smoothed(losses: list[float]) -> list[float]:
    """Moving average of the losses that forgets exponentially, without the pull of its start at 0 (as in Adam)."""
    average, curve = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = MEMORY * average + (1 - MEMORY) * loss
        curve.append(average / (1 - MEMORY**count))
    return curve


def suggested(rates: list[float], curve: list[float]) -> float:
    """The lowest rate by which the smoothed loss has done nine tenths of its whole fall, to two digits.

    The rate of the steepest slope, a common choice, is decided by noise where the curve is flat. Raises `PatiError`
    where the loss never falls.
    """
    least = min(curve, default=math.nan)
    if not curve or least >= curve[0]:
        raise PatiError(
            "the loss does not fall at any learning rate", "try more --steps, or another --model or optimizer"
        )
    reached = next(
        rate for rate, loss in zip(rates, curve, strict=True) if loss <= curve[0] - FALL * (curve[0] - least)
    )
    return float(f"{reached:.2g}")
