"""Measured numbers -> figures and one HTML file. Computes no score and loads no model."""

from __future__ import annotations

import base64
import bisect
import functools
import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypedDict

import jinja2
import numpy as np
import torch
from numpy.typing import NDArray

from pati import plugins
from pati.data.decode import FLAGS, REASONS
from pati.data.manifest import Manifest
from pati.evaluation import learning_curves
from pati.evaluation.clusters import FEW
from pati.evaluation.documents import (
    Analysis,
    CalibrationResult,
    ClassRow,
    CleanDocument,
    LearningCurveDocument,
    ReviewItem,
    RunDocument,
    Scores,
    ScoresPage,
    SearchDocument,
)
from pati.evaluation.metrics import absent, other_metrics, weakest
from pati.evaluation.shortcuts import telling_properties
from pati.inference.lineage import ancestors, unknown_photos
from pati.inference.predictor import Explanation
from pati.locale import formats
from pati.locale.catalogues import SOURCE, languages
from pati.locale.formats import printable
from pati.locale.messages import N_, NC_, NP_, Message
from pati.recipe import Recipe
from pati.report import figures, labels, markup, pictures
from pati.runs.attempts import Attempt, required
from pati.runs.history import Epoch
from pati.runs.learning_curves import found
from pati.runs.run import Run
from pati.system import clock, files, outputs

Draw = Callable[[str], str]  # language -> SVG
P = ParamSpec("P")

MOST_LISTED = 200  # files, or groups of them, in one of the lists about the data
WRITING = 0.2  # of what a report takes, for what can only be written at the end
# Times what one small figure takes are what a whole report does: what is the same in all languages, and each of them.
PICTURES, FIGURES, FIGURES_A_CLASS = 20, 20, 0.2


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
    name; `rows`: of all classes, or of the weakest; `combined`: how many classes are one row of the confusion matrix;
    `rarer`: how many kinds of mistakes are not among `mistakes`; `scale`: a PNG as base64."""

    scores: Scores
    rows: list[ClassRow]
    combined: int
    other_metrics: dict[str, float | None]
    absent: list[str]
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
        figures.confusion([[1, 0], [0, 1]], ["a", "b"], SOURCE)

    figure()  # the first time is slower
    taken = []
    for _ in range(3):
        at = clock.now()
        figure()
        taken.append(clock.now() - at)
    drawn = PICTURES + len(languages()) * (FIGURES + FIGURES_A_CLASS * min(classes, figures.MOST_CLASSES))
    return drawn * sorted(taken)[1]


def draw(
    document: RunDocument,
    epochs: Sequence[Epoch],
    examples: Sequence[Example],
    *,
    language: str,
    attempt: Attempt = required,
) -> Drawing:
    """Draw what a report shows of the test split's answers; `document`: metrics.json; `language`: of the sheet."""
    by_class = document["balance"]["by_class"]
    curves: dict[str, Draw] = {"curves": lambda language: figures.curves(epochs, language, by_class=by_class)}
    explanations, truths = [item.explanation for item in examples], [item.truth for item in examples]
    return Drawing(
        _answers(
            document["test"], document["analysis"], document["classes"], examples, curves, by_class=by_class,
            attempt=attempt,
        ),
        attempt("explanations.png", lambda: figures.sheet(explanations, truths, language=language), None)
        if examples
        else None,
    )  # fmt: skip


def write(
    run: Run,
    manifest: Manifest,
    recipe: Recipe,
    document: RunDocument,
    epochs: Sequence[Epoch],
    drawing: Drawing,
    suspicious: Sequence[NDArray[np.uint8]],
    *,
    language: str,
    attempt: Attempt = required,
) -> None:
    """Write report.html, model-card.md and the figures of a scored run. `drawing`: see `draw`; `suspicious`: the photos
    of the suspects, in their order; `language`: the one shown first, and that of the card and the figures' files."""
    analysis = document["analysis"]
    answers: Answers = {**drawing.parts, "analysis": analysis}
    if "robustness" in analysis:
        damage = analysis["robustness"]
        drawn = _in_all_languages({"robustness": lambda language: figures.robustness(damage, language)}, attempt)
        answers["figures"] = answers["figures"] | drawn
    for name, by_language in answers["figures"].items():
        if by_language:
            files.write_text(run.figures / f"{name}.svg", by_language[language])
    if drawing.sheet is not None:
        files.write_bytes(run.figures / "explanations.png", drawing.sheet)
    scored = int(run.read_state()["test_scored"])
    page = attempt(
        run.report.name,
        lambda: _report(run, manifest, recipe, document, epochs, answers, suspicious, scored, language),
        None,
    )
    if page is not None:
        files.write_text(run.report, page)
    card = attempt(run.card.name, lambda: _card(run, manifest, recipe, document, scored, language), None)
    if card is not None:
        files.write_text(run.card, card)


