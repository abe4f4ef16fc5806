"""Explanations put to the test from the command line's side: photos and boxes in, figures out."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import pati
from pati import cli, evidence
from pati.errors import PatiError
from pati.explain import localise
from pati.explain.cams import explainers
from tests.conftest import SHAPES, write_shapes

SIDE = 48


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Twelve drawn pictures, each with the box of its bright shape."""
    write_shapes(tmp_path / "shapes", per_class=4)
    rows = []
    for shape in SHAPES:
        for path in sorted((tmp_path / "shapes" / shape).iterdir()):
            bright = np.argwhere(pati.Preprocess(size=SIDE)(path).max(2) > 140)
            (top, left), (bottom, right) = bright.min(0), bright.max(0) + 1
            rows.append([f"shapes/{shape}/{path.name}", left, top, right, bottom])
    target = tmp_path / "boxes.csv"
    with target.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "xmin", "ymin", "xmax", "ymax"], *rows])
    return target


def test_maps_against_boxes(trained: Path, table: Path) -> None:
    made = pati.load(trained)
    found = evidence.located(made, evidence.boxes(table), ["grad-cam", "eigen-cam"])
    assert (found["photos"], found["unreadable"]) == (12, 0)
    assert set(found["methods"]) == {"grad-cam", "eigen-cam", "random", "centre", "edges"}
    energies = []
    for row in evidence.boxes(table):
        pixels = torch.tensor(made.preprocess(row.path)[None])
        images, classes = made.asked(pixels)
        maps = localise.enlarged(explainers["grad-cam"](made.net, images, classes), images)
        scale = made.preprocess.size / SIDE
        energies.append(localise.energy(maps, torch.tensor([[scale * side for side in row.box]])).item())
    assert found["methods"]["grad-cam"]["energy"]["mean"] == pytest.approx(np.mean(energies), rel=1e-4)


def test_photos_without_a_photo_are_counted(trained: Path, table: Path) -> None:
    with table.open("a") as file:
        file.write("shapes/gone.jpg,1,1,5,5\n")
    found = evidence.located(pati.load(trained), evidence.boxes(table), ["grad-cam"])
    assert (found["photos"], found["unreadable"]) == (12, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,xmin,ymin,xmax\na.jpg,1,2,3\n", "no column 'ymax'"),
        ("box,xmin,ymin,xmax,ymax\na.jpg,1,2,3,4\n", "no column 'path'"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,x,3,4\n", "line 2: a side of the box is no number"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,2,3,nan\n", "line 2: the box is empty"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,3,2,3,4\n", "line 2: the box is empty"),
    ],
)
def test_wrong_tables_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(PatiError, match=told):
        evidence.boxes(tmp_path / "boxes.csv")


def test_a_box_beyond_the_photo_is_told(trained: Path, table: Path) -> None:
    with table.open("a") as file:
        file.write("shapes/circle/0.jpg,1,1,99,9\n")
    with pytest.raises(PatiError, match="reaches beyond the photo of 48×48 px"):
        evidence.located(pati.load(trained), evidence.boxes(table), ["grad-cam"])


def test_too_few_photos_are_told(trained: Path, table: Path) -> None:
    with pytest.raises(PatiError, match="at least 8"):
        evidence.located(pati.load(trained), evidence.boxes(table)[:3], ["grad-cam"])
    with pytest.raises(PatiError, match="0 photos can be read"):
        evidence.checked(pati.load(trained), [], "grad-cam")


def test_from_the_command_line(trained: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.app(["explain", str(trained), "--boxes", str(table), "--json"], result_action="return_value")
    document = json.loads(capsys.readouterr().out)
    assert set(explainers) <= set(document["methods"])
    cli.app(["explain", str(trained), "--boxes", str(table), "--method", "grad-cam"], result_action="return_value")
    told = capsys.readouterr().out
    assert "12 photos; the boxes hold" in told
    assert "grad-cam against a blob in the middle: pointing" in told
    shapes = str(table.parent / "shapes")
    cli.app(["explain", str(trained), shapes, "--check"], result_action="return_value")
    told = capsys.readouterr().out
    assert "grad-cam on 12 photos: " in told
    assert "insertion (high is good)" in told
    with pytest.raises(PatiError, match="--class is for drawing"):
        cli.app(["explain", str(trained), shapes, "--check", "--class", "circle"], result_action="return_value")
    for words, message in ((["--check", "--boxes", str(table)], "give one"), (["--json"], "--json is for")):
        with pytest.raises(PatiError) as caught:
            cli.app(["explain", str(trained), *words], result_action="return_value")
        assert message in f"{caught.value.message} {caught.value.hint}"
