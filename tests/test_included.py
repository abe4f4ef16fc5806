"""The model that comes with pati: it answers where no other is named, and is as good as its card says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import pati
from pati import included
from pati.inference.export.pictures import made_pictures
from pati.inference.onnx_classifier import OnnxClassifier
from pati.system.files import sha256_file
from tests.support.commands import pati as run
from tests.support.photos import jpeg

pytestmark = pytest.mark.slow


def test_it_is_small_and_names_no_place_of_ours() -> None:
    assert included.model().stat().st_size <= 10_000_000
    card = included.card().read_text(encoding="utf-8")
    made = pati.load()
    assert made.classes == ("Cat", "Dog")
    assert made.facts["manifest"] in card
    scores = made.facts["metrics"]
    low, high = (f"{100 * share:.1f} %" for share in scores["accuracy_interval"])
    assert f"| Accuracy | {100 * scores['accuracy']:.1f} % | {low} – {high} |" in card
    assert "not installed" not in card + str(made.facts)


def test_its_export_is_of_this_model() -> None:
    exported, made = OnnxClassifier.load(included.exported()), pati.load()
    assert exported.document["source"] == sha256_file(included.model())
    assert exported.document["parity"]["probability"] <= 1e-4
    assert exported.classes == made.classes
    assert exported.preprocess == made.preprocess
    assert exported.facts["metrics"] == made.facts["metrics"]
    photos = made_pictures(20)
    for ours, theirs in zip(made.in_float32().predict(photos), exported.predict(photos), strict=True):
        assert ours.label == theirs.label
        assert ours.probabilities == pytest.approx(theirs.probabilities, abs=1e-4)


def test_it_answers_where_no_model_is_named(tmp_path: Path) -> None:
    chelsea = pytest.importorskip("skimage.data").chelsea()
    photo = tmp_path / "chelsea.jpg"
    photo.write_bytes(jpeg(Image.fromarray(chelsea)))
    done = run("predict", photo, "--format", "csv")
    assert done.returncode == 0
    assert "model: cats-vs-dogs, included in pati" in done.stderr
    named = run("predict", included.model(), photo, "--format", "csv")
    assert named.stdout == done.stdout
    assert "included in pati" not in named.stderr
    answer = pati.load().predict(photo)
    assert answer.label == "Cat"
    assert f"{answer.probabilities['Cat']:.6f}" in done.stdout
    drawn = run("explain", photo, cwd=tmp_path)
    assert drawn.returncode == 0
    assert (tmp_path / "chelsea.explained.png").exists()


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_mistyped_model_is_not_answered_for(verb: str, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.touch()
    done = run(verb, "runs/photos-7", photo)
    assert done.returncode == 1
    assert "error: runs/photos-7 does not exist" in done.stderr
