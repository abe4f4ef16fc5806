"""Figures from numbers, with matplotlib: SVG with text as text, or PNG for photos. `pictures` needs no matplotlib."""

from __future__ import annotations

import contextlib
import io
import math
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from numpy.typing import NDArray

from pati.evaluation.documents import CalibrationResult, ClassCurve, LearningCurveDocument, Robustness, RunRow
from pati.explain.palette import palette
from pati.inference.predictor import Explanation
from pati.locale import formats
from pati.locale.messages import N_, NP_, Message, as_is
from pati.report.labels import CORRUPTIONS, SCORES
from pati.report.pictures import BLUE, shortened, small, triptych, within
from pati.runs.history import Epoch

Tile = NDArray[np.uint8] | None  # (H, W, 3)

# Okabe and Ito's colour-blind-safe blue, vermilion and green, as dark as text on white has to be, and a grey.
ORANGE, GREEN, GREY = "#b84500", "#00775a", "#5f6368"
# What takes their place on a dark page: no colour is readable on both.
DARK = {BLUE: "#56b4e9", ORANGE: "#f0915a", GREEN: "#3cc79b", GREY: "#a5aab0"}
DARK_STYLE = "@media (prefers-color-scheme: dark) {{ {} }}".format(
    " ".join(
        f'svg [style*="{part}: {light}"] {{ {part}: {dark} !important; }}'
        for light, dark in DARK.items()
        for part in ("fill", "stroke")
    )
)
MOST_CLASSES, CONDENSED = 100, 40  # in a confusion matrix; and how many of more classes it shows
BESIDE = 1.05  # times the photos: points of a shorter training lie beside the others
SMALLEST_TILE = 64  # pixels: smaller ones are enlarged by whole numbers
_STYLE = matplotlib.RcParams(
    {
        "svg.fonttype": "none",
        "text.parse_math": False,  # a class may be called $5
        "svg.hashsalt": "pati",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": GREY,
        "axes.labelcolor": GREY,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
    }
)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    margin = 0.1 + _unmeasured(figure)
    with _any_letters():
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}, bbox_inches="tight", pad_inches=margin
        )
    text = buffer.getvalue()
    return text[text.index("<svg") :]


@contextlib.contextmanager
def _any_letters() -> Iterator[None]:
    """Without a warning for each letter that matplotlib's font lacks: in SVG text stays text, and the reader's browser
    has them; in PNG there are boxes in their place, which everybody sees."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from font")
        yield


def _unmeasured(figure: Figure) -> float:
    """Inches by which text may be wider than measured: matplotlib takes 0.6 em for a letter that its font lacks,
    Chinese ones and emoji have 1."""
    texts = [text.get_text() for text in figure.findobj(Text)]
    wide = max(sum(unicodedata.east_asian_width(letter) in "WF" for letter in text) for text in texts)
    return 0.4 * wide * float(matplotlib.rcParams["font.size"]) / 72


class _Decimals(ScalarFormatter):
    """Ticks with the language's decimal mark."""

    def __init__(self, language: str) -> None:
        super().__init__(useOffset=False)
        self._language = language

    def __call__(self, value: float, position: int | None = None) -> str:
        return formats.marked(str(super().__call__(value, position)), self._language)


