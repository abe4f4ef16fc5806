"""`python -m bench.tries TRY …`: variants of the house net and recipe, trained one after another, for LOG.md.

Each TRY is a JSON object with fields of `Try`, for example

    '{"net": "16p 32p 32 64p 64 128p 128", "sizes": [64], "epochs": 3, "score": [64, 80]}'

Trains on the training split less 3,000 photos and scores those with the validation split (about 4,900 photos, ± 0.3
points), mirror images averaged. The test split is never looked at. One JSON line a try; the loop is that of
`pati/training/loop.py` without checkpoints: a change can be tried here in a line before it earns its place there.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from bisect import bisect_right
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from pati.data import loader, pack
from pati.data.audit.judge import build_manifest
from pati.data.loader import Samples
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.inference import forward
from pati.models.blocks import Net, Residual
from pati.recipe import Recipe
from pati.system import machine
from pati.training import augment
from pati.training.optim import Optimizers
from tests.support.recipes import settled

HELD_OUT = 3000
HOUSE = "16p 32p 32 64p 64 128p 128"


@dataclass(frozen=True)
class Try:
    """One training. `net`: convolutions, each `[kK][sS]:C[p][e][r]`: kernel K (3), stride S (1), C channels, then
    pooling; e: squeeze and excitation; r adds the input to the output. `head`: "mean" or "max" over the last map, or
    "both" side by side.

    `sizes` in px, each for its share of the run; one of `epochs` and `seconds`; `score`: sizes to score at; `recipe`:
    fields of `Recipe`; `keep`, `easy`: from the second epoch on, the share of photos with the largest last loss that is
    trained on, and the chance of each of the others; `scale`: batch norm learns its scale; `flips`: "random" or
    "alternate", where every second epoch mirrors the other half.
    """

    net: str = HOUSE
    sizes: tuple[int, ...] = (64,)
    shares: tuple[float, ...] = ()
    epochs: int = 0
    seconds: float = 0.0
    score: tuple[int, ...] = (64, 80, 96)
    pack: int = 96
    batch: int = 128
    seed: int = 0
    recipe: dict[str, Any] = field(default_factory=dict)
    keep: float = 1.0
    easy: float = 0.0
    scale: bool = True
    bfloat16: bool = True
    flips: str = "random"
    act: str = "relu"
    head: str = "mean"


class Excited(nn.Module):
    """Channels weighted by the whole map (Hu et al., 2018, https://arxiv.org/abs/1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.Linear(channels, channels // 8), nn.ReLU(), nn.Linear(channels // 8, channels), nn.Sigmoid()
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weighed: torch.Tensor = images * self.weigh(images.mean((2, 3)))[:, :, None, None].to(images.dtype)
        return weighed


class Both(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images.mean((2, 3)), images.amax((2, 3))], 1)


ACTS = {"relu": lambda: nn.ReLU(inplace=True), "gelu": nn.GELU, "silu": nn.SiLU, "hardswish": nn.Hardswish}


def build(words: str, classes: int, *, seed: int, scale: bool, act: str = "relu", head: str = "mean") -> Net:
    torch.manual_seed(seed)
    stages, before = [], 3
    for word in words.split():
        found = re.fullmatch(r"(?:k(\d+))?(?:s(\d))?:?(\d+)(p?)(e?)(r?)", word)
        assert found, word
        kernel, stride, after = int(found[1] or 3), int(found[2] or 1), int(found[3])
        padding = 0 if kernel == stride else kernel // 2
        norm = nn.BatchNorm2d(after)
        norm.weight.requires_grad_(scale)
        stages.append(
            (Residual if found[6] else nn.Sequential)(
                nn.Conv2d(before, after, kernel, stride=stride, padding=padding, bias=False),
                *([nn.MaxPool2d(2)] if found[4] else []),
                norm,
                ACTS[act](),
                *([Excited(after)] if found[5] else []),
            )
        )
        before = after
    pools = {"mean": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1), "both": Both()}
    features = 2 * before if head == "both" else before
    net = Net(
        nn.Sequential(*stages),
        nn.Sequential(pools[head], nn.Flatten(), nn.Linear(features, classes)),
        minimum_size=16,
    )
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def photos(size: int) -> tuple[Samples, Samples, Preprocess, int]:
    """What is trained on, what is scored, preprocessing, number of classes."""
    source, preprocess = find_source("cats-vs-dogs"), Preprocess(size=size)
    findings, packed, _ = pack.open_or_build(source, preprocess)
    found = build_manifest(source, findings, Recipe())
    training, scored = (loader.samples(packed, found, found.of_split(name)) for name in ("train", "validation"))
    mean, std = loader.colour_statistics(training)
    held, kept = loader.order(5, 0, len(training)).split([HELD_OUT, len(training) - HELD_OUT])
    scored = Samples(
        training.pixels,
        torch.cat([scored.rows, training.rows[held]]),
        torch.cat([scored.labels, training.labels[held]]),
        training.classes,
    )
    training = Samples(training.pixels, training.rows[kept], training.labels[kept], training.classes)
    return training, scored, dataclasses.replace(preprocess, mean=mean, std=std), len(found.classes)


