"""`pati runs` and `pati open`: what they say of finished, unfinished, damaged and foreign folders."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pati.cli.inputs import expand
from pati.locale.messages import N_
from pati.runs.run import FORMAT, LOCK, VERSION
from pati.system import locks
from tests.support.commands import pati
from tests.support.photos import write_shapes

ROOT = Path(__file__).parent.parent
SCORES = {"test": {"accuracy": 0.924, "accuracy_interval": [0.9, 0.95]}, "seconds": {"command": 150.0}}


def write(folder: Path, *, stage: str = "done", scores: object = SCORES, age: float = 0.0) -> Path:
    """The files that `pati runs` reads; `age`: in seconds."""
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text(json.dumps({"format": 1, "model": "resnet18"}))
    state = {"format": FORMAT, "stage": stage, "versions": {"pati": VERSION}, "data": "/photos/cats"}
    (folder / "run.json").write_text(json.dumps(state))
    if scores is not None:
        (folder / "metrics.json").write_text(json.dumps(scores))
    os.utime(folder / "recipe.json", (1.7e9 - age, 1.7e9 - age))
    return folder


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    done = pati("runs", folder, "--json")
    assert done.returncode == 0, done.stderr
    return {Path(row["run"]).name: row for row in json.loads(done.stdout)}


def test_finished_and_unfinished_runs(tmp_path: Path) -> None:
    write(tmp_path / "a-1")
    write(tmp_path / "a-2", stage="training", scores=None)
    write(tmp_path / "a-3", stage="training", scores=None)
    (tmp_path / "a-2" / "elapsed.txt").write_text("30.0\n")
    with locks.locked(tmp_path / "a-3" / LOCK, N_("locked")):
        found = rows(tmp_path)
        table = pati("runs", tmp_path)
    assert [found[name]["state"] for name in ("a-1", "a-2", "a-3")] == ["done", "stopped", "running"]
    assert found["a-1"] == {
        "run": str(tmp_path / "a-1"),
        "state": "done",
        "data": "/photos/cats",
        "model": "resnet18",
        "accuracy": 0.924,
        "accuracy_interval": [0.9, 0.95],
        "folds": 0,
        "seconds": 150.0,
        "date": found["a-1"]["date"],
        "problem": None,
    }
    assert found["a-1"]["date"].startswith("2023-11-1")
    assert (found["a-2"]["seconds"], found["a-2"]["accuracy"]) == (30.0, None)
    line = next(line for line in table.stdout.splitlines() if line.startswith("a-1"))
    assert line.split()[1:10] == ["done", "92.4", "%", "90.0–95.0", "test", "split", "2.5", "resnet18", "cats"]
    assert table.stderr == ""


def test_the_newest_is_first(tmp_path: Path) -> None:
    for name, age in (("old", 200.0), ("new", 0.0), ("middle", 100.0)):
        write(tmp_path / name, age=age)
    before = rows(tmp_path)
    assert list(before) == ["new", "middle", "old"]
    for name in ("run.json", "metrics.json"):  # as when the run is resumed or evaluated later
        os.utime(tmp_path / "old" / name)
    assert rows(tmp_path) == before
    assert all(row["date"].startswith("2023-11-1") for row in before.values())


def test_dates_stay_whole_where_the_terminal_is_narrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photographs-of-the-whole-summer-1", "photographs-of-the-whole-summer-2"):
        write(tmp_path / name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    monkeypatch.setenv("TERM", "dumb")
    table = pati("runs", tmp_path)
    assert len(re.findall(r"2023-11-1\d \d\d:\d\d", table.stdout)) == 2
    assert max(map(len, table.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.json", ""),
        ("run.json", "[]"),
        ("run.json", "[" * 100_000),
        ("run.json", '{"format": 99, "stage": "done"}'),
        ("run.json", json.dumps({"format": FORMAT, "stage": "flying"})),
        ("recipe.json", "[1]"),
        ("recipe.json", "\0"),
        ("metrics.json", "null"),
        ("metrics.json", '{"test": {}}'),
        ("metrics.json", json.dumps({"test": {"accuracy": 9.0, "accuracy_interval": [0, 1]}, "seconds": {}})),
        ("metrics.json", '{"test": {"accuracy": NaN, "accuracy_interval": [0, 1]}, "seconds": {"command": 1}}'),
        ("metrics.json", None),
    ],
)
def test_a_damaged_run_is_a_line(tmp_path: Path, name: str, text: str | None) -> None:
    write(tmp_path / "good")
    broken = write(tmp_path / "broken") / name
    if text is None:
        broken.unlink()
    else:
        broken.write_text(text)
    found = rows(tmp_path)
    assert (found["good"]["state"], found["broken"]["state"]) == ("done", "damaged")
    assert found["broken"]["problem"]
    table = pati("runs", tmp_path)
    assert table.returncode == 0
    assert "broken" in table.stdout
    assert table.stderr.startswith("note: broken: ")


def test_what_is_no_run_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "holiday\x1b[2J").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").touch()
    write(tmp_path / "2026" / "inner")
    found = rows(tmp_path)
    assert {name: row["state"] for name, row in found.items()} == {"2026": "not a run", r"holiday\x1b[2J": "not a run"}
    assert "\x1b" not in pati("runs", tmp_path).stdout
    assert list(rows(tmp_path / "2026")) == list(rows(tmp_path / "2026" / "inner")) == ["inner"]


def test_no_runs(tmp_path: Path) -> None:
    assert pati("runs", tmp_path).stdout == f"no runs in {tmp_path}\n"
    missing = pati("runs", cwd=tmp_path)
    assert missing.returncode == 1
    assert missing.stderr.startswith("error: the folder runs does not exist\nhint: ")


def test_it_needs_no_torch(tmp_path: Path) -> None:
    write(tmp_path / "a-1")
    code = "import sys; sys.modules.update(torch=None, numpy=None); from pati import cli; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", tmp_path, "--lang", "tr"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "%92,4" in done.stdout


@pytest.mark.parametrize("works", [True, False])
def test_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, works: bool) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or works)
    report = write(tmp_path / "photos 1") / "report.html"
    report.touch()
    done = pati("open", "photos 1", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == f"{Path('photos 1') / 'report.html'}\n"
    assert ("no browser" in done.stderr) is not works
    assert opened == [report.as_uri()]


def test_open_without_a_report(tmp_path: Path) -> None:
    write(tmp_path / "done")
    write(tmp_path / "stopped", stage="training", scores=None)
    assert "hint: write it again: pati report " in pati("open", tmp_path / "done").stderr
    assert "hint: finish the run first: pati train --resume " in pati("open", tmp_path / "stopped").stderr
    foreign = pati("open", tmp_path)
    assert foreign.returncode == 1
    assert "is not the folder of a run" in foreign.stderr


def test_a_run_that_cannot_be_trained_leaves_no_folder(tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes")
    for other in [path for path in (tmp_path / "shapes").iterdir() if path.is_dir()][1:]:
        shutil.rmtree(other)
    done = pati("train", "shapes", "--epochs", "1", cwd=tmp_path)
    assert done.returncode == 1
    assert "error: " in done.stderr
    assert [*tmp_path.glob("runs/*")] == []


def test_a_folder_of_runs_is_no_model_and_its_pictures_are_no_photos(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "shapes-1"
    (run / "figures").mkdir(parents=True)
    (run / "recipe.json").write_text("{}")
    Image.new("RGB", (64, 64)).save(run / "figures" / "map.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    told = pati("predict", "runs", "photo.png", cwd=tmp_path).stderr
    assert "error: runs is a folder of runs, not a run" in told
    assert f"hint: name one of them: {Path('runs', 'shapes-1')}" in told
    assert [Path(path).name for path in expand([str(tmp_path)], [])] == ["photo.png"]