def curves(epochs: Sequence[Epoch], language: str, *, by_class: bool) -> str:
    """Loss, accuracy, learning rate and speed over the epochs as one SVG; `by_class`: with the macro F1 on validation
    photos."""
    at = [epoch.epoch for epoch in epochs]
    validated = any(epoch.validated for epoch in epochs)
    parts = [("train", N_("training"), BLUE), *([("validation", N_("validation"), ORANGE)] if validated else [])]
    macro = [("validation_macro_f1", N_("Macro F1"), GREEN)] if by_class and validated else []
    panels: list[tuple[Message, float, list[tuple[str, Message, str]]]] = [
        (N_("Loss"), 1, [(f"{part}_loss", name, colour) for part, name, colour in parts]),
        (
            N_("Accuracy (%)"),
            100,
            [*((f"{part}_accuracy", name, colour) for part, name, colour in parts), *macro],
        ),
        (N_("Learning rate"), 1, [("learning_rate", as_is(""), BLUE)]),
        (N_("Photos/s"), 1, [("photos_per_second", as_is(""), BLUE)]),
    ]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 5.4))
        figure.subplots_adjust(wspace=0.55, hspace=0.5)
        for place, (title, scale, lines) in enumerate(panels, start=1):
            axes = figure.add_subplot(2, 2, place)
            for key, _, colour in lines:
                values = [scale * getattr(epoch, key) for epoch in epochs]
                axes.plot(at, values, color=colour, marker="o", markersize=3)
            if epochs and len(lines) > 1:
                last = epochs[-1]
                ends = [(scale * getattr(last, key), name.shown(language), colour) for key, name, colour in lines]
                _name_ends(axes, at[-1], ends)
            axes.set_xlabel(N_("Epoch").shown(language))
            axes.set_title(title.shown(language), loc="left", fontsize=10)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            axes.yaxis.set_major_formatter(_Decimals(language))
            axes.margins(x=0.05)
            if epochs and len(lines) == 1:
                axes.set_ylim(0, 1.05 * max(getattr(epoch, lines[0][0]) for epoch in epochs) or 1)
        return _svg(figure)


def _name_ends(axes: Axes, x: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right ends of lines, `(y, name, colour)`: apart where lines meet, in their order, below the top."""
    low, high = axes.get_ylim()
    height = 1.15 * matplotlib.rcParams["font.size"] * axes.figure.dpi / 72 / axes.bbox.height * (high - low)
    ends = sorted(ends, key=lambda end: end[0])
    places: list[float] = []
    for y, _, _ in ends:
        places.append(max(y, places[-1] + height) if places else y)
    for number in reversed(range(len(places))):
        places[number] = min(places[number], high - (len(places) - 1 - number) * height)
    for (_, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            name, (x, place), (6, 0), textcoords="offset points", color=colour, va="center", annotation_clip=False
        )


def learning_rates(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float, *, language: str
) -> bytes:
    """PNG of a learning-rate range test: the loss over the rate, its smoothed curve and the suggested rate."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        axes = figure.add_subplot()
        each, smooth = N_("loss per step").shown(language), N_("smoothed loss").shown(language)
        axes.plot(rates, losses, color=GREY, alpha=0.4, linewidth=1, label=each)
        axes.plot(rates, smoothed, color=BLUE, linewidth=2, label=smooth)
        label = N_("suggested: {rate:g}", rate=suggestion).shown(language)
        axes.axvline(suggestion, color=ORANGE, linestyle="--", label=label)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, position: formats.marked(f"{value:g}", language))
        axes.yaxis.set_major_formatter(_Decimals(language))
        margin = 0.2 * (max(smoothed) - min(smoothed))  # the steps of a net that diverges would leave the curve no room
        axes.set_ylim(min(losses) - margin, max(smoothed) + margin)
        axes.set_xlabel(N_("Learning rate").shown(language))
        axes.set_ylabel(N_("Training loss").shown(language))
        axes.legend(frameon=False)
        return _png(figure)


