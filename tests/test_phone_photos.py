"""Photos of phones and cameras show the same pixels by every way into pati, and get the same answers."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray
from PIL import Image

import pati
from pati.data import decode, pack
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.inference.classifier import Classifier
from pati.recipe import Recipe
from pati.workflows.check import check
from tests.support.commands import pati as run
from tests.support.phone import P3, PHOTOS, Photo, encoded, heic, oriented, picture
from tests.support.photos import write_shapes

LOADED_TOO_EARLY = ("avif-p3-by-numbers", "png-p3-by-numbers")  # a loaded Pillow image has no such numbers any more


@pytest.fixture(scope="module")
def photos_of_phones() -> dict[str, Photo]:
    return {name: make() for name, make in PHOTOS.items()}


def opened(data: bytes) -> Image.Image:
    if decode.formats.heif_kind(data) == "HEIC":
        return pillow_heif.open_heif(data).to_pillow()
    return Image.open(io.BytesIO(data))


def close(found: NDArray[np.uint8], photo: Photo) -> None:
    assert found.shape == photo.shown.shape
    assert np.abs(found.astype(int) - photo.shown).max() <= photo.tolerance


@pytest.mark.parametrize("name", PHOTOS)
def test_pixels_are_those_that_the_photo_shows(name: str, photos_of_phones: dict[str, Photo], tmp_path: Path) -> None:
    photo, preprocess = photos_of_phones[name], Preprocess(size=32)
    found = decode.decode(photo.data)
    assert found.flags == photo.flags
    close(found.pixels, photo)
    path = tmp_path / f"photo{photo.suffix}"
    path.write_bytes(photo.data)
    ways = [path, photo.data, found.pixels]
    if name != "avif-of-general-brand":  # which Pillow itself does not open
        ways.append(opened(photo.data))
        if name not in LOADED_TOO_EARLY:
            image = opened(photo.data)
            image.load()
            ways.append(image)
    for way in ways:
        np.testing.assert_array_equal(preprocess.photo(way), found.pixels)
    assert decode.header_size(photo.data) is not None
    assert decode.is_photo_name(path.name)
    assert decode.starts_like_photo(photo.data[:16])


@pytest.mark.slow
def test_answers_are_those_of_their_pixels_as_png(photos_of_phones: dict[str, Photo], tmp_path: Path) -> None:
    """By path, by the command, in an archive's check and pack, and as an upload, which is bytes."""
    classifier, data = pati.load(), tmp_path / "data"
    for name, photo in photos_of_phones.items():
        (data / "phone").mkdir(parents=True, exist_ok=True)
        (data / "png").mkdir(exist_ok=True)
        (data / "phone" / f"{name}{photo.suffix}").write_bytes(photo.data)
        # These pixels are the right ones, see above; rounded otherwise by a level, some answers change by over 1e-3.
        Image.fromarray(decode.decode(photo.data).pixels).save(data / "png" / f"{name}.png")
    wanted = {name: classifier.predict(data / "png" / f"{name}.png") for name in photos_of_phones}
    answers = json.loads(run("predict", data / "phone", "--format", "json").stdout)
    by_path = {Path(row["path"]).stem: row for row in answers}
    for name, photo in photos_of_phones.items():
        for probabilities in (by_path[name]["probabilities"], classifier.predict(photo.data).probabilities):
            assert probabilities == pytest.approx(wanted[name].probabilities, abs=1e-3)
        assert by_path[name]["prediction"] == wanted[name].label
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in data.rglob("*.*"):
            file.write(path, path.relative_to(data))
    for root in (data, archive):
        found = {entry.path: entry for entry in check(root, Recipe()).entries}
        source = find_source(root)
        _, packed, _ = pack.open_or_build(source, classifier.preprocess)
        for name, photo in photos_of_phones.items():
            entry = found[f"phone/{name}{photo.suffix}"]
            assert entry.kept, (name, entry.reason, entry.detail)
            assert set(photo.flags) <= set(entry.flags)
            pixels = packed.pixels[packed.rows[entry.sha256]]
            np.testing.assert_array_equal(pixels, classifier.preprocess(photo.data))


