"""Measured numbers -> figures and one HTML file. Computes no score and loads no model."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from numpy.typing import NDArray

from pati import files
from pati.classifier import Explanation
from pati.data.manifest import Entry, Manifest
from pati.decode import FLAGS, REASONS
from pati.files import printable
from pati.recipe import Recipe
from pati.report import figures
from pati.report.words import LANGUAGES, WORDS
from pati.run import Run

SECONDS = 5.0  # what writing a report takes on a slow machine; the planner sets it aside


def pick_examples(logits: torch.Tensor, labels: torch.Tensor, count: int = 6) -> list[int]:
    """Numbers of `count` test photos that went worst and of `count` others, spread evenly."""
    probabilities = logits.softmax(1)
    wrong = probabilities.argmax(1) != labels
    surest = torch.where(wrong, probabilities.max(1).values, -1.0).argsort(descending=True, stable=True)
    worst = surest[: min(count, int(wrong.sum()))].tolist()
    right = (~wrong).nonzero().flatten()
    step = max(1, len(right) // count)
    return [*worst, *right[::step][:count].tolist()]


def write(
    run: Run,
    manifest: Manifest,
    recipe: Recipe,
    document: dict[str, Any],
    epochs: Sequence[dict[str, Any]],
    examples: Sequence[tuple[Entry, Explanation]],
    suspicious: Sequence[NDArray[np.uint8]],
    *,
    language: str = "en",
) -> None:
    """Write report.html and the figures of a scored run. `suspicious`: the photos of the suspects, in their order;
    `language`: the one shown first."""
    found, classes = document["analysis"], document["classes"]
    make: dict[str, Callable[[dict[str, str]], str]] = {
        "curves": lambda words: figures.curves(epochs, words, by_class=document["balance"]["by_class"]),
        "confusion": lambda words: figures.confusion(document["test"]["confusion"], classes, words),
        "reliability": lambda words: figures.reliability(found["calibration"], words),
        "risk_coverage": lambda words: figures.risk_coverage(found["calibration"], words),
    }
    if "robustness" in found:
        make["robustness"] = lambda words: figures.robustness(found["robustness"], words)
    if found["curves"]:
        make["roc"] = lambda words: figures.roc_and_precision(found["curves"], words)
    drawn = {name: {language: draw(WORDS[language]) for language in LANGUAGES} for name, draw in make.items()}
    for name, by_language in drawn.items():
        files.write_text(run.figures / f"{name}.svg", by_language["en"])
    gallery = []
    for entry, explanation in examples:
        picture = figures.overlay(explanation)
        gallery.append(
            {
                "picture": base64.b64encode(picture).decode(),
                "path": printable(entry.path),
                "truth": entry.label,
                "answer": explanation.prediction.label,
                "confidence": explanation.prediction.confidence,
                "right": entry.label == explanation.prediction.label,
            }
        )
    if examples:
        files.write_bytes(
            run.figures / "explanations.png", figures.sheet([e for _, e in examples], [i.label for i, _ in examples])
        )
    kept = manifest.kept
    page = _filled(
        "report.html.jinja",
        language=language,
        source=printable(manifest.source),
        document=document,
        recipe=recipe.to_json(),
        epochs=epochs,
        counts={
            name: Counter(entry.label for entry in manifest.of_split(name)) for name in ("train", "validation", "test")
        },
        kept=len(kept),
        seen=len(manifest.entries),
        flagged=Counter(flag for entry in kept for flag in entry.flags),
        quarantined=[entry for entry in manifest.entries if not entry.kept],
        reasons=REASONS,
        flags=FLAGS,
        groups=[[(printable(entry.path), entry.label) for entry in group] for group in manifest.duplicate_groups()],
        crossing=[
            [(printable(entry.path), entry.label) for entry in group]
            for group in manifest.duplicate_groups()
            if len({entry.label for entry in group}) > 1
        ],
        leaks=len(manifest.leaks()),
        notes=[printable(note) for note in manifest.notes],
        figures=drawn,
        gallery=gallery,
        suspects=[
            row | {"picture": base64.b64encode(figures.thumbnail(photo)).decode(), "path": printable(row["path"])}
            for row, photo in zip(found["suspects"]["first"], suspicious, strict=True)
        ],
        printable=printable,
    )
    files.write_text(run.report, page)
    files.write_text(run.card, _card(run, manifest, recipe, document))


def _card(run: Run, manifest: Manifest, recipe: Recipe, document: dict[str, Any]) -> str:
    """The model card: what the model is for, what it was made of, what it is worth, and what it can't do."""
    found = document["analysis"]
    damage = found.get("robustness")
    at_worst = [{"kind": kind, "lost": rows[-1]["lost"]} for kind, rows in damage["kinds"].items()] if damage else []
    counts = Counter(entry.split for entry in manifest.kept)
    return _filled(
        "card.md.jinja",
        markup=False,
        name=run.folder.resolve().name,
        file=str(run.model),
        classes=[printable(name) for name in document["classes"]],
        source=printable(manifest.source),
        kept=len(manifest.kept),
        seen=len(manifest.entries),
        counts=counts,
        group=recipe.group_by,
        recipe=recipe,
        epochs=document["epochs"],
        minutes=document["seconds"]["training"] / 60,
        scored=document.get("test_scored", 1),
        balance=document["balance"],
        test=document["test"],
        worst=min(document["test"]["per_class"], key=lambda row: float(row["recall"])),
        calibration=found["calibration"],
        outside=document.get("outside", {}),
        damage=damage,
        hardest=max(at_worst, key=lambda row: float(row["lost"]), default=None),
        suspects=found["suspects"]["count"],
        manifest=document["manifest"],
        versions=document["versions"],
        percent=lambda share: f"{100 * share:.1f} %",
    )


def write_search(path: Path, document: dict[str, Any], recipe: Recipe) -> None:
    """Write the page about a search: its `document` (see `pati.tune`) and the recipe it began with."""
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
        minutes=sum(row["seconds"] or 0 for row in trials) / 60,
        figures=drawn,
        recipe=recipe.to_json(),
    )
    files.write_text(path, page)


def _filled(template: str, *, markup: bool = True, **values: Any) -> str:
    """A template of this package, as HTML with `markup`, with these values; each one also knows the words."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pati.report", ""),
        autoescape=markup,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}"
    environment.globals |= {"words": WORDS, "languages": LANGUAGES}
    return environment.get_template(template).render(**values)
