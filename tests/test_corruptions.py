"""Damage: of the kind and as strong as it says."""

from __future__ import annotations

import numpy as np
import pytest

from pati.evaluation.corruptions import CORRUPTIONS, corrupted
from tests.support.photos import draw

PHOTOS = np.stack([np.asarray(draw(shape, number, 64)) for shape in ("circle", "square") for number in range(4)])


def far(kind: str, level: int) -> float:
    """Root mean square distance to the undamaged photos, in levels."""
    return float(np.sqrt(((corrupted(PHOTOS, kind, level).astype(float) - PHOTOS) ** 2).mean()))


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_stronger_is_further_and_drawn_the_same_again(kind: str) -> None:
    distances = [far(kind, level) for level in range(3)]
    assert 0.5 < distances[0] < distances[1] < distances[2]
    made = corrupted(PHOTOS, kind, 2)
    assert made.dtype == np.uint8
    assert made.shape == PHOTOS.shape
    np.testing.assert_array_equal(made, corrupted(PHOTOS, kind, 2))
    np.testing.assert_array_equal(made[:3], corrupted(PHOTOS[:3], kind, 2))  # not how many others there are


def test_occlusion_covers_its_share() -> None:
    for level, share in enumerate(CORRUPTIONS["occlusion"][1]):
        grey = (corrupted(np.zeros_like(PHOTOS), "occlusion", level) == 128).all(3)
        assert grey.mean((1, 2)) == pytest.approx(share, abs=0.02)


def test_rotation_leaves_no_black_corner_and_turns_by_the_angle() -> None:
    bright = np.full((2, 40, 40, 3), 200, np.uint8)
    assert (corrupted(bright, "rotation", 2) == 200).all()
    across = np.zeros((6, 41, 41, 3), np.uint8)
    across[:, 20] = 255  # a line through the middle
    for level, degrees in enumerate(CORRUPTIONS["rotation"][1]):
        for turned in corrupted(across, "rotation", level)[..., 0].astype(float):
            middle = turned[11:30, 11:30]  # where no reflection comes in
            down, along = np.nonzero(middle > 100)
            slope = np.polyfit(along - 9, down - 9, 1)[0] if degrees < 45 else 0
            assert abs(np.degrees(np.arctan(slope))) == pytest.approx(degrees, abs=2)


def test_noise_and_contrast_have_the_strength_they_say() -> None:
    grey = np.full((4, 64, 64, 3), 128, np.uint8)
    for level, share in enumerate(CORRUPTIONS["noise"][1][:2]):
        assert corrupted(grey, "noise", level).astype(float).std() / 255 == pytest.approx(share, rel=0.03)
    for level, lost in enumerate(CORRUPTIONS["contrast"][1]):
        for before, after in zip(PHOTOS, corrupted(PHOTOS, "contrast", level), strict=True):
            assert after.astype(float).std() / before.astype(float).std() == pytest.approx(1 - lost, abs=0.1)


def test_brightness_goes_both_ways() -> None:
    grey = np.full((40, 8, 8, 3), 100, np.uint8)
    assert set(corrupted(grey, "brightness", 0)[:, 0, 0, 0].tolist()) == {71, 140}
