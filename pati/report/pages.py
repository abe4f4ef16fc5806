"""Measured numbers -> figures and one HTML file. Computes no score and loads no model."""

from __future__ import annotations

import base64
import bisect
import functools
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import jinja2
import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.decode import FLAGS, REASONS
from pati.data.manifest import Manifest
from pati.evaluation.documents import (
    Analysis,
    CalibrationResult,
    CleanDocument,
    ReviewItem,
    RunDocument,
    Scores,
    ScoresPage,
    SearchDocument,
)
from pati.evaluation.metrics import further
from pati.inference.classifier import Explanation
from pati.recipe import Recipe
from pati.report import figures
from pati.report.told import told
from pati.report.words import LANGUAGES, WORDS
from pati.runs.history import Epoch
from pati.runs.run import Run
from pati.system import clock, files
from pati.system.files import printable
from pati.system.rounding import careful, percent, rate

Draw = Callable[[dict[str, str]], str]  # words of a language -> SVG

MOST_LISTED = 200  # files, or groups of them, in one of the lists about the data
WRITING = 0.2  # of what a report takes, for what can only be written at the end
FIGURES, FIGURES_A_CLASS = 60, 0.4  # times what one small figure takes are what a whole report does


@dataclass(frozen=True)
class Example:
    """An explained photo. `group`: a name of `GROUPS`; `truth`: its label."""

    group: str
    path: str
    truth: str
    explanation: Explanation


class Shown(TypedDict):
    """An explained photo on a page; its `picture` as base64."""

    picture: str
    path: str
    truth: str
    answer: str
    confidence: float
    right: bool
    even: bool


class Mistake(TypedDict):
    """A kind of wrong answer: how many photos, and the share of all of the class."""

    truth: str
    answer: str
    photos: int
    share: float


class Answers(TypedDict):
    """What the pages have in common: numbers, figures and gallery of a set's answers. `figures`: SVG by language, by
    name; `rarer`: how many kinds of mistakes are not among `mistakes`; `scale`: a PNG as base64."""

    scores: Scores
    further: dict[str, float | None]
    analysis: Analysis
    mistakes: list[Mistake]
    rarer: int
    answered: list[tuple[float, float]]
    by_class: bool
    figures: dict[str, dict[str, str]]
    gallery: dict[str, list[Shown]]
    scale: str


@dataclass(frozen=True)
class Drawing:
    """What takes the longest of a report: the answers' `parts` of the page, and the photos explained, as a PNG."""

    parts: Answers
    sheet: bytes | None


GROUPS = ("surest_mistakes", "least_sure", "others")


