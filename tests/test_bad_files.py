"""Every kind of bad or odd file through the audit and through `predict`: one verdict each, and the same in both."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pati.cli.inputs import expand
from pati.data import decode
from pati.data.audit.pool import read_all
from pati.data.manifest import Manifest
from pati.data.sources.source import Columns
from pati.inference.classifier import Classifier
from pati.inference.predictor import Prediction
from pati.recipe import Recipe
from pati.workflows.check import check
from pati.workflows.opening import open_data
from tests.support.bad_files import FILES, KINDS, jpeg
from tests.support.costs import cost
from tests.support.photos import write_shapes

SECONDS, MEMORY = 2.0, 512_000_000  # that a file may take; the bench measures them with nothing else going on


@dataclass
class Zoo:
    """Every kind in a class folder of its own, judged once by the audit and once by `predict`."""

    root: Path
    before: dict[str, tuple[int, int, float]]
    written: dict[str, list[str]]
    found: Manifest
    predictions: dict[str, Prediction]


def state_of(folder: Path) -> dict[str, tuple[int, int, float]]:
    facts = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: (fact.st_mode, fact.st_size, fact.st_mtime) for path, fact in facts.items()}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Zoo:
    root = tmp_path_factory.mktemp("zoo") / "data"
    written = {}
    for name, kind in KINDS.items():
        folder = root / name
        folder.mkdir(parents=True)
        written[name] = [os.path.relpath(kind.write(folder, number), root) for number in range(FILES)]
    write_shapes(root, per_class=3)
    before = state_of(root)
    found = check(root, Recipe())
    named = [str(root / entry.path) for entry in found.entries if entry.reason == "system-file"]
    rows = Classifier.load(trained).predict_stream(expand([str(root), *named], []))
    return Zoo(root, before, written, found, {os.path.relpath(row.path, root): row for row in rows})


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_its_outcome_in_audit_and_predict(name: str, zoo: Zoo) -> None:
    kind = KINDS[name]
    entries = {entry.path: entry for entry in zoo.found.entries}
    for path in zoo.written[name]:
        entry, prediction = entries[path], zoo.predictions[path]
        assert entry.reason == prediction.reason == kind.reason
        assert str(prediction.error or "").split(":")[0] == kind.reason
        assert entry.kept == (not kind.reason)
        assert not kind.flag or kind.flag in entry.flags
        assert bool(prediction.label) == entry.kept


def test_each_file_is_one_line_and_none_is_touched(zoo: Zoo) -> None:
    seen = [path for path in zoo.root.rglob("*") if not path.is_dir() or decode.is_photo_name(path.name)]
    assert len(zoo.found.entries) == len({entry.path for entry in zoo.found.entries}) == len(seen)
    assert sum(entry.kept for entry in zoo.found.entries) + sum(bool(e.reason) for e in zoo.found.entries) == len(seen)
    assert state_of(zoo.root) == zoo.before
    assert not Path("pickle-was-loaded").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_judged_in_bounded_time_and_memory(name: str, tmp_path: Path) -> None:
    slowest, memory = cost(name, tmp_path)
    assert slowest < 5 * SECONDS  # machines under load are slow; hangs are slower
    assert memory < MEMORY


# Kept files have the right pixels, by an independent way to them ----------------------------------


@pytest.mark.parametrize(
    "name",
    ["cmyk", "ycck", "grey", "one-bit", "turned", "broken-exif", "unusable-profile", "gif-or-bmp-named-jpg", "mpo",
     "odd-extension", "odd-name", "jpeg-without-jfif", "hard-link-out", "link-out", "animated", "png-without-end"],
)  # fmt: skip
def test_pixels_of_kept_kinds_equal_pillow(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "class"
    folder.mkdir(parents=True)
    for number in range(FILES):
        path = KINDS[name].write(folder, number)
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            whole = image if name == "broken-exif" else ImageOps.exif_transpose(image)
            expected = np.asarray(whole.convert("RGB"))
        np.testing.assert_array_equal(decode.decode(path.read_bytes()).pixels, expected)


@pytest.mark.parametrize("name", ["transparent", "palette-transparent"])
def test_transparent_kinds_show_white(name: str, tmp_path: Path) -> None:
    for number in range(FILES):
        path = KINDS[name].write(tmp_path, number)
        with Image.open(path) as image:
            layers = np.asarray(image.convert("RGBA")).astype(float)
        share = layers[..., 3:] / 255
        expected = layers[..., :3] * share + 255 * (1 - share)
        assert np.abs(decode.decode(path.read_bytes()).pixels - expected).max() <= 1


def test_sixteen_bit_photos_look_as_with_eight(tmp_path: Path) -> None:
    for number in range(FILES):
        path = KINDS["sixteen-bit"].write(tmp_path, number)
        with Image.open(path) as image:
            expected = np.asarray(image).astype(np.uint32) // 257
        assert (decode.decode(path.read_bytes()).pixels == expected[..., None]).all()


# Kinds that are events -------------------------------------------------------------------------------


# What the audit's worker and `predict` do, after everything is imported: that user may not read Python itself.
AS_NOBODY = """
import os, sys
from pathlib import Path
from pati.data.audit.worker import Inspector
from pati.data.decode import Unreadable
from pati.data.preprocess import Preprocess
root, paths = Path(sys.argv[1]), sys.argv[2:]
Inspector(root, None).inspect("good.jpg")  # Pillow imports its plugins late
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for path in paths:
    try:
        Preprocess(size=32)(root / path)
        predicted = ""
    except Unreadable as error:
        predicted = error.reason
    print(Inspector(root, None).inspect(path).reason, predicted)
"""


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can become another user")
def test_no_permission_under_another_user() -> None:
    with tempfile.TemporaryDirectory() as base:  # pytest's own folders are private
        Path(base).chmod(0o755)
        names = [f"locked-{number}.jpg" for number in range(FILES)] + ["good.jpg"]
        for number, name in enumerate(names):
            (Path(base) / name).write_bytes(jpeg(number))
            (Path(base) / name).chmod(0o644 if name == "good.jpg" else 0)
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, base, *names], capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["unreadable unreadable"] * FILES + [" "]


def test_a_file_that_vanishes_while_it_is_read(tmp_path: Path) -> None:
    """It was there when the folder was listed, and is gone when its turn comes."""
    folder = write_shapes(tmp_path / "data", per_class=FILES)
    source = open_data(folder, Recipe(), Columns())
    for number in range(FILES):
        (folder / "circle" / f"{number}.jpg").unlink()
    findings = read_all(source)
    assert [finding.reason for finding in findings] == ["unreadable"] * FILES + [""] * 2 * FILES


@pytest.mark.slow
def test_limits_are_the_users_to_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg(1)
    with pytest.raises(decode.Unreadable, match="the limit is 5,183"):
        decode.decode(data, decode.Limits(pixels=72 * 72 - 1))
    monkeypatch.setenv("PATI_MAX_PIXELS", "200_000_000")
    assert decode.Limits.of_user().pixels == 200_000_000
    monkeypatch.setenv("PATI_MAX_PIXELS", "many")
    write_shapes(tmp_path, per_class=1)
    done = subprocess.run([sys.executable, "-m", "pati", "check", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "PATI_MAX_PIXELS is 'many'" in done.stderr
    assert "Traceback" not in done.stderr
