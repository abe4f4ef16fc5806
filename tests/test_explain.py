"""Every explainer against captum or a slow version of its paper's formulas."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, LayerGradCam, LayerGradientXActivation, Occlusion
from torch import nn

from pati import models
from pati.explain.cams import STEPS, explainers, looks_at_stages

CLASSES = torch.tensor([1, 0, 2])


@pytest.fixture(scope="module")
def net() -> models.Net:
    """The house net with norms that have seen something, so that no channel is dead."""
    torch.manual_seed(0)
    net = models.build("pati", 3, models.Options(width=0.25, size=32), seed=0)
    for _ in range(20):
        net(torch.randn(16, 3, 32, 32))
    return net.eval()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def features_and_slopes(net: models.Net, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """By one backward pass through the net, `float64 (N, C, h, w)` each."""
    features = net.stages(images)
    features.retain_grad()
    net.head(features)[range(3), CLASSES].sum().backward()
    assert features.grad is not None
    return features.detach().double(), features.grad.double()


@pytest.mark.parametrize("stage", [2, 3, None])
def test_grad_cam_equals_captum(net: models.Net, images: torch.Tensor, stage: int | None) -> None:
    cut = net if stage is None else net.cut(stage)
    expected = LayerGradCam(net, net.stages[len(cut.stages) - 1]).attribute(
        images, CLASSES, relu_attributions=True, attr_dim_summation=True
    )
    assert expected.max() > 0
    torch.testing.assert_close(explainers["grad-cam"](cut, images, CLASSES), expected[:, 0].detach())


@pytest.mark.parametrize("stage", [2, None])
def test_hires_cam_equals_captum(net: models.Net, images: torch.Tensor, stage: int | None) -> None:
    cut = net if stage is None else net.cut(stage)
    products = LayerGradientXActivation(net, net.stages[len(cut.stages) - 1]).attribute(images, CLASSES)
    expected = products.sum(1).clamp_min(0).detach()
    assert expected.max() > 0
    torch.testing.assert_close(explainers["hires-cam"](cut, images, CLASSES), expected)


def test_integrated_gradients_equal_captum(net: models.Net, images: torch.Tensor) -> None:
    expected = IntegratedGradients(net).attribute(images, target=CLASSES, n_steps=STEPS, method="riemann_middle")
    found = explainers["integrated-gradients"](net, images, CLASSES)
    torch.testing.assert_close(found, expected.sum(1).clamp_min(0).detach().float(), atol=1e-5, rtol=1e-3)


def test_occlusion_equals_captum(net: models.Net, images: torch.Tensor) -> None:
    expected = Occlusion(net).attribute(images, (3, 8, 8), (3, 4, 4), baselines=0, target=CLASSES)
    found = explainers["occlusion"](net, images, CLASSES)
    torch.testing.assert_close(found, expected[:, 0].clamp_min(0).float(), atol=1e-5, rtol=1e-3)


def test_occlusion_covers_every_pixel_of_odd_sizes() -> None:
    """The logit is the sum of all pixels: each fall is the sum of those covered."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(11 * 13 * 3, 1, bias=False))
    nn.init.ones_(head[1].weight)
    net = models.Net(nn.Sequential(nn.Identity()), head, minimum_size=1)
    found = explainers["occlusion"](net, torch.ones(1, 3, 11, 13), torch.tensor([0]))
    torch.testing.assert_close(found, torch.full((1, 11, 13), 2.0 * 3 * 3))


def test_grad_cam_plus_plus_equals_its_formulas(net: models.Net, images: torch.Tensor) -> None:
    features, slopes = features_and_slopes(net, images)
    photos, channels, height, width = features.shape
    expected = torch.zeros(photos, height, width, dtype=torch.float64)
    for n in range(photos):
        for k in range(channels):
            weight = 0.0
            for i in range(height):
                for j in range(width):
                    slope = slopes[n, k, i, j].item()
                    below = 2 * slope**2 + features[n, k].sum().item() * slope**3
                    if below != 0:
                        weight += slope**2 / below * max(0.0, slope)
            expected[n] += weight * features[n, k]
    expected = expected.clamp_min(0)
    assert expected.max() > 0
    torch.testing.assert_close(explainers["grad-cam++"](net, images, CLASSES).double(), expected, atol=1e-5, rtol=1e-3)


