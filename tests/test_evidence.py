"""Explanations put to the test from the command line's side: photos and boxes in, figures out."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pati
from pati import cli
from pati.errors import PatiError
from pati.explain import localise
from pati.explain.cams import explainers
from pati.workflows import explanation_tests
from tests.support.photos import SHAPES, write_shapes

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
    found = explanation_tests.located(made, explanation_tests.boxes(table), ["grad-cam", "eigen-cam"])
    assert (found["photos"], found["unreadable"]) == (12, 0)
    assert set(found["methods"]) == {"grad-cam", "eigen-cam", "even", "random", "centre", "edges"}
    energies = []
    for row in explanation_tests.boxes(table):
        pixels = torch.tensor(made.preprocess(row.path)[None])
        images, classes = made.explainer_inputs(pixels)
        maps = localise.enlarged(explainers["grad-cam"](made.net, images, classes), images)
        scale = made.preprocess.size / SIDE
        energies.append(localise.energy(maps, torch.tensor([[scale * side for side in row.box]])).item())
    assert found["methods"]["grad-cam"]["energy"]["mean"] == pytest.approx(np.mean(energies), rel=1e-4)


def test_photos_without_a_photo_are_counted(trained: Path, table: Path) -> None:
    with table.open("a") as file:
        file.write("shapes/gone.jpg,1,1,5,5\n")
    found = explanation_tests.located(pati.load(trained), explanation_tests.boxes(table), ["grad-cam"])
    assert (found["photos"], found["unreadable"]) == (12, 1)


@pytest.mark.slow
def test_parts_change_nothing(trained: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = pati.load(trained), explanation_tests.boxes(table)
    photos = [row.path for row in rows]
    whole = explanation_tests.located(made, rows, ["score-cam"]), explanation_tests.checked(made, photos, "grad-cam")
    monkeypatch.setattr(explanation_tests, "AT_ONCE", 5)
    heard: list[tuple[int, int]] = []
    parts = (
        explanation_tests.located(made, rows, ["score-cam"]),
        explanation_tests.checked(made, photos, "grad-cam", progress=lambda *at: heard.append(at)),
    )
    assert heard == [(0, 12), (5, 12), (10, 12), (12, 12)]
    for one, other in zip(whole, parts, strict=True):
        assert dict(numbers(one)) == pytest.approx(dict(numbers(other)), abs=1e-3)


def numbers(value: object, where: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict | list):
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from numbers(item, f"{where}/{name}")
    elif isinstance(value, int | float):
        yield where, value


def test_another_stage_has_other_maps(trained: Path, table: Path) -> None:
    made, rows = pati.load(trained), explanation_tests.boxes(table)
    last, first = (explanation_tests.located(made, rows, ["grad-cam"], stage=stage)["methods"] for stage in (None, 1))
    assert last["grad-cam"] != first["grad-cam"]
    assert last["centre"] == first["centre"]
    with pytest.raises(PatiError, match="no stage 9"):
        explanation_tests.checked(made, [row.path for row in rows], "grad-cam", stage=9)


@pytest.mark.slow
def test_a_photo_named_twice_counts_once(trained: Path, table: Path) -> None:
    photos = [row.path for row in explanation_tests.boxes(table)]
    twice = [*photos, *(photo.parent / ".." / photo.parent.name / photo.name for photo in photos)]
    assert explanation_tests.checked(pati.load(trained), twice, "grad-cam")["photos"] == 12


def test_tables_as_people_write_them(table: Path) -> None:
    plain = explanation_tests.boxes(table)
    text = table.read_text().replace("file,xmin,ymin,xmax,ymax", " Image , XMin,YMIN, xmax,Ymax")
    table.write_text(text.replace("shapes/", "./shapes\\"))
    assert explanation_tests.boxes(table) == plain
    tabs = table.with_suffix(".tsv")
    tabs.write_text(text.replace(",", "\t"))
    assert [(row.path, row.box) for row in explanation_tests.boxes(tabs)] == [(row.path, row.box) for row in plain]


def test_a_box_that_the_net_does_not_see_is_counted(trained: Path, table: Path) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    Image.fromarray(wide).save(table.parent / "wide.png")
    with table.open("a") as file:
        file.write("wide.png,1,1,9,9\n")
    made = pati.load(trained)
    rows = explanation_tests.boxes(table)
    assert explanation_tests.located(made, rows, ["grad-cam"])["photos"] == 13
    made.preprocess = replace(made.preprocess, resize="crop")
    found = explanation_tests.located(made, rows, ["grad-cam"])
    assert (found["photos"], found["beyond"]) == (12, 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,xmin,XMIN,ymin,xmax,ymax\na.jpg,1,1,2,3,4\n", "two columns named 'xmin'"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,2,3,4\n./a.jpg,1,2,3,5\n", "line 3: .*a.jpg already has a box"),
        ("file,xmin,ymin,xmax\na.jpg,1,2,3\n", "no column 'ymax'"),
        ("box,xmin,ymin,xmax,ymax\na.jpg,1,2,3,4\n", "no column 'path'"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,x,3,4\n", "line 2: a side of the box is not a number"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,1,2,3,nan\n", "line 2: the box is empty"),
        ("file,xmin,ymin,xmax,ymax\na.jpg,3,2,3,4\n", "line 2: the box is empty"),
    ],
)
def test_wrong_tables_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(PatiError, match=told):
        explanation_tests.boxes(tmp_path / "boxes.csv")


@pytest.mark.parametrize("box", ["1,1,99,9", "1,1,9,99", "-9,1,9,9", "1,-9,9,9"])
def test_a_box_beyond_the_photo_is_told(trained: Path, table: Path, box: str) -> None:
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:4], f"{lines[4].split(',')[0]},{box}", *lines[5:]]))
    with pytest.raises(PatiError, match="line 5: the box exceeds the photo of 48×48 px"):
        explanation_tests.located(pati.load(trained), explanation_tests.boxes(table), ["grad-cam"])


def test_too_few_photos_are_told(trained: Path, table: Path) -> None:
    with pytest.raises(PatiError, match="at least 8"):
        explanation_tests.located(pati.load(trained), explanation_tests.boxes(table)[:3], ["grad-cam"])
    with pytest.raises(PatiError, match="0 of 0 photos can be read"):
        explanation_tests.checked(pati.load(trained), [], "grad-cam")


@pytest.mark.slow
def test_from_the_command_line(trained: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.program(["explain", str(trained), "--boxes", str(table), "--json"], result_action="return_value")
    document = json.loads(capsys.readouterr().out)
    assert set(explainers) <= set(document["methods"])
    cli.program(["explain", str(trained), "--boxes", str(table), "--method", "grad-cam"], result_action="return_value")
    told = capsys.readouterr().out
    assert "12 photos; the boxes cover" in told
    assert "grad-cam against the centred Gaussian: pointing" in told
    shapes = str(table.parent / "shapes")
    cli.program(["explain", str(trained), shapes, "--check"], result_action="return_value")
    told = capsys.readouterr().out
    assert "grad-cam, 12 photos:" in told
    assert "insertion (higher is better)" in told
    assert "In short: " in told
    with pytest.raises(PatiError, match="occlusion works on pixels"):
        cli.program(
            ["explain", str(trained), shapes, "--check", "--stage", "1", "--method", "occlusion"],
            result_action="return_value",
        )
    with pytest.raises(PatiError, match="--check requires photos"):
        cli.program(["explain", str(trained), "--check"], result_action="return_value")
    with pytest.raises(PatiError, match="--class is for drawing"):
        cli.program(["explain", str(trained), shapes, "--check", "--class", "circle"], result_action="return_value")
    for words, message in ((["--check", "--boxes", str(table)], "give one"), (["--json"], "--json is for")):
        with pytest.raises(PatiError) as caught:
            cli.program(["explain", str(trained), *words], result_action="return_value")
        assert message in f"{caught.value.message} {caught.value.hint}"
