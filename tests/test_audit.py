"""The audit's verdicts, its processes, the manifest and the pack that it fills."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pati.data import decode, pack
from pati.data.audit import pool
from pati.data.audit.pool import read_all
from pati.data.audit.worker import Inspector
from pati.data.manifest import Manifest, require_trainable
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.workflows import check as workflow
from pati.workflows.train import train
from tests.support.photos import draw, jpeg, write_shapes


def dirty(folder: Path) -> Path:
    write_shapes(folder, per_class=8)
    good = jpeg(draw("circle", 0))
    (folder / "circle" / "empty.jpg").write_bytes(b"")
    (folder / "circle" / "Thumbs.db").write_bytes(b"x")
    (folder / "square" / "cut.jpg").write_bytes(good[: len(good) // 2])
    (folder / "square" / "copy.jpg").write_bytes(good)
    (folder / "triangle" / "text.jpg").write_text("no photo")
    (folder / "triangle" / "link.jpg").symlink_to("/etc/hostname")
    (folder / "triangle" / os.fsdecode(b"\xff\xfe.jpg")).write_bytes(jpeg(draw("triangle", 99)))
    (folder / "triangle" / "new\nline.jpg").write_bytes(jpeg(draw("triangle", 98)))
    return folder


def check(folder: Path) -> Manifest:
    return workflow.check(folder, Recipe())


def test_every_file_gets_exactly_one_verdict(tmp_path: Path) -> None:
    found = check(dirty(tmp_path / "d"))
    assert len(found.entries) == len({entry.path for entry in found.entries}) == 32
    assert Counter(entry.reason for entry in found.entries if not entry.kept) == {
        "empty": 1, "system-file": 1, "truncated": 1, "unsupported": 2,
    }  # fmt: skip
    (group,) = [group for group in found.duplicate_groups() if "circle/0.jpg" in {entry.path for entry in group}]
    assert {entry.path for entry in group} == {"circle/0.jpg", "square/copy.jpg"}
    assert all("in-two-classes" in entry.flags for entry in group)


def test_processes_find_what_one_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_source(dirty(tmp_path / "d"))
    inspector = Inspector(source.root, None)
    here = [inspector.inspect(item.path) for item in source.items]
    monkeypatch.setattr(pool, "CHUNK", 5)
    apart = read_all(source)
    for one, other in zip(here, apart, strict=True):
        assert (one.sha256, one.reason, one.flags, one.width) == (other.sha256, other.reason, other.flags, other.width)
        np.testing.assert_array_equal(one.thumb, other.thumb)


def sabotage(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    """Make every worker process run `line` before it decodes `data`."""
    (folder / "sitecustomize.py").write_text(
        "import os\n"
        "if 'SABOTAGED' in os.environ:\n"
        "    import pati.data.decode as decode\n"
        "    before = decode.decode\n"
        "    def decode_after(data, *rest):\n"
        f"        {line}\n"
        "        return before(data, *rest)\n"
        "    decode.decode = decode_after\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("SABOTAGED", "1")


@pytest.mark.slow
def test_a_file_that_crashes_the_decoder_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies on one file (as a crash in a C library would) costs that file only."""
    sabotage(tmp_path, monkeypatch, "if data == b'deadly': os.kill(os.getpid(), 11)")
    folder = write_shapes(tmp_path / "d", per_class=4)
    (folder / "circle" / "deadly.jpg").write_bytes(b"deadly")
    findings = read_all(find_source(folder))
    assert Counter(finding.reason for finding in findings) == {"": 12, "damaged": 1}


