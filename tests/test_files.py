"""Names of any bytes, files of other people, and cells of spreadsheets: what comes from elsewhere is not obeyed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pati.cli import inputs
from pati.data import decisions
from pati.errors import PatiError
from pati.inference.predictor import Prediction, Refused
from pati.locale.formats import printable
from pati.runs.run import Run
from pati.system import csv_text, files, outputs
from pati.terminal import predictions
from pati.workflows import clean
from tests.support.commands import pati as command
from tests.support.photos import draw, jpeg

CONTROL = [chr(code) for code in (*range(32), *range(127, 160))]
HOSTILE = "\x1b]0;gone\x07\x1b[31m\u202egpj.\x9b2J"


def png(side: int = 4) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


# Files that are written ---------------------------------------------------------------


def test_a_file_of_the_users_is_not_taken_for_a_part(tmp_path: Path) -> None:
    thesis = tmp_path / ".thesis.docx.part"
    thesis.write_text("half a download of the user's")
    assert not files.is_unfinished(thesis)
    with pytest.raises(PatiError, match=r"not empty \(\.thesis"):
        Run.claim(tmp_path, "x")
    run = Run(tmp_path / "run")
    run.folder.mkdir()
    with files.atomic(run.folder / "recipe.json"):
        (part,) = run.folder.iterdir()
        assert files.is_unfinished(part)
        assert part.name.endswith(".pati-part")
    assert [path.name for path in run.folder.iterdir()] == ["recipe.json"]
    assert thesis.exists()


@pytest.mark.parametrize("name", ["a" * 255, "ğ" * 127, "猫" * 85, "\udcff" * 255, "x.json"])
def test_names_of_any_length_are_written_and_shortened(tmp_path: Path, name: str) -> None:
    files.write_bytes(tmp_path / name, b"1")
    files.replace_text(tmp_path / "short", "x")
    assert (tmp_path / name).read_bytes() == b"1"
    short = files.shortened(name)
    assert len(os.fsencode(short)) <= 120
    assert files.shortened(name + "b") != short  # names that differ at their end stay different
    assert (short == name) == (len(os.fsencode(name)) <= 120)


def test_an_output_replaces_only_what_was_an_output(tmp_path: Path) -> None:
    for kind, data in (
        ("png", png()),
        ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("html", b"<!doctype html>"),
    ):
        path = tmp_path / f"x.{kind}"
        outputs.write(path, data)
        outputs.write(path, data)  # again, over itself
        for other in (data, b"", jpeg(draw("circle", 1), 90)):
            path.write_bytes(other)
            with pytest.raises(PatiError, match="is not overwritten"):
                outputs.write(path, data)
            assert path.read_bytes() == other
    path = tmp_path / "y.png"
    outputs.write(path, png(7))
    with Image.open(path) as image:
        assert (image.size, image.info) == ((7, 7), {"Software": "pati"})
    (tmp_path / "link.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(PatiError, match="is not overwritten"):
        outputs.require_free(tmp_path / "link.png")
    with pytest.raises(PatiError, match="is a folder"):
        outputs.require_free(tmp_path)


def test_commands_keep_a_photo_that_is_named_as_output(shapes: Path, tmp_path: Path) -> None:
    photo = shapes / "circle" / "0.jpg"
    mine = tmp_path / "mine.png"
    mine.write_bytes(png())
    before = photo.read_bytes(), mine.read_bytes()
    for words in (("show-augment", shapes), ("lr-find", shapes), ("check", shapes)):
        told = command(*words, "--out", mine, cwd=tmp_path)
        assert told.returncode == 1
        assert "overwrit" in told.stderr
    (tmp_path / "0.explained.png").write_bytes(before[1])
    assert "is not overwritten" in command("explain", photo, cwd=tmp_path).stderr
    assert (photo.read_bytes(), mine.read_bytes()) == before
    again = [command("show-augment", shapes, "--out", tmp_path / "new.png").returncode for _ in range(2)]
    assert again == [0, 0]


# Names in the terminal ----------------------------------------------------------------


def test_no_name_can_command_a_terminal() -> None:
    for letter in (*CONTROL, "\u202e", "\u2066", "\u2028", "\udc9b", "\ufeff", "\U000e0001"):
        shown = printable(f"a{letter}b")
        assert shown.isascii()
        assert shown.startswith("a\\")
        assert shown.isprintable()
    assert printable("köpek 猫 👩‍🚀 می‌خواهم") == "köpek 猫 👩‍🚀 می‌خواهم"
    assert printable("k\udcf6pek") == r"k\xf6pek"


def test_commands_write_no_name_raw(tmp_path: Path, shapes: Path) -> None:
    hostile = shapes / HOSTILE
    (shapes / "circle").rename(hostile)
    (hostile / f"{HOSTILE}.jpg").write_bytes(b"\xff\xd8\xff")
    (shapes / "square" / "=1+1.jpg").write_bytes(b"\xff\xd8\xff")
    for words in (
        ("check", shapes, "--out", tmp_path / "m.jsonl"), ("check", shapes, "--out", tmp_path / "m.jsonl", "--json"),
        ("predict", hostile), ("predict", hostile, "--format", "csv"), ("predict", hostile, "--format", "json"),
        ("predict", shapes / "square", HOSTILE), ("eval", HOSTILE), ("check", HOSTILE), ("train", "--resume", HOSTILE),
        ("explain", hostile / "0.jpg", "--class", HOSTILE), ("list", HOSTILE), (HOSTILE,), ("check", "--" + HOSTILE),
        ("show-augment", shapes, "--out", tmp_path / f"{HOSTILE}.png"), ("predict", "--risk", HOSTILE),
    ):  # fmt: skip
        done = command(*words, cwd=tmp_path)
        for text in (done.stdout, done.stderr):
            assert not {letter for letter in text if not letter.isprintable()} - {"\n"}, words


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1254", "utf-8", "utf-16"])
def test_any_text_is_written_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    name = os.fsdecode("ağ\u202e–".encode() + b"\xf6.jpg")
    (tmp_path / name).write_bytes(jpeg(draw("circle", 1), 90))
    code = (
        "import sys; from pati.system import streams; streams.any_names(); from pati.cli.inputs import expand\n"
        "from pati.locale.formats import printable\n"
        "for path in expand(['-'], sys.stdin): print(printable(path), '– ğ →'); open(path).close()"
    )
    env = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[1])}
    given = os.fsencode(name) + b"\n\n" + os.fsencode(name) + b"\0" + os.fsencode(name)
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, cwd=tmp_path, env=env)
    assert done.stderr == b""
    lines = done.stdout.decode(encoding).splitlines()
    assert len(lines) == 3  # each name was read as it is, whatever the encoding of its line
    assert all(r"\xf6.jpg" in line for line in lines)
    if encoding == "ascii":
        assert lines[0] == r"a\u011f\u202e-\xf6.jpg - \u011f ->"


def test_a_user_without_a_home_has_a_folder_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expanded = os.path.expanduser
    monkeypatch.setattr(os.path, "expanduser", lambda path: path if path.startswith("~") else expanded(path))
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    for name in ("PATI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "put back afterwards")
    own = tmp_path / f"pati-{os.getuid()}"
    assert files.cache_folder() == own / ".cache" / "pati"
    assert own.stat().st_mode & 0o777 == 0o700
    assert os.environ["HOME"] == str(own)
    assert "no file, folder" in command("check", "~nobody/x").stderr


# Tables -------------------------------------------------------------------------------

CELLS = ["=cmd()", "+1", "-1", "@x", "\tx", "\rx", "'x", "'=x", "''", "x", "", "a=b", "köpek", '"', "'"]


def test_formulas_are_guarded_and_read_back() -> None:
    for cell in CELLS:
        guarded = csv_text.guarded(cell)
        assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r"))
        assert csv_text.unguarded(guarded) == cell
    assert csv_text.unguarded("'tis") == "'tis"  # as a person wrote it


def test_predictions_hold_no_formulas_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    nan = float("nan")
    rows = [
        Prediction("=1+1.jpg", "@cat", nan, {"@cat": nan, "-dog": 0.5}),
        Prediction("a\x1b.jpg", "-dog", 0.5, {"@cat": 0.5, "-dog": 0.5}),
    ]
    predictions.comma_separated(rows, ["@cat", "-dog"])
    head, *lines = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head[5:7] == ["'@cat", "'-dog"]
    assert [line[0] for line in lines] == ["'=1+1.jpg", r"a\x1b.jpg"]
    assert lines[0][1:7] == ["'@cat", "no", "no", "", "", "0.500000"]
    predictions.json_objects(rows, ["@cat", "-dog"])
    first, _ = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert (first["confidence"], first["probabilities"]) == (None, {"@cat": None, "-dog": 0.5})
    assert files.finite([1.0, math.inf, {"b": -math.inf}, "NaN"]) == [1.0, None, {"b": None}, "NaN"]


HEAD = "path,sha256,split,label,why,answer,label_probability,decision,new_label"


def listed(tmp_path: Path, text: str) -> list[clean.Listed]:
    (tmp_path / "decisions.csv").write_text(text, encoding="utf-8-sig")
    return clean.read_list(tmp_path / "decisions.csv", ("Cat", "Dog"))


def test_a_list_may_come_from_a_spreadsheet(tmp_path: Path) -> None:
    lines = [HEAD.replace(",", ";"), "a.jpg;1;train;Cat;label odd;Dog;0,0213;Drop;", "'=b.jpg;2;;Dog;odd;;;;"]
    first, second = listed(tmp_path, "\r\n".join(lines))
    assert (first.label_probability, first.decision, first.why) == (0.0213, "drop", "label")
    assert (second.path, second.label_probability, second.decision) == ("=b.jpg", None, "")
    assert decisions.read(tmp_path / "decisions.csv", ["Cat"])["a.jpg"].action == "drop"
    clean.decide(tmp_path / "decisions.csv", "=b.jpg", "keep")
    assert "'=b.jpg" in (tmp_path / "decisions.csv").read_text(encoding="utf-8-sig")
    assert listed(tmp_path, (tmp_path / "decisions.csv").read_text(encoding="utf-8-sig"))[1].decision == "keep"


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a.jpg,1,train,Cat,label,Dog,viel,,", "line 3: label_probability is 'viel'"),
        ("a.jpg,1,train,Cat,label,Dog,95%,,", "line 3: label_probability"),
        ("a.jpg,1,train,Cat,etiket,Dog,0.5,,", "line 3: unknown reason 'etiket'"),
        ("a.jpg,1,train,Cat,label,Dog,0.5,evet,", "line 3: unknown decision 'evet'"),
        ("a.jpg,1,train,Cat,label,Dog,0.5,relabel,Kuş", "line 3: new_label 'Kuş' is not a class"),
    ],
)
def test_the_line_that_is_not_understood_is_named(tmp_path: Path, row: str, told: str) -> None:
    with pytest.raises(PatiError, match=told):
        listed(tmp_path, f"{HEAD}\nb.jpg,2,train,Cat,label,,,,\n{row}\n")


def test_a_list_without_its_columns_is_told(tmp_path: Path) -> None:
    with pytest.raises(PatiError, match="no column 'split'"):
        listed(tmp_path, "path,sha256,decision\na,1,\n")


# Folders to predict ---------------------------------------------------------------------


def test_a_folder_that_cannot_be_read_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.jpg").write_bytes(jpeg(draw("circle", 1), 90))
    scandir = os.scandir

    def refused(path: str) -> object:
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    first, second, third = inputs.expand([str(tmp_path)], [])
    assert (first, third) == (str(tmp_path / "a" / "0.jpg"), str(tmp_path / "c" / "0.jpg"))
    assert isinstance(second, Refused)
    assert (second.path, second.error.reason) == (str(tmp_path / "b"), "unreadable")
    done = command("predict", tmp_path)
    assert done.returncode == 0  # as for other files that can't be read
    assert len(done.stdout.splitlines()) == 3
    assert "Permission denied" in done.stdout


def test_a_list_of_names_may_hold_anything(tmp_path: Path) -> None:
    done = command("predict", "-", stdin="a\0b\n\udcff\n" + "x" * 5000 + "\n", cwd=tmp_path)
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 4)
    assert "none of the 4 files" in done.stderr


def test_zips_are_named_as_they_are(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for label in ("a", HOSTILE.replace("/", "")):
            archive.writestr(f"{label}/0.jpg", jpeg(draw("circle", 1), 90))
    done = command("check", tmp_path / "z.zip", "--out", tmp_path / "m.jsonl")
    assert "\x1b" not in done.stdout + done.stderr
