"""Figures of the reports: every number in the reader's own notation, every trial in sight."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pati.data.preprocess import Preprocess
from pati.inference.predictor import Explanation, Prediction
from pati.locale import formats
from pati.locale.catalogues import languages
from pati.locale.formats import marked
from pati.locale.messages import N_
from pati.report import figures, pictures
from pati.report.labels import CORRUPTIONS
from pati.runs.history import Epoch
from tests.support.browser import contrast

EPOCHS = [
    Epoch(
        epoch=number, step=10 * number, progress=number / 8, size=64, train_loss=0.9 - 0.011 * number,
        validation_loss=0.95 - 0.012 * number, train_accuracy=0.9, validation_accuracy=0.91, validation_macro_f1=0.85,
        learning_rate=0.1 / number, photos_per_second=900.0, seconds=10.0 * number, left=80.0 - 10 * number,
    )
    for number in range(1, 9)
]  # fmt: skip


def calibrated() -> Any:
    bins = [
        {"photos": 40, "confidence": share, "accuracy": share - 0.003, "interval": [share - 0.005, share + 0.001]}
        for share in (0.992, 0.995, 0.998)
    ]
    part = {"bins": bins}
    return {
        "before": part, "after": part, "coverages": [0.25, 0.5, 0.75, 1.0], "accuracies": [1.0, 0.996, 0.991, 0.987],
        "coverage": 0.5, "answered_accuracy": 0.996,
    }  # fmt: skip


def corrupted() -> Any:
    rows = [{"accuracy": share, "interval": [share - 0.012, share + 0.012]} for share in (0.985, 0.981, 0.974)]
    return {"undamaged": {"accuracy": 0.99, "interval": [0.98, 1.0]}, "kinds": dict.fromkeys(CORRUPTIONS, rows)}


def every_figure(language: str) -> dict[str, str]:
    """Each SVG that a page holds, drawn of numbers that are not whole."""
    trials = [(number, 0.91 + 0.011 * number) for number in range(4)]
    return {
        "curves": figures.curves(EPOCHS, language, by_class=True),
        "confusion": figures.confusion([[2, 1], [0, 3]], ["a", "b"], language, shares=True),
        "reliability": figures.reliability(calibrated(), language),
        "risk_coverage": figures.risk_coverage(calibrated(), language),
        "roc": figures.roc_and_precision([curve("a", 0.912, 0.874)], language),
        "robustness": figures.robustness(corrupted(), language),
        "history": figures.history(trials, 0.915, "macro_f1", language),
        "importance": figures.importance({"width": 0.7, "dropout": 0.3}, language),
    }


def numbers(svg: str) -> list[str]:
    """The numbers in a figure's texts, as they are written."""
    return [number for text in re.findall(r">([^<>]*)</text>", svg) for number in re.findall(r"\d[\d.,]*", text)]


@pytest.mark.parametrize("language", languages())
def test_numbers_of_every_figure_have_the_languages_decimal_mark(language: str) -> None:
    """They are the same in every language but for it."""
    mark = marked(".", language)
    for name, svg in every_figure(language).items():
        found = numbers(svg)
        assert any(mark in number for number in found) or name == "importance", name
        assert [number.replace(mark, ".") for number in found] == numbers(every_figure("en")[name]), name


def test_turkish_figures_have_decimal_commas_and_turkish_words() -> None:
    drawn = every_figure("tr")
    assert not any("." in number for svg in drawn.values() for number in numbers(svg))
    assert ">66,7</text>" in drawn["confusion"]
    assert ">a 0,912</text>" in drawn["roc"]
    assert ">%70</text>" in drawn["importance"]
    assert ">Gerçek sınıf</text>" in drawn["confusion"]
    assert all(label.shown("tr") in drawn["robustness"] for label in CORRUPTIONS.values())


@pytest.mark.parametrize("language", languages())
def test_macro_f1_is_drawn_where_classes_count_alike(language: str) -> None:
    for by_class in (True, False):
        svg = figures.curves(EPOCHS, language, by_class=by_class)
        assert (N_("Macro F1").shown(language) in svg) == by_class


