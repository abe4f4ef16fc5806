"""The learning-rate range test: its curve, its rule, and that it finds rates that train."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from pati import models
from pati.data.preprocess import Preprocess
from pati.errors import PatiError
from pati.recipe import Recipe, field_named
from pati.training import lr_find
from tests.support.recipes import settled
from tests.support.trainings import TRAINING

CPU = torch.device("cpu")


def search(optimizer: str, steps: int = 30) -> lr_find.RangeTest:
    recipe = settled(Recipe(optimizer=optimizer, size=32, growth=(0.5,), batch=8, width=0.25))
    net = models.build("scratch", 3, models.Options(width=0.25))
    return lr_find.search(net, TRAINING, Preprocess(size=32), recipe, device=CPU, steps=steps)


def test_every_optimizer_has_a_range() -> None:
    assert set(lr_find.RANGES) == set(field_named("optimizer").metadata["among"])
    limits = field_named("learning_rate").metadata
    assert all(limits["low"] <= low < high <= limits["high"] for low, high in lr_find.RANGES.values())


def test_smoothing_by_hand() -> None:
    # 0.1·2 = 0.2 over 1 - 0.9; then 0.9·0.2 + 0.1·4 = 0.58 over 1 - 0.81.
    assert lr_find.smoothed([2.0, 4.0]) == pytest.approx([2.0, 0.58 / 0.19])
    assert lr_find.smoothed([3.0] * 50) == pytest.approx([3.0] * 50)


def test_the_rule_by_hand() -> None:
    # The whole fall is from 2 to 1: nine tenths of it are done at 1.1.
    rates = [0.001, 0.01, 0.1, 1.0, 2.0]
    assert lr_find.suggested(rates, [2.0, 1.5, 1.09, 1.0, 9.0]) == 0.1
    assert lr_find.suggested(rates, [2.0, 1.5, 1.11, 1.0, 9.0]) == 1.0
    assert lr_find.suggested([0.001, 0.012345], [2.0, 1.0]) == 0.012
    for flat in ([2.0, 2.0], [2.0, 3.0], []):
        with pytest.raises(PatiError, match="does not decrease"):
            lr_find.suggested(rates[: len(flat)], flat)


@pytest.mark.parametrize("optimizer", list(lr_find.RANGES))
def test_rates_rise_evenly_and_the_suggestion_is_where_the_loss_has_fallen(optimizer: str) -> None:
    found = search(optimizer)
    low, high = lr_find.RANGES[optimizer]
    assert found.rates[0] == low
    assert len(found.rates) == 30 or found.smoothed[-1] > 4 * min(found.smoothed) or found.rates[-1] < high
    ratios = [after / before for before, after in zip(found.rates, found.rates[1:], strict=False)]
    assert ratios == pytest.approx([(high / low) ** (1 / 29)] * len(ratios))
    assert list(found.smoothed) == lr_find.smoothed(list(found.losses))
    assert all(map(math.isfinite, found.losses))
    assert low < found.suggestion < high
    assert search(optimizer) == found  # the same again


def test_it_stops_where_the_net_diverges() -> None:
    wild = Preprocess(size=32, std=(1e-40, 1e-40, 1e-40))  # divides the pixels into infinities
    recipe = settled(Recipe(size=32, batch=16, width=0.25))
    net = models.build("scratch", 3, models.Options(width=0.25))
    with pytest.raises(PatiError, match="does not decrease"):
        lr_find.search(net, TRAINING, wild, recipe, device=CPU)


def test_few_photos_are_seen_again() -> None:
    few = dataclasses.replace(TRAINING, rows=TRAINING.rows[:10], labels=TRAINING.labels[:10])
    recipe = settled(Recipe(size=32, batch=64, width=0.25))
    net = models.build("scratch", 3, models.Options(width=0.25))
    done: list[tuple[int, int]] = []
    lr_find.search(
        net, few, Preprocess(size=32), recipe, device=CPU, steps=20, progress=lambda *at: done.append(at)
    )  # fmt: skip
    assert done[0] == (1, 20)


def test_few_steps_are_refused() -> None:
    with pytest.raises(PatiError, match="20 or more"):
        search("sgd", steps=19)