def _report(
    run: Run,
    manifest: Manifest,
    recipe: Recipe,
    document: RunDocument,
    epochs: Sequence[Epoch],
    answers: Answers,
    suspicious: Sequence[NDArray[np.uint8]],
    scored: int,
    language: str,
) -> str:
    """The contents of report.html."""
    kept, analysis, lineage = manifest.kept, document["analysis"], document.get("lineage", [])
    curve = found(run.folder.parent, manifest.hash())
    flags = kept.flag_counts()
    groups = manifest.duplicate_groups()
    return _filled(
        "report.html.jinja",
        language=language,
        **answers,
        scored=scored,
        dependent=manifest.dependent(),
        source=printable(manifest.source),
        document=document,
        recipe=recipe.to_json(),
        epochs=epochs,
        probing=len(manifest.probing()),
        counts={name: Counter(manifest.of_split(name).label.counts()) for name in ("train", "validation", "test")},
        kept=len(kept),
        seen=len(manifest.entries),
        # What is rare comes first: of thousands of copies a list that is cut would show nothing else.
        flagged=sorted(kept.take(kept.is_flagged), key=lambda entry: min(flags[flag] for flag in entry.flags)),
        flags=flags,
        quarantined=manifest.entries.quarantined,
        about=REASONS | FLAGS,
        groups=groups,
        crossing=[group for group in groups if len({entry.label for entry in group}) > 1],
        leaks=len(manifest.leaks()),
        shortcuts=manifest.shortcuts,
        telling=telling_properties(manifest.shortcuts) if manifest.shortcuts else None,
        leaked={"test": manifest.leaked("test"), "both": manifest.leaked("validation", "test")},
        notes=manifest.notes,
        ancestors=ancestors(lineage) if lineage else None,
        unknown=unknown_photos(lineage),
        most=MOST_LISTED,
        findings=None if curve is None else learning_curves.findings(curve),
        setting=None if curve is None else learning_curves.setting(curve),
        ask=plugins.command("learning-curve", run.read_state()["data"]),
        suspects=[
            row | {"picture": base64.b64encode(pictures.thumbnail(photo)).decode(), "path": printable(row["path"])}
            for row, photo in zip(analysis["suspects"]["first"], suspicious, strict=True)
        ],
    )


