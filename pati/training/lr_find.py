"""Learning rate range test (Smith, 2015, https://arxiv.org/abs/1506.01186): find a good peak rate for a recipe.

Trains a new network for a few steps while the learning rate increases from far too low to far too high. Uses training
photos only; `report.figures` plots the result.
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
from pati.locale.messages import N_
from pati.models import Net
from pati.recipe import SettledRecipe
from pati.system import machine
from pati.training import balance, loop, plan
from pati.training.optim import Optimizers

RANGES = {"muon": (1e-4, 10.0), "sgd": (1e-5, 10.0), "adamw": (1e-6, 1.0)}  # lowest and highest rate
MEMORY = 0.9  # decay of the moving average of the loss, per step
DIVERGED = 4.0  # times the lowest smoothed loss: the test stops
FALL = 0.9  # fraction of the total decrease of the loss that defines the suggested rate
FEWEST = 20  # steps for a meaningful curve


@dataclass(frozen=True)
class RangeTest:
    """The learning rates, the loss at each of them, and the smoothed losses; `suggestion` is one of the rates."""

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
    """Train a new `net` in place on training samples at increasing learning rates, for at most `steps` steps.

    `recipe` is settled. With muon, only the rate of the kernels varies; the other parameters keep their peak rate.
    Photos have the first training size. Raises `PatiError` for fewer than 20 steps, or if the loss never decreases.
    """
    if steps < FEWEST:
        raise PatiError(
            N_("--steps: expected {fewest} or more, got {steps}", fewest=FEWEST, steps=steps),
            N_("100 steps give a smooth curve"),
        )
    low, high = RANGES[recipe.optimizer]
    batch, size = min(recipe.batch, len(samples)), plan.training_sizes(recipe, net.minimum_size)[0]
    balanced = balance.of(recipe, samples.labels, samples.counts(), device)
    optimizers = Optimizers(net, recipe)
    net.train()
    rates: list[float] = []
    losses: list[float] = []
    with machine.enough_memory(batch):
        for step in range(steps):
            epoch, position = divmod(step, len(samples) // batch)
            if position == 0:
                order = loader.order(recipe.seed, epoch, len(samples), balanced.sampling_weights)
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
    """Exponential moving average of the losses, with the bias correction of Adam."""
    average, curve = 0.0, []
    for count, loss in enumerate(losses, start=1):
        average = MEMORY * average + (1 - MEMORY) * loss
        curve.append(average / (1 - MEMORY**count))
    return curve


def suggested(rates: list[float], curve: list[float]) -> float:
    """The lowest rate at which the smoothed loss has made nine tenths of its total decrease, to two digits.

    The rate where the loss decreases fastest, a common choice, is determined by noise where the curve is flat. Raises
    `PatiError` if the loss never decreases.
    """
    least = min(curve, default=math.nan)
    if not curve or least >= curve[0]:
        raise PatiError(
            N_("the loss does not decrease at any learning rate"),
            N_("try more --steps, or another --model or optimizer"),
        )
    reached = next(
        rate for rate, loss in zip(rates, curve, strict=True) if loss <= curve[0] - FALL * (curve[0] - least)
    )
    return float(f"{reached:.2g}")