def condensed(
    counts: Sequence[Sequence[int]], classes: Sequence[str]
) -> tuple[NDArray[np.int64], list[str | Message], int]:
    """A confusion matrix with at most `MOST_CLASSES` classes, their names, and how many of them are combined into one.

    Of more, those with the most confusions remain; the last row and column stand for the others.
    """
    matrix = np.array(counts)
    if len(classes) <= MOST_CLASSES:
        return matrix, list(classes), 0
    wrong = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
    kept = np.sort(np.argsort(-wrong, kind="stable")[:CONDENSED])
    group = np.full(len(classes), len(kept))
    group[kept] = np.arange(len(kept))
    smaller = np.zeros((len(kept) + 1, len(kept) + 1), np.int64)
    rows, columns = np.nonzero(matrix)
    np.add.at(smaller, (group[rows], group[columns]), matrix[rows, columns])
    others = len(classes) - len(kept)
    names: list[str | Message] = [classes[number] for number in kept]
    return smaller, [*names, NP_("{n} other", "{n} others", n=others)], others


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], language: str, *, shares: bool = False) -> str:
    """The confusion matrix with counts, or with `shares` of the row in percent, coloured by these, as SVG.

    Of many classes, as `condensed`.
    """
    matrix, labels, _ = condensed(counts, classes)
    parts = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    many = len(labels) > 50  # then names alone: a matrix with readable numbers would be metres wide
    side = max(2.8, (0.16 if many else 0.42) * len(labels))
    names = [shortened(_shown(name, language)) for name in labels]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(side, side))
        axes = figure.add_subplot()
        axes.imshow(np.ma.masked_equal(parts, 0), cmap="Blues", vmin=0, vmax=1)
        for row, column in np.argwhere(np.zeros(0) if many else matrix):  # zeros are left blank
            share = parts[row, column]
            colour = ink_on(matplotlib.colormaps["Blues"](share))
            # With many classes a decimal would run into the next cell.
            text = f"{100 * share:.{0 if len(labels) > 6 else 1}f}" if shares else str(matrix[row, column])
            text = formats.marked(text, language)
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
        size = 7 if many else 10  # points
        cell = axes.bbox.width / figure.dpi * 72 / len(labels)
        axes.set_xticks(range(len(labels)), names, fontsize=size)
        if max(map(len, names)) * 0.7 * size >= cell:
            # Turned around its end, a name reaches its tick in every font.
            for tick in axes.get_xticklabels():
                tick.set(rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(labels)), names, fontsize=size)
        axes.set_xlabel(N_("Predicted class").shown(language))
        axes.set_ylabel(N_("True class").shown(language))
        title = N_("% of row") if shares else N_("Photos")
        axes.set_title(title.shown(language), loc="left", fontsize=10)
        axes.spines[:].set(visible=True, linewidth=0.4)
        return _svg(figure)


def ink_on(colour: Sequence[float]) -> str:
    """Black or white, whichever is easier to read on a colour of shares of red, green and blue (WCAG 2.2)."""
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3])
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#ffffff"


def reliability(calibrated: CalibrationResult, language: str) -> str:
    """Accuracy over confidence in bins of equal count, before and after the temperature, as one SVG."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3.6))
        both = [
            (N_("Before temperature scaling"), calibrated["before"]["bins"]),
            (N_("After temperature scaling"), calibrated["after"]["bins"]),
        ]
        low = 100 * min(min(row["confidence"], row["interval"][0]) for _, rows in both for row in rows)
        for place, (title, rows) in enumerate(both, start=1):
            axes = figure.add_subplot(1, 2, place)
            confidence = 100 * np.array([row["confidence"] for row in rows])
            accuracy = 100 * np.array([row["accuracy"] for row in rows])
            reach = np.abs(100 * np.array([row["interval"] for row in rows]).T - accuracy)
            axes.plot([low, 100], [low, 100], color=GREY, linewidth=1, linestyle="--")
            axes.errorbar(confidence, accuracy, yerr=reach, fmt="o", color=BLUE, markersize=4, linewidth=1)
            axes.set_title(title.shown(language), loc="left", fontsize=10)
            axes.set_xlabel(N_("Confidence (%)").shown(language))
            if place == 1:
                axes.set_ylabel(N_("Accuracy (%)").shown(language))
            axes.set_aspect("equal")
            _decimal_marks(axes, language)
        figure.subplots_adjust(wspace=0.25)
        return _svg(figure)


def risk_coverage(calibrated: CalibrationResult, language: str) -> str:
    """Selective accuracy over coverage, with the threshold's point, as SVG."""
    coverage, accuracy = (100 * np.array(calibrated[name]) for name in ("coverages", "accuracies"))
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 3))
        axes = figure.add_subplot()
        axes.plot(coverage, accuracy, color=BLUE, drawstyle="steps-post")
        if calibrated["answered_accuracy"] is not None:
            point = (100 * calibrated["coverage"], 100 * calibrated["answered_accuracy"])
            axes.plot(*point, "o", color=ORANGE)
            # The curve falls: there is room above its left and below its right part.
            left = point[0] > 40
            axes.annotate(
                N_("model's threshold").shown(language), point, (-6, -8) if left else (6, 5),
                textcoords="offset points", ha="right" if left else "left", va="top" if left else "bottom",
                color=ORANGE, annotation_clip=False,
            )  # fmt: skip
        axes.set_xlim(0, 101)
        # The few surest answers alone jump up and down.
        steady = accuracy[coverage >= min(5, coverage.max())]
        low = min(99, steady.min() - 0.5, accuracy[-1] - 0.5)
        axes.set_ylim(low, 100 + 0.12 * (100 - low))  # room for the label
        axes.set_yticks([tick for tick in MaxNLocator(6).tick_values(low, 100) if low <= tick <= 100])
        axes.set_xlabel(N_("Coverage (%)").shown(language))
        axes.set_title(N_("Selective accuracy (%)").shown(language), loc="left", fontsize=10)
        _decimal_marks(axes, language)
        return _svg(figure)