def write_scores(path: Path, document: ScoresPage, examples: Sequence[Example], *, language: str) -> None:
    """Write the page of a later scoring, `document` of `pati.workflows.measure.scored`; `language`: the one shown
    first."""
    page = _filled(
        "scores.html.jinja",
        language=language,
        source=printable(document["data"]),
        document=document,
        **_answers(
            document["scores"], document["analysis"], document["classes"], examples, {},
            by_class=document["balance"]["by_class"], attempt=required,
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
    attempt: Attempt,
) -> Answers:
    """What pages show of a set's answers, with `more` figures."""
    make: dict[str, Draw] = {
        "confusion": lambda language: figures.confusion(scores["confusion"], classes, language),
        "confusion_shares": lambda language: figures.confusion(scores["confusion"], classes, language, shares=True),
        "reliability": lambda language: figures.reliability(analysis["calibration"], language),
        "risk_coverage": lambda language: figures.risk_coverage(analysis["calibration"], language),
        **more,
    }
    if analysis["curves"]:
        make["roc"] = lambda language: figures.roc_and_precision(analysis["curves"], language)
    rows: dict[str, list[Shown]] = {}
    for item in examples:
        answer = item.explanation.prediction
        rows.setdefault(item.group, []).append(
            {
                "picture": base64.b64encode(pictures.overlay(item.explanation)).decode(),
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
        "rows": weakest(scores, MOST_LISTED),
        "combined": figures.condensed(scores["confusion"], classes)[2],
        "other_metrics": other_metrics(scores),
        "absent": absent(scores),
        "analysis": analysis,
        "mistakes": mistakes[:MOST_LISTED],
        "rarer": len(mistakes[MOST_LISTED:]),
        "answered": _answered(analysis["calibration"]),
        "by_class": by_class,
        "figures": _in_all_languages(make, attempt),
        "gallery": rows,
        "scale": base64.b64encode(pictures.scale()).decode(),
    }


def _in_all_languages(make: Mapping[str, Draw], attempt: Attempt) -> dict[str, dict[str, str]]:
    """Each figure, an SVG by language; empty for one that could not be drawn."""
    return {name: attempt(f"{name}.svg", functools.partial(_drawn, draw), {}) for name, draw in make.items()}


def _drawn(draw: Draw) -> dict[str, str]:
    return {language: draw(language) for language in languages()}


def _mistakes(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> list[Mistake]:
    """The kinds of wrong answers, the most frequent first, with the share of the class's photos."""
    mistakes: list[Mistake] = [
        {"truth": classes[row], "answer": classes[column], "photos": count, "share": count / sum(counts)}
        for row, counts in enumerate(confusion)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    return sorted(mistakes, key=lambda kind: -kind["photos"])


def _answered(calibrated: CalibrationResult) -> list[tuple[float, float]]:
    """Points of the curve over the coverage, about every tenth, with the accuracy at each."""
    coverages, accuracies = calibrated["coverages"], calibrated["accuracies"]
    places = {min(bisect.bisect_left(coverages, tenth / 10), len(coverages) - 1) for tenth in range(1, 11)}
    return [(coverages[place], accuracies[place]) for place in sorted(places)]


def _card(run: Run, manifest: Manifest, recipe: Recipe, document: RunDocument, scored: int, language: str) -> str:
    """The model card, in one language: what the model is for, what it was made of, what it is worth, and what it can't
    do."""
    analysis = document["analysis"]
    lineage = document.get("lineage", [])
    damage = analysis.get("robustness")
    at_worst = [(rows[-1]["lost"], kind, rows[-1]) for kind, rows in damage["kinds"].items()] if damage else []
    _, kind, worst_damage = max(at_worst, key=lambda row: row[0], default=(0.0, "", None))
    counts = Counter(manifest.kept.split.counts())
    photo = NC_("placeholder", "PHOTO").shown(language)
    return _filled(
        "card.md.jinja",
        language=language,
        html=False,
        s=_in_language(N_, language),
        sp=_in_language(NP_, language),
        sc=_in_language(NC_, language),
        name=run.folder.resolve().name,
        predict=f"pati predict {shlex.quote(str(run.model))} {photo}…",
        load=f'pati.load({json.dumps(str(run.model), ensure_ascii=False)}).predict("photo.jpg")',
        classes=document["classes"],
        source=manifest.source,
        kept=len(manifest.kept),
        seen=len(manifest.entries),
        folds=len(document.get("folds", [])),
        counts=counts,
        group=recipe.group_by,
        recipe=recipe,
        epochs=document["epochs"],
        minutes=document["seconds"]["training"] / 60,
        scored=scored,
        balance=document["balance"],
        dependent=manifest.dependent(),
        test=document["test"],
        other_metrics=other_metrics(document["test"]),
        absent=absent(document["test"]),
        worst=min(
            (row for row in document["test"]["per_class"] if row["recall"] is not None),
            key=lambda row: row["recall"] or 0.0,
        ),
        calibration=analysis["calibration"],
        outside=document.get("outside", {}),
        damage=damage,
        hardest=None if worst_damage is None else {"kind": labels.CORRUPTIONS[kind], **worst_damage},
        suspects=analysis["suspects"]["count"],
        manifest=document["manifest"],
        versions=document["versions"],
        leaked=manifest.leaked("test"),
        lineage=lineage,
        ancestors=ancestors(lineage).shown(language) if lineage else "",
        unknown=unknown_photos(lineage),
        shortcut=telling_properties(manifest.shortcuts)
        if manifest.shortcuts and manifest.shortcuts[0].strong
        else None,
        percent=lambda share: formats.percent(share, language),
        percents=lambda ends: markup.interval(ends, language),
        difference=lambda value: markup.difference(value, language),
        differences=lambda ends: markup.differences(ends, language),
        rate=lambda share: formats.rate(share, language),
        rates=lambda ends: formats.marked(" – ".join(f"{end:.3f}" for end in ends), language),
        four_digits=lambda value: formats.marked(f"{value:.4g}", language),
    )


def _in_language(mark: Callable[P, Message], language: str) -> Callable[P, str]:
    """What shows a sentence of a template in this language alone."""

    def text(*arguments: P.args, **named: P.kwargs) -> str:
        return mark(*arguments, **named).shown(language)

    return text


def _markdown(text: str) -> str:
    """Any text as it is in Markdown, on one line."""
    return re.sub(r"([\\`*_\[\]<>|&~$])", r"\\\1", printable(text))


def _code(text: str) -> str:
    """Any text as code in Markdown: between more backticks than it holds in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " * text.startswith("`") or " " * text.endswith("`")
    return f"{fence}{space}{printable(text)}{space}{fence}"


def write_search(path: Path, document: SearchDocument, recipe: Recipe, *, language: str) -> None:
    """Write the page about a search: its `document` (see `pati.workflows.tune`) and the recipe it began with;
    `language`: the one shown first."""
    trials, score, default = document["trials"], document["score"], document["default"]
    points = [(row["number"], row["value"]) for row in trials if row["value"] is not None]
    make: dict[str, Draw] = {}
    if points:
        make["history"] = lambda language: figures.history(points, default and default["value"], score, language)
    if document["importance"]:
        make["importance"] = lambda language: figures.importance(document["importance"], language)
    page = _filled(
        "search.html.jinja",
        language=language,
        source=printable(document["source"]),
        document=document,
        states=Counter(row["state"] for row in trials),
        seconds=sum(row["seconds"] or 0 for row in trials),
        figures=_in_all_languages(make, required),
        recipe=recipe.to_json(),
    )
    files.write_text(path, page)


def write_learning_curve(path: Path, document: LearningCurveDocument, recipe: Recipe, *, language: str) -> None:
    """Write the page about a learning curve: its `document` and the recipe of its networks; `language`: the one shown
    first."""
    page = _filled(
        "learning_curve.html.jinja",
        language=language,
        source=printable(document["source"]),
        document=document,
        findings=learning_curves.findings(document),
        setting=learning_curves.setting(document),
        figures=_in_all_languages({"curve": lambda language: figures.learning_curve(document, language)}, required),
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
    *,
    language: str,
) -> None:
    """Write the page to decide in: `document` of `pati.workflows.clean`; `header` and `lines`: the table, which the
    page saves with its decisions; `items`: the lines that are shown, with their `photos` in the same order; `language`:
    the one shown first."""
    pictured = [
        {**item, "picture": base64.b64encode(pictures.thumbnail(photo)).decode()}
        for item, photo in zip(items, photos, strict=True)
    ]
    page = _filled(
        "review.html.jinja",
        language=language,
        source=printable(document["data"]),
        document=document,
        sections={why: [item for item in pictured if item["why"] == why] for why in document["counts"]},
        header=header,
        lines=lines,
        classes=classes,
    )
    outputs.write(path, page.encode())


def _filled(template: str, *, language: str, html: bool = True, **values: object) -> str:
    """A template of this package, as HTML with `html`, with these values; it knows the languages and the labels."""
    names = {markup.tag(code): NC_("name of the language", "English").shown(code) for code in languages()}
    return _templates(html).get_template(template).render(language=markup.tag(language), languages=names, **values)


@functools.cache
def _templates(html: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pati.report", "templates"),
        autoescape=html,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"markdown": _markdown, "code": _code, "zip": zip}
    environment.globals |= markup.GLOBALS
    environment.globals |= {
        "few": FEW, "labels": labels, "printable": printable, "dark_style": figures.DARK_STYLE,
    }  # fmt: skip
    return environment
