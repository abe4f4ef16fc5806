"""Accuracy by slices against counting, and the properties that slices are made by."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.ndimage import laplace

from pati.evaluation import slices
from pati.evaluation.intervals import unpaired_interval, wilson
from tests.support.photos import draw

PHOTOS = np.stack([np.asarray(draw("circle", number, 64)) for number in range(3)])


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=200), st.integers(2, 5))
def test_parts_equal_counting(answers: list[tuple[int, bool]], count: int) -> None:
    values = np.array([float(value) for value, _ in answers])
    right = np.array([hit for _, hit in answers], bool)
    rows = slices.parts(values, right, count)
    if not rows:
        assert len(set(values.tolist())) < 2
        return
    assert 2 <= len(rows) <= count
    assert sum(row["photos"] for row in rows) == len(values)
    for row, following in itertools.pairwise(rows):
        assert row["high"] < following["low"]
    for row in rows:
        inside = (values >= row["low"]) & (values <= row["high"])
        assert row["photos"] == inside.sum()
        assert row["accuracy"] == right[inside].mean()
        assert row["interval"] == list(wilson(int(right[inside].sum()), int(inside.sum())))
        assert row["few"] == (inside.sum() < slices.FEW)
        assert row["difference"] == pytest.approx(right[inside].mean() - right[~inside].mean())
        counts = right[inside].sum(), inside.sum(), right[~inside].sum(), (~inside).sum()
        assert row["difference_interval"] == list(unpaired_interval(*map(int, counts)))


def test_parts_are_of_equal_count_where_values_differ() -> None:
    rows = slices.parts(np.random.default_rng(0).permutation(403) / 403, np.ones(403, bool))
    assert sorted(row["photos"] for row in rows) == [100, 101, 101, 101]


def test_one_value_for_all_is_no_slice() -> None:
    assert slices.parts(np.full(50, 180.0), np.ones(50, bool)) == []
    assert slices.parts(np.empty(0), np.empty(0, bool)) == []


def test_a_rare_value_is_a_part_of_its_own() -> None:
    values = np.array([100.0] * 90 + [50.0] * 10)
    right = np.array([True] * 90 + [False] * 10)
    assert [(row["high"], row["photos"], row["accuracy"], row["few"]) for row in slices.parts(values, right)] == [
        (50.0, 10, 0.0, True),
        (100.0, 90, 1.0, False),
    ]


def test_brightness_and_sharpness() -> None:
    greys = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (0, 51, 255)])
    np.testing.assert_allclose(slices.brightness(greys), [0, 0.2, 1])
    np.testing.assert_allclose(slices.sharpness(greys), 0, atol=1e-12)
    for photo in PHOTOS:
        grey = photo @ np.array([0.299, 0.587, 0.114]) / 255
        expected = laplace(grey)[1:-1, 1:-1].std()
        np.testing.assert_allclose(slices.sharpness(photo[None]), [expected])
    blurred = np.stack([np.asarray(Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2))) for photo in PHOTOS])
    assert (slices.sharpness(blurred) < 0.5 * slices.sharpness(PHOTOS)).all()
