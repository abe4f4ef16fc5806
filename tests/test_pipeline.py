"""Whole commands from Python, on drawn pictures and, where they are at hand, on real photos."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
from rich.console import Console

import pati
from pati.data.manifest import Manifest
from pati.errors import PatiError
from pati.evaluation import metrics
from pati.events import ClassesCounted, DataRead, Event, Noted, StepDone
from pati.inference import forward, splits
from pati.locale.messages import Message
from pati.recipe import Recipe, SettledRecipe
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.system import clock
from pati.terminal.tables import show_scores
from pati.training import loop, plan
from pati.training.budget import Pace
from pati.training.loop import State
from pati.workflows import measure
from pati.workflows import train as training
from pati.workflows.prepare import prepare
from pati.workflows.report import report_again
from pati.workflows.score import score
from pati.workflows.train import resume, train
from tests.support.photos import draw, jpeg, write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

QUICK = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25)


def test_a_run_leaves_everything_it_promises(trained: Path) -> None:
    run = Run.open(trained)
    figures = [run.figures / name for name in ("curves.svg", "confusion.svg", "explanations.png")]
    for path in (run.recipe, run.manifest, run.log, run.predictions, run.metrics, run.model, run.report, *figures):
        assert path.stat().st_size > 0, path
    document = json.loads(run.metrics.read_text())
    found = Manifest.read(run.manifest)
    assert document["manifest"] == found.hash()
    assert document["test"]["photos"] == len(found.of_split("test"))
    assert (
        document["test"]["accuracy_interval"][0]
        <= document["test"]["accuracy"]
        <= document["test"]["accuracy_interval"][1]
    )
    assert [row["epoch"] for row in run.rows("epoch")] == [1, 2, 3, 4, 5, 6]
    assert run.read_state()["test_scored"] == len(run.rows("scoring")) == 1
    assert pati.load(trained).facts["metrics"]["accuracy"] == document["test"]["accuracy"]


def test_stored_predictions_are_the_models(trained: Path) -> None:
    run = Run.open(trained)
    found, classifier = Manifest.read(run.manifest), pati.load(trained)
    photos = [Path(found.root) / entry.path for entry in found.of_split("test")]
    answers = np.array([list(row.probabilities.values()) for row in classifier.predict(photos)])
    with np.load(run.predictions) as stored:
        logits = stored["test_logits"]
        assert stored["test_sha256"].tolist() == [entry.sha256 for entry in found.of_split("test")]
        assert stored["test_labels"].tolist() == found.targets(found.of_split("test")).tolist()
    assert classifier.calibration is not None
    logits = logits / classifier.calibration.temperature
    expected = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(answers, expected / expected.sum(1, keepdims=True), atol=1e-5)


def test_prepared_is_what_a_run_trains_on(trained: Path) -> None:
    run = Run.open(trained)
    ready = prepare(run.read_state()["data"], Recipe.read(run.recipe))
    assert ready.recipe == SettledRecipe.read(run.recipe)
    assert ready.manifest == Manifest.read(run.manifest)
    assert ready.preprocess == pati.load(trained).preprocess
    assert [len(ready.training), len(ready.validation)] == [
        len(ready.manifest.of_split(name)) for name in ("train", "validation")
    ]
    assert ready.net().state_dict().keys() == pati.load(trained).net.state_dict().keys()


def test_predictions_of_other_weights_are_never_reported(shapes: Path, tmp_path: Path) -> None:
    """A run killed while it reports whose checkpoints are gone trains again, to other weights than those scored."""
    run = train(shapes, QUICK, out=tmp_path / "run").run
    ours = Predictions.read(run)
    assert ours.weights == run.read_metrics()["weights"] == pati.load(run.folder).weights()

    def resumed() -> list[str]:
        told: list[Event] = []
        run.update(stage="scored")
        resume(run.folder, listen=told.append)
        return [str(event.text) for event in told if isinstance(event, Noted)]

    assert not any("other weights" in text for text in resumed())
    assert run.read_state()["test_scored"] == 1
    wrong = dataclasses.replace(ours.test, logits=-ours.test.logits)
    dataclasses.replace(ours, test=wrong, weights="0" * 64).write(run)
    with pytest.raises(PatiError, match="are not those of its model"):
        Predictions.of(run, pati.load(run.folder).weights())
    shutil.rmtree(run.checkpoints)
    (told,) = [text for text in resumed() if "other weights" in text]
    assert f"the {len(ours.test.labels)} test photos are scored again" in told
    assert run.read_metrics()["test"]["confusion"] == metrics.confusion(ours.test.logits, ours.test.labels).tolist()
    assert Predictions.read(run).weights == pati.load(run.folder).weights()
    assert [row["weights"] for row in run.rows("scoring")] == 2 * [ours.weights]
    assert run.read_state()["test_scored"] == 2
    dataclasses.replace(ours, weights="").write(run)  # of an older version: told by the validation photos
    assert not any("other weights" in text for text in resumed())
    other = dataclasses.replace(ours.validation, logits=ours.validation.logits + 1)
    dataclasses.replace(ours, weights="", validation=other).write(run)
    assert any("other weights" in text for text in resumed())
    run.log.write_text("")  # killed after the predictions were written, before they were counted
    run.update(test_scored=0)
    resumed()
    assert run.read_state()["test_scored"] == 1


def test_scoring_again_is_counted(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    document = score(run)
    assert document["test_scored"] == 2
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert document["accuracy"] == stored["accuracy"]
    assert document["log_loss"] == pytest.approx(stored["log_loss"], abs=1e-4)
    assert "test_scored" not in score(run, split="validation")
    assert Run.open(run).read_state()["test_scored"] == 2


def test_scoring_another_set(trained: Path, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", per_class=10, classes=("circle", "square"), first=700)
    (other / "circle" / "bad.jpg").write_bytes(b"")
    document = score(trained, data=other)
    assert document["photos"] == 20
    assert document["unreadable"] == 1
    triangle = document["per_class"][2]
    assert (triangle["class"], triangle["support"], triangle["recall"]) == ("triangle", 0, None)
    page = Path(document["report"]).read_text(encoding="utf-8")
    row = re.search(r'<tr><th scope="row">triangle</th>(.*?)</tr>', page)
    assert row
    assert re.findall(r'<td class="n">(.*?)</td>', row[1]) == ["–", "–", "–", "0"]
    console = Console(file=io.StringIO(), width=100)
    show_scores(document, document.get("balance"), console)
    assert re.search(r"triangle .*–", console.file.getvalue())  # type: ignore[attr-defined]
    (other / "dog").mkdir()
    (other / "dog" / "1.jpg").write_bytes(jpeg(draw("circle", 1)))
    with pytest.raises(PatiError, match="does not know: dog"):
        score(trained, data=other)


def test_changed_photos_are_noticed(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "d", per_class=20)
    (data / "circle" / "cut.jpg").write_bytes(jpeg(draw("circle", 1))[:200])  # set aside, with a detail
    run = train(data, QUICK, out=tmp_path / "run").run
    (victim, *_) = Manifest.read(run.manifest).of_split("test")
    (data / victim.path).write_bytes(jpeg(draw("circle", 4321)))
    with pytest.raises(PatiError, match="has changed or disappeared"):
        score(run.folder)
    run.update(stage="training")
    with pytest.raises(PatiError, match="data has changed since this run was started") as caught:
        resume(run.folder)
    assert str(caught.value.message).endswith(f"for example {victim.path}")


def test_a_finished_run_is_only_read(trained: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    result = resume(trained)
    assert result.classifier.classes == ("circle", "square", "triangle")
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_finished_run_is_read_without_its_photos(trained: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(trained, tmp_path / "run"))
    run.update(data=str(tmp_path / "gone"))
    assert resume(run.folder).metrics["classes"] == ["circle", "square", "triangle"]


def test_runs_are_reproducible_and_their_folders_are_not_taken_twice(shapes: Path, tmp_path: Path) -> None:
    first = train(shapes, QUICK, out=tmp_path / "a")
    second = train(shapes, QUICK, out=tmp_path / "b")
    tensors = [safetensors.torch.load_file(result.run.model) for result in (first, second)]
    assert all((tensors[0][name] == tensors[1][name]).all() for name in tensors[0])
    assert first.metrics["test"] == second.metrics["test"]
    with pytest.raises(PatiError, match="already contains a run"):
        train(shapes, QUICK, out=tmp_path / "a")


def test_seeds_never_change_the_split(shapes: Path, tmp_path: Path) -> None:
    runs = [train(shapes, dataclasses.replace(QUICK, seed=seed), out=tmp_path / str(seed)).run for seed in (0, 1)]
    assert Manifest.read(runs[0].manifest) == Manifest.read(runs[1].manifest)


@pytest.mark.parametrize("name", ["scratch", "pati"])
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_models_and_resizing(shapes: Path, tmp_path: Path, name: str, resize: str) -> None:
    recipe = dataclasses.replace(QUICK, model=name, resize=resize, averaging=0.1)
    assert train(shapes, recipe, out=tmp_path / "run").classifier.preprocess.resize == resize


def test_a_budget_that_is_too_small_is_refused_with_one_that_is_not(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(PatiError, match="leaves 0 s for training"):
        train(shapes, Recipe(budget=5.0), out=tmp_path / "run", started=-1e9)
    assert train(shapes, QUICK, out=tmp_path / "run").metrics["epochs"] == 1  # nothing was lost: same folder


def test_a_budget_is_used_however_few_the_photos_are(shapes: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    recipe = dataclasses.replace(QUICK, epochs=None, budget=20.0)
    result = train(shapes, recipe, out=tmp_path / "run")
    assert time.monotonic() - started == pytest.approx(20, abs=5)  # a busy machine draws the report more slowly
    assert len(result.run.rows("epoch")) <= min(plan.MOST_PASSES + 1, result.metrics["epochs"])
    assert result.run.read_elapsed() == pytest.approx(result.metrics["seconds"]["command"], abs=2)


def test_probes_get_the_time_that_scoring_left(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []
    score, now, late = training.TrainingRun.score, clock.now, [0.0]

    def slow(*arguments: Any) -> Any:
        late[0] = 580.0
        return score(*arguments)

    def probed(*arguments: Any, seconds: float, **rest: Any) -> dict[str, Any]:
        given.append(seconds)
        return {}

    def at_once(*arguments: Any, **rest: Any) -> State:
        return dataclasses.replace(State(), step=1, progress=1.0, pace=Pace(steps=(1.0,)))

    monkeypatch.setattr(training.TrainingRun, "score", slow)
    monkeypatch.setattr(training, "train_net", at_once)
    monkeypatch.setattr(measure, "probed", probed)
    monkeypatch.setattr(clock, "now", lambda: now() + late[0])
    train(shapes, dataclasses.replace(QUICK, epochs=None, budget=600.0), out=tmp_path / "run")
    assert 0 <= given[0] < 20


def test_two_sittings_share_one_budget(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after some seconds, with no checkpoint: what the first sitting took is counted all the same."""
    monkeypatch.setattr(loop, "FIRST_CHECKPOINT_SECONDS", loop.CHECKPOINT_SECONDS)
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(QUICK, epochs=None, budget=20.0)
    steps = 0

    def killed(event: Event) -> None:
        nonlocal steps
        steps += isinstance(event, StepDone)
        if run.elapsed.exists() and run.read_elapsed() > 8:
            raise MemoryError  # as sudden as a kill: nothing is saved

    with pytest.raises(MemoryError):
        train(shapes, recipe, out=run.folder, listen=killed)
    before = run.read_elapsed()
    assert 8 < before < 11
    assert steps > 0
    assert not list(run.checkpoints.glob("*"))
    at = time.monotonic()
    result = resume(run.folder)
    assert before + time.monotonic() - at == pytest.approx(
        20, abs=5
    )  # a busy machine draws a report more slowly, or quickly, than it was timed
    assert result.metrics["seconds"]["command"] == pytest.approx(
        20, abs=5
    )  # a busy machine draws a report more slowly, or quickly, than it was timed


