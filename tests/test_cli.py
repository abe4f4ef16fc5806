"""The command line as a user types it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pati import load
from pati.cli import catalogue, program
from tests.support.commands import pati, pati_process
from tests.support.photos import draw, jpeg, write_shapes

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

SHAPES = ["circle", "square", "triangle"]
QUICK = ["--epochs", "1", "--size", "32", "--set", "growth=1", "width=0.25", "batch=16"]


def test_help_of_every_verb() -> None:
    top = pati_process("--help")
    assert top.returncode == 0
    verbs = [name for name in program if not name.startswith("-")]
    assert len(verbs) >= 14
    for verb in verbs:
        assert verb in top.stdout
        shown = pati(verb, "--help")
        assert shown.returncode == 0
        assert "Usage: pati" in shown.stdout


def test_help_does_not_import_torch() -> None:
    code = "import sys, pati.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_command_ends_without_a_search_for_garbage() -> None:
    """Which would go through all of torch. What is registered first is called last."""
    code = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count())); import pati.cli; pati.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert int(done.stdout.split()[-1]) > 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["train"], 1, "requires DATA"),
        (["train", "/nowhere"], 1, "no file, folder or built-in dataset"),
        (["train", "digits", "--model", "pti"], 1, "did you mean pati or pati-deep?"),
        (["train", "digits", "--set", "droput=1"], 1, "did you mean dropout"),
        (["train", "digits", "--budget", "soon"], 1, "90s, 5m or 1h"),
        (["train", "digits", "--budget", "3"], 1, "without a unit, these are seconds hint: for minutes: --budget 3m"),
        (["train", "digits", "--budget", "1,5m"], 1, "hint: decimals need a point: 1.5"),
        (["train", "digits", "--set", "dropout=0,3"], 1, "decimals need a point hint: write --set dropout=0.3"),
        (["train", "digits", "--set", "budget=2"], 1, "expected a number from 5 to 10000000, got 2"),
        (["predict", "x.jpg", "--risk", "0,05"], 2, "expected a number hint: decimals need a point: 0.05"),
        (["train", "digits", "--budget", "5m", "--epochs", "3"], 1, "both epochs (3) and a budget (300 s) are given"),
        (["train", "digits", "--size", "8", "--epochs", "1"], 1, "at least 16 px"),
        (["train", "digits", "--recipe", "hause"], 1, "did you mean house?"),
        (["train", "--resume", "/nowhere"], 1, "not the folder of a run"),
        (["train", "digits", "--resume", "x"], 1, "omit the other options"),
        (["train", "--resume", "x", "--label-column", "y"], 1, "omit the other options"),
        (["lr-find", "digits", "--out", "curve.svg"], 1, "the name of a PNG file"),
        (["lr-find", "digits", "--steps", "5"], 1, "20 or more, got 5"),
        (["eval", "x", "--data", "y", "--split", "train"], 1, "give one of them only"),
        (["eval", "x", "--label-column", "y"], 1, "are known already"),
        (["predict", "/nowhere", "x.jpg"], 1, "expected a model file, the folder of a run, or photos"),
        (["predict", "nowhere.safetensors", "x.jpg"], 1, "can't read the model"),
        (["predict", "nowhere.safetensors"], 1, "for example: pati predict nowhere.safetensors cat.jpg"),
        (["predict", "x.jpg"], 1, "error: x.jpg does not exist hint: expected a photo, or a folder of photos"),
        (["predict", "x.jpg", "y.jpg"], 1, "error: none of these files exists: x.jpg, y.jpg"),
        (["predict", "--model", "x.safetensors", "y.jpg"], 1, "error: unknown option --model"),
        (["help"], 2, "hint: see pati --help"),
        (["predict"], 1, "at least one photo"),
        (["explain", "nowhere.safetensors"], 1, "at least one photo"),
        (["fetch", "imagenet"], 1, "no dataset 'imagenet'"),
        (["check", "digits", "--out", "/"], 1, "would overwrite another file"),
        (["train", "digits", "--group-by", "sender"], 1, "no columns to choose or group by"),
        (["show-augment", "digits", "--out", "x.jpg"], 1, "ends in .png"),
        (["show-augment", "digits", "--photos", "9"], 1, "from 1 to 8"),
        (["list", "cars"], 2, "error: WHAT is 'cars', expected one of models, augmentations, metrics"),
        (["list", "model"], 2, "hint: did you mean models?"),
        (["list"], 2, "error: the argument WHAT is missing hint: see pati list --help"),
        (["nonsense"], 2, "error: there is no command 'nonsense' hint: known: app, check,"),
        (["trian"], 2, "hint: did you mean train?"),
        (["-x"], 2, "error: unknown option -x hint: see pati --help"),
        (["train", "digits", "--epoch", "3"], 2, "error: unknown option --epoch hint: did you mean --epochs?"),
        (["train", "digits", "--langauge=tr"], 2, "error: unknown option --langauge hint: did you mean --lang?"),
        (["train", "digits", "--epochs", "many"], 2, "error: --epochs is 'many', expected an integer"),
        (["fetch", "digits", "--timeout", "long"], 2, "error: --timeout is 'long', expected a number"),
        (["train", "digits", "--json=maybe"], 2, "error: --json takes no value, got 'maybe'"),
        (["train", "digits", "--out"], 2, "error: --out requires a value hint: see pati train --help"),
        (["train", "digits", "--seed", "1", "--seed", "2"], 2, "error: --seed is given more than once"),
        (["check", "digits", "x", "y"], 2, "error: unexpected arguments: x, y hint: see pati check --help"),
        (["predict", "x.jpg", "--lang"], 1, "error: --lang requires a value"),
        (
            ["train", "--lang", "xx"],
            1,
            "error: --lang is 'xx', which is not a known language hint: known languages: en (Engl",
        ),
    ],
)
def test_mistakes_get_an_exit_code_and_words(arguments: list[str], code: int, told: str, tmp_path: Path) -> None:
    done = pati(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("arguments", "code"), [(["train", "/nowhere"], 1), (["nonsense"], 2)])
def test_a_process_ends_with_the_same_code(arguments: list[str], code: int, tmp_path: Path) -> None:
    done = pati_process(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["models", "augmentations", "metrics", "explainers", "datasets", "presets", "fields"])
def test_list(what: str) -> None:
    rows = json.loads(pati("list", what, "--json").stdout)
    assert [(row["name"], row["summary"]) for row in rows] == catalogue.rows(what)
    assert rows[0]["name"] in pati("list", what).stdout


def test_check(shapes: Path, tmp_path: Path) -> None:
    (shapes / "circle" / "bad.jpg").write_bytes(b"")
    done = pati("check", shapes, "--json", "--out", tmp_path / "m.jsonl")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["files"] == 91
    assert document["quarantined"] == [{"path": "circle/bad.jpg", "reason": "empty", "detail": ""}]
    assert sum(document["classes"]["circle"].values()) == 30
    assert len((tmp_path / "m.jsonl").read_text().splitlines()) == 92
    assert document["balance"]["ratio"] < 3
    assert document["balance"]["advised"] == "none"
    assert "1 empty" in pati("check", shapes, "--out", tmp_path / "m.jsonl").stdout


def test_check_advises_on_uneven_classes(shapes: Path, tmp_path: Path) -> None:
    for number in range(5, 30):
        (shapes / "circle" / f"{number}.jpg").unlink()
    document = json.loads(pati("check", shapes, "--json", "--out", tmp_path / "m.jsonl").stdout)
    counts = [parts["train"] for parts in document["classes"].values()]
    assert document["balance"] == {"ratio": round(max(counts) / min(counts), 2), "advised": "sampling"}
    told = " ".join(pati("check", shapes, "--out", tmp_path / "m.jsonl").stdout.split())
    assert f"has {document['balance']['ratio']:.1f} times as many training photos as the smallest" in told
    assert "--balance sampling" in told


def test_balance_by_the_ratio(shapes: Path, tmp_path: Path) -> None:
    for number in range(5, 30):
        (shapes / "circle" / f"{number}.jpg").unlink()
    done = pati("train", shapes, *QUICK, "--out", tmp_path / "run", "--balance", "auto")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["balance"] == "sampling"
    assert done.stdout.index("macro F1") < done.stdout.index("accuracy")
    done = pati("train", shapes, *QUICK, "--out", tmp_path / "other", "--balance", "nonsense")
    assert done.returncode == 1
    assert "balance" in done.stderr


def test_train_predict_explain_eval(shapes: Path, tmp_path: Path) -> None:
    done = pati("train", shapes, *QUICK, "--out", tmp_path / "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["run"] == str(tmp_path / "run")
    assert "epoch 1" in done.stderr

    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    done = pati("predict", tmp_path / "run", shapes / "circle", bad, "--format", "csv")
    rows = list(csv.reader(io.StringIO(done.stdout)))
    assert done.returncode == 0
    assert rows[0] == ["path", "prediction", "unsure", "out_of_distribution", "confidence", *SHAPES, "error"]
    assert len(rows) == 32
    assert [Path(row[0]).stem for row in rows[1:31]] == [str(number) for number in range(30)]
    assert rows[31][0] == str(bad)
    assert rows[31][-1] == "empty"
    for row in rows[1:31]:
        assert {row[2], row[3]} <= {"yes", "no"}
        assert row[2] == "yes" or row[3] == "no"  # the model is unsure about what is out of distribution
        assert float(row[4]) == max(map(float, row[5:8]))
    done = pati("predict", tmp_path / "run", shapes / "circle", "--format", "csv", "--risk", "0.99")
    assert done.returncode == 0
    lowest = load(tmp_path / "run").threshold(0.99)  # the lowest confidence of a validation photo
    for row in list(csv.reader(io.StringIO(done.stdout)))[1:]:
        assert row[3] == "yes" or row[2] == ("yes" if float(row[4]) < lowest else "no")
    done = pati("predict", tmp_path / "run", shapes / "circle", "--format", "csv", "--risk", "2")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) <= 1  # no row
    assert "--risk is 2" in done.stderr

    listed = f"{shapes}/circle/1.jpg\n{shapes}/square/2.jpg\n"
    done = pati("predict", tmp_path / "run" / "model.safetensors", "-", "--format", "json", stdin=listed)
    assert [row["path"] for row in json.loads(done.stdout)] == listed.split()
    assert pati("predict", tmp_path / "run", f"{shapes}/*/1*.jpg").stdout.count("\n") == 33

    done = pati("predict", tmp_path / "run", bad)
    assert done.returncode == 1
    assert "the file could not be read" in done.stderr
    assert "empty" in done.stdout

    done = pati(
        "explain", tmp_path / "run", shapes / "circle" / "1.jpg", "--class", "square", "--out", tmp_path / "maps"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps" / "1.explained.png").read_bytes().startswith(b"\x89PNG")
    same_name = [shapes / shape / "1.jpg" for shape in ("circle", "square")]
    assert len(pati("explain", tmp_path / "run", *same_name, "--out", tmp_path / "maps").stdout.splitlines()) == 2
    assert len(list((tmp_path / "maps").iterdir())) == 2

    done = pati("explain", tmp_path / "run", bad, shapes / "circle" / "2.jpg", "--out", tmp_path / "maps")
    assert done.returncode == 0
    assert "empty" in done.stderr
    assert pati("explain", tmp_path / "run", bad).returncode == 1
    done = pati("explain", tmp_path / "run", shapes / "square", "--out", tmp_path / "all")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "all").iterdir())) == 30

    done = pati("eval", tmp_path / "run", "--split", "validation", "--json")
    assert "accuracy" in json.loads(done.stdout)
    assert "scored 2 times" in pati("eval", tmp_path / "run").stderr

    done = pati("eval", tmp_path / "run", "--outside", shapes)
    assert done.returncode == 0, done.stderr
    assert "90 photos from shapes" in done.stdout
    found = json.loads((tmp_path / "run" / "metrics.json").read_text())["outside"]["shapes"]
    assert found["photos"] == 90
    assert found["roc_interval"][0] <= found["roc_area"] <= found["roc_interval"][1]
    assert pati("eval", tmp_path / "run", "--outside", shapes, "--split", "test").returncode == 1


def test_lr_find(shapes: Path, tmp_path: Path) -> None:
    arguments = [
        "lr-find",
        shapes,
        "--size",
        "32",
        "--set",
        "width=0.25",
        "batch=16",
        "--steps",
        "60",
        "--seed",
        "3",
        "--balance",
        "auto",
        "--json",
    ]
    done = pati(*arguments, "--out", tmp_path / "curve.png")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert len(document["rates"]) == len(document["losses"]) == len(document["smoothed"]) <= 60
    assert 1e-4 <= document["learning_rate"] <= 10
    assert document["optimizer"] == "muon"
    assert not list(tmp_path.glob("runs"))


def test_a_closed_pipe_is_no_error(trained: Path, tmp_path: Path) -> None:
    folder = write_shapes(tmp_path / "many", per_class=100)
    command = f"{sys.executable} -m pati predict {trained} {folder} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_ctrl_c_keeps_a_checkpoint_and_says_how_to_go_on(shapes: Path, tmp_path: Path) -> None:
    arguments = ["train", shapes, "--epochs", "500", "--folds", "0", "--size", "32", "--out", tmp_path / "run"]
    command = [sys.executable, "-m", "pati", *map(str, arguments)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"epoch"' in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert f"pati train --resume {tmp_path / 'run'}" in " ".join(told.split())
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_file_names_that_are_no_text(trained: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff.jpg")
    odd.write_bytes(jpeg(draw("circle", 1)))
    for shape in ("table", "json", "csv"):
        done = pati_process("predict", trained, tmp_path, "--format", shape)  # stdout of a process has an encoding
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n") == (2 if shape == "csv" else 1)
