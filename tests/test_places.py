"""A zip read where it is: the same photos as in its folder, through every command."""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from pati.data.sources import storage
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.system.files import cache_folder
from pati.workflows.check import check
from pati.workflows.score import score
from pati.workflows.train import train
from tests.support.photos import draw, jpeg

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("undrawn")]

SMALL = Recipe(epochs=1, size=32, width=0.25, batch=16)


@pytest.fixture
def zipped(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    return Path(shutil.make_archive(str(tmp_path / "shapes"), "zip", shapes.parent, shapes.name))


def test_folder_zip_and_tar_give_one_manifest(shapes: Path, zipped: Path, tmp_path: Path) -> None:
    for mode, name in (("w", "shapes.tar"), ("w:gz", "shapes.tar.gz")):
        with tarfile.open(tmp_path / name, mode) as archive:
            archive.add(shapes, shapes.name)
    ways = (shapes, zipped, tmp_path / "shapes.tar", tmp_path / "shapes.tar.gz")
    assert len({check(way, Recipe()).hash() for way in ways}) == 1
    assert [path.name.split("-")[0] for path in (cache_folder() / "unpacked").iterdir()] == [
        "shapes"
    ]  # the compressed one alone


def test_every_command_reads_a_zip_in_place(zipped: Path, tmp_path: Path) -> None:
    result = train(zipped, SMALL, out=tmp_path / "run")
    assert not (cache_folder() / "unpacked").exists()
    assert score(tmp_path / "run")["accuracy"] == result.metrics["test"]["accuracy"]
    assert score(tmp_path / "run", data=zipped)["photos"] == result.metrics["test"]["photos"]
    again = train(zipped, SMALL, out=tmp_path / "again")
    assert again.run.rows("read")[0]["reused"] is True


def test_a_changed_zip_is_read_anew_and_named(zipped: Path, shapes: Path, tmp_path: Path) -> None:
    train(zipped, SMALL, out=tmp_path / "run")
    shutil.copytree(shapes, tmp_path / "other" / "shapes")
    for path in (tmp_path / "other" / "shapes" / "circle").iterdir():
        path.write_bytes(jpeg(draw("circle", int(path.stem) + 1000)))
    shutil.make_archive(str(zipped.with_suffix("")), "zip", tmp_path / "other", "shapes")
    with pytest.raises(
        PatiError, match=r"changed or disappeared since the run, for example .*shapes\.zip/shapes/circle"
    ):
        score(tmp_path / "run")
    assert train(zipped, SMALL, out=tmp_path / "again").run.rows("read")[0]["reused"] is False


def test_a_place_inside_a_zip_is_named_by_a_path_through_it(zipped: Path) -> None:
    source = find_source(zipped)
    assert source.root == zipped / "shapes"
    place = storage.at(source.root)
    assert [entry.name for entry in place.names()] == ["circle", "square", "triangle"]
    assert place.read("circle/1.jpg") == storage.at(zipped).read("shapes/circle/1.jpg")
    assert place.holds("circle")
    assert place.holds("circle/1.jpg")
    assert not place.holds("circle/none.jpg")


def test_a_csv_inside_a_zip_rules(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rows = ["path,label"]
    for number in range(6):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(jpeg(draw("circle", number)))
        rows.append(f"{number}.jpg,{'odd' if number % 2 else 'even'}")
    (tmp_path / "photos" / "labels.csv").write_text(os.linesep.join(rows))
    archive = shutil.make_archive(str(tmp_path / "flat"), "zip", tmp_path, "photos")
    assert [item.label for item in find_source(archive).items] == ["even", "odd"] * 3


def test_a_damaged_csv_inside_a_zip_is_an_error_or_passed_over(shapes: Path, tmp_path: Path) -> None:
    data = shutil.copytree(shapes, tmp_path / "own" / "shapes")
    (data / "senders.csv").write_text("path,sender\n" + "circle/1.jpg,ann\n" * 40)
    archive = Path(shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path / "own", "shapes"))
    with zipfile.ZipFile(archive) as zipped:
        at = zipped.getinfo("shapes/senders.csv").header_offset + 60
    broken = bytearray(archive.read_bytes())
    broken[at] ^= 255
    archive.write_bytes(broken)
    assert len(find_source(archive).items) == 90
    with pytest.raises(PatiError, match=r"senders\.csv can't be used: it can't be read: damaged in the archive"):
        find_source(archive, Columns(group="sender"))
