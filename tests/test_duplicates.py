"""Near-duplicates: against a slow reference, planted in drawn pictures, and in real photos."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pati.data.audit import crowds, duplicates
from pati.data.audit.judge import build_manifest
from pati.data.audit.pool import read_all
from pati.data.entries import Entry
from pati.data.manifest import components, require_trainable
from pati.data.mapped import Mapped
from pati.data.sources.find import find_source
from pati.data.sources.source import Source
from pati.recipe import Recipe
from tests.support.photos import jpeg

Change = Callable[[Image.Image, random.Random], Image.Image]


def saved(image: Image.Image, quality: int) -> Image.Image:
    return Image.open(io.BytesIO(jpeg(image, quality))).convert("RGB")


def cropped(image: Image.Image, rng: random.Random) -> Image.Image:
    def cut(length: int) -> int:
        return round(length * rng.uniform(0, 0.05))

    box = (cut(image.width), cut(image.height), image.width - cut(image.width), image.height - cut(image.height))
    return saved(image.crop(box), 80)


CHANGES: dict[str, Change] = {
    "re-saved": lambda image, rng: saved(image, 35),
    "resized": lambda image, rng: image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
    "cropped": cropped,
    "mirrored": lambda image, rng: saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 70),
    "mirrored and cropped": lambda image, rng: cropped(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), rng),
}


def thumb(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX))


def scene(number: int) -> Image.Image:
    """A random picture with structure at several scales."""
    rng = np.random.default_rng(number)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((96, 96), Image.Resampling.BICUBIC)
        )
        for n in (3, 6, 12, 24)
    ]
    return Image.fromarray(np.mean(layers, 0).astype(np.uint8))


def all_pairs(thumbs: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.concatenate([task() for task in duplicates._all_pairs(duplicates._Pictures(Mapped([thumbs]), None))])


def test_close_hashes_equal_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    thumbs = rng.integers(0, 256, (60, 32, 32, 3), np.uint8)
    thumbs[30:40] = thumbs[:10]
    thumbs[40:50] = thumbs[:10, :, ::-1]
    bits = duplicates.hashes(thumbs).astype(int)
    mirrored = duplicates.hashes(thumbs[:, :, ::-1]).astype(int)
    expected = {
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if min((bits[i] != bits[j]).sum(), (mirrored[i] != bits[j]).sum()) <= duplicates._HASH_LIMIT
    }
    assert {(int(i), int(j)) for i, j in all_pairs(thumbs)} == expected
    assert {(i, i + 30) for i in range(10)} | {(i, i + 40) for i in range(10)} <= expected


@pytest.mark.slow
def test_planted_copies_of_drawings_are_found_and_nothing_else() -> None:
    rng = random.Random(0)
    originals = [scene(number) for number in range(200)]
    for name, change in CHANGES.items():
        copies = [change(image, rng) for image in originals[:60]]
        found = set(duplicates.near_duplicates(np.stack([thumb(image) for image in originals + copies]))[0])
        planted = {(number, 200 + number) for number in range(60)}
        assert found & planted == planted, name
        assert not found - planted, name


def test_copies_are_found_in_cells_as_among_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture is compared with a part of the others only, and no planted copy is lost."""
    rng = random.Random(0)
    originals = [scene(number) for number in range(400)]
    copies = [change(image, rng) for image in originals[:20] for change in CHANGES.values()]
    thumbs = np.stack([thumb(image) for image in originals + copies])
    expected = components(duplicates.near_duplicates(thumbs)[0])
    monkeypatch.setattr(duplicates, "MOST_EXACT", 100)
    monkeypatch.setattr(duplicates, "_CELL", 20)
    pictures = duplicates._Pictures(Mapped([thumbs]), None)
    compared = sum(len(task()) for task in duplicates._in_cells(pictures))
    assert pictures.many
    assert compared < 2 * len(all_pairs(thumbs))
    found = components(duplicates.near_duplicates(thumbs)[0])
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))
    assert sum(map(len, found)) == 20 * (1 + len(CHANGES))


def test_flat_pictures_are_no_duplicates() -> None:
    flat = np.full((20, 32, 32, 3), 200, np.uint8)
    assert duplicates.near_duplicates(flat) == ([], 0)
    assert duplicates.near_duplicates(flat[:0]) == ([], 0)


def test_photos_that_are_joined_already_are_not_compared_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scene's photos are one group after as few pairs as it has photos, and no more are tried than are allowed."""
    thumbs = np.repeat(thumb(scene(1))[None], 8, 0)  # 28 pairs
    assert len(set(duplicates.near_duplicates(thumbs)[0])) == 7
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 4)
    found, skipped = duplicates.near_duplicates(thumbs)
    assert len(found) == 4
    assert 0 < skipped <= 24


def fixed_camera(count: int) -> NDArray[np.uint8]:
    """Thumbnails of one scene, brighter and darker, with noise."""
    rng = np.random.default_rng(0)
    light = rng.uniform(0.93, 1.07, (count, 1, 1, 1))
    seen = thumb(scene(5))[None] * light + rng.normal(0, 1, (count, 32, 32, 3))
    return np.clip(seen, 0, 255).astype(np.uint8)


