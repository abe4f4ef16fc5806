"""After training, batch norm has the statistics of photos as they are predicted."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pati import models
from pati.data.preprocess import Preprocess
from pati.inference.forward import SecondView
from pati.training import batch_norm
from tests.support.trainings import CPU, RECIPE, TRAINING

PREPROCESS = Preprocess(size=32)
PHOTOS = PREPROCESS.normalise(TRAINING.at(torch.arange(len(TRAINING)))[0])


def net_of(name: str = "pati") -> models.Net:
    return models.build(name, 3, models.Options(width=0.25, dropout=0.3, drop_path=0.3, size=32))


@pytest.mark.parametrize("crop", [1.0, 0.85])
def test_statistics_are_those_of_the_views_of_predictions(crop: float) -> None:
    recipe = dataclasses.replace(RECIPE, mirror=crop < 1, center_crop=crop)
    net = net_of()
    batch_norm.recompute(net, TRAINING, PREPROCESS, recipe, CPU)
    convolution, pool, norm, _ = net.stages[0]
    views = [PHOTOS, SecondView(True, crop).of(PHOTOS)] if crop < 1 else [PHOTOS]
    with torch.no_grad():
        seen = [pool(convolution(view)) for view in views]
    means = torch.stack([values.mean((0, 2, 3)) for values in seen])
    variances = torch.stack([values.var((0, 2, 3)) for values in seen])
    torch.testing.assert_close(norm.running_mean, means.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variances.mean(0), rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1


def test_large_sets_are_cut_into_equal_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "BATCH", 25)
    monkeypatch.setattr(batch_norm, "statistics_photos", lambda photos, classes: 51)
    net, sizes = net_of(), []
    net.stages[0].register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    batch_norm.recompute(net, TRAINING, PREPROCESS, dataclasses.replace(RECIPE, mirror=False, center_crop=1.0), CPU)
    assert sizes == [17, 17, 17]


def test_only_batch_norm_changes_and_nothing_is_random() -> None:
    one, two = net_of(), net_of()
    before = {name: value.clone() for name, value in one.state_dict().items()}
    drawn = torch.get_rng_state()
    for net in (one, two):
        batch_norm.recompute(net, TRAINING, PREPROCESS, RECIPE, CPU)
        assert not any(module.training for module in net.modules())
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
        assert torch.equal(value, before[name]) == (not name.endswith(("running_mean", "running_var", "tracked")))


def test_a_network_without_batch_norm_stays_as_it_is() -> None:
    net = net_of("convnext-atto")
    before = {name: value.clone() for name, value in net.state_dict().items()}
    net.stages[0].register_forward_hook(lambda *_: pytest.fail("photos were sent through the network"))
    batch_norm.recompute(net, TRAINING, PREPROCESS, RECIPE, CPU)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
