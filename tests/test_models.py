"""Contracts of every registered model; a new one is tested by being registered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pati import models
from pati.data.preprocess import Preprocess
from pati.explain.cams import explainers
from pati.inference import classifier
from pati.models import blocks, counting
from pati.recipe import Recipe, presets
from pati.training.optim import Optimizers
from tests.support.recipes import settled

NAMES = list(models.models)


# Each family's first net, which is its smallest.
SMALLEST = list({models.models[name].__module__: name for name in reversed(NAMES)}.values())
REFERENCES = json.loads((Path(__file__).parent.parent / "docs" / "references.json").read_text(encoding="utf-8"))


def net_of(
    name: str,
    classes: int = 3,
    width: float = 0.25,
    seed: int = 0,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    size: int = 64,
) -> models.Net:
    options = models.Options(width=width, dropout=dropout, drop_path=drop_path, size=size)
    return models.build(name, classes, options, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("built_for", [32, 224])
def test_forward_at_several_sizes_and_in_parts(name: str, built_for: int) -> None:
    net = net_of(name, size=built_for).eval()
    assert net.minimum_size <= 32
    assert net(torch.randn(2, 3, 45, 45)).shape == (2, 3)
    images = torch.randn(2, 3, net.minimum_size, net.minimum_size)
    logits = net(images)
    assert logits.shape == (2, 3)
    for cut in range(len(net.stages) + 1):
        features = net.stages[:cut](images.clone())
        torch.testing.assert_close(net.head(net.stages[cut:](features)), logits)


@pytest.mark.parametrize("name", NAMES)
def test_stages_leave_their_input_alone(name: str) -> None:
    features = torch.randn(2, 3, 32, 32)
    for stage in net_of(name, size=32).stages:
        before = features.clone()
        after = stage(features)
        assert torch.equal(features, before)
        features = after.detach()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    net = net_of(name, size=32)
    F.cross_entropy(net(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    for label, parameter in net.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", SMALLEST)
def test_the_gradient_reaches_the_stages_in_channels_last_memory(name: str) -> None:
    net, orders = net_of(name), []
    images = torch.randn(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)

    def note(module: torch.nn.Module, inputs: object, outputs: tuple[torch.Tensor, ...]) -> None:
        orders.append(outputs[0].is_contiguous(memory_format=torch.channels_last))

    net.stages[-1].register_full_backward_hook(note)
    net(images).sum().backward()
    assert orders == [True]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_seed_decides_the_weights_and_nothing_else(name: str) -> None:
    state = torch.get_rng_state()
    first, second, other = net_of(name), net_of(name), net_of(name, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert any(not torch.equal(one, two) for one, two in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_overfits_32_pictures(name: str) -> None:
    torch.manual_seed(0)
    images, labels = torch.randn(32, 3, 32, 32), torch.arange(32) % 3
    net = net_of(name, size=32)
    recipe = settled(presets["bootcamp"]() if name == "scratch" else Recipe())
    optimizers = Optimizers(net, recipe)
    for step in range(60):
        F.cross_entropy(net(images), labels).backward()
        optimizers.step(step / 60)
        if step % 10 == 9:
            with torch.no_grad():
                known = (net.eval()(images).argmax(1) == labels).all()
            if known:
                return
            net.train()
    raise AssertionError("it has not learnt 32 pictures in 60 steps")


def passes(method: str) -> int:
    """How many images the explainer shows a small net for one photo."""
    net, count = net_of("pati").eval(), 0

    def asked(head: torch.nn.Module, given: tuple[torch.Tensor], logits: torch.Tensor) -> None:
        nonlocal count
        count += len(logits)

    net.head.register_forward_hook(asked)
    explainers[method](net, torch.zeros(1, 3, 32, 32), torch.tensor([0]))
    return count


# Some ask for each of up to 2,048 channels, or for each square: for one net a family.
MANY_PASSES = [method for method in explainers if passes(method) > 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "method"),
    [(name, method) for method in explainers for name in (SMALLEST if method in MANY_PASSES else NAMES)],
)
def test_explainers_give_a_map_for_each_photo_and_class(name: str, method: str) -> None:
    net = net_of(name).eval().double()
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0)).double()
    maps = explainers[method](net, images, torch.tensor([0, 2]))
    assert maps.shape[0] == 2
    assert maps.ndim == 3
    assert not maps.requires_grad
    assert torch.isfinite(maps).all()
    assert (maps >= 0).all()
    alone = explainers[method](net, images[1:], torch.tensor([2]))
    torch.testing.assert_close(maps[1:], alone, atol=1e-7, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_width_and_dropout_reach_the_net(name: str) -> None:
    with torch.device("meta"):
        small, large = (models.models[name](3, models.Options(width=width)) for width in (0.5, 1.0))
        dropping = models.models[name](3, models.Options(dropout=0.4))
    assert counting.cost_of(small, 64)[0] < counting.cost_of(large, 64)[0] / 2
    assert {module.p for module in dropping.modules() if isinstance(module, torch.nn.Dropout)} == {0.4}


# Networks with branches to leave out.
BRANCHED = (
    "pati-deep",
    "pati-thumbnail",
    "resnet",
    "efficientnet",
    "mobilenetv3",
    "convnext",
)  # nets with branches to leave out


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_drop_path_grows_with_depth_and_reaches_every_family_with_branches(name: str) -> None:
    with torch.device("meta"):
        net = models.models[name](3, models.Options(drop_path=0.3))
    rates = [module.rate for module in net.modules() if isinstance(module, blocks.DropPath)]
    if name.startswith(BRANCHED):
        assert rates
    if rates:
        assert rates == pytest.approx([0.3 * number / len(rates) for number in range(1, len(rates) + 1)])


def test_drop_path_leaves_out_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = blocks.DropPath(0.3)
    branch = torch.randn(10_000, 2, 2, 2)
    after = layer(branch)
    left_out = (after == 0).flatten(1).all(1)
    assert abs(left_out.float().mean() - 0.3) < 0.02
    torch.testing.assert_close(after[~left_out], branch[~left_out] / 0.7)
    assert abs(layer(torch.ones(10_000, 1, 1, 1)).mean() - 1) < 0.02
    assert layer(branch.bfloat16()).dtype == torch.bfloat16


def test_drop_path_does_nothing_at_0_and_in_evaluation() -> None:
    branch = torch.randn(8, 2, 2, 2)
    assert blocks.DropPath(0.0)(branch) is branch
    assert blocks.DropPath(0.9).eval()(branch) is branch


def test_drop_path_comes_from_the_global_generator() -> None:
    net = net_of("convnext-atto", drop_path=0.5)
    images = torch.randn(8, 3, 32, 32)

    def outputs(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return net(images)

    assert torch.equal(outputs(1), outputs(1))
    assert not torch.equal(outputs(1), outputs(2))


def rounds_to(value: float, published: str) -> bool:
    """Whether a count rounds to a published figure such as 11,689,512 or 1.82 G."""
    digits, _, unit = published.replace(",", "").partition(" ")
    decimals = len(digits.partition(".")[2])
    return f"{value / {'': 1, 'M': 1e6, 'G': 1e9}[unit]:.{decimals}f}" == digits


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_reference_models_are_as_large_as_published(name: str) -> None:
    reference = REFERENCES[name]
    with torch.device("meta"):
        net = models.models[name](1000, models.Options(size=reference["size"]))
    parameters, multiply_adds = counting.cost_of(net, reference["size"])
    assert rounds_to(parameters, reference["parameters"])
    if reference["norms_counted"]:  # so a little less is to be found here
        published = float(reference["multiply_adds"].removesuffix(" G")) * 1e9
        assert 0.99 * published < multiply_adds <= published + 0.005e9
    else:
        assert rounds_to(multiply_adds, reference["multiply_adds"])


def test_every_model_of_a_paper_has_a_reference() -> None:
    assert set(NAMES) - set(REFERENCES) == {"pati", "pati-deep", "pati-thumbnail", "scratch"}


def test_cost_of_a_net_worked_out_by_hand() -> None:
    stages = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.Conv2d(8, 8, 3, groups=8))
    head = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5))
    net = models.Net(stages, head, minimum_size=8)
    parameters = (8 * 3 * 9 + 8) + (8 * 9 + 8) + (8 * 5 + 5)
    multiply_adds = 8 * 8 * (8 * 3 * 9) + 6 * 6 * (8 * 9) + 8 * 5
    assert counting.cost_of(net, 16) == (parameters, multiply_adds)
    assert not any(parameter.is_meta for parameter in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_model_answers_the_same(name: str, tmp_path: Path) -> None:
    recipe = Recipe(model=name, width=0.25, dropout=0.1, drop_path=0.2, size=32)
    facts = classifier.facts(
        recipe=recipe, metrics={}, source="", training_photos=0, manifest_hash="", versions={}, lineage=[]
    )
    net = net_of(name, dropout=0.1, drop_path=0.2, size=32)
    made = classifier.Classifier(net, Preprocess(size=32), ("a", "b", "c"), mirror=False, facts=facts)
    made.save(tmp_path / "model.safetensors")
    again = classifier.Classifier.load(tmp_path / "model.safetensors")
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(made.logits(pixels), again.logits(pixels))
    assert str(made.net) == str(again.net)  # rates and all


@pytest.mark.slow
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
        exact, half = net(images), models.folded(net, torch.bfloat16)(images)
        assert half.dtype == torch.float32
        assert (half - exact).abs().max() < 0.05 * exact.abs().max() + 0.02
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_folding_leaves_no_norm_behind_where_scales_are_positive(name: str) -> None:
    ready = models.folded(net_of(name), torch.float32)
    assert not [module for module in ready.modules() if isinstance(module, torch.nn.BatchNorm2d)]
