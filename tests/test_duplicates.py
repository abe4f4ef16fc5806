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

from pati.data.audit import duplicates
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
    assert {(int(i), int(j)) for i, j in duplicates._close_hashes(duplicates.hashes(thumbs))} == expected
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


def test_flat_pictures_are_no_duplicates() -> None:
    flat = np.full((20, 32, 32, 3), 200, np.uint8)
    assert duplicates.near_duplicates(flat) == ([], 0)
    assert duplicates.near_duplicates(flat[:0]) == ([], 0)


def test_crowds_of_look_alikes_are_cut_off_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 10)
    thumbs = np.repeat(thumb(scene(1))[None], 8, 0)  # 28 pairs
    found, skipped = duplicates.near_duplicates(thumbs)
    assert len(found) == 10
    assert skipped == 18


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
