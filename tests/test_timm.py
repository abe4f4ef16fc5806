"""timm's nets by name: the wrapper's logic with a small stand-in, then timm itself where it can be imported."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pati import models
from pati.cli import catalogue
from pati.errors import PatiError
from pati.explain.cams import explainers
from pati.models import blocks


class Maps(nn.Module):
    """A net as timm makes it without head: maps of `num_features` channels."""

    num_features = 8

    def __init__(self, smallest: int, drop_path_rate: float) -> None:
        super().__init__()
        self.smallest = smallest
        self.layers = nn.Sequential(blocks.conv_norm(3, 8, 3, stride=8), blocks.DropPath(drop_path_rate))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-1] < self.smallest:
            raise RuntimeError("kernel size can't be greater than actual input size")
        maps: torch.Tensor = self.layers(images)
        return maps


class Tokens(Maps):
    """A transformer: rows of features, no map."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).flatten(2).transpose(1, 2)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(
        name: str, *, pretrained: bool, num_classes: int, global_pool: str, drop_path_rate: float | None = None
    ) -> nn.Module:
        assert (pretrained, num_classes, global_pool) == (False, 0, "")
        if name == "plain_net" and drop_path_rate is not None:
            raise TypeError("unexpected keyword argument 'drop_path_rate'")
        assert torch.zeros(1).item() == 0  # constructors of timm compute
        net = Tokens if name == "some_transformer" else Maps
        return net(100 if name == "large_net" else 16, drop_path_rate or 0.0)

    library: Any = types.ModuleType("timm")
    library.list_models = lambda: ["small_net", "large_net", "plain_net", "some_transformer"]
    library.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", library)


def test_a_net_of_timm_becomes_stages_and_head(stand_in: None) -> None:
    net = models.build("timm/small_net", 3, models.Options(dropout=0.3, drop_path=0.2), seed=1)
    assert net.minimum_size == 32
    assert net.training
    assert {module.rate for module in net.modules() if isinstance(module, blocks.DropPath)} == {0.2}
    assert {module.p for module in net.modules() if isinstance(module, nn.Dropout)} == {0.3}
    again = models.build("timm/small_net", 3, models.Options(), seed=1)
    assert all(torch.equal(one, two) for one, two in zip(net.parameters(), again.parameters(), strict=True))
    net.eval()
    images = torch.randn(2, 3, 32, 32)
    logits = net(images)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(models.folded(net, torch.float32)(images), logits)
    assert explainers["grad-cam"](net, images, torch.tensor([0, 1])).shape == (2, 4, 4)


def test_the_smallest_size_is_tried_out(stand_in: None) -> None:
    assert models.smallest_size("timm/small_net") == 32
    assert models.smallest_size("timm/large_net") == 128


@pytest.mark.parametrize(
    ("name", "options", "told", "hint"),
    [
        ("timm/smal_net", models.Options(), "no model 'smal_net'", "timm/small_net"),
        ("timm/zzz", models.Options(), "no model 'zzz'", "list_models"),
        ("timm/some_transformer", models.Options(), "no feature map", "convolutional"),
        ("timm/plain_net", models.Options(drop_path=0.2), "can't be built", "drop_path"),
        ("timm/small_net", models.Options(width=0.5), "width", "omit the width"),
    ],
)
def test_what_cannot_be_had_is_refused_with_advice(
    stand_in: None, name: str, options: models.Options, told: str, hint: str
) -> None:
    with pytest.raises(PatiError, match=told) as caught:
        models.build(name, 2, options)
    assert hint in str(caught.value.hint)


def test_without_timm_the_hint_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(PatiError, match="not installed") as caught:
        models.build("timm/resnet18", 2)
    assert "pip install timm" in str(caught.value.hint)


def test_a_timm_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(PatiError, match="torchvision::nms does not exist"):
        models.build("timm/resnet18", 2)


def test_the_family_is_listed_and_mistyped_names_are_answered() -> None:
    assert "timm/NAME" in dict(catalogue.rows("models"))
    with pytest.raises(PatiError) as caught:
        models.models["tim/resnet18"]
    assert "did you mean" in str(caught.value.hint)
    with pytest.raises(PatiError) as caught:
        models.models["resnet81"]
    assert "resnet18" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_nets_of_timm_itself(name: str) -> None:
    pytest.importorskip("timm", reason="timm is not installed here: pip install timm", exc_type=ImportError)
    net = models.build(f"timm/{name}", 3, models.Options(drop_path=0.1)).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        logits = net(images)
        assert logits.shape == (2, 3)
        torch.testing.assert_close(models.folded(net, torch.float32)(images), logits, rtol=1e-4, atol=1e-5)
    assert explainers["grad-cam"](net, images, torch.tensor([0, 1])).shape == (2, 2, 2)