def test_a_killed_sitting_that_used_the_budget_up_does_not_end_the_run(shapes: Path, tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    recipe = dataclasses.replace(QUICK, epochs=None, budget=10.0)

    def killed(event: Event) -> None:
        if isinstance(event, DataRead):
            raise MemoryError

    with pytest.raises(MemoryError):
        train(shapes, recipe, out=run.folder, listen=killed)
    run.keep_elapsed(9.9)
    assert resume(run.folder).metrics["epochs"] > 1


def test_a_late_scoring_leaves_validation_photos_out_and_says_so(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "FEWEST_SCORED", 4)
    monkeypatch.setattr(forward, "BATCH", 4)
    now, late = clock.now, [0.0]

    def at_once(*arguments: Any, **rest: Any) -> State:
        late[0] = 600.0
        return dataclasses.replace(State(), step=1, progress=1.0, pace=Pace(steps=(1.0,)))

    monkeypatch.setattr(training, "train_net", at_once)
    monkeypatch.setattr(clock, "now", lambda: now() + late[0])
    told: list[Message] = []
    result = train(
        shapes, dataclasses.replace(QUICK, epochs=None, budget=600.0), out=tmp_path / "run",
        listen=lambda event: told.append(event.text) if isinstance(event, Noted) else None,
    )  # fmt: skip
    found = Manifest.read(result.run.manifest)
    assert result.metrics["validation"]["photos"] == 4 < len(found.of_split("validation"))
    assert result.metrics["test"]["photos"] == len(found.of_split("test"))
    assert any(str(text).startswith("for lack of time, only 4 of ") for text in told)
    monkeypatch.undo()
    again, _ = report_again(result.run.folder)
    assert again.report.exists()


def test_uneven_classes_are_told_and_auto_is_settled_for_good(shapes: Path, tmp_path: Path) -> None:
    for number in range(3, 30):
        (shapes / "circle" / f"{number}.jpg").unlink()
    (shapes / "circle" / "3.jpg").write_bytes(jpeg(draw("circle", 3)))
    told: list[Event] = []
    recipe = dataclasses.replace(QUICK, balance="auto")
    result = train(shapes, recipe, out=tmp_path / "run", listen=told.append)
    counts = Counter(entry.label for entry in Manifest.read(result.run.manifest).of_split("train"))
    (row,) = result.run.rows("balance")
    assert row == {
        "kind": "balance", "method": "sampling", "by_class": True,
        "ratio": round(max(counts.values()) / min(counts.values()), 2),
    }  # fmt: skip
    assert row["ratio"] >= 3
    assert [event.advised for event in told if isinstance(event, ClassesCounted)] == ["sampling"]
    kept = SettledRecipe.read(result.run.recipe)
    assert kept == dataclasses.replace(prepare(shapes, recipe).recipe, precision=kept.precision)
    assert result.metrics["balance"]["method"] == "sampling"
    page = result.run.report.read_text()
    assert page.index("Macro F1</span>") < page.index("Accuracy</span>")

    result.run.update(stage="training")
    result.run.predictions.unlink()
    again = resume(result.run.folder)
    assert [row["method"] for row in again.run.rows("balance")] == ["sampling"]  # once
    assert again.metrics["test"] == result.metrics["test"]
    document = score(result.run.folder, data=shapes)
    assert document["balance"]["method"] == "sampling"


def test_patience_is_noted(shapes: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(QUICK, epochs=40, patience=1, learning_rate=0.5)
    result = train(shapes, recipe, out=tmp_path / "run")
    assert result.metrics["epochs"] < 40
    notes = [Message.from_json(note["text"]).shown("en") for note in result.run.rows("note")]
    assert "the validation loss has not improved" in notes[0]


def test_out_never_takes_a_folder_with_something_in_it(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "manifest.jsonl").write_text("precious")
    for taken in (shapes, tmp_path / "mine"):
        before = sorted(taken.iterdir())
        with pytest.raises(PatiError, match="is not empty"):
            train(shapes, QUICK, out=taken)
        assert sorted(taken.iterdir()) == before
    assert (tmp_path / "mine" / "manifest.jsonl").read_text() == "precious"


def test_class_names_with_signs_of_mathematics(shapes: Path, tmp_path: Path) -> None:
    (shapes / "square").rename(shapes / "$5 & <b>")
    (shapes / "circle").rename(shapes / "$10_a^2")
    page = train(shapes, QUICK, out=tmp_path / "run").run.report.read_text()
    assert "$5 &amp; &lt;b&gt;" in page
    assert "<b>$" not in page
    card = (tmp_path / "run" / "model-card.md").read_text(encoding="utf-8")
    assert r"\$5 \& \<b\>" in card
    assert r"\$10\_a^2" in card
    assert "<b>" not in card.replace(r"\<", "")


def test_a_kill_before_the_first_checkpoint_leaves_no_epoch_twice(shapes: Path, tmp_path: Path) -> None:
    run = train(shapes, dataclasses.replace(QUICK, epochs=2), out=tmp_path / "run").run
    shutil.rmtree(run.checkpoints)
    run.predictions.unlink()
    run.update(stage="training")
    resume(run.folder)
    assert [row["epoch"] for row in run.rows("epoch")] == [1, 2]


def test_the_readmes_python(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classifier = pati.train(shapes, pati.Recipe(epochs=1, size=32))
    answer = classifier.predict(shapes / "circle" / "1.jpg")
    assert answer.label in classifier.classes
    assert classifier.explain(shapes / "circle" / "1.jpg").label == answer.label
    assert pati.load(tmp_path / "runs" / "shapes-1").classes == classifier.classes


def test_report_is_self_contained_and_bilingual(trained: Path) -> None:
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Training report" in page
    assert "Eğitim raporu" in page
    assert 'src="http' not in page
    assert "<link" not in page
    scores = json.loads((trained / "metrics.json").read_text())["test"]
    accuracy = f"{100 * scores['accuracy']:.1f}"
    assert f'<span lang="en">{accuracy}\xa0%</span><span lang="tr">%{accuracy.replace(".", ",")}</span>' in page
    assert page.index("Accuracy</span>") < page.index("Macro F1</span>")
    told = f"{scores['log_loss']:.3f}"
    assert f'<span lang="en">{told}</span><span lang="tr">{told.replace(".", ",")}</span>' in page


def test_digits_reach_what_they_should(tmp_path: Path) -> None:
    document = train("digits", Recipe(epochs=5), out=tmp_path / "run").metrics
    assert document["test"]["accuracy"] >= 0.9  # what it can reach is for the benchmark


def test_clothing_by_sender(photos: Callable[[str], Path], tmp_path: Path) -> None:
    result = train(photos("clothing"), Recipe(epochs=1, size=32, group_by="sender_id", width=0.5), out=tmp_path / "run")
    assert len(result.classifier.classes) == 17
    assert result.metrics["test"]["photos"] > 100


@pytest.mark.parametrize(("version", "told"), [(1, "train it again"), (99, "update pati")])
def test_runs_of_other_formats_are_refused(version: int, told: str, shapes: Path, tmp_path: Path) -> None:
    run = train(shapes, QUICK, out=tmp_path / "run").run
    run.state.write_text(json.dumps(run.read_state() | {"format": version}))
    with pytest.raises(PatiError, match=f"has format {version}") as caught:
        resume(run.folder)
    assert told in str(caught.value.hint)
