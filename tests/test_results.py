"""What is measured after training, on as many photos as there is time for, and the report written anew."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import pati
from pati import pipeline, results
from pati.classifier import Classifier
from pati.data.manifest import Entry, Manifest
from pati.data.pack import Pack
from pati.errors import PatiError


@pytest.fixture(scope="module")
def many(trained: Path) -> tuple[Classifier, Manifest, Pack]:
    """The run's classifier with 60 validation photos of noise."""
    made = pati.load(trained)
    entries = tuple(
        Entry(f"{number}.png", made.classes[number % 3], "kept", sha256=str(number), split="validation")
        for number in range(60)
    )
    side = made.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (60, side, side, 3), np.uint8)
    return made, Manifest("noise", "", made.classes, entries, {}), Pack(pixels, {str(n): n for n in range(60)})


def test_counts_suit_what_was_trained(many: tuple[Classifier, Manifest, Pack]) -> None:
    assert results.probed(*many, trained=1000) == {}
    found = results.probed(*many, trained=25_000)
    assert list(found) == ["robustness"]
    assert found["robustness"]["photos"] == 25
    found = results.probed(*many, trained=10**9)
    assert {name: part["photos"] for name, part in found.items()} == {"robustness": 60, "explanations": 60}


def test_counts_suit_the_time(many: tuple[Classifier, Manifest, Pack]) -> None:
    assert results.probed(*many, seconds=1e-6) == {}
    at = time.monotonic()
    found = results.probed(*many, seconds=1e6)
    assert {name: part["photos"] for name, part in found.items()} == {"robustness": 60, "explanations": 60}
    taken = time.monotonic() - at
    part = results.probed(*many, seconds=taken)
    assert part == {} or all(row["photos"] <= 60 for row in part.values())


def test_explanations_are_checked_for_the_classes_answered(many: tuple[Classifier, Manifest, Pack]) -> None:
    made, _, packed = many
    found = results.probed(*many)["explanations"]
    assert found["method"] == "grad-cam"
    assert set(found["measures"]) == {"insertion", "deletion", "road"}
    images, classes = made.asked(torch.from_numpy(packed.pixels))
    assert torch.equal(classes, made.logits(torch.from_numpy(packed.pixels)).argmax(1))
    assert images.shape == (60, 3, made.preprocess.size, made.preprocess.size)


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_report_is_written_anew_without_scoring(trained: Path, tmp_path: Path, language: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    before = json.loads((run / "metrics.json").read_text())
    (run / "report.html").unlink()
    made, document = pipeline.report_again(run, language=language)
    page = made.report.read_text(encoding="utf-8")
    assert f'<html lang="{language}" data-lang="{language}">' in page
    assert document["test"] == before["test"]
    assert document["test_scored"] == 1
    for name in ("calibration", "curves", "slices", "suspects"):
        assert document["analysis"][name] == before["analysis"][name], name
    assert json.loads((run / "metrics.json").read_text()) == json.loads(json.dumps(document))
    assert not re.search(r"(src|href)=.https?:", page)


def test_the_model_card_holds_the_reports_figures(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    pipeline.outside(run, trained.parent / "shapes")
    _, document = pipeline.report_again(run)
    card = (run / "model-card.md").read_text(encoding="utf-8")
    low, high = document["test"]["accuracy_interval"]
    accuracy = document["test"]["accuracy"]
    assert f"| accuracy | {100 * accuracy:.1f} % | {100 * low:.1f} % – {100 * high:.1f} % |" in card
    for told in ("circle, square, triangle", document["manifest"], "scored once", "180 photos of shapes"):
        assert told in card
    assert "None" not in card
    assert "{" not in card


def test_a_second_scoring_is_told_in_the_report(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    assert "scored more than once" not in pipeline.report_again(run)[0].report.read_text()
    assert pipeline.score(run)["test_scored"] == 2
    assert "scored more than once" in pipeline.report_again(run)[0].report.read_text()


def test_photos_that_are_gone_are_told(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    state = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(state | {"data": str(tmp_path / "nowhere")}))
    with pytest.raises(PatiError, match="no file, folder"):
        pipeline.report_again(run)
    assert (run / "report.html").exists()
