"""What an older pati made is read, resumed and reported."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import pati
from pati.data import pack
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns
from pati.errors import PatiError
from pati.events import TrainingBegan
from pati.recipe import SettledRecipe
from pati.runs.history import epochs
from pati.runs.run import Run, RunStage
from pati.workflows import compare, tune
from pati.workflows.report import report_again
from pati.workflows.score import score
from pati.workflows.train import resume

pytestmark = pytest.mark.slow

MADE = Path(__file__).parent / "older" / "57cc724.zip"
PLACE = "/tmp/old/made"  # where it lay


@pytest.fixture
def older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(MADE) as archive:
        archive.extractall(tmp_path)
    for path in (*tmp_path.glob("*/*.json"), *tmp_path.glob("*/*.jsonl")):
        path.write_text(path.read_text(encoding="utf-8").replace(PLACE, str(tmp_path)), encoding="utf-8")
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_a_model_answers_as_it_did(older: Path) -> None:
    made = pati.load(older / "run")
    found = [made.predict(older / "photos" / shape / "3.jpg") for shape in made.classes]
    assert all(sum(one.probabilities.values()) == pytest.approx(1) for one in found)
    kept = Run.open(older / "run").read_metrics()
    assert made.facts["metrics"]["accuracy"] == kept["test"]["accuracy"]
    assert isinstance(made.preprocess, Preprocess)


def test_a_finished_run_is_read_and_reported(older: Path) -> None:
    before = Run.open(older / "run").read_metrics()
    result = resume(older / "run")
    assert result.metrics == before
    run, document = report_again(older / "run")
    assert run.report.stat().st_size > 100_000
    assert document["test"]["accuracy"] == before["test"]["accuracy"]
    assert [epoch.epoch for epoch in epochs(run)] == [1, 2, 3]
    assert score(run.folder, split="validation")["accuracy"] == pytest.approx(before["validation"]["accuracy"])


def test_a_finished_run_of_one_that_knew_fewer_fields_is_read(older: Path) -> None:
    run = Run.open(older / "run")
    recipe = json.loads(run.recipe.read_text())
    for name in ("mirror", "precision"):
        del recipe[name]
    run.recipe.write_text(json.dumps(recipe))
    assert resume(run.folder).metrics == run.read_metrics()
    run.update(stage=RunStage.TRAINING)
    with pytest.raises(PatiError, match="has no mirror, precision"):
        resume(run.folder)


@pytest.mark.usefixtures("undrawn")
def test_a_stopped_run_goes_on_to_where_the_other_came(older: Path) -> None:
    stopped = Run.open(older / "stopped")
    assert stopped.stage is RunStage.TRAINING
    told: list[object] = []
    result = resume(stopped.folder, listen=told.append)
    assert [event.step for event in told if isinstance(event, TrainingBegan)] == [4]
    assert result.metrics["epochs"] == 3
    other = Run.open(older / "run").read_metrics()["test"]
    assert result.metrics["test"]["accuracy"] == pytest.approx(other["accuracy"], abs=0.2)  # machines differ in bits
    before = SettledRecipe.read(older / "run" / "recipe.json")
    assert SettledRecipe.read(result.run.recipe) == before.changed({"folds": 0})  # older versions had none
    found = compare.compare([older / "run", older / "stopped"])
    assert len(found["pairs"]) == 1


@pytest.mark.usefixtures("undrawn")
def test_a_scored_run_goes_on_though_its_plan_is_of_another_pati(older: Path) -> None:
    run = Run.open(older / "run")
    accuracy = run.read_metrics()["test"]["accuracy"]
    run.update(stage=RunStage.SCORED, plan={"budget": None, "unknown": 1})
    run.metrics.unlink()
    result = resume(run.folder)
    assert run.stage is RunStage.DONE
    assert result.metrics["test"]["accuracy"] == accuracy
    assert run.read_state()["test_scored"] == 1


def test_decoded_photos_in_another_layout_are_decoded_anew(older: Path) -> None:
    (kept,) = (older / "cache" / "packs").iterdir()
    source, preprocess = find_source(older / "photos", Columns()), Preprocess(size=24)
    _, packed, reused = pack.open_or_build(source, preprocess)
    assert not reused
    before = np.load(kept / "pixels.npy", allow_pickle=False)
    digests = [finding[0] for finding in json.loads((kept / "pack.json").read_text())["findings"]]
    np.testing.assert_array_equal(packed.pixels[[packed.rows[digest] for digest in digests]], before)


def test_a_search_goes_on(older: Path) -> None:
    found = tune.resume(older / "search", trials=3, listen=lambda event: None)
    assert len(found["trials"]) == 3
    assert found["best"]["value"] is not None
