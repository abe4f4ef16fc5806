"""`pati clean`: suspects are judged by nets that did not train on them, decisions are kept, no photo is touched."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pati import cli
from pati.data import decisions
from pati.data.loader import Samples
from pati.data.manifest import Manifest, units
from pati.data.split import Unit, Units, assign_folds
from pati.errors import Interrupted, PatiError
from pati.events import Event, FoldBegan, TrainingBegan
from pati.recipe import Recipe
from pati.report import labels
from pati.report.markup import m
from pati.system import locks
from pati.workflows import clean, fit
from pati.workflows.check import check
from pati.workflows.out_of_fold import CrossFit, dealt
from pati.workflows.prepare import Prepared, prepare
from pati.workflows.train import train
from tests.support.photos import draw, jpeg, write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

RECIPE = Recipe(epochs=15, size=32, growth=(1.0,), width=0.5, split_seed=1)
FLIPPED = ("square/c1.jpg", "square/c2.jpg", "square/c3.jpg", "square/c4.jpg")


def silent(event: dict[str, Any]) -> None:
    """Listens to nothing."""


def digests(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.jpg"))}


def rows_of(run: Path) -> dict[str, dict[str, str]]:
    with (run / "clean" / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder with `shapes`, four circles of which lie among the squares and one picture in two classes, and a `run`
    on them; read it, don't change it."""
    base = tmp_path_factory.mktemp("dirty")
    shapes = write_shapes(base / "shapes", per_class=60)
    for path in FLIPPED:
        (shapes / "circle" / path.removeprefix("square/c")).rename(shapes / path)
    (shapes / "triangle" / "twin.jpg").write_bytes(jpeg(draw("circle", 10), 80))
    train(shapes, RECIPE, out=base / "run")
    return base