_Axis = Literal["false_rate", "recall", "precision"]


def roc_and_precision(rows: Sequence[ClassCurve], language: str, *, named: int = 3) -> str:
    """ROC and precision-recall curves, one per class; the `named` of the lowest average precision have the same colour
    in both, and their names with the area at their ends, as SVG.

    Of two classes one ROC curve is the other's mirror image: both have the same area.
    """
    worst = sorted(rows, key=lambda row: float(row["average_precision"]))[:named]
    colours = {row["class"]: colour for row, colour in zip(worst, (ORANGE, BLUE, GREEN), strict=False)}
    with matplotlib.rc_context(_STYLE | {"font.size": 9}):
        figure = Figure(figsize=(9, 3.4))
        figure.subplots_adjust(wspace=0.95)
        panels: tuple[tuple[Message, _Axis, Message, _Axis, Message, Literal["roc_area", "average_precision"]], ...] = (
            (
                N_("ROC curve"),
                "false_rate", N_("False positive rate"),
                "recall", N_("True positive rate"),
                "roc_area",
            ),
            (
                N_("Precision-recall curve"),
                "recall", N_("Recall"),
                "precision", N_("Precision"),
                "average_precision",
            ),
        )  # fmt: skip
        for place, (title, across, along, up, upwards, area) in enumerate(panels, start=1):
            axes = figure.add_subplot(1, 2, place)
            for row in rows:
                if row["class"] not in colours:
                    axes.plot(row[across], row[up], color=GREY, alpha=0.4, linewidth=0.8)
            ends = []
            for row in sorted(worst, key=lambda row: float(row[area])):
                colour = colours[row["class"]]
                axes.plot(row[across], row[up], color=colour, linewidth=1.5)
                size = formats.marked(f"{row[area]:.3f}", language)
                ends.append((row[up][-1], f"{shortened(row['class'], 16)} {size}", colour))
            axes.set_title(title.shown(language), loc="left", fontsize=10)
            axes.set_xlabel(along.shown(language))
            axes.set_ylabel(upwards.shown(language))
            axes.set_xlim(-0.02, 1.02)
            axes.set_ylim(-0.02, 1.02)
            _name_ends(axes, 1.0, ends)
            _decimal_marks(axes, language)
        return _svg(figure)