def test_models_from_before_take_colours_as_they_are_stored(tmp_path: Path, trained: Path) -> None:
    old = Preprocess(size=32, colour="stored")
    document = old.to_json()
    assert Preprocess.from_json(document) == old
    del document["colour"]
    assert Preprocess.from_json(document) == old
    data = encoded(picture(), "JPEG", quality=95, icc_profile=P3, exif=oriented(6))
    stored = np.rot90(np.asarray(Image.open(io.BytesIO(data))), -1)
    for way in (data, Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(old.photo(way), stored)
        assert (Preprocess(size=32).photo(way) != stored).any()
    folder = write_shapes(tmp_path / "d", per_class=1)
    (folder / "circle" / "p3.jpg").write_bytes(data)
    source = find_source(folder)
    rows = [pack.open_or_build(source, which)[1].pixels[:] for which in (old, Preprocess(size=32))]
    assert (rows[0] != rows[1]).any()
    assert Classifier.load(trained).preprocess.colour == pati.load().preprocess.colour == "srgb"


@pytest.mark.parametrize("make", [heic, lambda image: encoded(image, "AVIF", quality=90)], ids=["heic", "avif"])
def test_damaged_files_of_the_new_formats_get_a_reason(make: object) -> None:
    data = make(picture())
    reasons = {}
    for length in range(1, len(data), 29):
        with pytest.raises(decode.Unreadable) as caught:
            decode.decode(data[:length])
        reasons[length] = caught.value.reason
    assert set(reasons.values()) <= {"truncated", "damaged", "unsupported"}
    assert {reason for length, reason in reasons.items() if length > 500} == {"truncated"}
    with pytest.raises(decode.Unreadable, match="too-large"):
        decode.decode(data, decode.Limits(pixels=96 * 72 - 1))
    with pytest.raises(decode.Unreadable, match="no still picture"):
        decode.decode(data[:28] + bytes(500))
    rng = np.random.default_rng(0)
    for _ in range(100):
        noisy = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            noisy[at] = rng.integers(256)
        try:
            assert decode.decode(bytes(noisy)).pixels.ndim == 3
        except decode.Unreadable as error:
            assert error.reason in decode.REASONS  # noqa: PT017


def test_broken_metadata_costs_neither_the_photo_nor_the_process() -> None:
    data = heic(picture(), exif=oriented(6).tobytes())
    at = data.index(b"Exif")
    broken = decode.decode(data[:at] + b"E\x80if" + data[at + 4 :])
    np.testing.assert_array_equal(broken.pixels, decode.decode(data).pixels)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\x0a" + bytes(50), "JPEG XL"),
        (bytes(128) + b"DICM" + bytes(50), "DICOM"),
        (b"II*\0\x10\0\0\0CR\x02\0" + bytes(100), "RAW"),
        (b"FUJIFILMCCD-RAW " + bytes(100), "RAW"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(100), "RAW"),
        (b"\0\0\0\x18ftypisom\0\0\0\1isommp42" + bytes(100), "video"),
        (b"  <?xml version='1.0'?><svg></svg>", "SVG"),
        (encoded(picture(), "JPEG").replace(b"\xff\xc0", b"\xff\xc3", 1), "lossless"),
    ],
)
def test_other_formats_are_named(data: bytes, name: str) -> None:
    with pytest.raises(decode.Unreadable, match=name) as caught:
        decode.decode(data)
    assert caught.value.reason == "unsupported"


def test_hdr_pictures_keep_their_greys_and_are_flagged() -> None:
    """Paper white of PQ (203 cd/m², level 0.58) is white, and what is brighter too."""
    levels = np.repeat(np.array([0, 60, 100, 148, 200, 255], np.uint8), 16)
    image = Image.fromarray(np.repeat(np.tile(levels, (16, 1))[..., None], 3, 2))
    data = encoded(image, "AVIF", quality=100, subsampling="4:4:4")
    at = data.index(b"colrnclx") + 8
    found = decode.decode(data[:at] + b"\0\x09\0\x10" + data[at + 4 :])
    assert "hdr" in found.flags
    row = found.pixels[8, 8::16].astype(int)
    assert row[0, 0] <= 1
    assert (np.diff(row[:4, 0]) > 0).all()
    assert row[3:].min() >= 253
    assert np.abs(row - row[:, :1]).max() <= 2
