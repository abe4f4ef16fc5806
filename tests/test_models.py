"""Contracts of every registered model; a new one is tested by being registered."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pati import models
from pati.explain.cams import explainers
from pati.optim import Optimizers
from pati.recipe import Recipe, presets
from tests.conftest import settled

NAMES = list(models.models)


def net_of(name: str, classes: int = 3, width: float = 0.5, seed: int = 0, dropout: float = 0.0) -> models.Net:
    return models.build(name, classes, models.Options(width=width, dropout=dropout), seed=seed)


@pytest.mark.parametrize("name", NAMES)
def test_forward_at_several_sizes_and_in_parts(name: str) -> None:
    net = net_of(name).eval()
    for size in (net.minimum_size, 48, 96):
        images = torch.randn(2, 3, size, size)
        logits = net(images)
        assert logits.shape == (2, 3)
        for cut in range(len(net.stages) + 1):
            features = net.stages[:cut](images.clone())
            torch.testing.assert_close(net.head(net.stages[cut:](features)), logits)


@pytest.mark.parametrize("name", NAMES)
def test_stages_leave_their_input_alone(name: str) -> None:
    features = torch.randn(2, 3, 64, 64)
    for stage in net_of(name).stages:
        before = features.clone()
        after = stage(features)
        assert torch.equal(features, before)
        features = after.detach()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = net_of(name)
    F.cross_entropy(net(torch.randn(4, 3, 48, 48)), torch.tensor([0, 1, 2, 0])).backward()
    for label, parameter in net.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_weights_and_nothing_else(name: str) -> None:
    state = torch.get_rng_state()
    first, second, other = net_of(name), net_of(name), net_of(name, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert any(not torch.equal(one, two) for one, two in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_overfits_32_pictures(name: str) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 3
    net = net_of(name)
    recipe = settled(presets["bootcamp"]() if name == "scratch" else Recipe())
    optimizers = Optimizers(net, recipe)
    for step in range(60):
        F.cross_entropy(net(images), labels).backward()
        optimizers.step(step / 60)
    net.eval()
    with torch.no_grad():
        assert (net(images).argmax(1) == labels).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", list(explainers))
def test_explainers_give_a_map_for_each_photo_and_class(name: str, method: str) -> None:
    net = net_of(name).eval()
    images = torch.randn(4, 3, 64, 64)
    maps = explainers[method](net, images, torch.tensor([0, 1, 2, 0]))
    assert maps.shape[0] == 4
    assert maps.ndim == 3
    assert torch.isfinite(maps).all()
    assert (maps >= 0).all()
    alone = explainers[method](net, images[2:3], torch.tensor([2]))
    torch.testing.assert_close(maps[2:3], alone, atol=1e-5, rtol=1e-4)


def test_grad_cam_of_a_net_worked_out_by_hand() -> None:
    """One stage that passes the image through, a head that weighs channel means: weights are known."""
    weights = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 0.0]])
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        head[2].weight.copy_(weights)
    net = models.Net(torch.nn.Sequential(torch.nn.Identity()), head, minimum_size=1)
    images = torch.randn(2, 3, 4, 4)
    maps = explainers["grad-cam"](net, images, torch.tensor([0, 1]))
    # d(logit)/d(pixel) is weight/16 everywhere; its mean over the 16 places is the same.
    expected = torch.einsum("nc,nchw->nhw", weights / 16, images).clamp_min(0)
    torch.testing.assert_close(maps, expected)


def test_width_and_dropout_reach_the_net() -> None:
    for name in NAMES:
        small, large = (sum(p.numel() for p in net_of(name, width=w).parameters()) for w in (0.5, 1.0))
        assert small < large / 2
        rates = [module.p for module in net_of(name, dropout=0.4).modules() if isinstance(module, torch.nn.Dropout)]
        assert rates == [0.4]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("negative", [False, True])
def test_a_folded_net_gives_the_same_logits(name: str, negative: bool) -> None:
    net = net_of(name)
    images = torch.randn(8, 3, 48, 48)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, -1.0 if negative else 0.5, 1.5)
            torch.nn.init.normal_(module.bias)
    net(images)  # moves the statistics
    net.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with torch.inference_mode():
        torch.testing.assert_close(models.folded(net, torch.float32)(images), net(images), rtol=1e-4, atol=1e-5)
        half = models.folded(net, torch.bfloat16)(images)
        assert half.dtype == torch.float32
        assert (half - net(images)).abs().max() < 0.05 * net(images).abs().max() + 0.02
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_folding_leaves_no_norm_behind_where_scales_are_positive(name: str) -> None:
    ready = models.folded(net_of(name), torch.float32)
    assert not [module for module in ready.modules() if isinstance(module, torch.nn.BatchNorm2d)]
