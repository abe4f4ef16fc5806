"""What each process does in a test of several: `torchrun … -m tests.support.ranks RESULTS FOLDER`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from pati import models
from pati.data.loader import Samples, order
from pati.data.preprocess import Preprocess
from pati.events import StepDone
from pati.inference.classifier import Classifier
from pati.inference.splits import SplitPredictor
from pati.models import Net
from pati.recipe import SettledRecipe
from pati.system.ranks import Ranks, joined
from pati.training import augment, balance, loop
from tests.support.trainings import CPU, RECIPE, TRAINING, VALIDATION, run

Tensors = dict[str, torch.Tensor]
BATCH = 13  # odd
COUNTS = (1, 2, 131, 259)  # photos that are scored
MIXED = dataclasses.replace(
    RECIPE, mixup=0.4, cutmix=1.0, balance="sampling", dropout=0.0, precision="float32", averaging=0.1, epochs=5
)
SGD = dataclasses.replace(MIXED, optimizer="sgd", learning_rate=0.05, momentum=0.9)


def network() -> Net:
    return models.build("scratch", 3, models.Options(width=0.25, size=32), seed=0)


def gradients(ranks: Ranks) -> Tensors:
    """Of one step in float64, and the running statistics after it."""
    augmented, data = augment.augment, TRAINING
    net, balanced = network().double().train(), balance.of(MIXED, data.labels, data.counts(), CPU)
    loop.augment = lambda *given: augmented(*given).double()  # type: ignore[attr-defined]
    try:
        loss, _, _ = loop.forward(
            net, data, order(0, 0, len(data))[:BATCH], balanced, Preprocess(size=32), MIXED,
            epoch=0, step=0, size=32, device=CPU, ranks=ranks,
        )  # fmt: skip
    finally:
        loop.augment = augmented  # type: ignore[attr-defined]
    loss.backward()  # type: ignore[no-untyped-call]
    ranks.sum_gradients(net.parameters())
    found = {name: value.grad for name, value in net.named_parameters() if value.grad is not None}
    return found | dict(net.named_buffers()) | {"loss": torch.tensor(ranks.total(loss.item()), dtype=torch.float64)}


def trained(ranks: Ranks, recipe: SettledRecipe, folder: Path) -> Tensors:
    """The mean loss after each step, and the weights."""
    weights, told = run(folder, recipe, ranks=ranks, batch=BATCH)
    losses = [event.loss for event in told if isinstance(event, StepDone)]
    return {"losses": torch.tensor(losses, dtype=torch.float64), **weights}


def scored(ranks: Ranks) -> Tensors:
    """Predictions for several numbers of photos."""
    classifier = Classifier(network().eval(), Preprocess(size=32), ("a", "b", "c"), mirror=True, facts={})
    predictor, found = SplitPredictor(classifier, None, 0.0, ranks), Tensors()
    for count in COUNTS:
        rows = torch.arange(count) % len(VALIDATION)
        data = Samples(VALIDATION.pixels, VALIDATION.rows[rows], VALIDATION.labels[rows], 3)
        names = ("numbers", "logits", "moments")
        found |= dict(zip((f"{name} {count}" for name in names), predictor.answers(data), strict=True))
        found[f"only moments {count}"] = predictor.moments(data)
    return found


def results(ranks: Ranks, folder: Path) -> dict[str, Tensors]:
    """Everything that must not depend on the number of processes."""
    torch.set_num_threads(1)
    return {
        "ranks": {"size": torch.tensor(ranks.size)},
        "gradients": gradients(ranks),
        "sgd": trained(ranks, SGD, folder / f"sgd-{ranks.size}"),
        "muon": trained(ranks, MIXED, folder / f"muon-{ranks.size}"),
        "scored": scored(ranks),
    }


if __name__ == "__main__":
    with joined() as ranks:
        found = results(ranks, Path(sys.argv[2]))
        if ranks.first:
            parts = [(f"{task}/{name}", value) for task, values in found.items() for name, value in values.items()]
            save_file({name: value.clone(memory_format=torch.contiguous_format) for name, value in parts}, sys.argv[1])
