"""Tables by column: what goes in comes out, and large sets are read and written in parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pati.data import pack
from pati.data.audit import pool
from pati.data.columns import Codes, Texts
from pati.data.mapped import Mapped
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.data.sources.source import Item, Items
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.system import files
from pati.system.files import sha256_file
from pati.workflows.check import check
from tests.support.photos import write_shapes

ANY = st.text(st.characters(exclude_categories=()))  # also halves of surrogate pairs, as in names that are no UTF-8


@given(st.lists(ANY), st.lists(ANY))
def test_texts(one: list[str], two: list[str]) -> None:
    joined = Texts.joined([Texts.of(one), Texts.of(two)])
    assert list(joined) == [joined[row] for row in range(len(joined))] == one + two
    assert list(joined.take(np.arange(len(joined))[::-1])) == (one + two)[::-1]


@given(st.lists(st.sampled_from([None, "a", "b", "c"])), st.lists(st.sampled_from(["a", "d"])))
def test_codes(one: list[str | None], two: list[str | None]) -> None:
    joined = Codes.joined([Codes.of(one), Codes.of(two)])
    assert list(joined) == one + two
    assert joined.equal("a", None).tolist() == [value in ("a", None) for value in one + two]
    assert joined.counts() == {value: (one + two).count(value) for value in dict.fromkeys(one + two)}
    double = Codes.numbered(["x", None, "x"], np.array([0, 1, 2, 2], np.int32))
    assert list(double.changed(np.array([1]), ["y"])) == ["x", "y", "x", "x"]
    rows = np.arange(0, len(joined), 2)
    changed = joined.changed(rows, ["new"] * len(rows))
    assert list(changed) == ["new" if row % 2 == 0 else value for row, value in enumerate(one + two)]


def test_items_are_rows_and_in_order_of_folders() -> None:
    paths = ["cat/10.jpg", "cat-2/1.jpg", "cat/b/1.jpg", "a.jpg"]
    items = Items.of(Item(path, path[0], None, "g") for path in paths)
    assert list(items) == [items[row] for row in range(4)] == [Item(path, path[0], None, "g") for path in paths]
    assert items == tuple(items)
    assert items[1:3] == tuple(items)[1:3]
    assert [item.path for item in items.in_order()] == sorted(paths, key=lambda path: path.split("/"))


def test_mapped_rows_are_those_of_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pati.data.mapped._RELEASE", 3_000_000)  # after every third row
    whole = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), np.uint8)
    for number, part in enumerate((whole[:20], whole[20:20], whole[20:])):
        np.save(tmp_path / f"{number}.npy", part)
    mapped = Mapped([np.load(tmp_path / f"{number}.npy", mmap_mode="r") for number in range(3)])
    assert mapped.shape == whole.shape
    rows = np.random.default_rng(1).integers(0, 50, 200)
    np.testing.assert_array_equal(mapped.take(rows), whole[rows])
    np.testing.assert_array_equal(mapped[-1], whole[-1])
    np.testing.assert_array_equal(mapped[5:30:3], whole[5:30:3])
    for wrong in ([50], [-51]):
        with pytest.raises(IndexError, match="from 0 to 49"):
            mapped.take(np.array(wrong))


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """36 shapes and a broken file, read in parts of ten."""
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pool, "PART", 10)
    monkeypatch.setattr(pack, "PART", 10)
    shapes = write_shapes(tmp_path / "shapes", per_class=12)
    (shapes / "circle" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    shutil.copy(shapes / "circle" / "0.jpg", shapes / "square" / "copy.jpg")  # in another part
    return shapes


def slots() -> dict[str, int]:
    return {path.name: path.stat().st_ctime_ns for path in (files.cache_folder() / "packs").iterdir()}


def test_a_pack_of_several_parts_is_one(parts: Path) -> None:
    source, preprocess = find_source(parts), Preprocess(size=16)
    inspections, packed, reused = pack.open_or_build(source, preprocess)
    assert (len(slots()), reused) == (4, False)
    assert [one.sha256 for one in inspections] == [sha256_file(parts / item.path) for item in source.items]
    for item, one in zip(source.items, inspections, strict=True):
        if not one.reason:
            np.testing.assert_array_equal(packed.pixels[packed.rows[one.sha256]], preprocess(parts / item.path))
    again, _, reused = pack.open_or_build(source, preprocess)
    assert reused
    assert list(again.digest) == list(inspections.digest)
    np.testing.assert_array_equal(again.thumbs[:], inspections.thumbs[:])
    manifest = check(parts, Recipe())
    np.testing.assert_array_equal(
        pack.of_manifest(manifest, preprocess).pixels[:], packed.pixels[:]
    )  # without reading the photos again


def test_only_the_part_of_a_changed_photo_is_read_again(parts: Path) -> None:
    source, preprocess = find_source(parts), Preprocess(size=16)
    pack.open_or_build(source, preprocess)
    before = set(slots())
    shutil.copy(parts / "circle" / "1.jpg", parts / "triangle" / "3.jpg")
    pack.open_or_build(source, preprocess)
    after = set(slots())
    assert len(after - before) == 1
    assert before <= after  # the pack before is kept, too


def test_an_interruption_costs_a_part(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, preprocess, read = find_source(parts), Preprocess(size=16), pack.read
    calls: list[int] = []

    def interrupted(root: Path, paths: list[str], *rest: object) -> object:
        calls.append(len(paths))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(root, paths, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(pack, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack.open_or_build(source, preprocess)
    pack.open_or_build(source, preprocess)
    assert calls == [10, 10, 10, 10, 8]  # the third again, and the last


def test_parts_give_the_same_manifest(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    some = check(parts, Recipe())
    monkeypatch.setattr(pool, "PART", 1000)
    whole = check(parts, Recipe())
    assert some.hash() == whole.hash()
    assert some.shortcuts == whole.shortcuts
    assert any(entry.duplicate for entry in some.entries)


def test_photos_that_differ_from_the_manifest_are_told(parts: Path) -> None:
    manifest = check(parts, Recipe())
    shutil.copy(parts / "circle" / "1.jpg", parts / "triangle" / "3.jpg")
    with pytest.raises(PatiError, match="are not those of the first process"):
        pack.of_manifest(manifest, Preprocess(size=16))
