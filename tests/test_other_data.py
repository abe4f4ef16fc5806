"""Data that was moved, and data whose classes are spelled in another way than those of the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pati.data.manifest import Manifest
from pati.data.sources.source import Columns
from pati.errors import Interrupted, PatiError
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.workflows import train as training
from pati.workflows.report import report_again
from pati.workflows.score import score
from pati.workflows.train import resume, train
from tests.support.commands import pati
from tests.support.photos import draw, jpeg, write_shapes


@pytest.fixture
def moved(trained: Path, tmp_path: Path) -> tuple[Run, Path]:
    """A copy of a finished run whose data is gone, and the new place of the data."""
    shutil.copytree(trained, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    new = tmp_path / "elsewhere" / "shapes"
    shutil.copytree(Manifest.read(run.manifest).root, new)
    old = tmp_path / "gone"
    run.update(data=str(old))
    return run, new


def test_report_and_eval_find_the_data_in_its_new_place(moved: tuple[Run, Path]) -> None:
    run, new = moved
    with pytest.raises(PatiError, match="no longer at") as error:
        report_again(run.folder)
    assert "--data" in str(error.value.hint)
    again, _ = report_again(run.folder, data=new, thorough=False)
    assert again.report.exists()
    assert run.read_state()["data"] == str(new)
    assert Manifest.read(run.manifest).root == str(new)
    report_again(run.folder, thorough=False)  # the new place is remembered


def test_eval_of_the_moved_data_scores_the_test_split(moved: tuple[Run, Path]) -> None:
    run, new = moved
    document = score(run.folder, data=new)
    assert document["kind"] == "test"
    assert document["photos"] == len(Manifest.read(run.manifest).of_split("test"))
    assert document["test_scored"] == 2
    (new / "circle" / "more.jpg").write_bytes(jpeg(draw("circle", 999)))  # not the same data any more
    assert score(run.folder, data=new)["kind"] == "data"


def test_other_data_is_refused(moved: tuple[Run, Path]) -> None:
    run, new = moved
    (new / "circle" / "1.jpg").write_bytes(jpeg(draw("circle", 998)))
    (new / "square" / "2.jpg").unlink()
    done = pati("report", str(run.folder), "--data", str(new))
    assert done.returncode == 1
    assert "is not the data of this run: 2 files are missing or different, for example circle/1.jpg" in done.stderr
    assert run.read_state()["data"] != str(new)


def test_a_stopped_run_is_resumed_with_moved_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise Interrupted("stopped by the test")

    data, run = write_shapes(tmp_path / "shapes", per_class=20), tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(training, "train_net", stop)
        with pytest.raises(Interrupted):
            train(data, Recipe(epochs=1, size=32, growth=(1.0,), width=0.25), out=run)
    data.rename(tmp_path / "moved")
    with pytest.raises(PatiError, match="no longer at"):
        resume(run)
    assert resume(run, data=tmp_path / "moved").run.model.exists()


def test_data_is_named_once() -> None:
    done = pati("train", "digits", "--data", "elsewhere")
    assert done.returncode == 1
    assert "--data is for --resume" in done.stderr


def test_classes_that_differ_from_the_models_in_case(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    data = write_shapes(tmp_path / "new", per_class=4, first=700)
    (data / "circle").rename(data / "Circle")
    with pytest.raises(PatiError, match="does not know: Circle") as caught:
        score(tmp_path / "run", data=data)
    assert "--class-case join" in str(caught.value.hint)
    assert score(tmp_path / "run", data=data, columns=Columns(class_case="join"))["photos"] == 12


def test_a_table_that_is_a_link_is_found_again_beside_its_photos(tmp_path: Path) -> None:
    shapes = write_shapes(tmp_path / "photos", per_class=20)
    rows = [f"{path.relative_to(shapes)},{path.parent.name}" for path in sorted(shapes.rglob("*.jpg"))]
    (tmp_path / "blob").write_text("\n".join(["path,label", *rows]) + "\n")
    (shapes / "labels.csv").symlink_to(tmp_path / "blob")
    recipe = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25)
    run = train(shapes / "labels.csv", recipe, out=tmp_path / "run").run
    assert report_again(run.folder, thorough=False)[0] == run