def test_a_single_epoch_is_a_whole_number() -> None:
    svg = figures.curves(EPOCHS[:1], "en", by_class=False)
    axis = re.search(r'<g id="matplotlib.axis_1">(.*?)<g id="matplotlib.axis_2">', svg, re.S)
    assert axis
    assert re.findall(r">([^<>]*)</text>", axis[1]) == ["1", "Epoch"]


@pytest.mark.parametrize("values", [[0.9, 0.91, 0.92, 0.93, 0.2], [0.9, 0.91], [0.5]])
def test_every_trial_is_in_the_history(values: list[float]) -> None:
    """One that lies far below is no point within the axes, but a triangle at their bottom."""
    svg = figures.history(list(enumerate(values)), values[0], "accuracy", "en")
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
    values, within = pictures.stretched(seen)
    where = np.argwhere((values > 0.8) & within)
    assert np.abs(where.min(0) - (40, 42)).max() <= 1
    assert np.abs(where.max(0) - (49, 53)).max() <= 1
    assert within.all() == (resize != "crop")
    if resize == "crop":
        assert within.sum() == 60 * 60
        assert len(np.unique(pictures.blended(seen)[~within], axis=0)) == 1  # black photo: grey where nothing was seen


def test_a_map_is_as_opaque_as_it_is_high() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    map_ = np.zeros((40, 40), np.float32)
    map_[:, 20:] = np.linspace(0, 1, 20)
    seen = Explanation(photo, map_, "x", 1.0, Prediction("", "x", 1.0, {}), (0.0, 0.0, 1.0, 1.0))
    mixed = pictures.blended(seen, 1.0)
    np.testing.assert_array_equal(mixed[:, :20], photo[:, :20])  # no tint where the map is zero
    assert len(np.unique(mixed[:, -1], axis=0)) == 1  # the palette alone where it is highest
    np.testing.assert_array_equal(pictures.blended(seen, 0.0), photo)
    np.testing.assert_array_equal(pictures.triptych(seen)[:, 80:], pictures.blended(seen))


def curve(name: str, roc_area: float, average_precision: float) -> dict[str, Any]:
    return {
        "class": name, "roc_area": roc_area, "average_precision": average_precision,
        "false_rate": [0.0, 0.1, 1.0], "recall": [0.0, roc_area, 1.0], "precision": [1.0, average_precision, 0.1],
    }  # fmt: skip


def texts(svg: str) -> dict[str, str]:
    """Text of a figure -> its colour."""
    return {text: style for style, text in re.findall(r'<text style="[^"]*fill: (#\w+)[^"]*"[^>]*>([^<]*)<', svg)}


def test_a_class_has_one_colour_and_its_name_beside_its_lines() -> None:
    """The worst by average precision, in whatever order their areas are."""
    rows = [curve("ant", 0.9, 0.3), curve("bee", 0.8, 0.5), curve("cat", 0.7, 0.4), curve("dog", 0.6, 0.9)]
    svg = figures.roc_and_precision(rows, "en")
    found = texts(svg)
    colours = {name: {found[f"{name} {row[area]:.3f}"] for area in ("roc_area", "average_precision")}
               for row in rows[:3] for name in [row["class"]]}  # fmt: skip
    assert all(len(own) == 1 for own in colours.values())
    assert set.union(*colours.values()) == {figures.BLUE, figures.ORANGE, figures.GREEN}
    assert not any(text.startswith("dog") for text in found)
    for (own,) in colours.values():
        assert len(re.findall(rf'<path d="[^"]*"[^>]*stroke: {own};', svg)) == 2


def test_names_of_lines_that_meet_keep_apart() -> None:
    rows = [curve(name, 1.0, 1.0) for name in "abc"]
    svg = figures.roc_and_precision(rows, "en")
    heights = sorted(float(y) for y in re.findall(r'<text style="[^"]*"[^>]* y="([\d.]+)"[^>]*>[abc] 1', svg))
    assert len(heights) == 6
    assert min(one - other for one, other in zip(heights[1:3], heights[:2], strict=True)) > 9


