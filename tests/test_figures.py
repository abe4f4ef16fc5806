"""Figures of the reports: every number in the reader's own notation, every trial in sight."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pati.classifier import Explanation, Prediction
from pati.preprocess import Preprocess
from pati.report import figures
from pati.report.words import LANGUAGES, WORDS

EPOCHS = [
    {
        "epoch": number, "train_loss": 0.9 - 0.011 * number, "validation_loss": 0.95 - 0.012 * number,
        "train_accuracy": 0.9, "validation_accuracy": 0.91, "validation_macro_f1": 0.85, "learning_rate": 0.1 / number,
        "photos_per_second": 900.0,
    }
    for number in range(1, 9)
]  # fmt: skip


@pytest.mark.parametrize("language", LANGUAGES)
def test_ticks_have_the_languages_decimal_mark(language: str) -> None:
    texts = re.findall(r">([\d.,]+)</text>", figures.curves(EPOCHS, WORDS[language], by_class=False))
    mark, other = (".", ",") if language == "en" else (",", ".")
    assert any(mark in text for text in texts)
    assert not any(other in text for text in texts)


@pytest.mark.parametrize("language", LANGUAGES)
def test_macro_f1_is_drawn_where_classes_count_alike(language: str) -> None:
    words = WORDS[language]
    for by_class in (True, False):
        assert (words["macro_f1"] in figures.curves(EPOCHS, words, by_class=by_class)) == by_class


@pytest.mark.parametrize("values", [[0.9, 0.91, 0.92, 0.93, 0.2], [0.9, 0.91], [0.5]])
def test_every_trial_is_in_the_history(values: list[float]) -> None:
    """One that lies far below is no point within the axes, but a triangle at their bottom."""
    svg = figures.history(list(enumerate(values)), values[0], "accuracy", WORDS["en"])
    collections = re.findall(r'<g id="PathCollection_\d+">.*?</g>\s*</g>', svg, re.S)
    heights = [float(y) for collection in collections for y in re.findall(r'<use [^>]*y="([\d.]+)"', collection)]
    top, height = re.search(r'<clipPath id="\w+">\s*<rect [^>]*y="([\d.]+)"[^>]*height="([\d.]+)"', svg).groups()  # type: ignore[union-attr]
    assert len(heights) == len(values)
    assert all(float(top) <= y <= float(top) + float(height) for y in heights)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(60, 100), (100, 60)])
def test_a_map_lies_over_the_photo_as_the_net_saw_it(resize: str, shape: tuple[int, int]) -> None:
    """A map of what is white in the fitted square lies over what is white in the photo."""
    height, width = shape
    photo = np.zeros((height, width, 3), np.uint8)
    photo[40:50, 42:54] = 255
    preprocess = Preprocess(size=96, resize=resize)
    white = (preprocess.fit(photo)[:, :, 0] > 200).astype(np.float32)
    seen = Explanation(photo, white, "x", 1.0, Prediction("", "x", 1.0, {}), preprocess.covered(width, height))
    colours, within = figures.coloured(seen)
    high = colours[:, :, 0] > 150  # yellow, where viridis is highest
    where = np.argwhere(high & within)
    assert np.abs(where.min(0) - (40, 42)).max() <= 1
    assert np.abs(where.max(0) - (49, 53)).max() <= 1
    assert within.all() == (resize != "crop")
    if resize == "crop":
        assert within.sum() == 60 * 60
        assert len(np.unique(figures.blended(seen)[~within], axis=0)) == 1  # black photo: grey where nothing was seen