def pick_examples(probabilities: torch.Tensor, labels: torch.Tensor, count: int = 6) -> list[tuple[str, int]]:
    """Of each of `GROUPS` at most `count` photos, by their numbers: those that went worst, the others that were least
    sure, and of the rest that went well some evenly spread."""
    sureness, answers = probabilities.max(1)
    wrong = answers != labels
    worst = torch.where(wrong, sureness, -1.0).argsort(descending=True, stable=True)[: min(count, int(wrong.sum()))]
    rest = sureness.argsort(stable=True)
    unsure = rest[~torch.isin(rest, worst)][:count]
    right = (~wrong).nonzero().flatten()
    right = right[~torch.isin(right, unsure)]
    others = right[:: max(1, len(right) // count)][:count]
    chosen = zip(GROUPS, (worst, unsure, others), strict=True)
    return [(group, number) for group, numbers in chosen for number in numbers.tolist()]


def seconds_to_draw(classes: int) -> float:
    """About what a report on so many classes takes on this machine, by one of its figures."""

    def figure() -> None:
        figures.confusion([[1, 0], [0, 1]], ["a", "b"], WORDS["en"])

    figure()  # the first time is slower
    taken = []
    for _ in range(3):
        at = clock.now()
        figure()
        taken.append(clock.now() - at)
    return (FIGURES + FIGURES_A_CLASS * classes) * sorted(taken)[1]


def draw(document: RunDocument, epochs: Sequence[Epoch], examples: Sequence[Example]) -> Drawing:
    """Draw what a report shows of the test split's answers; `document`: metrics.json."""
    by_class = document["balance"]["by_class"]
    curves: dict[str, Draw] = {"curves": lambda words: figures.curves(epochs, words, by_class=by_class)}
    return Drawing(
        _answers(document["test"], document["analysis"], document["classes"], examples, curves, by_class=by_class),
        figures.sheet([item.explanation for item in examples], [item.truth for item in examples]) if examples else None,
    )


def write(
    run: Run,
    manifest: Manifest,
    recipe: Recipe,
    document: RunDocument,
    epochs: Sequence[Epoch],
    drawing: Drawing,
    suspicious: Sequence[NDArray[np.uint8]],
    *,
    language: str = "en",
) -> None:
    """Write report.html, model-card.md and the figures of a scored run. `drawing`: see `draw`; `suspicious`: the photos
    of the suspects, in their order; `language`: the one shown first."""
    found = document["analysis"]
    answers: Answers = {**drawing.parts, "analysis": found}
    if "robustness" in found:
        drawn = {language: figures.robustness(found["robustness"], WORDS[language]) for language in LANGUAGES}
        answers["figures"] = answers["figures"] | {"robustness": drawn}
    for name, by_language in answers["figures"].items():
        files.write_text(run.figures / f"{name}.svg", by_language["en"])
    if drawing.sheet is not None:
        files.write_bytes(run.figures / "explanations.png", drawing.sheet)
    kept, scored = manifest.kept, int(run.read_state()["test_scored"])
    flags = Counter(flag for entry in kept for flag in entry.flags)
    groups = manifest.duplicate_groups()
    page = _filled(
        "report.html.jinja",
        language=language,
        **answers,
        scored=scored,
        dependent=manifest.dependent("test"),
        source=printable(manifest.source),
        document=document,
        recipe=recipe.to_json(),
        epochs=epochs,
        counts={
            name: Counter(entry.label for entry in manifest.of_split(name)) for name in ("train", "validation", "test")
        },
        kept=len(kept),
        seen=len(manifest.entries),
        # What is rare comes first: of thousands of copies a list that is cut would show nothing else.
        flagged=sorted(
            (entry for entry in kept if entry.flags), key=lambda entry: min(flags[flag] for flag in entry.flags)
        ),
        flags=flags,
        quarantined=[entry for entry in manifest.entries if not entry.kept],
        about=REASONS | FLAGS,
        groups=groups,
        crossing=[group for group in groups if len({entry.label for entry in group}) > 1],
        leaks=len(manifest.leaks()),
        leaked={"test": manifest.leaked("test"), "both": manifest.leaked("validation", "test")},
        notes=manifest.notes,
        most=MOST_LISTED,
        suspects=[
            row | {"picture": base64.b64encode(figures.thumbnail(photo)).decode(), "path": printable(row["path"])}
            for row, photo in zip(found["suspects"]["first"], suspicious, strict=True)
        ],
        printable=printable,
    )
    files.write_text(run.report, page)
    files.write_text(run.card, _card(run, manifest, recipe, document, scored))


def write_scores(path: Path, document: ScoresPage, examples: Sequence[Example], *, language: str = "en") -> None:
    """Write the page of a later scoring, `document` of `pati.workflows.measure.scored`."""
    page = _filled(
        "scores.html.jinja",
        language=language,
        source=printable(document["data"]),
        document=document,
        **_answers(
            document["scores"], document["analysis"], document["classes"], examples, {},
            by_class=document["balance"]["by_class"],
        ),
    )  # fmt: skip
    files.write_text(path, page)


def _answers(
    scores: Scores,
    analysis: Analysis,
    classes: Sequence[str],
    examples: Sequence[Example],
    more: dict[str, Draw],
    *,
    by_class: bool,
) -> Answers:
    """What pages show of a set's answers, with `more` figures."""
    make: dict[str, Draw] = {
        "confusion": lambda words: figures.confusion(scores["confusion"], classes, words),
        "confusion_shares": lambda words: figures.confusion(scores["confusion"], classes, words, shares=True),
        "reliability": lambda words: figures.reliability(analysis["calibration"], words),
        "risk_coverage": lambda words: figures.risk_coverage(analysis["calibration"], words),
        **more,
    }
    if analysis["curves"]:
        make["roc"] = lambda words: figures.roc_and_precision(analysis["curves"], words)
    rows: dict[str, list[Shown]] = {}
    for item in examples:
        answer = item.explanation.prediction
        rows.setdefault(item.group, []).append(
            {
                "picture": base64.b64encode(figures.overlay(item.explanation)).decode(),
                "path": printable(item.path),
                "truth": item.truth,
                "answer": answer.label,
                "confidence": answer.confidence,
                "right": item.truth == answer.label,
                "even": item.explanation.even,
            }
        )
    mistakes = _mistakes(scores["confusion"], classes)
    return {
        "scores": scores,
        "further": further(scores),
        "analysis": analysis,
        "mistakes": mistakes[:MOST_LISTED],
        "rarer": len(mistakes[MOST_LISTED:]),
        "answered": _answered(analysis["calibration"]),
        "by_class": by_class,
        "figures": {name: {language: draw(WORDS[language]) for language in LANGUAGES} for name, draw in make.items()},
        "gallery": rows,
        "scale": base64.b64encode(figures.scale()).decode(),
    }


def _mistakes(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Mistake]:
    """The kinds of wrong answers, the most frequent first, with the share of the class's photos."""
    found: list[Mistake] = [
        {"truth": classes[row], "answer": classes[column], "photos": count, "share": count / sum(counts)}
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(found, key=lambda kind: -kind["photos"])


def _answered(calibrated: CalibrationResult) -> list[tuple[float, float]]:
    """Points of the curve over the photos answered: about every tenth of them, and the accuracy among these."""
    coverages, accuracies = calibrated["coverages"], calibrated["accuracies"]
    places = {min(bisect.bisect_left(coverages, tenth / 10), len(coverages) - 1) for tenth in range(1, 11)}
    return [(coverages[place], accuracies[place]) for place in sorted(places)]


def _card(run: Run, manifest: Manifest, recipe: Recipe, document: RunDocument, scored: int) -> str:
    """The model card: what the model is for, what it was made of, what it is worth, and what it can't do."""
    found = document["analysis"]
    damage = found.get("robustness")
    at_worst = [(rows[-1]["lost"], kind, rows[-1]) for kind, rows in damage["kinds"].items()] if damage else []
    _, kind, worst_damage = max(at_worst, key=lambda row: row[0], default=(0.0, "", None))
    counts = Counter(entry.split for entry in manifest.kept)
    return _filled(
        "card.md.jinja",
        markup=False,
        name=run.folder.resolve().name,
        predict=f"pati predict {shlex.quote(str(run.model))} PHOTO…",
        load=f'pati.load({json.dumps(str(run.model), ensure_ascii=False)}).predict("photo.jpg")',
        classes=document["classes"],
        source=manifest.source,
        kept=len(manifest.kept),
        seen=len(manifest.entries),
        counts=counts,
        group=recipe.group_by,
        recipe=recipe,
        epochs=document["epochs"],
        minutes=document["seconds"]["training"] / 60,
        scored=scored,
        balance=document["balance"],
        dependent=manifest.dependent("test"),
        test=document["test"],
        further=further(document["test"]),
        worst=min(
            (row for row in document["test"]["per_class"] if row["recall"] is not None),
            key=lambda row: row["recall"] or 0.0,
        ),
        calibration=found["calibration"],
        outside=document.get("outside", {}),
        damage=damage,
        hardest=None if worst_damage is None else {"kind": kind, **worst_damage},
        suspects=found["suspects"]["count"],
        manifest=document["manifest"],
        versions=document["versions"],
        leaked=manifest.leaked("test"),
        percent=percent,
        percents=lambda ends: " – ".join(f"{100 * end:.1f} %" for end in ends),
        number=rate,
        numbers=lambda ends: " – ".join(f"{end:.3f}" for end in ends),
    )


def _markdown(text: str) -> str:
    """Any text as it is in Markdown, on one line."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", printable(text))


def _code(text: str) -> str:
    """Any text as code in Markdown: between more backticks than it holds in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * text.startswith("`") or " " * text.endswith("`")
    return f"{fence}{space}{printable(text)}{space}{fence}"


def write_search(path: Path, document: SearchDocument, recipe: Recipe) -> None:
    """Write the page about a search: its `document` (see `pati.workflows.tune`) and the recipe it began with."""
    trials, score, default = document["trials"], document["score"], document["default"]
    points = [(row["number"], row["value"]) for row in trials if row["value"] is not None]
    drawn = {
        "search_history": {
            language: figures.history(points, default and default["value"], score, WORDS[language])
            for language in LANGUAGES
            if points
        },
        "search_importance": {
            language: figures.importance(document["importance"], WORDS[language])
            for language in LANGUAGES
            if document["importance"]
        },
    }
    page = _filled(
        "search.html.jinja",
        language="en",
        source=printable(document["source"]),
        document=document,
        states=Counter(row["state"] for row in trials),
        seconds=sum(row["seconds"] or 0 for row in trials),
        figures=drawn,
        recipe=recipe.to_json(),
    )
    files.write_text(path, page)


def write_review(
    path: Path,
    document: CleanDocument,
    header: Sequence[str],
    lines: Sequence[Sequence[str]],
    items: Sequence[ReviewItem],
    photos: Sequence[NDArray[np.uint8]],
    classes: Sequence[str],
) -> None:
    """Write the page to decide in: `document` of `pati.workflows.clean`; `header` and `lines`: the table, which the
    page saves with its decisions; `items`: the lines that are shown, with their `photos` in the same order."""
    pictured = [
        {**item, "picture": base64.b64encode(figures.thumbnail(photo)).decode()}
        for item, photo in zip(items, photos, strict=True)
    ]
    page = _filled(
        "review.html.jinja",
        language="en",
        source=printable(document["data"]),
        document=document,
        sections={why: [item for item in pictured if item["why"] == why] for why in document["counts"]},
        header=header,
        lines=lines,
        classes=classes,
        printable=printable,
    )
    files.write_text(path, page)


def _filled(template: str, *, markup: bool = True, **values: object) -> str:
    """A template of this package, as HTML with `markup`, with these values; each one also knows the words."""
    return _templates(markup).get_template(template).render(**values)


@functools.cache
def _templates(markup: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pati.report", "templates"),
        autoescape=markup,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"careful": careful, "markdown": _markdown, "code": _code, "zip": zip}
    environment.filters["told"] = lambda text, language: printable(told(text, language))
    environment.globals |= {"words": WORDS, "languages": LANGUAGES, "dark_style": figures.DARK_STYLE}
    return environment
