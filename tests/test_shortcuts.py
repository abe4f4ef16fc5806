"""Properties of the files that tell the classes, whatever the photos show."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pati.data.entries import Entry
from pati.data.manifest import Manifest, Shortcut
from pati.data.properties import Properties, read_properties
from pati.evaluation.shortcuts import find_shortcuts, telling_properties
from pati.recipe import Recipe
from pati.workflows.check import check


def blobs(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)


def of_camera(image: Image.Image, make: str) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = make, "X 100"
    return encoded(image, exif=exif)


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


WAYS: dict[str, Callable[[Image.Image, int], bytes]] = {
    "format": lambda image, kind: encoded(image, ("JPEG", "BMP")[kind]),
    "dimensions": lambda image, kind: encoded(image.resize(((120, 90), (118, 92))[kind])),
    "quality": lambda image, kind: encoded(image, quality=(75, 90)[kind]),
    "mode": lambda image, kind: encoded(image.convert(("RGB", "L")[kind])),
    "camera": lambda image, kind: of_camera(image, ("Nikon", "Canon")[kind]),
    "border": lambda image, kind: encoded(ImageOps.expand(image, 2, "white") if kind else image.resize((124, 94))),
    "brightness": lambda image, kind: encoded(image.point(lambda value: value * (4 - kind) // 4)),
}


def write(folder: Path, way: Callable[[Image.Image, int], bytes], count: int = 30) -> Manifest:
    for kind, name in enumerate("ab"):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / str(number)).with_suffix(".jpg").write_bytes(way(blobs(2 * number + kind), kind))
    return check(folder, Recipe())


@pytest.mark.parametrize("name", WAYS)
def test_a_property_that_tells_the_classes_is_found(name: str, tmp_path: Path) -> None:
    found = write(tmp_path / "d", WAYS[name]).shortcuts
    assert found
    assert found[0].name == name
    assert found[0].strong
    assert found[0].accuracy > 0.9
    assert found[0].low < found[0].accuracy <= found[0].high
    assert found[0].chance == 0.5


def test_nothing_is_found_where_nothing_tells_the_classes(tmp_path: Path) -> None:
    manifest = write(tmp_path / "d", lambda image, _: encoded(image))
    assert manifest.shortcuts == ()
    path = tmp_path / "manifest.jsonl"
    manifest.write(path)
    assert Manifest.read(path) == manifest


def test_false_alarms_are_rare() -> None:
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(100):
        entries = [
            Entry(f"{index}.jpg", str(rng.integers(3)), "kept", sha256=f"{rng.integers(1 << 60):x}", width=9, height=9)
            for index in range(150)
        ]
        levels = rng.integers(0, 200, (150, 1, 1, 1)) + rng.integers(0, 50, (150, 32, 32, 3))
        alarms += bool(find_shortcuts(entries, levels.astype(np.uint8).__getitem__))
    assert alarms <= 12


def test_photos_of_one_group_do_not_vouch_for_each_other() -> None:
    # 12 senders, each of one class and with a camera of its own: the camera says nothing about another sender.
    entries = [
        Entry(f"{sender}-{n}.jpg", "ab"[sender % 2], "kept", sha256=f"{sender}-{n}", width=9, height=9,
              group=f"sender {sender}", properties=Properties("JPEG", "RGB", 75, f"camera {sender}"))
        for sender in range(12) for n in range(20)
    ]  # fmt: skip
    thumbs = np.random.default_rng(0).integers(0, 256, (240, 32, 32, 3), dtype=np.uint8)
    assert find_shortcuts(entries, thumbs.__getitem__) == ()


@pytest.mark.parametrize("quality", [1, 10, 50, 75, 90, 95, 100])
def test_quality_of_a_jpeg(quality: int) -> None:
    assert abs(read_properties(encoded(blobs(1), quality=quality)).quality - quality) <= 1


def test_properties_of_files() -> None:
    assert read_properties(of_camera(blobs(1), "Canon")) == Properties("JPEG", "RGB", 75, "Canon X 100")
    assert read_properties(encoded(blobs(1).convert("CMYK")))[:2] == ("JPEG", "CMYK")
    assert read_properties(encoded(blobs(1), progressive=True))[:3] == ("JPEG", "RGB", 75)
    assert read_properties(encoded(blobs(1).convert("P"), "PNG")) == Properties("PNG", "P")
    assert read_properties(encoded(blobs(1), "WEBP"))[:2] == ("WEBP", "RGB")
    whole = of_camera(blobs(1), "Canon")
    for end in range(0, 700, 7):  # damaged in any way: no error
        read_properties(whole[:end])
        read_properties(whole[:end] + bytes([255]) * 40 + whole[end + 40 :])


def test_a_weak_shortcut_is_told_apart() -> None:
    assert not Shortcut("brightness", 0.53, 0.51, 0.55, 0.5).strong
    assert Shortcut("brightness", 0.6, 0.56, 0.64, 0.5).strong
    assert Shortcut("format", 0.3, 0.2, 0.4, 0.1).strong


@pytest.mark.parametrize(("accuracy", "advice"), [(0.3, "photographed alike"), (0.9, "in the same way")])
def test_it_is_told_in_plain_words_and_one_bracket(accuracy: float, advice: str) -> None:
    found = [Shortcut(name, accuracy, accuracy - 0.02, accuracy + 0.02, 0.25) for name in ("border", "camera")]
    text = str(telling_properties(found))
    assert "border, camera (EXIF) (with border alone" in text
    assert advice in text
    assert text.count(". ") == 1
    assert text.count(" %") == 5  # of 95 %, too