def robustness(results: Robustness, language: str) -> str:
    """Accuracy at three severities of each kind of corruption, beside that on clean photos, as SVG."""
    kinds = list(results["kinds"])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3))
        axes = figure.add_subplot()
        clean = 100 * results["undamaged"]["accuracy"]
        axes.axhline(clean, color=GREY, linestyle="--", linewidth=1)
        for number, kind in enumerate(kinds):
            rows = results["kinds"][kind]
            accuracy = 100 * np.array([row["accuracy"] for row in rows])
            reach = np.abs(100 * np.array([row["interval"] for row in rows]).T - accuracy)
            at = number + np.array([-0.22, 0, 0.22])
            axes.errorbar(at, accuracy, yerr=reach, color=BLUE, marker="o", markersize=4, linewidth=1)
        axes.set_xticks(range(len(kinds)), [CORRUPTIONS[kind].shown(language) for kind in kinds])
        axes.tick_params(axis="x", length=0)
        axes.set_title(N_("Accuracy (%)").shown(language), loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(_Decimals(language))
        return _svg(figure)


def _decimal_marks(axes: Axes, language: str) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_Decimals(language))


def history(points: Sequence[tuple[int, float]], default: float | None, score: str, language: str) -> str:
    """Each finished trial's (number, score), the best so far, and the baseline, as SVG."""
    scale, title = (100, N_("Accuracy (%)")) if score == "accuracy" else (1, SCORES[score])
    numbers, values = np.array([number for number, _ in points]), np.array([scale * value for _, value in points])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3))
        axes = figure.add_subplot()
        axes.step(numbers, np.maximum.accumulate(values), where="post", color=ORANGE)
        if default is not None:
            axes.axhline(scale * default, color=GREY, linestyle="--", linewidth=1)
        # One that went badly wrong would press all the others together: a triangle at the bottom stands for it.
        low, high = np.quantile(values, 0.25) - 2 * np.ptp(np.quantile(values, [0.25, 0.75])), values.max()
        low = min(max(low, values.min()), scale * default if default is not None else math.inf)
        margin = max(0.08 * (high - low), 0.005 * scale)
        axes.set_ylim(low - margin, high + margin)
        below = values < low - margin
        axes.scatter(numbers[~below], values[~below], s=18, color=BLUE)
        axes.scatter(numbers[below], np.full(below.sum(), low - margin / 2), s=24, marker="v", color=BLUE)
        axes.set_xlim(-0.5, numbers[-1] + 0.5)
        axes.set_xlabel(N_("Trial").shown(language))
        axes.set_title(title.shown(language), loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(_Decimals(language))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return _svg(figure)


def learning_curve(document: LearningCurveDocument, language: str) -> str:
    """Accuracy over the number of photos: measured, the fitted curve with its 95 % band, and what it predicts, as
    SVG."""
    curve, more = document["curve"], document["more_photos"]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(8, 4))
        axes = figure.add_subplot()
        at = [row["photos"] for row in curve]
        low, high = (100 * np.array([row["interval"][end] for row in curve]) for end in (0, 1))
        axes.fill_between(at, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(at, [100 * row["accuracy"] for row in curve], color=BLUE, linewidth=1.5)
        measured = [row for row in document["points"] if row["length"] == 1]
        shorter = [row for row in document["points"] if row["length"] < 1]
        kinds = (
            (measured, BLUE, "o", N_("measured")),
            (shorter, GREEN, "s", N_("trained half as long")),
            (more, ORANGE, "D", N_("predicted")),
        )
        for rows, colour, marker, name in kinds:
            accuracy = 100 * np.array([row["accuracy"] for row in rows])
            reach = np.abs(100 * np.array([row["interval"] for row in rows]).T - accuracy)
            photos = [row["photos"] * (1 if row["length"] == 1 else BESIDE) for row in rows]
            axes.errorbar(
                photos, accuracy, yerr=reach, fmt=marker, color=colour, markersize=5, linewidth=1,
                label=name.shown(language),
            )  # fmt: skip
        axes.axvline(document["photos"], color=GREY, linestyle="--", linewidth=1)
        axes.set_xscale("log", base=2)
        ticks = sorted({row["photos"] for row in [*measured, *more]} | {document["photos"]})
        axes.set_xticks(_apart(ticks))
        axes.xaxis.set_major_formatter(lambda value, position: formats.marked(f"{value:,.0f}", language))
        axes.set_xlabel(N_("Photos trained on").shown(language))
        axes.set_title(N_("Accuracy (%)").shown(language), loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(_Decimals(language))
        axes.legend(frameon=False, loc="best")
        return _svg(figure)


def _apart(ticks: Sequence[int], least: float = 1.5) -> list[int]:
    """Those of the ticks of a logarithmic axis that leave room for the numbers of the others, from the right."""
    kept: list[int] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or kept[-1] / tick >= least:
            kept.append(tick)
    return kept


def importance(shares: dict[str, float], language: str) -> str:
    """Bars of each field's share of the score's variance, the largest on top, as SVG."""
    names, values = list(shares)[::-1], list(shares.values())[::-1]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(6, 0.5 + 0.32 * len(shares)))
        axes = figure.add_subplot()
        bars = axes.barh(names, values, color=BLUE, height=0.6)
        texts = [formats.signed(f"{100 * value:.0f}", language) for value in values]
        axes.bar_label(bars, texts, padding=3, color=GREY)
        axes.set_xlim(0, 1.1 * max(values))
        axes.set_xticks([])
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure)


