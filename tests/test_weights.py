"""Trainings that start from pretrained weights: a stand-in for timm, then timm itself where it can be imported."""

from __future__ import annotations

import hashlib
import importlib.machinery
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pati
from pati.errors import Interrupted, PatiError
from pati.events import Event, StepDone, Warned
from pati.models import blocks
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.workflows.train import resume, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

RECIPE = Recipe(model="timm/net", epochs=1, size=32, growth=(1.0,), batch=16, learning_rate=1e-5)


class Named(nn.Module):
    """A network of timm, with its classifier or without."""

    num_features = 8

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv = blocks.conv_norm(3, 8, 3, stride=4)
        self.fc = nn.Linear(8, classes) if classes else nn.Identity()
        self.pretrained_cfg = {"tag": "a1"}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.conv(images)
        return maps


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    library: Any = types.ModuleType("timm")
    library.__spec__ = importlib.machinery.ModuleSpec("timm", None)
    library.list_models = lambda: ["net"]

    def create_model(name: str, *, pretrained: bool, num_classes: int = 5, global_pool: str = "avg") -> nn.Module:
        if pretrained:
            raise OSError("no network")
        return Named(num_classes)

    library.create_model = create_model
    library.get_pretrained_cfg = lambda name: types.SimpleNamespace(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    monkeypatch.setitem(sys.modules, "timm", library)
    return library


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    save_file(Named(5).state_dict(), tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_weights_of_a_file_are_where_the_training_starts(
    timm: types.ModuleType, shapes: Path, weights: Path, tmp_path: Path
) -> None:
    told: list[Event] = []
    run = train(shapes, RECIPE, out=tmp_path / "run", weights=weights, listen=told.append).run
    classifier, digest = pati.load(run.folder), hashlib.sha256(weights.read_bytes()).hexdigest()
    torch.testing.assert_close(
        classifier.net.state_dict()["stages.0.conv.0.weight"], load_file(weights)["conv.0.weight"], atol=0.01, rtol=0
    )
    assert (classifier.preprocess.mean, classifier.preprocess.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert any(
        "not known which photos net.safetensors" in str(event.text) for event in told if isinstance(event, Warned)
    )
    for path in (run.report, run.card):
        text = path.read_text(encoding="utf-8").replace("\\", "")
        assert f"pretrained weights (net.safetensors, SHA-256 {digest})" in text
        assert "trained from scratch" not in text.replace("not trained from scratch", "")
    again = train(shapes, RECIPE, out=tmp_path / "child", start=run.folder).run
    assert [row["pretrained"] for row in pati.load(again.folder).facts["lineage"]] == [False, True]


def test_a_run_with_weights_is_resumed_without_their_file(
    timm: types.ModuleType, shapes: Path, weights: Path, tmp_path: Path
) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    undisturbed = train(shapes, RECIPE, out=tmp_path / "a", weights=weights).run
    with pytest.raises(Interrupted):
        train(shapes, RECIPE, out=tmp_path / "b", weights=weights, listen=stop)
    weights.unlink()
    assert resume(tmp_path / "b").run.model.read_bytes() == undisturbed.model.read_bytes()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"conv.0.weight": None}, "1 of its 6 tensors is missing, conv.0.weight"),
        ({"conv.0.weight": torch.zeros(8, 3, 5, 5)}, r"conv.0.weight is (8, 3, 5, 5), expected (8, 3, 3, 3)"),
        ({"layer1.weight": torch.zeros(2)}, "which has no tensor layer1.weight"),
    ],
)
def test_weights_of_another_network_are_refused(
    changes: dict[str, torch.Tensor | None],
    told: str,
    timm: types.ModuleType,
    shapes: Path,
    weights: Path,
    tmp_path: Path,
) -> None:
    changed = {name: value for name, value in (load_file(weights) | changes).items() if value is not None}
    save_file(changed, tmp_path / "other.safetensors")
    with pytest.raises(PatiError, match=re.escape(told)) as caught:
        train(shapes, RECIPE, out=tmp_path / "run", weights=tmp_path / "other.safetensors")
    assert "expected the tensors of timm's net" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_the_number_of_classes_and_the_number_format_may_differ(
    timm: types.ModuleType, shapes: Path, tmp_path: Path
) -> None:
    given = {name: value for name, value in Named(1000).half().state_dict().items() if "num_batches" not in name}
    save_file(given, tmp_path / "half.safetensors")
    train(shapes, RECIPE, out=tmp_path / "run", weights=tmp_path / "half.safetensors")


def test_other_files_are_refused(timm: types.ModuleType, shapes: Path, weights: Path, tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"PK\3\4" + bytes(100))
    for path, recipe, told, hint in (
        (tmp_path / "net.pth", RECIPE, "is not a safetensors file", "can contain code"),
        (tmp_path / "none.safetensors", RECIPE, "can't read the weights", "--weights pretrained"),
        (weights, Recipe(epochs=1), "--model is not given", "--from"),
        (weights, Recipe(epochs=1, model="pati"), "--model is pati", "timm/"),
        ("pretrained", RECIPE, "timm can't provide weights for net: OSError: no network", "FILE.safetensors"),
        (weights, RECIPE.changed({"model": "timm/nett"}), "timm has no model", "timm/net"),
    ):
        with pytest.raises(PatiError, match=told) as caught:
            train(shapes, recipe, out=tmp_path / "run", weights=path)
        assert hint in str(caught.value.hint)
    assert not Run(tmp_path / "run").recipe.exists()


def test_weights_that_timm_downloads(
    timm: types.ModuleType, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timm, "create_model", lambda name, num_classes=5, **_: Named(num_classes))
    run = train(shapes, RECIPE, out=tmp_path / "run", weights="pretrained").run
    (row,) = run.read_metrics()["lineage"]
    assert (row["name"], row["pretrained"]) == ("net.a1", True)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050"])
def test_weights_of_timm_itself(name: str, shapes: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("timm", reason="timm is not installed here: pip install timm", exc_type=ImportError)
    net = library.create_model(name, pretrained=False)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    recipe = RECIPE.changed({"model": f"timm/{name}"})
    run = train(shapes, recipe, out=tmp_path / "run", weights=tmp_path / "net.safetensors").run
    ours = pati.load(run.folder).net.state_dict()
    kernels = [key for key, value in net.state_dict().items() if value.ndim == 4 and f"stages.0.{key}" in ours]
    assert len(kernels) > 10
    for key in kernels:
        before, after = net.state_dict()[key].flatten(), ours[f"stages.0.{key}"].flatten()
        assert torch.nn.functional.cosine_similarity(before, after, 0) > 0.9
