"""Trainings that start from an earlier model: its weights, its photos, and what is said of it."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import pati
from pati import included, models
from pati.data.entries import Entry
from pati.data.manifest import Manifest, with_split
from pati.errors import Interrupted, PatiError
from pati.evaluation.documents import Ancestor
from pati.events import Event, Noted, RunOpened, StepDone, Warned, silent
from pati.inference import lineage
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.runs.start import Start
from pati.training import transfer
from pati.workflows.clean import clean
from pati.workflows.report import report_again
from pati.workflows.score import score
from pati.workflows.train import resume, train
from tests.support.commands import pati as command
from tests.support.photos import write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

QUICK = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, batch=16)
OPEN = dataclasses.replace(QUICK, size=None, width=None)


@dataclasses.dataclass
class Earlier:
    """A run on two of the shapes, and its photos."""

    data: Path
    run: Path

    @property
    def splits(self) -> dict[str, str]:
        return splits(self.run)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Earlier:
    base = tmp_path_factory.mktemp("earlier")
    data = write_shapes(base / "two", classes=("circle", "square"))
    return Earlier(data, train(data, dataclasses.replace(QUICK, epochs=3), out=base / "first").run.folder)


@pytest.fixture
def more(earlier: Earlier, tmp_path: Path) -> Path:
    """The same photos, more of them, and another class."""
    data = tmp_path / "more"
    shutil.copytree(earlier.data, data)
    write_shapes(data, classes=("circle", "square"), first=100)
    return write_shapes(data, classes=("triangle",))


def splits(run: Path) -> dict[str, str]:
    """The split of each photo of a run, by content."""
    return {entry.sha256: entry.split or "" for entry in Manifest.read(Run(run).manifest).kept}


def table(folder: Path, rows: dict[str, str]) -> Path:
    """A CSV of photos, by path, with their given splits."""
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        writer.writerows([path, path.split("/")[0], split] for path, split in rows.items())
    return folder / "labels.csv"


def texts(told: list[Event], kind: type[Noted] | type[Warned]) -> list[str]:
    return [str(event.text) for event in told if isinstance(event, kind)]


# The weights --------------------------------------------------------------------------


def test_classes_keep_their_rows_and_new_ones_stay_fresh() -> None:
    earlier = models.build("pati", 3, models.Options(width=0.25), seed=1)
    net, fresh = (models.build("pati", 3, models.Options(width=0.25), seed=2) for _ in range(2))
    last = models.by_class("pati", models.Options(width=0.25))
    assert last == {"head.3.weight", "head.3.bias"}
    transfer.shrink_and_perturb(net, earlier.state_dict(), [2, None, 0], by_class=last)
    ours, old, new = (one.state_dict()["head.3.weight"] for one in (net, earlier, fresh))
    torch.testing.assert_close(ours[0], transfer.SHARE * old[2] + (1 - transfer.SHARE) * new[0])
    torch.testing.assert_close(ours[1], new[1])
    torch.testing.assert_close(ours[2], transfer.SHARE * old[0] + (1 - transfer.SHARE) * new[2])


def test_kernels_are_turned_and_keep_their_norm() -> None:
    earlier, net, fresh = (models.build("pati", 2, models.Options(width=0.25), seed=seed) for seed in (1, 2, 2))
    transfer.shrink_and_perturb(net, earlier.state_dict(), [0, 1], by_class=frozenset())
    for ours, old, new in zip(net.parameters(), earlier.parameters(), fresh.parameters(), strict=True):
        if ours.ndim == 4:
            torch.testing.assert_close(ours.norm(), old.norm())
            alike = torch.nn.functional.cosine_similarity
            assert alike(ours.flatten(), old.flatten(), 0) > alike(ours.flatten(), new.flatten(), 0) > 0


@pytest.mark.parametrize("name", [name for name in models.models if name != "scratch"])
def test_every_network_can_be_started_from(name: str) -> None:
    options = models.Options(size=models.smallest_size(name))
    earlier, net = (models.build(name, classes, options, seed=classes) for classes in (2, 3))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    last = models.by_class(name, options)
    assert 1 <= len(last) <= 2
    transfer.shrink_and_perturb(net, earlier.state_dict(), [0, 1, None], by_class=last)
    kernels = [key for key, value in before.items() if value.ndim == 4]
    assert all(not torch.equal(before[key], net.state_dict()[key]) for key in kernels)
    assert all(torch.equal(before[key][2], net.state_dict()[key][2]) for key in last)


def test_a_training_goes_on_with_what_was_learnt(earlier: Earlier, more: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    run = train(more, OPEN, out=tmp_path / "run", start=earlier.run, listen=told.append).run
    recipe, first = Recipe.read(run.recipe), Recipe.read(Run(earlier.run).recipe)
    assert (recipe.model, recipe.width) == (first.model, first.width)
    assert recipe.size == 48  # as large as the photos allow: the model fits any size
    assert pati.load(run.folder).classes == ("circle", "square", "triangle")
    (opened,) = [event for event in told if isinstance(event, RunOpened)]
    assert [row["name"] for row in opened.lineage] == ["first"]


@pytest.mark.parametrize(
    ("changes", "told"), [({"model": "resnet18"}, "model is resnet18"), ({"width": 0.5}, "width is 0.5")]
)
def test_another_network_is_refused(changes: dict[str, str], told: str, earlier: Earlier, tmp_path: Path) -> None:
    with pytest.raises(PatiError, match=told) as caught:
        train(earlier.data, OPEN.changed(changes), out=tmp_path / "run", start=earlier.run)
    assert "--from" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()


def test_a_network_with_another_stem_is_refused(earlier: Earlier, tmp_path: Path) -> None:
    small = train(earlier.data, QUICK.changed({"model": "resnet18"}), out=tmp_path / "small").run.folder
    with pytest.raises(PatiError, match="other layers than at the 32 px") as caught:
        train(earlier.data, Recipe(epochs=1, size=64), out=tmp_path / "large", start=small)
    assert "--size 32" in str(caught.value.hint)


# The photos -----------------------------------------------------------------------------


def test_photos_keep_their_splits_whatever_the_seed(earlier: Earlier, more: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    moved = OPEN.changed({"split_seed": 7})
    run = train(more, moved, out=tmp_path / "run", start=earlier.run, listen=told.append).run
    now, before = splits(run.folder), earlier.splits
    assert {digest: now[digest] for digest in before} == before
    assert set(splits(run.folder).values()) == {"train", "validation", "test"}
    assert {entry.split for entry in Manifest.read(run.manifest).kept if entry.label == "triangle"} == {
        "train", "validation", "test",
    }  # fmt: skip
    assert any(f"{len(before)} photos are known from first" in text for text in texts(told, Noted))
    assert not texts(told, Warned)


def test_copies_of_training_photos_are_not_scored(earlier: Earlier, tmp_path: Path) -> None:
    """The earlier photos are not here, but smaller copies of them."""
    data = write_shapes(tmp_path / "new", classes=("circle", "square"), first=100)
    found = Manifest.read(Run(earlier.run).manifest)
    for entry in found.kept:
        buffer = io.BytesIO()
        with Image.open(earlier.data / entry.path) as photo:
            photo.resize((44, 44)).save(buffer, "JPEG", quality=85)
        (data / entry.label / f"copy-{Path(entry.path).name}").write_bytes(buffer.getvalue())
    run = train(data, OPEN, out=tmp_path / "run", start=earlier.run).run
    before = {f"{entry.label}/copy-{Path(entry.path).name}": entry.split for entry in found.kept}
    now = {entry.path: entry.split for entry in Manifest.read(run.manifest).kept if "copy" in entry.path}
    same = [now[path] == split for path, split in before.items()]
    assert sum(same) >= 0.9 * len(same)  # drawn shapes look alike, so some copies are copies of several
    learnt = [path for path, split in before.items() if split == "train"]
    assert {now[path] for path in learnt} == {"train"}


def test_a_test_photo_that_belongs_to_a_training_photo_is_set_aside() -> None:
    photos = [Entry(f"a/{n}.jpg", "a", "kept", sha256=f"{n}", group="g" if n < 3 else None) for n in range(20)]
    known = {"0": "train", "1": "test", "5": "test", "6": "validation", "7": "train"}
    done = with_split(photos, seed=0, validation=0.1, test=0.1, given=False, known=known)
    where = {entry.sha256: entry.split if entry.kept else entry.reason for entry in done}
    assert (where["0"], where["1"], where["2"]) == ("train", "set-aside", "train")
    assert (where["5"], where["6"], where["7"]) == ("test", "validation", "train")
    assert with_split(photos, seed=0, validation=0.1, test=0.1, given=False, known={}) == with_split(
        photos, seed=0, validation=0.1, test=0.1, given=False
    )


def test_small_classes_do_not_move_known_photos() -> None:
    photos = [Entry(f"a/{n}.jpg", "a", "kept", sha256=f"{n}") for n in range(5)]
    known = dict.fromkeys("01234", "train")
    done = with_split(photos, seed=0, validation=0.2, test=0.2, given=False, known=known)
    assert {entry.split for entry in done} == {"train"}


@pytest.mark.parametrize(
    ("of", "given", "told"),
    [
        ("train", "test", "1 photo of the given validation or test split is one that first was trained on"),
        ("train", "validation", "that first was trained on"),
        ("test", "train", "1 photo of the given training split is a test photo of first"),
    ],
)
def test_a_leak_in_a_given_split_is_refused(
    of: str, given: str, told: str, earlier: Earlier, more: Path, tmp_path: Path
) -> None:
    found = Manifest.read(Run(earlier.run).manifest)
    rows = {entry.path: entry.split or "" for entry in found.kept}
    rows |= {f"circle/{n}.jpg": "train" for n in range(100, 110)}
    train(table(more, rows), OPEN, out=tmp_path / "fine", start=earlier.run)
    planted = found.of_split(of)[0].path
    with pytest.raises(PatiError, match=told) as caught:
        train(table(more, rows | {planted: given}), OPEN, out=tmp_path / "run", start=earlier.run)
    assert planted in str(caught.value.message)
    assert "without --from" in str(caught.value.hint)


def test_what_is_not_known_is_said(earlier: Earlier, more: Path, tmp_path: Path) -> None:
    """Of a model file alone, the photos are known only if the manifest is the same."""
    alone = tmp_path / "alone.safetensors"
    shutil.copy(Run(earlier.run).model, alone)
    told: list[Event] = []
    run = train(more, OPEN, out=tmp_path / "run", start=alone, listen=told.append).run
    unknown = "it is not known which photos alone.safetensors saw in training"
    assert any(unknown in text for text in texts(told, Warned))
    assert unknown in run.report.read_text(encoding="utf-8")
    assert unknown in run.card.read_text(encoding="utf-8").replace("\\", "")
    told.clear()
    run = train(earlier.data, OPEN, out=tmp_path / "same", start=alone, listen=told.append).run
    assert not texts(told, Warned)
    assert "not known which" not in run.report.read_text(encoding="utf-8")


def test_training_photos_of_ancestors_count_in_later_scores(earlier: Earlier, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", classes=("circle", "square"), first=200)
    run = train(other, OPEN, out=tmp_path / "run", start=earlier.run).run
    document = score(run.folder, data=earlier.data)
    assert document["trained_on"] == list(earlier.splits.values()).count("train")
    assert document["test_photos"] == 0
    assert {row["of"] for row in document["training_copies"]} == {"first"}


# The lineage ------------------------------------------------------------------------


def test_a_grandchild_knows_all_its_ancestors(earlier: Earlier, more: Path, tmp_path: Path) -> None:
    child = train(more, OPEN, out=tmp_path / "child", start=earlier.run).run
    last = write_shapes(tmp_path / "last", classes=("square", "triangle"), first=300)
    shutil.copytree(earlier.data / "square", last / "square", dirs_exist_ok=True)
    shutil.rmtree(more)
    told: list[Event] = []
    run = train(last, OPEN, out=tmp_path / "grandchild", start=child.folder, listen=told.append).run
    rows = pati.load(run.folder).facts["lineage"]
    assert [row["name"] for row in rows] == ["child", "first"]
    assert rows == run.read_metrics()["lineage"]
    assert rows[1]["training_photos"] == list(earlier.splits.values()).count("train")
    assert rows[1]["sha256"] == pati.load(earlier.run).weights()
    now = splits(run.folder)
    assert all(now[digest] == split for digest, split in earlier.splits.items() if digest in now)
    for path in (run.report, run.card):
        text = path.read_text(encoding="utf-8").replace("\\", "")
        assert "started from child (trained on" in text
        assert "itself started from first (trained on" in text
        assert "trained from scratch" not in text.replace("not trained from scratch", "")
    alone = tmp_path / "alone.safetensors"
    shutil.copy(run.model, alone)
    third = train(last, OPEN.changed({"split_seed": 3}), out=tmp_path / "third", start=alone).run
    named = pati.load(third.folder).facts["lineage"]
    assert [(row["name"], row["photos_known"]) for row in named] == [
        ("alone.safetensors", False), ("child", False), ("first", False),
    ]  # fmt: skip


def test_a_training_from_scratch_says_so(earlier: Earlier) -> None:
    assert "lineage" not in pati.load(earlier.run).facts
    assert "trained from scratch" in Run(earlier.run).card.read_text(encoding="utf-8")
    assert str(lineage.origin([])) == "trained from scratch"


def test_the_included_model_can_be_started_from(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes")
    recipe = Recipe(epochs=1, size=32, growth=(1.0,), batch=16)
    told: list[Event] = []
    run = train(data, recipe, out=tmp_path / "run", start="cats-vs-dogs", listen=told.append).run
    (row,) = run.read_metrics()["lineage"]
    assert (row["name"], row["classes"]) == ("cats-vs-dogs", ["Cat", "Dog"])
    assert row["sha256"] == pati.load(included.model()).weights()
    assert any("not known which photos cats-vs-dogs" in text for text in texts(told, Warned))


# Going on ---------------------------------------------------------------------------


def test_resumed_without_the_earlier_run_it_ends_the_same(earlier: Earlier, more: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(earlier.run, gone)
    recipe = OPEN.changed({"epochs": 2})
    undisturbed = train(more, recipe, out=tmp_path / "a", start=gone).run

    def stop(steps: int) -> Callable[[Event], None]:
        def listen(event: Event) -> None:
            if isinstance(event, StepDone) and event.step >= steps:
                raise KeyboardInterrupt

        return listen

    for out, steps in (("early", 0), ("late", 9)):
        with pytest.raises(Interrupted):
            train(more, recipe, out=tmp_path / out, start=gone, listen=stop(steps))
    shutil.rmtree(gone)
    for out in ("early", "late"):
        run = resume(tmp_path / out).run
        assert run.model.read_bytes() == undisturbed.model.read_bytes()
        assert run.read_metrics()["lineage"] == undisturbed.read_metrics()["lineage"]
    report_again(tmp_path / "late")


def test_a_run_whose_start_is_missing_is_not_trained_from_scratch(earlier: Earlier, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, StepDone):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        train(earlier.data, OPEN, out=tmp_path / "run", start=earlier.run, listen=stop)
    run = Run(tmp_path / "run")
    kept = run.start.read_text()
    for damaged in ("", "{}", json.dumps(json.loads(kept) | {"lineage": []})):
        run.start.write_text(damaged)
        with pytest.raises(PatiError, match=r"can't read .*start.json"):
            resume(run.folder)
    run.start.unlink()
    with pytest.raises(PatiError, match=r"start.json"):
        resume(run.folder)


def test_a_start_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = Run(tmp_path)
    start = Start((lineage_row(),), {"a": "train", "b": "test"}, "somewhere")
    run.begin(Recipe(), start=start.parent["sha256"])
    start.keep(run)
    assert Start.of(run) == start
    assert start.with_photos([("a", "test"), ("c", "test")]) == dataclasses.replace(
        start, photos={"a": "train", "b": "test", "c": "test"}, uncompared=None
    )


def lineage_row() -> Ancestor:
    return {
        "name": "first", "pretrained": False, "sha256": "0" * 64, "classes": ["a", "b"], "source": "photos",
        "training_photos": 5, "manifest": "1" * 64, "photos_known": True,
    }  # fmt: skip


def test_ancestors_in_words() -> None:
    weights: Ancestor = {**lineage_row(), "pretrained": True, "name": "w.safetensors"}
    assert str(lineage.origin([lineage_row(), weights])) == (
        "started from first (trained on 5 photos of photos, manifest 111111111111), itself started from pretrained "
        f"weights (w.safetensors, SHA-256 {'0' * 64})"
    )


def test_on_the_command_line(earlier: Earlier, more: Path, tmp_path: Path) -> None:
    options = ["--epochs", "1", "--out", str(tmp_path / "run"), "--json"]
    done = command("train", str(more), "--from", str(earlier.run), *options)
    assert done.returncode == 0, done.stderr
    assert "started from first (trained on" in done.stderr
    assert json.loads(done.stdout)["lineage"][0]["name"] == "first"
    for words, told in (
        (["--resume", str(tmp_path / "run"), "--from", str(earlier.run)], "omit the other options"),
        ([str(more), "--from", str(earlier.run), "--weights", "x.safetensors"], "give one of the two"),
        ([str(more), "--from", str(tmp_path / "nothing")], "can't read the model"),
        ([str(more), "--weights", "x.safetensors"], "--model timm/resnet18"),
    ):
        done = command("train", *words)
        assert done.returncode == 1
        assert told in " ".join(done.stderr.split())


def test_decisions_on_labels_lead_to_the_same_start(earlier: Earlier, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", classes=("circle", "square"), first=200)
    run = train(other, OPEN, out=tmp_path / "run", start=earlier.run).run
    document = clean(other, run.folder, listen=silent)
    assert document["command"].endswith(f"--from {run.start_weights}")
    again = train(other, Recipe.read(run.recipe), out=tmp_path / "again", start=run.start_weights).run
    assert again.read_metrics()["lineage"] == run.read_metrics()["lineage"]
    assert again.model.read_bytes() == run.model.read_bytes()


def test_training_photos_of_ancestors_are_not_judged(earlier: Earlier, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", classes=("circle", "square"), first=200)
    run = train(other, OPEN, out=tmp_path / "run", start=earlier.run).run
    document = clean(earlier.data, run.folder, listen=silent)
    assert document["unjudged"] == list(earlier.splits.values()).count("train")


def test_a_long_lineage_can_be_told() -> None:
    told = str(lineage.origin([{**lineage_row(), "name": f"m{n}"} for n in range(100)]))
    assert told.count("itself started from") == 99


def test_a_start_and_folds_exclude_each_other(earlier: Earlier, tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "d", per_class=8)
    done = command("train", data, "--from", earlier.run, "--folds", "3", "--out", tmp_path / "run")
    assert done.returncode == 1
    assert "--folds cannot be used with --from or --weights" in done.stderr