@pytest.mark.slow
def test_a_photo_whose_decoder_is_killed_from_outside_is_tried_again_and_judged_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first kills (each leaves a file in `kills`) hit one photo; the verdict is neither damage, nor remembered."""
    folder = write_shapes(tmp_path / "d", per_class=4)
    victim = folder / "circle" / "2.jpg"
    kills = tmp_path / "kills"
    kills.mkdir()
    digest = hashlib.sha256(victim.read_bytes()).hexdigest()
    condition = f"__import__('hashlib').sha256(data).hexdigest() == {digest!r} and os.listdir({str(kills)!r})"
    kill = f"os.unlink(os.path.join({str(kills)!r}, os.listdir({str(kills)!r})[0])) or os.kill(os.getpid(), 9)"
    body = f"{condition} and ({kill})"
    sabotage(tmp_path, monkeypatch, body)

    def killing(times: int) -> None:
        for number in range(times):
            (kills / str(number)).touch()

    killing(2)  # with its neighbours, by itself; then alone, when all others are done, it is not killed
    assert not any(finding.reason for finding in read_all(find_source(folder)))
    assert not list(kills.iterdir())
    killing(3)
    source = find_source(folder)
    findings, packed, _ = pack.open_or_build(source, Preprocess(size=16))
    (lost,) = [index for index, finding in enumerate(findings) if finding.reason]
    assert (findings[lost].reason, len(packed.rows)) == ("not-judged", 11)
    assert pack.open_or_build(source, Preprocess(size=16), unsettled=True)[0][lost].reason == "not-judged"
    for known in (False, True):
        findings, packed, reused = pack.open_or_build(source, Preprocess(size=16))
        assert reused == known
        assert not any(finding.reason for finding in findings)
        pixels = packed.pixels[packed.rows[findings[lost].sha256]]
        np.testing.assert_array_equal(pixels, Preprocess(size=16)(victim))


@pytest.mark.slow
def test_a_file_that_holds_the_decoder_is_quarantined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sabotage(tmp_path, monkeypatch, "while data == b'endless': pass")
    folder = write_shapes(tmp_path / "d", per_class=1)
    (folder / "circle" / "endless.jpg").write_bytes(b"endless")
    monkeypatch.setattr(decode, "limits_now", lambda: decode.Limits(seconds=1))
    findings = read_all(find_source(folder))
    assert [finding.reason for finding in findings if finding.reason] == ["too-large"]
    assert "over 1 s" in str(findings[1].detail)
    assert [finding.lasting for finding in findings] == [not finding.reason for finding in findings]


def test_workers_that_cannot_start_blame_no_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nif 'DEADLY' in os.environ:\n    os._exit(3)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("DEADLY", "1")
    with pytest.raises(PatiError, match="could not be started"):
        read_all(find_source(write_shapes(tmp_path / "d", per_class=4)))


@pytest.mark.slow
def test_odd_files_do_not_hang_or_break_the_look_ahead(shapes: Path, tmp_path: Path) -> None:
    os.mkfifo(shapes / "circle" / "pipe.jpg")
    (shapes / "circle" / "loop.jpg").symlink_to(shapes / "circle" / "loop.jpg")
    result = train(shapes, Recipe(epochs=1, width=0.25), out=tmp_path / "run")
    reasons = {entry.path: entry.reason for entry in Manifest.read(result.run.manifest).entries if not entry.kept}
    assert reasons == {"circle/pipe.jpg": "not-a-file", "circle/loop.jpg": "unreadable"}


def test_class_names_that_are_no_text_are_refused_before_training(shapes: Path) -> None:
    (shapes / "square").rename(shapes / os.fsdecode(b"kar\xfe"))
    with pytest.raises(PatiError, match="not valid text"):
        require_trainable(check(shapes))


def test_manifest_round_trip(tmp_path: Path) -> None:
    found = check(dirty(tmp_path / "d"))
    found.write(tmp_path / "m.jsonl")
    assert Manifest.read(tmp_path / "m.jsonl") == found
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert len(lines) == 33
    changed = json.loads(lines[1]) | {"label": "other"}
    (tmp_path / "m.jsonl").write_text("\n".join([lines[0], json.dumps(changed), *lines[2:]]))
    with pytest.raises(PatiError, match="was edited"):
        Manifest.read(tmp_path / "m.jsonl")
    for text in ("", "{}", "[]\n", "nonsense"):
        (tmp_path / "m.jsonl").write_text(text)
        with pytest.raises(PatiError):
            Manifest.read(tmp_path / "m.jsonl")


def test_leaks_between_given_splits_are_reported(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val", "test")):
        write_shapes(tmp_path / "d" / part, per_class=5, first=10 * number)
    stolen = (tmp_path / "d" / "train" / "circle" / "0.jpg").read_bytes()
    (tmp_path / "d" / "test" / "circle" / "stolen.jpg").write_bytes(stolen)
    (leak,) = check(tmp_path / "d").leaks()
    assert {entry.path for entry in leak} == {"train/circle/0.jpg", "test/circle/stolen.jpg"}


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda base: write_shapes(base, classes=("circle",)), "only one class"),
        (
            lambda base: [write_shapes(base), [path.unlink() for path in sorted((base / "square").iterdir())[2:]]],
            "at least 3",
        ),
        (lambda base: [write_shapes(base), (base / "square").rename(base / "Circle")], "differ only in case"),
        (lambda base: [path.write_bytes(b"") for path in write_shapes(base).rglob("*.jpg")], "none of the 90 files"),
    ],
)
def test_clear_refusals(tmp_path: Path, make: Callable[[Path], object], told: str) -> None:
    make(tmp_path / "d")
    with pytest.raises(PatiError, match=told):
        require_trainable(check(tmp_path / "d"))


def test_photos_that_are_stored_elsewhere_are_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "lfs" / name).mkdir(parents=True)
        (tmp_path / "annex" / name).mkdir(parents=True)
        for number in range(4):
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{number:064x}\nsize 9\n"
            (tmp_path / "lfs" / name / f"{number}.jpg").write_text(pointer)
            (tmp_path / "annex" / name / f"{number}.jpg").symlink_to(f"../../.git/annex/objects/{number}.jpg")
    for folder, told in (("lfs", "git lfs pull"), ("annex", "git annex get")):
        with pytest.raises(PatiError, match="none of the 8 files") as caught:
            require_trainable(check(tmp_path / folder))
        assert told in str(caught.value.hint)


def test_nothing_found(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(PatiError, match="no photos found"):
        check(tmp_path / "d")


def test_pack_holds_each_photos_pixels_and_is_reused_until_a_file_changes(tmp_path: Path) -> None:
    folder = dirty(tmp_path / "d")
    source, preprocess = find_source(folder), Preprocess(size=24)
    findings, packed, reused = pack.open_or_build(source, preprocess)
    assert not reused
    for item, finding in zip(source.items, findings, strict=True):
        if not finding.reason:
            np.testing.assert_array_equal(packed.pixels[packed.rows[finding.sha256]], preprocess(folder / item.path))
    again, _, reused = pack.open_or_build(source, preprocess)
    assert reused
    assert [finding.sha256 for finding in again] == [finding.sha256 for finding in findings]
    assert not pack.open_or_build(source, Preprocess(size=16))[2]
    (folder / "circle" / "3.jpg").write_bytes(jpeg(draw("circle", 1234)))
    changed, packed, reused = pack.open_or_build(source, preprocess)
    assert not reused
    assert len(changed) == len(findings)
    np.testing.assert_array_equal(
        packed.pixels[packed.rows[hashlib.sha256((folder / "circle" / "3.jpg").read_bytes()).hexdigest()]],
        preprocess(folder / "circle" / "3.jpg"),
    )


@pytest.mark.slow
def test_clothing_grouped_by_sender(photos: Callable[[str], Path]) -> None:
    found = workflow.check(photos("clothing"), Recipe(group_by="sender_id"))
    places: dict[str, set[str]] = {}
    for entry in found.kept:
        places.setdefault(str(entry.group), set()).add(str(entry.split))
    assert all(len(where) == 1 for where in places.values())
    for name in ("train", "validation", "test"):
        assert len({entry.label for entry in found.of_split(name)}) == 17
    assert max(map(len, found.duplicate_groups())) < 30


class Decoder:
    """Stands for the process that decodes."""

    killed = False

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize(("suspended", "late"), [(0.0, True), (60.0, False)])
def test_a_suspension_is_no_slow_file(suspended: float, late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = [0.0]
    monkeypatch.setattr(pool.clock, "now", lambda: time.monotonic() - left_out[0])
    process = pool._Process.__new__(pool._Process)
    process._process = decoder = Decoder()  # type: ignore[assignment]
    with process._patience(0.2) as was_late:
        left_out[0] = suspended  # the machine sleeps while a file is being decoded
        time.sleep(0.5)
        assert was_late() is late
    assert decoder.killed is late
