"""Which photos should a person look at? `pati clean DATA RUN` lists them, for decisions (see `data.decisions`).

The same picture in two classes, labels that are likely wrong (see `suspects`), and the photos least like the others. A
label is judged only by a net that has not trained on its photo: the run's own where that is so, and nets trained on
other folds (see `crossfit`) for the training photos, if asked. No photo is touched.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pati import evaluate, files, pipeline, plugins, report, suspects, threads
from pati.classifier import Classifier
from pati.crossfit import CrossFit
from pati.data import decisions, manifest
from pati.data.decisions import Decision
from pati.data.manifest import Entry, Manifest
from pati.data.sources import Columns
from pati.errors import Interrupted, PatiError
from pati.files import is_text
from pati.pipeline import Listen, Prepared
from pati.recipe import Recipe
from pati.run import Run

COLUMNS = ("path", "sha256", "split", "label", "why", "answer", "label_probability", "decision", "new_label")
REASONS = ("two-classes", "label", "odd")  # in the order in which they are shown
ODDEST = 0.002  # of the photos: so many are shown as the least like the others
LEAST_SHARE = 0.2  # of a budget, for training: with less the nets would know too little to judge
MOST_FOLDS = 20
MOST_SHOWN = 300  # photos of a reason in the page; the table has all

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A photo to look at. `why`: some of `REASONS`; `answer`: the class that it looks like, if that is known."""

    entry: Entry
    why: tuple[str, ...]
    answer: str
    label_probability: float


def clean(
    data: str | Path,
    folder: str | Path,
    *,
    folds: int = 0,
    budget: float | None = None,
    columns: Columns = Columns(),
    out: Path | None = None,
    started: float | None = None,
    listen: Listen,
) -> dict[str, Any]:
    """List what to look at in `out` (default: `clean` in the run's folder): decisions.csv and review.html.

    `folds`: 2 or more judge the training photos too, by as many trainings: in `budget` seconds for the whole call, or
    each for as long as the run's. Decisions in a decisions.csv that is there already, or that the run was trained with,
    are followed and kept. The same call goes on with trainings that were stopped. Returns what was found.
    """
    started = time.monotonic() if started is None else started
    if folds != 0 and not 2 <= folds <= MOST_FOLDS:
        raise PatiError(f"--folds {folds}", f"expected a number from 2 to {MOST_FOLDS}")
    if budget is not None and (not folds or not 0 < budget < math.inf):
        raise PatiError("--budget is the time for --folds, more than 0 s", "for example --folds 3 --budget 15m")
    run = Run.open(folder)
    recipe, made = Recipe.read(run.recipe), Classifier.load(folder)
    plugins.require_same(run.read_state())
    if made.scope is None:
        raise PatiError("this run is of an older pati, which kept less", "train it again with this version")
    out = out or run.folder / "clean"
    if out.is_file():
        raise PatiError(f"--out {out} is a file, expected a folder")
    table, page = out / "decisions.csv", out / "review.html"
    earlier = next((path for path in (table, run.decisions) if path.exists()), None)
    out.mkdir(parents=True, exist_ok=True)
    alone = files.locked(out / ".lock", f"another process is working on {out}")
    with _resumable(), alone, pipeline.stoppable() as stopped, threads.restored():
        ready = pipeline.prepare(data, recipe, columns=columns, decisions=earlier, listen=listen)
        found, entries = ready.found, ready.found.kept
        if found.classes != made.classes:
            raise PatiError(
                f"{data} has the classes {', '.join(found.classes)}",
                f"expected those of the run: {', '.join(made.classes)}",
            )
        decided = {} if earlier is None else decisions.read(earlier, made.classes)
        listen({"kind": "stage", "name": "look", "photos": len(entries)})
        logits, distances = _looked(made, ready, listen)
        probabilities = _of_run(run, made, entries, logits)
        trainings = []
        if folds:
            cross = CrossFit(ready, out / "folds", folds, pace=budget, listen=listen)
            training = np.flatnonzero([entry.split == "train" for entry in entries])
            after = cross.answering_seconds()
            for fold in range(folds):
                seconds = _seconds(run, folds, fold, budget, started, after)
                answers = cross.answers(fold, seconds, stopped)
                probabilities[training[answers.numbers]] = answers.probabilities
                trainings.append(answers.facts)
        listen({"kind": "stage", "name": "report"})
        rows = _rows(found, probabilities, distances, decided)
        listed = [row for row in rows if is_text(row.entry.path)]
        files.write_text(table, _table(listed, found, decided))
        judged = int((~np.isnan(probabilities[:, 0])).sum())
        document = {
            "data": found.source,
            "run": str(run.folder),
            "photos": len(entries),
            "judged": judged,
            "unjudged": len(entries) - judged,
            "folds": trainings,
            "counts": {why: sum(why in row.why for row in listed) for why in REASONS},
            "decided": len(decided),
            "unlisted": len(rows) - len(listed),
            "table": str(table),
            "page": str(page),
            "command": plugins.command("train", str(data), "--decisions", str(table)),
            "manifest": found.hash(),
        }
        _write_page(page, document, listed, ready, decided)
    return document | {"seconds": round(time.monotonic() - started, 1)}


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted("what has been trained is kept", "the same command goes on with it") from None


# What the nets say ------------------------------------------------------------------