def sheet(explanations: Sequence[Explanation], truths: Sequence[str], *, language: str) -> bytes:
    """PNG with photo, map and overlay of several explanations in rows of three, titled with prediction and truth."""
    columns, width, height, title, foot = 3, 560, 210, 30, 50
    rows = -(-len(explanations) // columns)
    canvas = np.full((rows * (title + height) + foot, columns * width, 3), 255, np.uint8)
    places = [(row * (title + height), column * width) for row in range(rows) for column in range(columns)]
    for (top, left), explanation in zip(places, explanations, strict=False):
        picture = within(triptych(small(explanation, 400)), width - 20, height - 10)
        y, x = top + title, left + (width - picture.shape[1]) // 2
        canvas[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    colours = palette(np.linspace(0, 1, 400))
    middle, strip = canvas.shape[1] // 2, slice(canvas.shape[0] - foot + 8, canvas.shape[0] - foot + 20)
    canvas[strip, middle - 200 : middle + 200] = colours
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(canvas.shape[1] / 100, canvas.shape[0] / 100), dpi=100)
        figure.figimage(canvas)

        def write(x: float, y: float, text: str, size: float, colour: str = "black") -> None:
            figure.text(x / canvas.shape[1], 1 - y / canvas.shape[0], text, ha="center", fontsize=size, color=colour)

        for (top, left), explanation, truth in zip(places, explanations, truths, strict=False):
            answer = explanation.prediction
            mark = "" if answer.label == truth else f" ≠ {truth}"
            head = f"{answer.label} {formats.percent(answer.confidence, language, 0)}{mark}"
            if explanation.even:
                head = N_("{prediction} (uniform map)", prediction=head).shown(language)
            write(left + width / 2, top + title - 8, head, 11, BLUE if answer.label == truth else ORANGE)
        for x, text in ((middle - 200, "0"), (middle + 200, N_("maximum of the map").shown(language))):
            write(x, strip.stop + 18, text, 9)
        return _png(figure, compression=1)  # photos hardly get smaller, and a budget waits


def comparison(runs: Sequence[RunRow], *, by_class: bool, format: str, language: str) -> bytes:
    """Accuracy, or macro F1 if `by_class`, with its 95 % interval, and minutes of training, one line per run; `format`
    is png or svg."""
    places = np.arange(len(runs))[::-1]  # the first one on top
    scale, digits = (1, 3) if by_class else (100, 1)
    score = scale * np.array([row["macro_f1"] if by_class else row["accuracy"] for row in runs])
    intervals = [row["macro_f1_interval"] if by_class else row["accuracy_interval"] for row in runs]
    reach = np.abs(scale * np.array(intervals).T - score)
    minutes = [row["training_seconds"] / 60 for row in runs]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 1.2 + 0.45 * len(runs)), layout="constrained")
        scores, times = figure.subplots(1, 2, sharey=True, gridspec_kw={"width_ratios": [3, 2]})
        scores.errorbar(score, places, xerr=reach, fmt="o", color=BLUE, markersize=6, capsize=4)
        for value, place in zip(score, places, strict=True):
            scores.annotate(
                formats.marked(f"{value:.{digits}f}", language),
                (value, place),
                (0, 6),
                textcoords="offset points",
                ha="center",
                color=BLUE,
                fontsize=9,
            )
        scores.set_yticks(places, [f"{row['name']}\n{row['model']}" for row in runs])
        scores.set_ylim(-0.6, len(runs) - 0.3)
        title = N_("Macro F1 with 95 % CI") if by_class else N_("Accuracy (%) with 95 % CI")
        scores.set_title(title.shown(language), loc="left", fontsize=10)
        scores.xaxis.set_major_formatter(_Decimals(language))
        bars = times.barh(places, minutes, height=0.35, color=ORANGE)
        texts = [formats.marked(f"{value:.1f}", language) for value in minutes]
        times.bar_label(bars, texts, padding=4, fontsize=9, color=ORANGE)
        times.set_title(N_("Training time (min)").shown(language), loc="left", fontsize=10)
        times.xaxis.set_major_formatter(_Decimals(language))
        times.tick_params(axis="y", length=0)
        times.margins(x=0.15)
        times.set_xlim(left=0)
        if format == "svg":
            return _svg(figure).encode()
        return _png(figure)


