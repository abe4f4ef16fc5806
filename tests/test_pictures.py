"""Pictures of explanations, which are drawn without matplotlib."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from pati.data.preprocess import Preprocess
from pati.explain.palette import palette
from pati.inference.predictor import Explanation, Prediction
from pati.locale import formats
from pati.locale.catalogues import languages
from pati.locale.formats import marked
from pati.locale.messages import N_
from pati.report import pictures

Box = tuple[float, float, float, float]
LONG = "Symphyotrichum novae-angliae (L.) G.L.Nesom var. a name that is very long"
CLASSES = {
    "two": {"Cat": 0.9962, "Dog": 0.0038},
    "long": {LONG: 0.6, "Kısa ğüşöçİ": 0.3, "A\nB": 0.1},
    "many": {f"class {number} of very many": 0.05 for number in range(20)},
    "one of three": {"a": 1.0, "b": 0.0, "c": 0.0},
}


def seen(
    width: int = 60, height: int = 40, *, resize: str = "stretch", classes: str = "two", even: bool = False
) -> Explanation:
    values = np.zeros((4, 4), np.float32) if even else np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    photo = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    probabilities = CLASSES[classes]
    label = next(iter(probabilities))
    covered = Preprocess(size=64, resize=resize).covered(width, height)
    return Explanation(photo, values, label, 1.0, Prediction("", label, probabilities[label], probabilities), covered)


@contextmanager
def told() -> Iterator[dict[str, list[Box]]]:
    """The texts that are drawn, and where they lie."""
    found: dict[str, list[Box]] = {}
    draw = ImageDraw.ImageDraw.text

    def text(self: ImageDraw.ImageDraw, place: tuple[float, float], words: str, fill: str, font: object, anchor: str):  # type: ignore[no-untyped-def]
        found.setdefault(words, []).append(self.textbbox(place, words, font, anchor))  # type: ignore[arg-type]
        draw(self, place, words, fill, font, anchor)  # type: ignore[arg-type]

    with mock.patch.object(ImageDraw.ImageDraw, "text", text):
        yield found


def test_the_palette_is_that_of_matplotlib() -> None:
    values = np.linspace(0, 1, 1001)
    expected = matplotlib.colormaps["viridis"](values, bytes=True)[:, :3]
    np.testing.assert_array_equal(palette(values), expected)
    np.testing.assert_array_equal(palette(values.astype(np.float32).reshape(7, 143)).reshape(-1, 3), expected)


@pytest.mark.parametrize("language", languages())
def test_an_explanation_is_in_the_language_asked_for(language: str) -> None:
    with told() as texts:
        pictures.explanation_page(seen(), language=language)
    heads = [N_("Photo"), N_("Evidence for {label}", label="Cat"), N_("Overlay"), N_("Probability")]
    assert {head.shown(language) for head in heads} <= texts.keys()
    assert {formats.percent(0.9962, language), formats.percent(0.0038, language)} <= texts.keys()
    assert {marked(number, language) for number in ("0.0", "0.2", "1.0")} <= texts.keys()  # of the map's scale
    with told() as texts:
        pictures.explanation_page(seen(even=True), language=language)
    assert N_("Evidence for {label} (uniform map)", label="Cat").shown(language) in texts


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(60, 40), (2000, 100), (90, 1500), (28, 28)])
@pytest.mark.parametrize("classes", CLASSES)
def test_nothing_of_an_explanation_lies_over_another_text_or_outside(
    classes: str, size: tuple[int, int], resize: str
) -> None:
    with told() as texts:
        data = pictures.explanation_page(seen(*size, resize=resize, classes=classes, even=True), language="tr")
    with Image.open(io.BytesIO(data)) as page:
        width, height = page.size
    boxes = list(itertools.chain(*texts.values()))
    assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height for box in boxes)
    for one, other in itertools.combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (texts, one, other)
    assert width <= 1750


def test_of_many_classes_the_most_likely_are_shown() -> None:
    probabilities = {str(number): number / 45 for number in range(10)}
    explanation = seen()
    answer = Prediction("", "9", 0.2, probabilities)
    with told() as texts:
        shown = Explanation(explanation.photo, explanation.map, "9", 1.0, answer, explanation.covered)
        pictures.explanation_page(shown, language="en", limit=3)
    assert {"9", "8", "7"} <= texts.keys()
    assert "6" not in texts


def test_small_photos_are_shown_pixel_by_pixel() -> None:
    photo = seen(2, 2).photo
    large = pictures.within(photo, 40, 40, smooth=False)
    np.testing.assert_array_equal(large, photo.repeat(20, 0).repeat(20, 1))
    assert pictures.within(photo, 40, 20).shape == (20, 20, 3)
    assert pictures.within(seen(400, 4).photo, 40, 20).shape == (1, 40, 3)  # not thinner than a pixel