def _looked(made: Classifier, ready: Prepared, listen: Listen) -> tuple[torch.Tensor, Floats]:
    """The run's logits `(N, K)` for all photos, and how far each one is from those trained on, `(N,)`."""
    assert made.scope is not None
    rows, logits, distances = ready.packed.of(ready.found.kept), [], []
    for start in range(0, len(rows), evaluate.BATCH):
        part = rows[start : start + evaluate.BATCH]
        some, moments = made.answers(torch.from_numpy(ready.packed.pixels[part]))
        logits.append(some)
        distances.append(made.scope.distance(moments))
        listen({"kind": "audit", "done": start + len(part), "total": len(rows)})
    return torch.cat(logits), torch.cat(distances).double().numpy()


def _of_run(run: Run, made: Classifier, entries: Sequence[Entry], logits: torch.Tensor) -> Floats:
    """Probabilities `(N, K)` by the run's net; not numbers for its training photos and what belongs to them."""
    with np.load(run.predictions, allow_pickle=False) as stored:
        given = {
            digest: torch.from_numpy(row)
            for name in ("validation", "test")
            for digest, row in zip(stored[f"{name}_sha256"].tolist(), stored[f"{name}_logits"], strict=True)
        }
    # The answers that the run has given stay what they were.
    kept = torch.stack([given.get(entry.sha256, row) for entry, row in zip(entries, logits, strict=True)])
    probabilities = made.calibrated(kept).numpy()
    trained = {entry.sha256 for entry in Manifest.read(run.manifest).of_split("train")}
    number = {entry.path: index for index, entry in enumerate(entries)}
    for _, members in manifest.units(entries):
        if any(entry.sha256 in trained for entry in members):
            probabilities[[number[entry.path] for entry in members]] = math.nan
    return probabilities


def _seconds(run: Run, folds: int, fold: int, budget: float | None, started: float, after: float) -> float | None:
    """Seconds of training for a fold; None for as many epochs as the run. `after`: what its answers will take."""
    if budget is None:
        seconds: float | None = run.read_state()["plan"]["seconds"]
        return seconds
    left = started + budget - time.monotonic() - report.SECONDS - (folds - fold) * after
    share = min(left / (folds - fold), (budget - report.SECONDS) / folds - after)
    if share * folds < LEAST_SHARE * budget:
        needed = (budget - share * folds) / (1 - LEAST_SHARE)
        raise PatiError(
            f"a budget of {budget:.0f} s leaves {max(0.0, share):.0f} s for each of {folds} trainings",
            f"give it --budget {needed / 60:.1f}m or more; what is finished is kept",
        )
    return share


# What to look at --------------------------------------------------------------------


def _rows(found: Manifest, probabilities: Floats, distances: Floats, decided: Mapping[str, Decision]) -> list[Row]:
    """Photos to look at that nobody has decided on: pictures in two classes, labels by suspicion, then odd ones."""
    entries, labels = found.kept, np.array(found.targets(found.kept))
    number = {entry.path: index for index, entry in enumerate(entries)}
    known = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    order, believed = suspects.ranked(probabilities[known], labels[known])
    reasons: dict[str, list[int]] = {
        "two-classes": [
            number[entry.path]
            for group in found.duplicate_groups()
            if len({entry.label for entry in group}) > 1
            for entry in group
        ],
        "label": known[order[believed[order]]].tolist(),
        "odd": np.argsort(-distances, kind="stable")[: math.ceil(ODDEST * len(entries))].tolist(),
    }
    assert tuple(reasons) == REASONS
    members = {why: set(numbers) for why, numbers in reasons.items()}
    rows = []
    for index in dict.fromkeys(index for numbers in reasons.values() for index in numbers):
        entry, row = entries[index], probabilities[index]
        if entry.path not in decided:
            judged = not math.isnan(row[0])
            rows.append(
                Row(
                    entry,
                    tuple(why for why in REASONS if index in members[why]),
                    found.classes[int(row.argmax())] if judged else "",
                    float(row[labels[index]]),
                )
            )
    return rows


def _table(rows: Sequence[Row], found: Manifest, decided: Mapping[str, Decision]) -> str:
    """decisions.csv: a line a photo to look at, with the likely class as new label, then the decisions of before."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        entry = row.entry
        probability = "" if math.isnan(row.label_probability) else f"{row.label_probability:.4f}"
        suggested = row.answer if row.answer != entry.label else ""
        writer.writerow(
            [
                entry.path,
                entry.sha256,
                entry.split,
                entry.label,
                " ".join(row.why),
                row.answer,
                probability,
                "",
                suggested,
            ]
        )
    known = {entry.path: entry for entry in found.entries}
    for path, made in decided.items():
        split, label = (known[path].split or "", known[path].label) if path in known else ("", "")
        writer.writerow([path, made.sha256, split, label, "", "", "", made.action, made.label])
    return text.getvalue()


def _write_page(
    page: Path, document: dict[str, Any], rows: Sequence[Row], ready: Prepared, decided: Mapping[str, Decision]
) -> None:
    by_reason = {why: [row for row in rows if row.why[0] == why] for why in REASONS}
    totals = {why: len(some) for why, some in by_reason.items()}
    shown = [row for some in by_reason.values() for row in some[:MOST_SHOWN]]
    items = [
        {
            "path": row.entry.path,
            "sha256": row.entry.sha256,
            "split": row.entry.split,
            "label": row.entry.label,
            "group": row.entry.duplicate,
            "why": row.why,
            "answer": row.answer,
            "label_probability": None if math.isnan(row.label_probability) else row.label_probability,
        }
        for row in shown
    ]
    pixels = ready.packed.pixels[ready.packed.of([row.entry for row in shown])]
    before = [
        {"path": path, "sha256": made.sha256, "decision": made.action, "new_label": made.label}
        for path, made in decided.items()
        if is_text(path)
    ]
    report.write_review(page, document, items, list(pixels), ready.found.classes, before, totals)