def tiles(
    labels: Sequence[tuple[str, str | Message]],
    blocks: Sequence[Sequence[Sequence[Tile]]],
    heads: Sequence[str | Message],
    *,
    language: str,
) -> bytes:
    """PNG of square tiles of one size, pixel by pixel: blocks side by side, in each one row per label, one column per
    head.

    A label is a name and, small below it, what belongs to it. The last row stands apart, without heads. None is a gap.
    """
    side = max(len(tile) for row in blocks[0] for tile in row if tile is not None)
    times = -(-SMALLEST_TILE // side)
    step = side * times + 4
    left, top, apart = 190, 34, 22
    across = len(heads) * step + apart
    width = left + len(blocks) * across
    height = top + len(labels) * step + 2 * apart
    canvas = np.full((height, width, 3), 255, np.uint8)
    middles: list[float] = []
    for row in range(len(labels)):
        y = top + row * step + (apart if row == len(labels) - 1 else 0)
        middles.append(y + side * times / 2)
        for number, block in enumerate(blocks):
            for column, tile in enumerate(block[row]):
                if tile is not None:
                    x = left + number * across + column * step
                    canvas[y : y + side * times, x : x + side * times] = tile.repeat(times, 0).repeat(times, 1)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        figure.figimage(canvas)
        for (name, setting), middle in zip(labels, middles, strict=True):
            at = 1 - middle / height
            figure.text(12 / width, at + 1 / height, name, fontsize=11, color="#222222", va="bottom")
            figure.text(12 / width, at - 3 / height, _shown(setting, language), fontsize=8, va="top")
        for number in range(len(blocks)):
            for column, head in enumerate(heads):
                middle = left + number * across + column * step + side * times / 2
                text = _shown(head, language)
                figure.text(middle / width, 1 - (top - 8) / height, text, fontsize=8, ha="center", va="bottom")
        return _png(figure)


def _shown(text: str | Message, language: str) -> str:
    return text.shown(language) if isinstance(text, Message) else text


def _png(figure: Figure, *, compression: int = 6) -> bytes:
    buffer = io.BytesIO()
    with _any_letters():
        figure.savefig(
            buffer, format="png", dpi=100, metadata={"Software": None}, pil_kwargs={"compress_level": compression}
        )
    return buffer.getvalue()