def test_layer_cam_equals_its_formulas(net: models.Net, images: torch.Tensor) -> None:
    features, slopes = features_and_slopes(net, images)
    expected = torch.zeros_like(features[:, 0])
    for channel in range(features.shape[1]):
        expected += torch.relu(slopes[:, channel]) * features[:, channel]
    expected = torch.relu(expected)
    assert expected.max() > 0
    torch.testing.assert_close(explainers["layer-cam"](net, images, CLASSES).double(), expected, atol=1e-6, rtol=1e-4)


def test_eigen_cam_equals_numpy(net: models.Net, images: torch.Tensor) -> None:
    with torch.no_grad():
        features = net.stages(images).double().numpy()
    found = explainers["eigen-cam"](net, images, CLASSES).numpy()
    for photo, mine in zip(features, found, strict=True):
        places = photo.reshape(len(photo), -1).T
        values, vectors = np.linalg.eigh(places.T @ places)
        pattern = (places @ vectors[:, np.argmax(values)]).reshape(photo.shape[1:])
        pattern *= np.sign(pattern.sum())
        np.testing.assert_allclose(mine, np.maximum(pattern, 0), atol=1e-4, rtol=1e-3)


def test_score_cam_equals_its_formulas(net: models.Net, images: torch.Tensor) -> None:
    net = copy.deepcopy(net)
    with torch.no_grad():
        net.head[-1].weight.mul_(10_000)  # else all channels would weigh nearly the same
    found, spreads = explainers["score-cam"](net, images, CLASSES), []
    with torch.no_grad():
        for n, asked in enumerate(CLASSES.tolist()):
            features = net.stages(images[n : n + 1])
            baseline = net(torch.zeros_like(images[:1]))[0, asked]
            rises = []
            for channel in features[0]:
                mask = F.interpolate(channel[None, None], size=(32, 32), mode="bilinear", align_corners=False)
                spread = mask.max() - mask.min()
                mask = (mask - mask.min()) / spread if spread > 0 else torch.zeros_like(mask)
                rises.append(net(images[n : n + 1] * mask)[0, asked] - baseline)
            weights = torch.stack(rises).softmax(0)
            expected = torch.relu((weights[:, None, None] * features[0]).sum(0))
            torch.testing.assert_close(found[n], expected, atol=1e-5, rtol=1e-3)
            spreads.append((weights.max() / weights.min()).item())
    assert max(spreads) > 10


def test_a_head_that_begins_in_place_is_explained() -> None:
    """The logit is the sum of what is above zero: its slope is 1 there."""
    head = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 2, bias=False))
    nn.init.ones_(head[2].weight)
    net = models.Net(nn.Sequential(nn.Identity()), head, minimum_size=1)
    images = torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    maps = explainers["hires-cam"](net, images, torch.tensor([0, 1]))
    torch.testing.assert_close(maps, before.clamp_min(0).sum(1))
    assert torch.equal(images, before)


@pytest.mark.parametrize("method", list(explainers))
def test_a_photo_that_says_nothing_gets_an_empty_map(method: str) -> None:
    """A head that answers the same to everything."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    nn.init.zeros_(head[2].weight)
    net = models.Net(nn.Sequential(nn.Identity()), head, minimum_size=1)
    maps = explainers[method](net, torch.randn(1, 3, 16, 16), torch.tensor([1]))
    if method in ("eigen-cam", "score-cam"):  # they ask for patterns in the features, whatever the head makes of them
        assert torch.isfinite(maps).all()
    else:
        assert maps.abs().max() == 0


@pytest.mark.parametrize("method", list(explainers))
def test_those_of_pixels_alone_look_at_no_stage(net: models.Net, images: torch.Tensor, method: str) -> None:
    first, last = (explainers[method](cut, images, CLASSES) for cut in (net.cut(2), net))
    same = first.shape == last.shape and torch.allclose(first, last, atol=1e-6)
    assert looks_at_stages(method) != same
