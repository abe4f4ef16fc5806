from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pati.data.preprocess import Preprocess, downscaled
from pati.errors import PatiError
from tests.support.photos import draw, jpeg


def test_same_pixels_from_path_bytes_pillow_and_array(tmp_path: Path) -> None:
    data = jpeg(draw("square", 3, 90).resize((90, 61)))
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    preprocess = Preprocess(size=32)
    expected = preprocess(path)
    assert expected.shape == (32, 32, 3)
    image = Image.open(io.BytesIO(data))
    for photo in (str(path), data, image, np.asarray(image.convert("RGB"))):
        np.testing.assert_array_equal(preprocess(photo), expected)


def test_resizing_modes() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (Preprocess(size=10, resize="crop").fit(wide) == 255).mean() > 0.75
    stretched = Preprocess(size=30).fit(wide)
    assert stretched[:, 15].min() == 255
    assert stretched[:, 2].max() == 0
    padded = Preprocess(size=30, resize="pad").fit(wide)
    assert (padded[0] == 128).all()
    assert padded[15, 15, 0] == 255


def test_shrinking_averages_all_pixels() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    pixels = Preprocess(size=8).fit(np.repeat(board[..., None].astype(np.uint8), 3, 2))
    assert np.abs(pixels.astype(int) - 127).max() <= 2


def test_normalise() -> None:
    preprocess = Preprocess(size=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    pixels = torch.randint(0, 256, (2, 4, 4, 3), dtype=torch.uint8)
    images = preprocess.normalise(pixels)
    expected = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.5, 0.25, 0.2]
    ).view(3, 1, 1)
    torch.testing.assert_close(images, expected)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_json_round_trip_and_refusals() -> None:
    preprocess = Preprocess(size=40, resize="pad", mean=(0.1, 0.2, 0.3))
    assert Preprocess.from_json(preprocess.to_json()) == preprocess
    for broken in ({}, {"size": 0}, preprocess.to_json() | {"std": [0, 1, 1]}, preprocess.to_json() | {"resize": "x"}):
        with pytest.raises(PatiError):
            Preprocess.from_json(broken)


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8)])
def test_wrong_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(PatiError):
        Preprocess(size=8)(array)


def test_packed_photos_are_shrunk_as_photos_are_fitted() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    small = downscaled(torch.from_numpy(pixels), 40).numpy()
    fitted = np.stack([Preprocess(size=40).fit(photo) for photo in pixels])
    assert np.abs(small.astype(int) - fitted).max() <= 1  # rounding
    assert np.array_equal(downscaled(torch.from_numpy(pixels), 200).numpy(), pixels)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize(("width", "height"), [(100, 60), (60, 100), (7, 7), (33, 500)])
def test_what_the_square_covers_is_the_inverse_of_where_boxes_go(resize: str, width: int, height: int) -> None:
    preprocess = Preprocess(size=48, resize=resize)
    left, top, right, bottom = preprocess.covered(width, height)
    box = (left * width, top * height, right * width, bottom * height)
    assert preprocess.place(width, height, box) == pytest.approx((0, 0, 48, 48), abs=1e-9)
    sides = (right - left, bottom - top)
    assert {"stretch": min(sides) == max(sides) == 1, "crop": max(sides) <= 1, "pad": min(sides) >= 1}[resize]
