"""The net on shuffled labels that explanations are compared with."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pati import cli
from pati.data.loader import Samples
from pati.errors import Interrupted, PatiError
from pati.explain import checks
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.workflows import fit, shuffled_labels
from pati.workflows.prepare import prepare_again

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]


@pytest.fixture
def photos(trained: Path) -> list[Path]:
    return sorted((trained.parent / "shapes").rglob("1*.jpg"))


def compared(trained: Path, photos: list[Path], method: str) -> dict[str, Any]:
    return shuffled_labels.shuffled_labels(trained, photos, method, listen=lambda event: None)


def test_grad_cam_tells_of_the_labels_and_edges_do_not(
    trained: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fair = compared(trained, photos, "grad-cam")
    assert fair["depends"] is True
    low, high = fair["likeness"]["interval"]
    assert low < fair["likeness"]["mean"] < high
    assert fair["epochs"] == 6
    monkeypatch.setattr(shuffled_labels, "explainer", lambda name: checks.edges)
    cheat = compared(trained, photos, "edges")
    assert cheat["depends"] is False
    assert cheat["likeness"]["mean"] > 0.999


def test_the_control_learns_the_same_photos_with_shuffled_labels(
    trained: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Samples] = []
    train = fit.train_net

    def watched(net: Any, training: Samples, *args: Any, **kwargs: Any) -> Any:
        seen.append(training)
        return train(net, training, *args, **kwargs)

    monkeypatch.setattr(fit, "train_net", watched)
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    found = compared(trained, photos, "grad-cam")
    run = Run.open(trained)
    ready = prepare_again(run, Recipe.read(run.recipe))
    (shuffled,) = seen
    assert torch.equal(shuffled.rows, ready.training.rows)
    assert torch.equal(shuffled.labels.bincount(), ready.training.labels.bincount())
    same = (shuffled.labels == ready.training.labels).float().mean()
    assert same < 0.6
    assert found["train_accuracy"] < 0.7
    assert {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()} == before


def test_a_stop_is_heard(trained: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffled_labels, "stoppable", lambda: contextlib.nullcontext(lambda: True))
    with pytest.raises(Interrupted, match="is not saved"):
        compared(trained, photos, "grad-cam")


def test_from_the_command_line(trained: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["explain", str(trained), *map(str, photos[:12]), "--check", "--shuffled-labels"]
    cli.program([*words, "--json"], result_action="return_value")
    assert json.loads(capsys.readouterr().out)["shuffled_labels"]["depends"] in (True, None)
    cli.program(words, result_action="return_value")
    assert "trained on shuffled labels" in capsys.readouterr().out
    with pytest.raises(PatiError, match="is a part of --check"):
        cli.program([word for word in words if word != "--check"], result_action="return_value")
    with pytest.raises(PatiError, match="is not the folder of a run"):
        cli.program([words[0], str(trained / "model.safetensors"), *words[2:]], result_action="return_value")


@pytest.mark.parametrize(("method", "stage", "told"), [("grad-cm", None, "grad-cam"), ("grad-cam", 9, "no stage 9")])
def test_what_is_wrong_is_told_before_the_training(
    trained: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch, method: str, stage: int | None, told: str
) -> None:
    monkeypatch.setattr(fit, "train_net", lambda *args, **kwargs: pytest.fail("trained"))
    with pytest.raises(PatiError) as caught:
        shuffled_labels.shuffled_labels(trained, photos, method, stage=stage, listen=lambda event: None)
    assert told in f"{caught.value.message} {caught.value.hint}"
