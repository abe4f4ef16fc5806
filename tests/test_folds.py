"""Cross-validation in place of a test split: which photos are predicted by which network, and what is told of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from pati.app import parts, results_page
from pati.data.entries import Entry
from pati.data.manifest import Manifest, folds_for, with_folds, with_split
from pati.errors import PatiError
from pati.evaluation import calibration
from pati.evaluation.calibration import Calibration, CrossCalibration
from pati.events import FoldBegan, FoldDone, FoldsPlanned, Noted
from pati.inference.classifier import Classifier
from pati.recipe import Recipe, SettledRecipe
from pati.runs.history import epochs
from pati.runs.overview import overview
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.training import plan
from pati.workflows.check import check
from pati.workflows.compare import compare, notes
from pati.workflows.out_of_fold import Answers, OutOfFold
from pati.workflows.report import report_again
from pati.workflows.train import Result, train
from tests.support import commands, kills
from tests.support.commands import pati
from tests.support.photos import write_shapes

RECIPE = Recipe(epochs=3, size=32, growth=(1.0,), width=0.5, folds=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Result:
    base = tmp_path_factory.mktemp("folds")
    return train(write_shapes(base / "shapes", per_class=30), RECIPE, out=base / "run")


def entries(count: int, **facts: object) -> list[Entry]:
    return [Entry(f"{n}", "ab"[n % 2], "kept", sha256=f"{n:064d}", **facts) for n in range(count)]  # type: ignore[arg-type]


def test_folds_where_a_test_split_would_be_small(folded: None) -> None:
    def count(photos: int, test: float = 0.1, most: int | None = None) -> int:
        return folds_for(entries(photos), test=test, given=False, most=most)

    assert [count(photos) for photos in (20, 99, 100, 1499, 1500)] == [10, 10, 5, 5, 0]
    assert count(1499, test=0.2) == 0
    assert [count(50, most=most) for most in (0, 2, 3, 9, 10, 99)] == [0, 0, 3, 9, 10, 10]
    assert count(4) == 4
    # Copies and groups count once.
    assert folds_for(entries(2000, group="one scene"), test=0.1, given=False, most=None) == 1
    given = [dataclasses.replace(entry, split="test" if n < 3 else "train") for n, entry in enumerate(entries(100))]
    assert folds_for(given, test=0.1, given=True, most=None) == 0


def test_units_stay_together_and_classes_are_spread() -> None:
    some = [dataclasses.replace(entry, group=f"person {n // 4}") for n, entry in enumerate(entries(80))]
    dealt = with_folds(with_split(some, seed=0, validation=0, test=0, given=False), 5, seed=0)
    assert {entry.split for entry in dealt} == {"train"}
    by_group = {(entry.group, entry.fold) for entry in dealt}
    assert len(by_group) == 20
    assert set(Counter(entry.fold for entry in dealt).values()) == {16}
    assert all(Counter(entry.label for entry in dealt if entry.fold == fold) == {"a": 8, "b": 8} for fold in range(5))


def test_a_class_in_one_unit_is_always_trained_on() -> None:
    some = [*entries(20), *(Entry(f"c{n}", "c", "kept", sha256=f"c{n}", duplicate="same") for n in range(3))]
    dealt = with_folds(with_split(some, seed=0, validation=0, test=0, given=False), 4, seed=0)
    assert {entry.fold for entry in dealt if entry.label == "c"} == {None}
    assert {entry.fold for entry in dealt if entry.label != "c"} == {0, 1, 2, 3}


def test_given_splits_are_respected(tmp_path: Path, folded: None) -> None:
    for part, count, first in (("train", 20, 0), ("val", 8, 20)):
        write_shapes(tmp_path / "d" / part, per_class=count, first=first)
    manifest = check(tmp_path / "d", Recipe())
    assert manifest.folds == 10
    assert Counter(entry.split for entry in manifest.kept) == {"train": 60, "validation": 24}
    assert len(manifest.scored()) == 60
    write_shapes(tmp_path / "d" / "test", per_class=4, first=28)
    manifest = check(tmp_path / "d", Recipe())
    assert manifest.folds == 0
    assert len(manifest.scored()) == 12
    with pytest.raises(PatiError, match="comes with a test split of 12 photos, and --folds 5"):
        check(tmp_path / "d", Recipe(folds=5))


def test_given_validation_photos_are_watched_and_never_in_a_fold(tmp_path: Path) -> None:
    for part, count, first in (("train", 20, 0), ("val", 8, 20)):
        write_shapes(tmp_path / "d" / part, per_class=count, first=first)
    with commands.undrawn():
        result = train(tmp_path / "d", RECIPE, out=tmp_path / "run")
    validation, calibration = result.metrics["validation"], result.classifier.calibration
    assert validation is not None
    assert calibration is not None
    assert (validation["photos"], result.metrics["test"]["photos"], calibration.photos) == (24, 60, 60)
    assert all(epoch.validated for epoch in epochs(result.run))
    assert not any(epoch.validated for epoch in epochs(train_without(tmp_path)))


def train_without(folder: Path) -> Run:
    with commands.undrawn():
        return train(folder / "d" / "train", RECIPE, out=folder / "other").run


def test_early_stopping_keeps_a_validation_split(shapes: Path) -> None:
    manifest = check(shapes, Recipe(folds=3, patience=2))
    assert manifest.of_split("validation")
    assert not manifest.of_split("test")
    assert {entry.fold for entry in manifest.of_split("validation")} == {None}
    assert not check(shapes, Recipe(folds=3)).of_split("validation")


def test_the_hash_of_runs_without_folds_is_the_same_as_before() -> None:
    some = tuple(entries(4, split="train"))
    without = Manifest("d", "/d", ("a", "b"), some, {})
    assert without.hash() == "c0fea83d403c81b3a2f729d94a2a20515c056d2a32f5cf286b71b63fba50f671"
    folded = dataclasses.replace(without, entries=tuple(with_folds(some, 2, seed=0)))
    assert folded.hash() != without.hash()


def test_every_photo_is_predicted_by_a_network_not_trained_on_it(run: Result) -> None:
    manifest, answers = Manifest.read(run.run.manifest), Predictions.read(run.run)
    assert manifest.folds == 3
    assert {entry.split for entry in manifest.kept} == {"train"}
    assert answers.test.sha256 == [entry.sha256 for entry in manifest.scored()]
    assert len(answers.validation.labels) == 0
    networks = [Classifier.load(run.run.fold_model(fold)) for fold in range(3)]
    assert len({network.weights() for network in [*networks, run.classifier]}) == 4
    store = Path(manifest.root)
    for number, entry in enumerate(manifest.scored()):
        assert entry.fold is not None
        network = networks[entry.fold]
        fitted = network.preprocess(store / entry.path)
        logits = network.logits(torch.tensor(fitted)[None])[0]
        assert torch.allclose(logits, answers.test.logits[number], atol=0.05), entry.path


def test_scores_are_those_of_all_folds(run: Result) -> None:
    document, answers = run.metrics, Predictions.read(run.run)
    assert document["test"]["photos"] == 90
    right = (answers.test.logits.argmax(1) == answers.test.labels).double().mean().item()
    assert document["test"]["accuracy"] == right
    assert document["validation"] is None
    folds = document["folds"]
    assert [fold["photos"] for fold in folds] == [30, 30, 30]
    assert sum(fold["agreement"] * fold["photos"] for fold in folds) == pytest.approx(90 * right)
    assert run.classifier.facts["metrics"]["folds"] == 3
    assert run.classifier.calibration is not None
    assert run.classifier.calibration.photos == 90
    # The statistics are those of each network's own training photos.
    means = {Classifier.load(run.run.fold_model(fold)).preprocess.mean for fold in range(3)}
    assert len(means) == 3


def test_report_and_card_tell_what_the_score_means(run: Result) -> None:
    report, card = run.run.report.read_text(), run.run.card.read_text()
    assert "Result of the cross-validation" in report
    assert "Çapraz doğrulamanın sonucu" in report
    assert "Each of the 90 photos was predicted once, by the one of 3 networks that was not trained on it." in report
    for text in ("test split was scored", "On the test split", "the validation split"):
        assert text not in report
        assert text not in card
    assert "each of the 90 photos was predicted once, by the one of 3 networks" in card


def test_the_report_can_be_written_again(run: Result) -> None:
    before = json.loads(run.run.metrics.read_text())
    _, again = report_again(run.run.folder, thorough=False)
    assert again["test"] == before["test"]
    assert again["analysis"]["calibration"] == before["analysis"]["calibration"]


def test_commands_that_need_a_test_split_say_so(run: Result) -> None:
    done = pati("eval", run.run.folder)
    assert done.returncode == 1
    assert "this run has no test split: it was scored by cross-validation" in done.stderr


def test_runs_with_folds_are_compared_on_all_their_photos(run: Result, tmp_path: Path) -> None:
    with commands.undrawn():
        other = train(Manifest.read(run.run.manifest).root, RECIPE.changed({"seed": 1}), out=tmp_path / "other")
    found = compare([run.run.folder, other.run.folder])
    assert [(row["photos"], row["folds"]) for row in found["runs"]] == [(90, RECIPE.folds)] * 2
    assert found["paired"]
    assert any("scored by cross-validation: run, other" in str(note) for note in notes(found))


def test_lists_of_runs_say_where_their_scores_come_from(run: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, expected = run.run.folder, f"{RECIPE.folds}-fold cross-validation"
    assert overview(folder)[0].folds == RECIPE.folds
    assert expected in pati("runs", folder).stdout
    assert json.loads(pati("runs", folder, "--json").stdout)[0]["folds"] == RECIPE.folds
    shown: list[object] = []
    monkeypatch.setattr(parts, "language", lambda: "en")
    monkeypatch.setattr(parts, "table", lambda head, rows, **more: shown.extend([*head, *rows[0]]))
    results_page._table({"run": run.run})
    assert expected in shown
    assert "Accuracy" in shown
    assert not any("test" in str(cell).lower() for cell in shown)


def test_clean_reads_the_folds_without_training(run: Result, tmp_path: Path) -> None:
    done = pati("clean", Path(Manifest.read(run.run.manifest).root), run.run.folder, "--out", tmp_path / "o", "--json")
    document = json.loads(done.stdout)
    assert (document["judged"], document["unjudged"]) == (90, 0)


@pytest.mark.usefixtures("folded")
def test_a_training_that_starts_from_such_a_run_is_scored_on_new_photos(run: Result, tmp_path: Path) -> None:
    data, told = Path(run.run.read_state()["data"]), []
    epoch = dataclasses.replace(RECIPE, epochs=1, folds=None, width=None)
    with pytest.raises(PatiError, match="the validation split is empty") as refused:
        train(data, epoch, start=run.run.folder, out=tmp_path / "none")
    assert "photos that the earlier model was trained on cannot be test photos" in str(refused.value.hint)
    shutil.copytree(data, tmp_path / "more")
    more = write_shapes(tmp_path / "more", per_class=20, first=100)
    started = train(more, epoch, start=run.run.folder, out=tmp_path / "run", listen=told.append)
    old = {entry.sha256 for entry in Manifest.read(run.run.manifest).kept}
    tested = Manifest.read(started.run.manifest).scored()
    assert tested
    assert not old & {entry.sha256 for entry in tested}
    notes = [str(event.text) for event in told if isinstance(event, Noted)]
    assert any("is not scored by cross-validation" in note for note in notes)


def test_a_comparison_has_the_intervals_of_the_report(run: Result, tmp_path: Path) -> None:
    """They are for the final model, and wider than those of the predictions alone."""
    shutil.copytree(run.run.folder, tmp_path / "same")
    for row in compare([run.run.folder, tmp_path / "same"])["runs"]:
        for name in ("accuracy", "macro_f1"):
            assert row[f"{name}_interval"] == run.metrics["test"][f"{name}_interval"]  # type: ignore[literal-required]


def test_a_threshold_is_judged_by_other_folds() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(300, 2) * 3, torch.randint(0, 2, (300,))  # nothing is learnt
    folds = np.arange(300) % 5
    kept, crossed = Calibration.of(logits, labels), CrossCalibration.of(logits, labels, folds)
    inside = folds == 2
    others = Calibration.of(logits[~inside], labels[~inside])
    assert set(crossed.thresholds[inside]) == {others.threshold()}
    assert set(crossed.temperatures[inside].flatten().tolist()) == {others.temperature}
    # On its own photos, a threshold for no wrong prediction looks perfect.
    confidence, right = calibration.confidences(logits, labels, kept.temperature)
    assert right[confidence >= kept.threshold(0.4)].mean() >= 0.6


def test_p_values_are_ranks_among_the_photos_of_other_folds() -> None:
    from pati.evaluation.out_of_distribution import OutOfDistributionDetector

    torch.manual_seed(1)
    labels = torch.randint(0, 2, (200,))
    parts = []
    for fold in range(4):
        numbers = np.arange(fold, 200, 4)
        facts = {"photos": 50, "epochs": 1, "seconds": 1.0, "agreement": 0.5}
        answers = Answers(numbers, torch.randn(50, 2), torch.rand(50) + 10, 1.0, np.ones(50, bool), facts)  # type: ignore[arg-type]
        parts.append(answers)
    parts[3].distances[7] = 99.0
    held = OutOfFold.of(parts, labels)
    assert held.labels.equal(labels)
    assert held.distances[3 + 7 * 4] == 99.0
    p_values = held.p_values(OutOfDistributionDetector.fitted(torch.rand(50, 12) + 1))
    assert p_values[3 + 7 * 4] == p_values[held.distances == 99.0].item()
    assert 0.3 < p_values.mean() < 0.7
    assert p_values[3 + 7 * 4] < 0.1


def test_half_of_the_time_is_for_the_model_that_is_kept(tmp_path: Path) -> None:
    seconds: list[float | None] = []
    planned = []

    def listen(event: object) -> None:
        if isinstance(event, FoldBegan):
            seconds.append(event.seconds)
        if isinstance(event, FoldsPlanned | FoldDone):
            planned.append(event)

    recipe = Recipe(budget=14.0, size=32, growth=(1.0,), width=0.25, model="pati", folds=3)
    with commands.undrawn():
        result = train(write_shapes(tmp_path / "d", per_class=30), recipe, out=tmp_path / "run", listen=listen)
    assert len(seconds) == 3
    assert len(planned) == 4
    kept = result.metrics["seconds"]["training"]
    assert kept >= 0.5 * sum(fold["seconds"] for fold in result.metrics["folds"])  # the machine may be busy at the end
    assert 2 < result.run.read_state()["folds_until"] < 8


def test_the_planner_counts_on_half_of_the_time() -> None:
    def settled(folds: int, budget: float) -> SettledRecipe:
        return plan.settle(
            Recipe(budget=budget), photos=1000, folds=folds, natural=128, flip_invariant=True, rotation_invariant=True,
            minimum_size=16, precision="float32", speed=1000, reading=0,
        )  # fmt: skip

    def most(budget: float) -> int | None:
        return plan.most_folds(settled(5, budget), photos=1000, minimum_size=16, speed=1000, reading=0)

    assert settled(5, 100).size <= settled(0, 100).size
    assert plan.default_budget(200, 128, folds=5) == 2 * plan.default_budget(200, 128)
    # Each network is trained for at least 12 epochs: there is no time for so many in half a minute.
    assert most(20) == 0
    assert (most(600) or 0) >= 3
    assert (
        plan.most_folds(
            settled(5, 100).changed({"budget": None, "epochs": 3}), photos=9, minimum_size=16, speed=1, reading=0
        )
        is None
    )


def test_too_short_a_budget_for_folds_has_a_test_split(tmp_path: Path, folded: None) -> None:
    told = []
    recipe = Recipe(budget=8.0, size=32, growth=(1.0,), width=2.0, model="pati-deep")
    with commands.undrawn():
        result = train(write_shapes(tmp_path / "d", per_class=300), recipe, out=tmp_path / "run", listen=told.append)
    manifest = Manifest.read(result.run.manifest)
    assert manifest.folds == 0
    assert len(manifest.of_split("test")) > 60
    assert not any(isinstance(event, FoldsPlanned) for event in told)
    notes = [str(event.text) for event in told if isinstance(event, Noted)]
    assert any("with a longer budget it would come from cross-validation (--folds 5" in note for note in notes)


OPTIONS = (*kills.OPTIONS[:2], "--folds", "3", *kills.OPTIONS[4:])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("whole")
    data = write_shapes(base / "shapes", per_class=20)
    done = kills.pati("train", data, *OPTIONS, "--out", base / "run")
    assert done.returncode == 0, done.stderr
    return data, base / "run"


@pytest.mark.parametrize("when", ["1/step-000000002", "2/step-000000001", "2.npz", "3.npz"])
def test_killed_between_and_inside_folds_gives_the_same_bytes(
    whole: tuple[Path, Path], tmp_path: Path, when: str
) -> None:
    data, run = whole
    folder = tmp_path / "run"
    process = kills.start("checkpoint", "train", data, *OPTIONS, "--out", folder)
    reached = folder / "folds" / (f"{when}.safetensors" if "step" in when else when)
    deadline = time.monotonic() + 120
    while not reached.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"{reached} was never written"
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (folder / "metrics.json").exists()
    done = kills.pati("train", "--resume", folder)
    assert done.returncode == 0, done.stderr
    assert kills.weights(folder) == kills.weights(run)
    one, other = (np.load(where / "predictions.npz") for where in (folder, run))
    assert all(np.array_equal(one[key], other[key]) for key in other.files)
    for fold in range(3):
        name = f"folds/{fold + 1}.npz"
        assert np.array_equal(np.load(folder / name)["logits"], np.load(run / name)["logits"])


def test_folds_are_refused_when_they_are_no_number_of_folds(shapes: Path) -> None:
    done = pati("train", shapes, "--folds", "1")
    assert "folds: expected 0, or from 2 to 20, got 1" in done.stderr
    done = pati("train", shapes, "--folds", "21")
    assert done.returncode == 1
    assert "folds: expected an integer from 0 to 20, got 21" in done.stderr


def test_too_few_groups_for_folds(tmp_path: Path) -> None:
    rows = ["file,label,person"]
    for number, path in enumerate(sorted(write_shapes(tmp_path / "d", per_class=4).rglob("*.jpg"))):
        rows.append(f"{path.relative_to(tmp_path / 'd')},{path.parent.name},{'one' if number else 'two'}")
    (tmp_path / "d" / "labels.csv").write_text("\n".join(rows))
    done = pati("train", tmp_path / "d" / "labels.csv", "--group-by", "person", "--folds", "3", "--out", tmp_path / "r")
    assert done.returncode == 1
    assert "cross-validation is impossible: there are too few groups of photos" in done.stderr