def run(what: Try, data: tuple[Samples, Samples, Preprocess, int]) -> dict[str, Any]:
    training, scored, preprocess, classes = data
    assert max(what.score) <= what.pack, "photos are shrunk for scoring, never enlarged"
    chosen = Recipe(epochs=1, batch=what.batch, seed=what.seed, size=what.pack, **what.recipe)
    recipe = settled(chosen, photos=len(training))
    net = build(what.net, classes, seed=what.seed, scale=what.scale, act=what.act, head=what.head)
    optimizers = Optimizers(net, recipe)
    ends = list(accumulate(what.shares or [1 / len(what.sizes)] * len(what.sizes)))
    last_loss = torch.full((len(training),), float("inf"))
    steps = what.epochs * (len(training) // what.batch)
    step, epoch, progress, rates = 0, 0, 0.0, []
    started = time.monotonic()
    net.train()
    while progress < 1:
        order = loader.order(what.seed, epoch, len(training))
        if what.keep < 1 and epoch:
            hard = last_loss >= last_loss.topk(int(what.keep * len(training))).values[-1]
            lucky = augment.Draws(what.seed, -epoch, torch.arange(len(training))).uniform() < what.easy
            order = order[(hard | lucky)[order]]
        began, first = time.monotonic(), step
        for numbers in order.split(what.batch):
            if len(numbers) < what.batch or progress >= 1:
                break
            size = what.sizes[min(bisect_right(ends, progress), len(what.sizes) - 1)]
            pixels, targets = training.at(numbers)
            images = augment.augment(pixels, augment.Draws(what.seed, epoch, numbers), recipe, preprocess, size)
            if what.flips == "alternate":
                turned = (augment.Draws(what.seed, 10**6, numbers).uniform() < 0.5) ^ (epoch % 2 == 1)
                images = torch.where(turned[:, None, None, None], images.flip(3), images)
            with torch.autocast("cpu", torch.bfloat16, enabled=what.bfloat16):
                logits = net(images)
            losses = F.cross_entropy(logits.float(), targets, label_smoothing=recipe.label_smoothing, reduction="none")
            losses.mean().backward()  # type: ignore[no-untyped-call]
            optimizers.step(progress)
            last_loss[numbers] = losses.detach()
            step += 1
            progress = step / steps if steps else (time.monotonic() - started) / what.seconds
        rates.append(round((step - first) * what.batch / (time.monotonic() - began)))
        epoch += 1
    seconds = time.monotonic() - started
    right = scored.labels
    outcome: dict[str, Any] = {}
    plain = forward.logits_of(net, scored, preprocess, device=torch.device("cpu"), size=what.score[0])
    outcome["unmirrored"] = round(100 * (plain.argmax(1) == right).float().mean().item(), 2)
    for size in what.score:
        logits = forward.logits_of(net, scored, preprocess, device=torch.device("cpu"), size=size, mirror=True)
        outcome[f"{size} px"] = round(100 * (logits.argmax(1) == right).float().mean().item(), 2)
        outcome[f"loss at {size}"] = round(F.cross_entropy(logits, right).item(), 4)
    return {
        **{name: value for name, value in asdict(what).items() if value != getattr(Try(), name)},
        "trained_seconds": round(seconds, 1),
        "epochs_seen": round(step * what.batch / len(training), 2),
        "photos_per_second": rates,
        **outcome,
    }


def main() -> None:
    machine.keep_blocks()
    data: dict[int, tuple[Samples, Samples, Preprocess, int]] = {}
    for words in sys.argv[1:]:
        values = json.loads(words)
        what = Try(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
        if what.pack not in data:
            data[what.pack] = photos(what.pack)
        print(json.dumps(run(what, data[what.pack])), flush=True)


if __name__ == "__main__":
    main()