@pytest.fixture
def copied(dirty: Path, tmp_path: Path) -> Path:
    """The same shapes, and a run that may be changed."""
    shutil.copytree(dirty / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def ready(dirty: Path) -> Prepared:
    return prepare(dirty / "shapes", Recipe.read(dirty / "run" / "recipe.json"))


def folds_of(units: list[Unit], *, seed: int) -> dict[str, int]:
    return {unit.identity: fold for unit, fold in zip(units, assign_folds(Units.of(units), 3, seed=seed), strict=True)}


def test_deals_evenly_and_for_ever() -> None:
    made = [Unit(f"{label}{number}", ((label, 1 + number % 3),)) for label in "abc" for number in range(10)]
    dealt = folds_of(made, seed=0)
    assert Counter(dealt.values()) == {0: 10, 1: 10, 2: 10}
    for label in "abc":
        counts = Counter(fold for name, fold in dealt.items() if name.startswith(label))
        assert sorted(counts.values()) == [3, 3, 4]
    assert folds_of(made[::-1], seed=0) == dealt
    assert folds_of(made, seed=1) != dealt


def test_judges_have_not_trained_on_what_they_judge(
    ready: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[int]] = []
    train = fit.train_net

    def watched(net: Any, training: Samples, *args: Any, **kwargs: Any) -> Any:
        seen.append(set(training.rows.tolist()))
        return train(net, training, *args, **kwargs)

    monkeypatch.setattr(fit, "train_net", watched)
    entries = ready.manifest.of_split("train")
    cross = CrossFit(ready, tmp_path, dealt(ready, 3), pace=None, listen=silent)
    held: list[int] = []
    for fold in range(3):
        answers = cross.answers(fold, None, lambda: False)
        mine = [entries[number] for number in answers.numbers]
        assert seen[fold].isdisjoint(ready.packed.of(mine).tolist())
        assert seen[fold] | set(ready.packed.of(mine).tolist()) == set(ready.packed.of(entries).tolist())
        assert answers.logits.shape == (len(mine), 3)
        assert answers.taught.all()
        assert 0.05 < answers.temperature < 20
        labels = ready.manifest.targets(mine)
        assert answers.facts["agreement"] == pytest.approx((answers.logits.argmax(1).numpy() == labels).mean())
        held += answers.numbers.tolist()
        unit = units(entries)[1]
        inside = np.isin([entry.path for entry in entries], [entry.path for entry in mine])
        assert not set(unit[inside]) & set(unit[~inside])  # copies are together
    assert sorted(held) == list(range(len(entries)))


def test_a_class_that_a_judge_has_not_seen_is_not_judged(ready: Prepared, tmp_path: Path) -> None:
    """All training photos but one of a class are taken away: the one left is in a fold that no net is taught by."""
    entries = ready.manifest.of_split("train")
    circles = [number for number, entry in enumerate(entries) if entry.label == "circle" and not entry.duplicate]
    kept = [number for number, entry in enumerate(entries) if entry.label != "circle" or number == circles[0]]
    left = {entries[number].path for number in kept}
    few = dataclasses.replace(
        ready.manifest,
        entries=tuple(e for e in ready.manifest.entries if e.split != "train" or e.path in left),
    )
    fewer = dataclasses.replace(ready, manifest=few, training=ready.training.take(torch.tensor(kept)))
    cross = CrossFit(fewer, tmp_path, dealt(fewer, 2), pace=None, listen=silent)
    unknown = {}
    for fold in range(2):
        answers = cross.answers(fold, None, lambda: False)
        for number, taught in zip(answers.numbers.tolist(), answers.taught.tolist(), strict=True):
            unknown[few.of_split("train")[number].path] = not taught
    assert [path for path, open_ in unknown.items() if open_] == [entries[circles[0]].path]


def test_two_processes_do_not_share_a_list(dirty: Path, copied: Path) -> None:
    (copied / "clean").mkdir()
    with locks.locked(copied / "clean" / ".lock", ""), pytest.raises(PatiError, match="another process"):
        clean.clean(dirty / "shapes", copied, listen=silent)


def test_finds_what_is_wrong(dirty: Path, copied: Path) -> None:
    before = digests(dirty / "shapes")
    document = clean.clean(dirty / "shapes", copied, folds=3, listen=silent)
    assert digests(dirty / "shapes") == before
    rows = rows_of(copied)
    found = [path for path in FLIPPED if path in rows]
    assert len(found) >= 3  # one may look too little like a circle to be believed
    for path in found:
        assert (rows[path]["why"], rows[path]["answer"], rows[path]["new_label"]) == ("label", "circle", "circle"), path
        assert float(rows[path]["label_probability"]) < 0.5
    for path in ("circle/10.jpg", "triangle/twin.jpg"):
        assert rows[path]["why"].split()[0] == "two-classes"
    assert all(row["decision"] == "" for row in rows.values())
    likely_label_errors = [float(row["label_probability"]) for row in rows.values() if row["why"] == "label"]
    assert likely_label_errors == sorted(likely_label_errors)
    assert document["judged"] == document["photos"] == 181
    assert document["unjudged"] == 0
    assert document["counts"] == {
        why: sum(row["why"].split()[0] == why for row in rows.values()) for why in clean.REASONS
    }
    assert sum("odd" in row["why"].split() for row in rows.values()) == math.ceil(0.002 * 181)
    training = len(Manifest.read(copied / "manifest.jsonl").of_split("train"))
    assert sum(fold["photos"] for fold in document["folds"]) == training
    assert all(fold["epochs"] == RECIPE.epochs and fold["seconds"] > 0 for fold in document["folds"])


def test_without_folds_training_photos_are_not_judged(dirty: Path, copied: Path) -> None:
    document = clean.clean(dirty / "shapes", copied, listen=silent)
    found = Manifest.read(copied / "manifest.jsonl")
    assert document["unjudged"] == len(found.of_split("train"))
    split = {entry.path: entry.split for entry in found.kept}
    rows = rows_of(copied)
    assert all(split[path] != "train" for path, row in rows.items() if "label" in row["why"].split())
    assert all(row["answer"] == "" for path, row in rows.items() if split[path] == "train")


def test_the_runs_own_answers_stay_what_they_were(dirty: Path, copied: Path) -> None:
    """Answers that the run keeps are read, not given again: changed ones are believed."""
    with np.load(copied / "predictions.npz") as stored:
        arrays = dict(stored)
    others = (arrays["test_labels"] + 1) % 3
    arrays["test_logits"] = 10 * np.eye(3, dtype=np.float32)[others]
    np.savez(copied / "predictions.npz", **arrays)
    clean.clean(dirty / "shapes", copied, listen=silent)
    answers = {path: row["answer"] for path, row in rows_of(copied).items() if "label" in row["why"].split()}
    found = Manifest.read(copied / "manifest.jsonl")
    test = dict(zip([entry.path for entry in found.of_split("test")], others.tolist(), strict=True))
    assert {path: found.classes[number] for path, number in test.items()}.items() <= answers.items()


def test_decisions_are_followed_and_kept(dirty: Path, copied: Path) -> None:
    first = clean.clean(dirty / "shapes", copied, folds=2, listen=silent)
    table = copied / "clean" / "decisions.csv"
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    at = {name: number for number, name in enumerate(rows[0])}
    wanted = {"square/c1.jpg": "relabel", "square/c2.jpg": "drop", "triangle/twin.jpg": "drop", "circle/10.jpg": "keep"}
    for row in rows:
        row[at["decision"]] = wanted.get(row[at["path"]], row[at["decision"]])
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    second = clean.clean(dirty / "shapes", copied, folds=2, listen=silent)
    again = rows_of(copied)
    assert {path: row["decision"] for path, row in again.items() if row["decision"]} == wanted
    assert again["square/c1.jpg"]["new_label"] == "circle"
    assert second["decided"] == len(wanted)
    assert second["counts"]["two-classes"] == 0 < first["counts"]["two-classes"]
    assert second["photos"] == first["photos"] - 2
    found = check(dirty / "shapes", RECIPE, decisions=table)
    entries = {entry.path: entry for entry in found.entries}
    assert entries["square/c1.jpg"].label == "circle"
    assert entries["square/c2.jpg"].reason == "dropped"
    assert not any("not applied" in str(note) for note in found.notes)
    # A run that was trained with them goes on from there.
    again = train(dirty / "shapes", RECIPE, out=copied.parent / "second", decisions=table)
    likely_label_errors = {row["path"] for row in again.metrics["analysis"]["suspects"]["first"]}
    assert likely_label_errors.isdisjoint(wanted)
    assert likely_label_errors == {path for path in likely_label_errors if "confirmed" not in entries[path].flags}
    third = clean.clean(dirty / "shapes", copied.parent / "second", listen=silent)
    assert third["decided"] == len(wanted)
    assert (
        decisions.read(copied.parent / "second" / "clean" / "decisions.csv", ("circle", "square", "triangle")).keys()
        == wanted.keys()
    )


def edited(run: Path, wanted: dict[str, str]) -> None:
    """Write decisions, and a column of one's own, into the table as a person would."""
    rows = rows_of(run)
    for path, decision in wanted.items():
        rows[path] |= {"decision": decision, "mine": f"note on {path}"}
    with (run / "clean" / "decisions.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, [*clean.COLUMNS, "mine"], restval="")
        writer.writeheader()
        writer.writerows(rows.values())


def test_what_a_person_writes_meanwhile_is_kept(dirty: Path, copied: Path) -> None:
    clean.clean(dirty / "shapes", copied, listen=silent)
    first, second = list(rows_of(copied))[:2]

    def decide(event: Event) -> None:
        if isinstance(event, FoldBegan) and event.number == 2:
            edited(copied, {first: "keep", second: ""})

    document = clean.clean(dirty / "shapes", copied, folds=2, listen=decide)
    rows = rows_of(copied)
    assert document["decided"] == 1
    assert (rows[first]["decision"], rows[first]["mine"]) == ("keep", f"note on {first}")
    assert (rows[second]["decision"], rows[second]["mine"]) == ("", f"note on {second}")
    assert set(rows) >= {first, second}


def test_a_decision_on_another_file_hides_no_photo(dirty: Path, copied: Path) -> None:
    clean.clean(dirty / "shapes", copied, listen=silent)
    path = next(iter(rows_of(copied)))
    edited(copied, {path: "keep"})
    table = copied / "clean" / "decisions.csv"
    digest = rows_of(copied)[path]["sha256"]
    table.write_bytes(table.read_bytes().replace(digest.encode(), b"0" * 64))
    assert clean.clean(dirty / "shapes", copied, listen=silent)["decided"] == 0
    row = rows_of(copied)[path]
    assert (row["sha256"], row["decision"], row["mine"]) == (digest, "", "")


def test_decisions_of_the_run_are_for_its_own_photos(dirty: Path, copied: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256((dirty / "shapes" / "circle" / "20.jpg").read_bytes()).hexdigest()
    (copied / "decisions.csv").write_text(f"path,sha256,decision,new_label\ncircle/20.jpg,{digest},keep,\n")
    assert clean.clean(dirty / "shapes", copied, listen=silent)["decided"] == 1
    other = write_shapes(tmp_path / "other", per_class=12, first=200)
    assert clean.clean(other, copied, out=tmp_path / "list", listen=silent)["decided"] == 0


def test_nothing_is_written_among_photos_or_over_the_run(dirty: Path, copied: Path) -> None:
    before = sorted(dirty.rglob("*"))
    for out, told in (
        (dirty / "shapes", "inside the data folder"),
        (dirty / "shapes" / "new", "inside"),
        (copied, "itself"),
    ):
        with pytest.raises(PatiError, match=told):
            clean.clean(dirty / "shapes", copied, out=out, listen=silent)
    assert sorted(dirty.rglob("*")) == before


def test_more_folds_than_groups_are_told(ready: Prepared, tmp_path: Path) -> None:
    few = dataclasses.replace(ready.manifest, entries=tuple(ready.manifest.of_split("train")[:7]))
    groups = len(units(few.kept)[0])
    with pytest.raises(PatiError, match=f"{groups} groups that must stay together"):
        dealt(dataclasses.replace(ready, manifest=few), groups + 1)


def test_a_stop_loses_no_training(dirty: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    train = fit.train_net

    def counted(*args: Any, stop: bool, **kwargs: Any) -> Any:
        trained.append(1)
        if stop and len(trained) == 2:
            kwargs["stopped"] = lambda: True
        return train(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(fit, "train_net", lambda *args, **kwargs: counted(*args, stop=True, **kwargs))
        with pytest.raises(Interrupted, match="are saved"):
            clean.clean(dirty / "shapes", copied, folds=3, listen=silent)
    assert not (copied / "clean" / "decisions.csv").exists()
    begun: list[TrainingBegan] = []
    trained.clear()
    monkeypatch.setattr(fit, "train_net", lambda *args, **kwargs: counted(*args, stop=False, **kwargs))
    resumed = clean.clean(
        dirty / "shapes", copied, folds=3, listen=lambda e: begun.append(e) if isinstance(e, TrainingBegan) else None
    )
    assert len(trained) == 2  # the second and the third
    assert [event.step for event in begun] == [1, 0]
    table = (copied / "clean" / "decisions.csv").read_text()
    shutil.rmtree(copied / "clean")
    whole = clean.clean(dirty / "shapes", copied, folds=3, listen=silent)
    assert (copied / "clean" / "decisions.csv").read_text() == table  # runs by epochs go on exactly
    assert [fold["agreement"] for fold in whole["folds"]] == [fold["agreement"] for fold in resumed["folds"]]


def test_finished_trainings_are_read_again(dirty: Path, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = clean.clean(dirty / "shapes", copied, folds=2, listen=silent)

    def never(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(fit, "train_net", never)
    assert clean.clean(dirty / "shapes", copied, folds=2, listen=silent)["folds"] == first["folds"]
    with pytest.raises(AssertionError):
        clean.clean(dirty / "shapes", copied, folds=3, listen=silent)


def test_new_photos_are_judged_by_the_run(dirty: Path, copied: Path, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", per_class=12, first=200)
    wrong = {f"triangle/wrong{number}.jpg" for number in range(8)}
    for number, path in enumerate(sorted(wrong)):
        (other / path).write_bytes(jpeg(draw("square", 300 + number)))
    document = clean.clean(other, copied, out=tmp_path / "list", listen=silent)
    assert document["judged"] == document["photos"] == 44
    with (tmp_path / "list" / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
        listed = {row["path"] for row in csv.DictReader(file) if "label" in row["why"]}
    assert listed  # not all: those of which the net is surer than of squares on average
    assert listed <= wrong


def test_keeps_a_budget_and_refuses_one_that_is_too_small(dirty: Path, copied: Path) -> None:
    with pytest.raises(PatiError, match=r"leaves . s for each of the 3 folds") as caught:
        clean.clean(dirty / "shapes", copied, folds=3, budget=2.0, listen=silent)
    assert "--budget" in str(caught.value.hint)
    told: list[float | None] = []
    document = clean.clean(
        dirty / "shapes", copied, folds=2, budget=14.0,
        listen=lambda event: told.append(event.seconds) if isinstance(event, FoldBegan) else None,
    )  # fmt: skip
    assert sum(fold["seconds"] for fold in document["folds"]) < 14
    assert len(told) == 2
    assert all(0 < seconds < 7 for seconds in told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"folds": 1}, "--folds is 1"),
        ({"folds": 99}, "--folds is 99"),
        ({"budget": 60.0}, "--budget limits the time of --folds"),
        ({"folds": 3, "budget": math.nan}, "--budget limits the time of --folds"),
    ],
)
def test_wrong_choices_are_told(dirty: Path, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(PatiError, match=told):
        clean.clean(dirty / "shapes", dirty / "run", **arguments, listen=silent)
    assert not (dirty / "run" / "clean").exists()


def test_other_classes_are_told(dirty: Path, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "two", classes=("circle", "square"))
    with pytest.raises(PatiError, match="has the classes circle, square"):
        clean.clean(other, dirty / "run", out=tmp_path / "list", listen=silent)


def test_the_page_shows_the_photos_and_holds_the_decisions(dirty: Path, copied: Path) -> None:
    document = clean.clean(dirty / "shapes", copied, listen=silent)
    page = Path(document["page"]).read_text(encoding="utf-8")
    rows = rows_of(copied)
    assert len(re.findall(r"<img src=.data:image/jpeg;base64,", page)) == len(rows)
    assert not re.search(r"(src|href)=.https?:", page)
    header, lines = json.loads("[" + re.search(r"const header = (.*?);\n", page)[1].replace(", lines =", ",") + "]")  # type: ignore[index]
    assert [dict(zip(header, line, strict=True)) for line in lines] == list(rows.values())
    assert list(labels.REVIEW) == list(clean.REASONS)
    for heading, text in labels.REVIEW.values():
        assert f"<h2>{m(heading)} (" in page
        assert f"<p>{m(text)}</p>" in page


def test_from_the_command_line(dirty: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["clean", str(dirty / "shapes"), str(copied)]
    cli.program(words, result_action="return_value")
    told = capsys.readouterr().out
    assert "--folds 3 checks the training photos too" in " ".join(told.split())
    again = f"--recipe {copied / 'recipe.json'} --decisions {copied / 'clean' / 'decisions.csv'}"
    assert f"pati train {dirty / 'shapes'} {again}" in told
    cli.program([*words, "--folds", "2", "--json"], result_action="return_value")
    document = json.loads(capsys.readouterr().out)
    assert len(document["folds"]) == 2
    assert document["unjudged"] == 0