def test_both_ends_of_every_curve_are_named() -> None:
    """Also where the validation photos' line ends at the top of the panel."""
    svg = figures.curves(EPOCHS, "en", by_class=True)
    found = re.findall(r">(training|validation|Macro F1)</text>", svg)
    assert sorted(found) == ["Macro F1", "training", "training", "validation", "validation"]


def test_text_can_be_read_on_every_share() -> None:
    for share in np.linspace(0, 1, 501):
        cell = matplotlib.colormaps["Blues"](share)
        assert contrast(figures.ink_on(cell), matplotlib.colors.to_hex(cell)) >= 4.5


def test_every_colour_of_text_can_be_read_in_both_themes() -> None:
    for light, dark in figures.DARK.items():
        assert contrast(light, "#ffffff") >= 4.5
        assert contrast(dark, "#17181a") >= 4.5


@pytest.mark.parametrize("count", [2, 5, 17])
def test_long_names_are_shortened_but_told_apart(count: int) -> None:
    names = [f"a rather long name of a class, which ends in {number}" for number in range(count)]
    svg = figures.confusion((3 * np.eye(count, dtype=int)).tolist(), names, "en")
    found = set(re.findall(r">(a rather[^<]*)</text>", svg))
    assert len(found) == count
    assert max(map(len, found)) <= 24
    assert ("rotate(-45" in svg) == (count > 1)


def test_letters_that_matplotlib_lacks_are_text_without_a_warning() -> None:
    names = ["猫", "犬", "🦊"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.confusion([[1, 2, 0], [0, 3, 0], [0, 0, 4]], names, "en")
        figures.tiles([(names[0], "")], [[[np.zeros((4, 4, 3), np.uint8)]]], names[:1], language="en")
    assert all(f">{name}</text>" in svg for name in names)


def seen(label: str = "cat", *, even: bool = False) -> Explanation:
    shape = (4, 4)
    values = np.zeros(shape, np.float32) if even else np.linspace(0, 1, 16, dtype=np.float32).reshape(shape)
    photo = np.full((40, 60, 3), 90, np.uint8)
    probabilities = {"cat": 0.875, "dog": 0.125}
    return Explanation(photo, values, label, 1.0, Prediction("", "cat", 0.875, probabilities), (0, 0, 1, 1))


def told(monkeypatch: pytest.MonkeyPatch, draw: Callable[[], object]) -> set[str]:
    """The texts of a figure that becomes a PNG."""
    found: set[str] = set()

    def png(figure: Figure, *, compression: int = 6) -> bytes:
        figure.draw_without_rendering()
        found.update(text.get_text() for text in figure.findobj(Text))
        return b""

    monkeypatch.setattr(figures, "_png", png)
    draw()
    return found


@pytest.mark.parametrize("language", languages())
def test_pngs_are_in_the_language_asked_for(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [seen(), seen(even=True), seen()]
    sheet = told(monkeypatch, lambda: figures.sheet(photos, ["cat", "cat", "dog"], language=language))
    confidence = formats.percent(0.875, language, 0)
    uniform = N_("{prediction} (uniform map)", prediction=f"cat {confidence}").shown(language)
    assert {f"cat {confidence}", uniform, f"cat {confidence} ≠ dog"} <= sheet
    assert N_("maximum of the map").shown(language) in sheet

    rates, losses = [0.0015, 0.015, 0.15], [2.5, 1.5, 2.0]
    found = told(monkeypatch, lambda: figures.learning_rates(rates, losses, losses, 0.015, language=language))
    assert N_("suggested: {rate:g}", rate=0.015).shown(language) in found
    assert marked("0.1", language) in found

    heads = ["1/2", N_("strongest")]
    tile = np.zeros((4, 4, 3), np.uint8)
    found = told(
        monkeypatch, lambda: figures.tiles([("a", N_("original"))], [[[tile, tile]]], heads, language=language)
    )
    assert {"a", "1/2", N_("strongest").shown(language), N_("original").shown(language)} <= found