def test_a_scene_of_many_photos_is_one_group_by_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_MOST_EACH", 16)
    monkeypatch.setattr(duplicates, "_AT_ONCE", 64)
    aligned, fine = [], duplicates._fine

    def counted(thumbs: duplicates._Pictures, pairs: NDArray[np.int64], flip: NDArray[np.bool_]) -> NDArray[np.float32]:
        aligned.append(len(pairs))
        return fine(thumbs, pairs, flip)

    monkeypatch.setattr(duplicates, "_fine", counted)
    thumbs = np.concatenate([fixed_camera(600), np.stack([thumb(scene(number)) for number in range(10, 16)])])
    assert len(all_pairs(thumbs)) <= 16 * len(thumbs)
    found, skipped = duplicates.near_duplicates(thumbs)
    groups = components(found)
    assert [sorted(group) for group in groups] == [list(range(600))]
    assert len(found) == 599
    assert skipped == 0
    assert sum(aligned) < 3 * 600


def entries(labels: str, *, same: int = 0) -> list[Entry]:
    """Photos of classes a, b, …; the first `same` are one file."""
    return [Entry(f"{n}", label, "kept", sha256=f"{max(n, same - 1):064d}") for n, label in enumerate(labels)]


def chain(count: int, start: int = 0) -> list[tuple[int, int]]:
    return [(number, number + 1) for number in range(start, start + count - 1)]


def test_crowds_hold_most_of_a_class_or_many_of_several() -> None:
    both = entries("a" * 40 + "b" * 40)
    (crowd,) = crowds.found(both, chain(30))
    assert crowd.classes == {"a": (30, 40)}
    (crowd,) = crowds.found(both, chain(20, 30))
    assert crowd.classes == {"a": (10, 40), "b": (10, 40)}
    assert crowds.found(both, chain(19, 30)) == []  # a few that were put in two classes
    assert crowds.found(both, chain(20)) == []  # half of a class, as of copies
    few = entries("aaaaabbbbb")
    assert crowds.found(few, chain(4)) == []
    assert len(crowds.found(few, chain(10))) == 1
    assert crowds.found(entries("a" * 30 + "b" * 30, same=25), chain(30)) == []  # one file, and five others


@pytest.fixture
def camera(tmp_path: Path) -> Source:
    """Two states of one scene, in several copies each, and pictures of others."""
    rng = np.random.default_rng(0)
    for label, count in (("empty", 14), ("taken", 14)):
        (tmp_path / label).mkdir()
        for number in range(count):
            picture = np.asarray(scene(3).resize((160, 120))) * rng.uniform(0.97, 1.03)
            jpg = jpeg(Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)), 90)
            (tmp_path / label / f"{number}.jpg").write_bytes(jpg)
        (tmp_path / label / "copy.jpg").write_bytes((tmp_path / label / "0.jpg").read_bytes())
        for number in range(2):  # a picture, and it saved again
            (tmp_path / label / f"other-{number}.jpg").write_bytes(
                jpeg(scene(100 + len(label + "x" * (label == "empty"))).resize((160, 120)), 90 - 40 * number)
            )
    return find_source(tmp_path)


@pytest.mark.parametrize(
    ("choice", "alike", "told"),
    [
        (None, 1, "(14 of "), ("group", 0, "they stay in one split"), ("report", 2, "not kept together"),
        ("off", 0, "not looked for"),
    ],
)  # fmt: skip
def test_a_fixed_cameras_photos_are_told_and_need_not_stay_together(
    camera: Source, choice: str | None, alike: int, told: str
) -> None:
    inspections = read_all(camera)
    found = build_manifest(camera, inspections, Recipe(near_duplicates=choice, test=0.2, validation=0.2))
    assert any(told in str(text) for text in found.notes)
    together = {entry.path: entry for entry in found.entries}
    for label in ("empty", "taken"):  # whatever is chosen, one file is in one split
        assert together[f"{label}/copy.jpg"].duplicate == together[f"{label}/0.jpg"].duplicate is not None
        assert together[f"{label}/copy.jpg"].split == together[f"{label}/0.jpg"].split
    scene_splits = {entry.split for entry in found.entries if "other" not in entry.path}
    assert len(scene_splits) == (1 if choice == "group" else 3)
    pairs = {entry.duplicate for entry in found.entries if "other" in entry.path}
    assert (None not in pairs) == (choice in (None, "group"))
    assert len(found.alike()) >= alike
    assert ("near_duplicates", choice) in found.split.items()
    if choice != "group":
        require_trainable(found)


@pytest.mark.slow
def test_planted_copies_of_photos(photos: Callable[[str], Path]) -> None:
    """Each kind of copy is found for at least 149 of 150 photos, cats and clothing alike."""
    rng = random.Random(1)
    for name in ("cats-vs-dogs", "clothing"):
        with zipfile.ZipFile(photos(name)) as archive:
            members = [
                entry for entry in archive.infolist() if entry.file_size > 100 and entry.filename.endswith(".jpg")
            ]
            images = [
                Image.open(io.BytesIO(archive.read(entry))).convert("RGB")
                for entry in members[:: len(members) // 150][:150]
            ]
        for change in CHANGES.values():
            copies = [change(image, rng) for image in images]
            found = set(duplicates.near_duplicates(np.stack([thumb(image) for image in images + copies]))[0])
            assert sum((number, number + 150) in found for number in range(150)) >= 149
