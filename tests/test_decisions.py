"""What a person decides of single photos is followed by check and train, and no photo is touched."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest

from pati import cli
from pati.data import decisions
from pati.data.manifest import Manifest
from pati.errors import Interrupted, PatiError
from pati.locale.messages import N_
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.workflows import train as training
from pati.workflows.check import check
from pati.workflows.report import report_again
from pati.workflows.train import resume, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

QUICK = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, batch=16)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(shapes: Path, target: Path, rows: list[tuple[str, str, str]], *, changed: str = "") -> Path:
    """A decisions CSV: (path, decision, new label)."""
    with target.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "sha256", "label", "decision", "new_label"])
        for path, decision, label in rows:
            sha = "0" * 64 if path == changed or not (shapes / path).exists() else digest(shapes / path)
            writer.writerow([path, sha, path.split("/")[0], decision, label])
    return target


@pytest.fixture
def decided(shapes: Path, tmp_path: Path) -> Path:
    rows = [
        ("circle/1.jpg", "drop", ""), ("circle/2.jpg", "relabel", "square"), ("circle/3.jpg", "keep", ""),
        ("circle/4.jpg", "", ""), ("circle/5.jpg", "drop", ""), ("circle/gone.jpg", "drop", ""),
    ]  # fmt: skip
    return written(shapes, tmp_path / "decisions.csv", rows, changed="circle/5.jpg")


def test_decisions_are_followed(shapes: Path, decided: Path) -> None:
    before = {path: digest(path) for path in shapes.rglob("*.jpg")}
    plain, found = check(shapes, QUICK), check(shapes, QUICK, decisions=decided)
    entries = {entry.path: entry for entry in found.entries}
    assert (entries["circle/1.jpg"].status, entries["circle/1.jpg"].reason) == ("quarantined", "dropped")
    assert entries["circle/1.jpg"].split is None
    assert entries["circle/2.jpg"].label == "square"
    assert "relabelled" in entries["circle/2.jpg"].flags
    assert entries["circle/2.jpg"].detail == N_("was {label}", label="circle")
    assert entries["circle/3.jpg"].flags == ("confirmed",)
    for untouched in ("circle/4.jpg", "circle/5.jpg"):
        assert entries[untouched] == {entry.path: entry for entry in plain.entries}[untouched]
    assert Counter(entry.label for entry in found.kept) == {"circle": 28, "square": 31, "triangle": 30}
    assert found.hash() != plain.hash()
    told = [note.shown("en") for note in found.notes]
    assert any(text.startswith("1 photo was excluded by your decisions;") for text in told)
    assert "1 decision is not applied: the photo does not exist" in told
    assert "1 decision is not applied: the photo has changed since" in told
    assert {path: digest(path) for path in shapes.rglob("*.jpg")} == before


def test_a_changed_label_of_a_test_photo_is_said(shapes: Path, tmp_path: Path) -> None:
    test = next(entry for entry in check(shapes, QUICK).of_split("test") if entry.label == "circle")
    table = written(shapes, tmp_path / "decisions.csv", [(test.path, "relabel", "square")])
    found = check(shapes, QUICK, decisions=table)
    changed = [entry for entry in found.of_split("test") if "relabelled" in entry.flags]
    assert any("no longer blind" in str(note) for note in found.notes) == bool(changed)


def test_a_run_keeps_its_decisions(shapes: Path, decided: Path, tmp_path: Path) -> None:
    result = train(shapes, QUICK, out=tmp_path / "run", decisions=decided)
    assert result.run.decisions.read_bytes() == decided.read_bytes()
    kept = {entry.path: entry for entry in Manifest.read(result.run.manifest).entries}
    assert kept["circle/2.jpg"].label == "square"
    decided.unlink()
    again, _ = report_again(tmp_path / "run")  # it reads the photos anew
    assert again == result.run


def test_a_stopped_run_goes_on_with_its_decisions(
    shapes: Path, decided: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise Interrupted("stopped by the test")

    with monkeypatch.context() as patched:
        patched.setattr(training, "train_net", stop)
        with pytest.raises(Interrupted):
            train(shapes, QUICK, out=tmp_path / "run", decisions=decided)
    decided.unlink()
    result = resume(tmp_path / "run")
    assert json.loads(result.run.state.read_text())["stage"] == "done"
    kept = {entry.path: entry for entry in Manifest.read(Run(tmp_path / "run").manifest).entries}
    assert kept["circle/1.jpg"].reason == "dropped"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,decision\na,keep\n", "no column 'sha256'"),
        ("path,sha256,decision,new_label\na,b,delete,\n", "line 2: unknown decision 'delete'"),
        ("path,sha256,decision,new_label\na,b,relabel,Circle\n", "line 2: new_label 'Circle' is not a class"),
        ("path,sha256,decision,new_label\na,b,keep,\na,b,drop,\n", "line 3: a already has another decision"),
        ("\0" * 9, "can't read"),
    ],
)
def test_wrong_decisions_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "d.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(PatiError, match=told):
        decisions.read(tmp_path / "d.csv", ["circle", "square"])


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    table = tmp_path / "d.csv"
    text = "path;sha256;why;decision;new_label\r\nsquare/1.jpg;ab;label;relabel;circle\r\nsquare/2.jpg;cd;odd;;\r\n"
    table.write_text(text, encoding="utf-8-sig", newline="")
    assert decisions.read(table, ["circle"]) == {"square/1.jpg": decisions.Decision("relabel", "ab", "circle")}


def test_from_the_command_line(shapes: Path, decided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["check", str(shapes), "--decisions", str(decided), "--out", str(tmp_path / "m.jsonl"), "--json"]
    cli.program(words, result_action="return_value")
    found = json.loads(capsys.readouterr().out)
    assert [row["reason"] for row in found["quarantined"]] == ["dropped"]
    with pytest.raises(PatiError, match="can't read"):
        cli.program([*words[:3], str(tmp_path / "none.csv"), *words[4:]], result_action="return_value")
