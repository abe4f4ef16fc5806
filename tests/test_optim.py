from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from pati import models
from pati.optim import Muon, Optimizers, one_cycle, orthogonalised
from pati.recipe import Recipe
from tests.conftest import settled


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32)])
def test_orthogonalised_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalised(matrix, steps=5))
    assert values.min() > 0.5
    assert values.max() < 1.3
    # The directions are the matrix's own: U·Vᵀ of its singular value decomposition.
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    near = orthogonalised(matrix, steps=5)
    assert F.cosine_similarity(near.flatten(), (u @ v).flatten(), dim=0) > 0.95


def test_muon_keeps_kernel_norms() -> None:
    kernel = torch.nn.Parameter(torch.randn(8, 4, 3, 3))
    optimizer = Muon([kernel], momentum=0.5)
    optimizer.param_groups[0]["lr"] = 0.01
    for _ in range(5):
        kernel.grad = torch.randn_like(kernel)
        optimizer.step()
        assert abs(kernel.norm().item() - 8**0.5) < 0.05


def test_one_cycle() -> None:
    assert one_cycle(0.2, 0.2) == pytest.approx(1)
    assert one_cycle(0.1, 0.2) == pytest.approx(0.5)
    assert one_cycle(0.6, 0.2) == pytest.approx(0.5)
    assert one_cycle(1.0, 0.2) == 0
    assert 0 < one_cycle(0.0, 0.2) < 0.05
    assert one_cycle(0.0, 0.0) == 1


@pytest.mark.parametrize("name", ["muon", "sgd", "adamw"])
def test_state_can_be_restored_exactly(name: str) -> None:
    recipe = settled(Recipe(optimizer=name, learning_rate=0.01, weight_decay=0.01))

    def steps(net: models.Net, optimizers: Optimizers, count: int, seed: int) -> None:
        torch.manual_seed(seed)
        for number in range(count):
            F.cross_entropy(net(torch.randn(8, 3, 32, 32)), torch.arange(8) % 2).backward()
            optimizers.step(0.1 + number / 100)

    net = models.build("pati", 2, models.Options(width=0.25))
    optimizers = Optimizers(net, recipe)
    steps(net, optimizers, 3, seed=1)
    weights = {key: value.clone() for key, value in net.state_dict().items()}
    state = {key: value.clone() for key, value in optimizers.state().items()}
    steps(net, optimizers, 3, seed=2)

    again = models.build("pati", 2, models.Options(width=0.25), seed=5)
    again.load_state_dict(weights)
    restored = Optimizers(again, recipe)
    restored.restore(state)
    steps(again, restored, 3, seed=2)
    for one, two in zip(net.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, two)


def test_muon_leaves_depthwise_kernels_to_sgd() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1, bias=False), torch.nn.Conv2d(8, 8, 3, groups=8, bias=False))
    recipe = settled(Recipe(learning_rate=0.1, vector_learning_rate=0.01, momentum=0, warmup=0))
    dense, depthwise = (layer.weight.detach().clone() for layer in net)
    for layer in net:
        layer.weight.grad = torch.ones_like(layer.weight)
    Optimizers(net, recipe).step(0.0)
    torch.testing.assert_close(net[1].weight, depthwise - 0.01)
    assert not torch.allclose(net[0].weight, dense - 0.1)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_decay_spares_norms_and_biases(name: str) -> None:
    net = models.build("scratch", 2, models.Options(width=0.25))
    for parameter in net.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    Optimizers(net, settled(Recipe(optimizer=name, learning_rate=0.1, momentum=0, weight_decay=0.5, warmup=0))).step(
        0.0
    )
    for parameter in net.parameters():
        expected = 0.95 if parameter.ndim > 1 else 1.0
        torch.testing.assert_close(parameter, torch.full_like(parameter, expected), check_stride=False)
