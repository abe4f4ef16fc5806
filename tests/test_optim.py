from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pati import models
from pati.recipe import Recipe, field_named
from pati.training.optim import SGD, Adam, Muon, Optimizers, one_cycle, orthogonalised, schedules
from tests.support.recipes import settled


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32)])
def test_orthogonalised_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    values = torch.linalg.svdvals(orthogonalised(matrix, steps=5))
    assert values.min() > 0.68
    assert values.max() < 1.21
    # The directions are the matrix's own: U·Vᵀ of its singular value decomposition.
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    near = orthogonalised(matrix, steps=5)
    assert F.cosine_similarity(near.flatten(), (u @ v).flatten(), dim=0) > 0.95


def test_three_steps_bring_all_but_small_singular_values_near_one() -> None:
    shares = torch.logspace(-4, 0, 200, dtype=torch.float64)
    shares /= shares.norm()
    u, _ = torch.linalg.qr(torch.randn(200, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    near = orthogonalised(u @ torch.diag(shares) @ u.T)
    values = torch.diagonal(u.T @ near @ u)  # in the order of the shares
    assert ((values > 0.68) & (values < 1.21))[shares >= 0.02].all()
    small = shares < 0.002
    torch.testing.assert_close(
        values[small] / shares[small], torch.full_like(values[small], 3.4445**3), rtol=0.01, atol=0
    )


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
def test_muon_keeps_kernel_norms(scale: float) -> None:
    kernel = torch.nn.Parameter(scale * torch.randn(8, 4, 3, 3))
    norm = kernel.norm().item()
    optimizer = Muon([kernel], momentum=0.5)
    optimizer.param_groups[0]["lr"] = 0.01
    for _ in range(5):
        kernel.grad = torch.randn_like(kernel)
        optimizer.step()
        assert kernel.norm().item() == pytest.approx(norm, rel=0.02)


def test_muons_steps_are_the_same_share_of_a_kernel_of_any_scale() -> None:
    start, gradients = torch.randn(8, 4, 3, 3), torch.randn(3, 8, 4, 3, 3)
    ends = []
    for scale in (1.0, 1 / 64):
        kernel = torch.nn.Parameter(scale * start)
        optimizer = Muon([kernel], momentum=0.5)
        optimizer.param_groups[0]["lr"] = 0.05
        for gradient in gradients:
            kernel.grad = gradient.clone()
            optimizer.step()
        ends.append(kernel.detach() / scale)
    torch.testing.assert_close(*ends)
    assert not torch.allclose(ends[0], start, atol=1e-3)


def test_muon_does_not_depend_on_the_memory_order_of_a_kernel() -> None:
    start, gradient = torch.randn(8, 4, 3, 3), torch.randn(8, 4, 3, 3)
    ends = []
    for order in (torch.contiguous_format, torch.channels_last):
        kernel = torch.nn.Parameter(start.clone(memory_format=order))
        optimizer = Muon([kernel], momentum=0.5)
        optimizer.param_groups[0]["lr"] = 0.05
        kernel.grad = gradient.clone(memory_format=order)
        optimizer.step()
        ends.append(kernel.detach())
    torch.testing.assert_close(*ends)


def test_muon_moves_a_kernel_of_zeros() -> None:
    kernel = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    optimizer = Muon([kernel], momentum=0.5)
    optimizer.param_groups[0]["lr"] = 0.05
    for _ in range(2):
        kernel.grad = torch.randn_like(kernel)
        optimizer.step()
    assert kernel.norm().item() == pytest.approx(8**0.5, rel=0.05)


@pytest.mark.parametrize("name", ["pati", "vgg11", "resnet18", "efficientnet-b0", "mobilenetv3-small", "convnext-atto"])
def test_muon_starts_from_the_net_that_was_drawn(name: str) -> None:
    """Also where no norm follows a kernel: a step of almost no length leaves the answers as they are."""
    net = models.build(name, 3, models.Options(size=32, width=0.25)).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = net(images)
    before.sum().backward()
    Optimizers(net, settled(Recipe())).update(1e-9, 0.0)
    torch.testing.assert_close(net(images), before, rtol=1e-3, atol=1e-3)


def test_schedules_are_those_of_the_recipe() -> None:
    assert tuple(schedules) == field_named("schedule").metadata["among"]


@pytest.mark.parametrize("name", list(schedules))
def test_schedules_fall_to_nothing(name: str) -> None:
    shares = [schedules[name](step / 1000, 0.2) for step in range(1001)]
    assert max(shares) == pytest.approx(1)
    assert all(0 <= share <= 1 for share in shares)
    assert shares[-1] == 0
    peak = shares.index(max(shares))
    assert shares[peak:] == sorted(shares[peak:], reverse=True)
    assert shares[: peak + 1] == sorted(shares[: peak + 1])


def test_cosine_and_linear() -> None:
    assert schedules["cosine"](0.1, 0.2) == pytest.approx(0.5)  # half-way up
    assert schedules["cosine"](0.6, 0.2) == pytest.approx(0.5)  # half-way down
    assert schedules["cosine"](0.4, 0.2) == pytest.approx((1 + 0.5**0.5) / 2)  # cos 45°
    assert schedules["linear"](0.0, 0.2) == 1
    assert schedules["linear"](0.3, 0.2) == pytest.approx(0.7)


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


class Pieces(torch.nn.Module):
    """A kernel, a matrix and a bias, all of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = torch.nn.Parameter(torch.ones(4, 2, 3, 3))
        self.matrix = torch.nn.Parameter(torch.ones(2, 4))
        self.bias = torch.nn.Parameter(torch.ones(2))


def pieces(gradient: float, **choices: Any) -> dict[str, torch.Tensor]:
    """Kernel, matrix and bias after one step from 1 at the rate 0.1, where every gradient is `gradient`."""
    net = Pieces()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    recipe = Recipe(learning_rate=0.1, vector_learning_rate=0.1, warmup=0, momentum=0, **choices)
    Optimizers(net, settled(recipe)).step(0.0)
    return {name: value.detach() for name, value in net.named_parameters()}


def close(tensor: torch.Tensor, value: float) -> bool:
    return torch.allclose(tensor, torch.full_like(tensor, value), atol=1e-6)


def test_a_step_of_sgd_by_hand() -> None:
    # Gradient 2: 1 - 0.1·2 = 0.8. Decay takes 0.1·0.5·1 more; the penalty makes the gradient 2.5.
    decayed, penalised = pieces(2.0, optimizer="sgd", weight_decay=0.5), pieces(2.0, optimizer="sgd", l2=0.5)
    for after in (decayed, penalised):  # without momentum the two are one
        assert close(after["kernel"], 0.75)
        assert close(after["matrix"], 0.75)
        assert close(after["bias"], 0.8)


def test_momentum_remembers_the_penalty_but_not_the_decay() -> None:
    def two_steps(**choices: float) -> float:
        net = Pieces()
        optimizers = Optimizers(
            net, settled(Recipe(optimizer="sgd", learning_rate=0.1, warmup=0, momentum=0.5, **choices))
        )
        for gradient in (1.0, 0.0):
            for parameter in net.parameters():
                parameter.grad = torch.full_like(parameter, gradient)
            optimizers.step(0.0)
        return net.matrix[0, 0].item()

    # Nesterov: the first step is 0.1·1.5·g, the second 0.1·(g₂ + 0.5·(0.5·g + g₂)).
    first = 1 - 0.15
    assert two_steps() == pytest.approx(first - 0.025)
    first = 0.95 - 0.15  # decay shrinks by 0.1·0.5 = 5 % before each step
    assert two_steps(weight_decay=0.5) == pytest.approx(first * 0.95 - 0.025)
    first = 1 - 0.15 * 1.5  # the penalty's gradient is 1 + 0.5·1
    again = 0.5 * first
    assert two_steps(l2=0.5) == pytest.approx(first - 0.1 * (again + 0.5 * (0.5 * 1.5 + again)))


def test_a_step_of_adamw_by_hand() -> None:
    # Adam's first step is the rate, whatever the gradient's size: only decoupled decay can be told from none.
    decayed, penalised = pieces(2.0, optimizer="adamw", weight_decay=0.5), pieces(2.0, optimizer="adamw", l2=0.5)
    for name, parameter in decayed.items():
        assert close(parameter, 0.9 if name == "bias" else 0.85)
    for parameter in penalised.values():
        assert close(parameter, 0.9)
    # With a gradient that the penalty outweighs, it turns the step round.
    penalised = pieces(-0.2, optimizer="adamw", l2=0.5)
    assert close(penalised["matrix"], 0.9)
    assert close(penalised["bias"], 1.1)


def test_a_step_of_muon_by_hand() -> None:
    plain = pieces(2.0, optimizer="muon")
    for choice in ("weight_decay", "l2"):
        after = pieces(2.0, optimizer="muon", **{choice: 0.5})
        assert torch.equal(after["kernel"], plain["kernel"])  # its norm is fixed
        assert close(after["matrix"], 0.75)
        assert close(after["bias"], 0.8)


def test_muon_leaves_depthwise_kernels_to_sgd() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1, bias=False), torch.nn.Conv2d(8, 8, 3, groups=8, bias=False))
    recipe = settled(Recipe(learning_rate=0.1, vector_learning_rate=0.01, momentum=0, warmup=0))
    dense, depthwise = (layer.weight.detach().clone() for layer in net)
    for layer in net:
        layer.weight.grad = torch.ones_like(layer.weight)
    Optimizers(net, recipe).step(0.0)
    torch.testing.assert_close(net[1].weight, depthwise - 0.01)
    assert not torch.allclose(net[0].weight, dense - 0.1)


@pytest.mark.parametrize("name", ["muon", "sgd", "adamw"])
@pytest.mark.parametrize("choice", ["weight_decay", "l2"])
def test_decay_spares_norms_and_biases(name: str, choice: str) -> None:
    net = models.build("scratch", 2, models.Options(width=0.25))
    for parameter in net.parameters():
        parameter.data.fill_(1.0)
        parameter.grad = torch.zeros_like(parameter)
    recipe = Recipe(optimizer=name, learning_rate=0.1, momentum=0, warmup=0).updated([f"{choice}=0.5"])
    Optimizers(net, settled(recipe)).step(0.0)
    for parameter in net.parameters():
        shrunk = parameter.ndim == 2 or (parameter.ndim == 4 and name != "muon")
        if parameter.ndim != 4 or name != "muon":
            assert bool((parameter < 1).all()) == shrunk
            assert bool((parameter == 1).all()) != shrunk


def test_adamw_is_torchs_own() -> None:
    one, two = (
        models.build("scratch", 2, models.Options(width=0.25)),
        models.build("scratch", 2, models.Options(width=0.25)),
    )
    mine = Optimizers(one, settled(Recipe(optimizer="adamw", learning_rate=0.01, weight_decay=0.1, warmup=0)))
    groups = [
        {"params": [p for p in two.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in two.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.999))
    torch.manual_seed(0)
    for _ in range(3):
        for first, second in zip(one.parameters(), two.parameters(), strict=True):
            first.grad = torch.randn_like(first)
            second.grad = first.grad.clone()
        mine.step(0.0)
        reference.step()
    for first, second in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("light", "whole", "options"),
    [
        (SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        (Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.8, 0.999)}),
    ],
)
def test_the_light_optimisers_step_and_resume_as_pytorchs_own(light: Any, whole: Any, options: dict[str, Any]) -> None:
    ends = []
    for kind in (light, whole):
        generator = torch.Generator().manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(4, 3, generator=generator))
        optimizer = kind([{"params": [weight]}], **options)
        for number in range(6):
            weight.grad = torch.randn(4, 3, generator=generator)
            optimizer.step()
            optimizer.zero_grad()
            assert weight.grad is None
            if number == 2:
                before, optimizer = optimizer.state_dict(), kind([{"params": [weight]}], **options)
                optimizer.load_state_dict(before)
        ends.append(weight)
    assert torch.equal(*ends)


@pytest.mark.slow
def test_no_optimiser_imports_pytorchs_compiler() -> None:
    code = """
import sys, torch
from pati.training import optim
from pati.recipe import Recipe, field_named
from tests.support.recipes import settled
for name in field_named("optimizer").metadata["among"]:
    made = optim.Optimizers(torch.nn.Conv2d(3, 4, 3), settled(Recipe(optimizer=name)))
    made.restore(made.state())
    made.step(0.5)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
