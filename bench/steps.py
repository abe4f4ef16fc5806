"""What steps, validation passes and answers take on this machine, one by one: `bench disturbed` lives on them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from pati import models
from pati.data.loader import Samples
from pati.data.preprocess import Preprocess
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.recipe import Recipe
from pati.system import machine
from pati.training import augment, balance, loop, plan, speed
from pati.training.optim import Optimizers
from tests.support.recipes import settled

BATCHES = (64, 128)
FEW_BATCH = 32
STEPS = 15
CPU = torch.device("cpu")


def step_times() -> dict[str, Any]:
    """Each tier of the budget at its sizes, with its batches."""
    assert augment.augmentations  # registered before anything is timed
    machine.keep_blocks()
    precision = machine.faster_precision()
    probed = speed.of_training(None, precision, CPU)
    rows = [tier(usual, batch, precision) for usual in plan.TIERS for batch in BATCHES]
    rows += [tier(few, FEW_BATCH, precision) for few in plan.FEW_TIERS[:-1]]  # the last one differs in the crop alone
    return {"precision": precision, "speed": round(probed), "tiers": rows}


def tier(tier: plan.Tier, batch: int, precision: str) -> dict[str, Any]:
    """Seconds of single steps at each training size, and of one photo in a validation pass and in scoring."""
    recipe = settled(
        Recipe(
            model=tier.model, epochs=1, size=tier.size, growth=tier.growth, width=tier.width, crop=tier.crop,
            batch=batch, precision=precision, mirror=tier.mirror,
        ),
        photos=16_000,
    )  # fmt: skip
    net = models.build(tier.model, 2, models.Options(width=tier.width))
    preprocess = Preprocess(size=tier.size)
    count = max(300, batch)
    data = Samples(
        torch.randint(0, 256, (count, tier.size, tier.size, 3), dtype=torch.uint8),
        torch.arange(count),
        torch.arange(count) % 2,
        2,
    )
    balanced, optimizers = balance.of(recipe, data.labels, data.counts(), CPU), Optimizers(net, recipe)

    def step(number: int, size: int) -> None:
        net.train()
        keys = torch.randperm(count)[:batch]
        loss, _, _ = loop.forward(
            net, data, keys, balanced, preprocess, recipe, epoch=0, step=number, size=size, device=CPU
        )
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()
        optimizers.step(0.5)

    steps, passes = {}, {}
    for size in dict.fromkeys(plan.training_sizes(recipe, net.minimum_size)):
        step(0, size)  # the first one is slower
        steps[str(size)] = [round(seconds(lambda size=size: step(1, size)), 5) for _ in range(STEPS)]
        passes[str(size)] = each(
            lambda size=size: forward.logits_of(net, data, preprocess, device=CPU, precision=precision, size=size),
            count,
        )
    made = Classifier(net, preprocess, ["cat", "dog"], mirror=tier.mirror, facts={})
    return {
        "model": tier.model,
        "size": tier.size,
        "width": tier.width,
        "batch": batch,
        "steps": steps,
        "validation": passes,
        "answer": each(lambda: made.answers(data.pixels), count),
    }


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def each(work: Callable[[], object], photos: int) -> float:
    work()
    return round(statistics.median(seconds(work) for _ in range(3)) / photos, 7)
