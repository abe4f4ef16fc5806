"""Find photos for a person to review: `pati clean DATA RUN` lists them for decisions (see `data.decisions`).

These are duplicates in two classes, likely label errors (see `label_errors`), and the most unusual photos. A label is
assessed only by a network that was not trained on its photo: the run's own for photos outside its training set, and, on
request, networks trained on other folds (see `out_of_fold`) for the training photos. No photo is changed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pati import plugins
from pati.data import decisions, manifest
from pati.data.decisions import Decision
from pati.data.entries import Entry
from pati.data.manifest import Manifest
from pati.data.sources.source import Columns
from pati.errors import Interrupted, PatiError
from pati.evaluation import label_errors
from pati.evaluation.documents import CleanDocument, ReviewItem
from pati.events import Advanced, Listen, Noted, Stage, StageBegan
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.locale import catalogues
from pati.locale.messages import N_
from pati.recipe import Recipe
from pati.report import pages
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.runs.start import Start
from pati.system import clock, files, locks, outputs, threads
from pati.system.csv_text import guarded
from pati.system.files import is_text
from pati.training import plan
from pati.workflows.opening import where_is
from pati.workflows.out_of_fold import CrossFit, dealt
from pati.workflows.prepare import Prepared, prepare
from pati.workflows.stopping import stoppable

COLUMNS = ("path", "sha256", "split", "label", "why", "answer", "label_probability", "decision", "new_label")
REASONS = ("two-classes", "label", "odd")  # in display order; "odd": the most unusual photos
OUTLIER_SHARE = 0.002  # fraction of the photos listed as the most unusual
LEAST_SHARE = 0.2  # of a budget, for training: with less, the networks would be too poor to assess labels
MOST_FOLDS = 20
MOST_SHOWN = 300  # photos per reason on the page; the table contains all

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """A photo for review. `why`: some of `REASONS`; `answer`: the predicted class, if known."""

    entry: Entry
    why: tuple[str, ...]
    answer: str
    label_probability: float


@clock.watched()
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
) -> CleanDocument:
    """List photos for review in `out` (default: `clean` in the run folder): decisions.csv and review.html.

    `folds`: 2 or more also assess the training photos, with one training run per fold: within `budget` seconds for the
    whole call, or each as long as the run's. Existing decisions, in the decisions.csv there or in the one that the run
    was trained with, are applied and kept. Calling it again resumes interrupted folds. Returns a summary. Raises
    `PatiError`; `Interrupted` after a stop.
    """
    started = clock.now() if started is None else started
    if folds != 0 and not 2 <= folds <= MOST_FOLDS:
        raise PatiError(
            N_("--folds is {folds}", folds=folds), N_("expected a number from 2 to {most}", most=MOST_FOLDS)
        )
    if budget is not None and (not folds or not 0 < budget < math.inf):
        raise PatiError(
            N_("--budget limits the time of --folds and must be above 0 s"), N_("for example: --folds 3 --budget 15m")
        )
    run = Run.open(folder)
    start = Start.of(run)
    recipe, classifier = Recipe.read(run.recipe), Classifier.load(folder)
    plugins.require_same(run.read_state().get("plugins", {}))
    if classifier.detector is None:
        raise PatiError(
            N_("this run was made by an older version, which saved less"),
            N_("train it again with this version of pati"),
        )
    if folds and Manifest.read(run.manifest).folds:
        listen(
            Noted(N_("the run's own cross-validation has checked the labels of all its photos: --folds is not needed"))
        )
        folds, budget = 0, None
    own = os.path.realpath(run.read_state()["data"]) == os.path.realpath(where_is(data))
    if own and columns == Columns():
        columns = Columns(**run.read_state()["columns"])
    out = out or run.folder / "clean"
    _require_apart(out, Path(data), run)
    table, page = out / "decisions.csv", out / "review.html"
    earlier = table if table.exists() else run.decisions if own and run.decisions.exists() else None
    outputs.require_free(page)
    out.mkdir(parents=True, exist_ok=True)
    with _resumable(), locks.locked(out / ".lock", N_("another process is using {folder}", folder=out)):
        ready = prepare(data, recipe, columns=columns, decisions=earlier, start=start, listen=listen)
        manifest, entries = ready.manifest, ready.manifest.kept
        if manifest.classes != classifier.classes:
            raise PatiError(
                N_("{data} has the classes {classes}", data=data, classes=manifest.classes),
                N_("expected the classes of the run: {classes}", classes=classifier.classes),
            )
        cross = CrossFit(ready, out / "folds", dealt(ready, folds), pace=budget, listen=listen) if folds else None
        listen(StageBegan(Stage.INSPECT, len(entries)))
        logits, distances = _inspect(classifier, ready, listen)
        probabilities = _of_run(run, classifier, entries, logits)
        trainings = []
        if cross is not None:
            training = np.flatnonzero([entry.split == "train" for entry in entries])
            after = cross.prediction_seconds()
            with stoppable() as stopped, threads.restored():
                for fold in range(folds):
                    seconds = _seconds(run, folds, fold, budget, started, after)
                    answers = cross.answers(fold, seconds, stopped)
                    assessed = (answers.logits.double() / answers.temperature).softmax(1).numpy()
                    assessed[~answers.taught] = math.nan
                    probabilities[training[answers.numbers]] = assessed
                    trainings.append(answers.facts)
        listen(StageBegan(Stage.REPORT))
        before = Before.read(table if table.exists() else earlier, manifest)  # may have been edited meanwhile
        rows = [row for row in _rows(manifest, probabilities, distances) if row.entry.path not in before.decided]
        listed = [row for row in rows if is_text(row.entry.path)]
        judged = int((~np.isnan(probabilities[:, 0])).sum())
        again = ["train", str(data), *columns.options(), "--recipe", str(run.recipe), "--decisions", str(table)]
        if start is not None:
            again += ["--weights" if start.parent["pretrained"] else "--from", str(run.start_weights)]
        document: CleanDocument = {
            "data": manifest.source,
            "run": str(run.folder),
            "photos": len(entries),
            "judged": judged,
            "unjudged": len(entries) - judged,
            "folds": trainings,
            "counts": {why: sum(row.why[0] == why for row in listed) for why in REASONS},
            "decided": len(before.decided),
            "unlisted": len(rows) - len(listed),
            "table": str(table),
            "page": str(page),
            "command": plugins.command(*again),
            "manifest": manifest.hash(),
        }
        lines = [_line(row, before) for row in listed] + [before.rows[path] for path in before.decided]
        files.write_bytes(table, _table(before.header, lines).encode("utf-8-sig"))  # spreadsheets need the BOM
        _write_page(page, document, listed, before.header, lines, ready)
    return {**document, "seconds": round(clock.now() - started, 1)}


@dataclass(frozen=True)
class Listed:
    """A row of decisions.csv. `why`: one of `REASONS`; `label_probability`: None if it is not known."""

    path: str
    label: str
    why: str
    answer: str
    label_probability: float | None
    decision: str
    new_label: str


def read_list(table: Path, classes: Sequence[str]) -> list[Listed]:
    """The photos in a decisions.csv of `clean`, which may have been edited. Raises `PatiError` for an invalid row."""
    decisions.read(table, classes)
    header, rows = decisions.read_table(table)
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise PatiError(
            N_("{path} has no column {column!r}", path=table, column=lacking[0]), N_("run `pati clean` again")
        )
    return [_listed(table, number, row) for number, row in enumerate(rows, start=2)]


def _listed(table: Path, number: int, row: Mapping[str, str]) -> Listed:
    cells = {name: (row[name] or "").strip() for name in COLUMNS}
    why = cells["why"].split()[0] if cells["why"] else "label"
    if why not in REASONS:
        raise PatiError(
            N_("{path}, line {number}: unknown reason {why!r}", path=table, number=number, why=why),
            N_("expected one of {names}", names=REASONS),
        )
    share, text = None, cells["label_probability"]
    if text:
        try:
            share = float(text.replace(",", "."))  # the decimal mark of many spreadsheets
        except ValueError:
            share = math.nan
        if not 0 <= share <= 1:
            raise PatiError(
                N_(
                    "{path}, line {number}: label_probability is {text!r}, expected a number from 0 to 1",
                    path=table,
                    number=number,
                    text=text,
                ),
                N_("run `pati clean` again, or empty the cell"),
            )
    return Listed(
        row["path"], cells["label"], why, cells["answer"], share, cells["decision"].casefold(), cells["new_label"]
    )


def decide(table: Path, path: str, action: str, label: str = "") -> None:
    """Write a decision on one photo into decisions.csv; an empty `action` removes it.

    `label`: the new one, for relabel. Raises `PatiError` if the table does not contain the photo.
    """
    with locks.locked(table.parent / ".lock", N_("another process is using {folder}", folder=table.parent)):
        header, rows = decisions.read_table(table)
        matches = [row for row in rows if row["path"] == path]
        if not matches:
            raise PatiError(N_("{table} has no row for {path}", table=table, path=path), N_("run `pati clean` again"))
        for row in matches:
            row["decision"] = action
            row["new_label"] = label or row["new_label"]
        files.write_bytes(table, _table(header, rows).encode("utf-8-sig"))


def _require_apart(out: Path, data: Path, run: Run) -> None:
    """Never write into the user's photos, or over the files of the run."""
    where = out.resolve()
    if out.is_file():
        raise PatiError(N_("--out {out} is a file, expected a folder", out=out))
    if where == run.folder.resolve():
        raise PatiError(
            N_("--out {out} is the run's folder itself", out=out),
            N_("omit --out to use {folder}", folder=run.folder / "clean"),
        )
    if data.is_dir() and where.is_relative_to(data.resolve()):
        raise PatiError(
            N_("--out {out} is inside the data folder {data}", out=out, data=data),
            N_("choose a folder elsewhere with --out"),
        )


@contextlib.contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(N_("the trained folds are saved"), N_("the same command resumes them")) from None


# Predictions ------------------------------------------------------------------------


def _inspect(classifier: Classifier, ready: Prepared, listen: Listen) -> tuple[torch.Tensor, Floats]:
    """The run's logits `(N, K)` for all photos, and the distance of each from the training photos, `(N,)`."""
    assert classifier.detector is not None
    rows, logits, distances = ready.packed.of(ready.manifest.kept), [], []
    for start in range(0, len(rows), forward.BATCH):
        part = rows[start : start + forward.BATCH]
        some, moments = classifier.answers(torch.from_numpy(ready.packed.pixels[part]))
        logits.append(some)
        distances.append(classifier.detector.distance(moments))
        listen(Advanced(start + len(part), len(rows)))
    return torch.cat(logits), torch.cat(distances).double().numpy()


def _of_run(run: Run, classifier: Classifier, entries: Sequence[Entry], logits: torch.Tensor) -> Floats:
    """Probabilities `(N, K)` by networks that were not trained on the photo, its duplicates or its group; NaN without.

    By the run's network, or those of its cross-validation.
    """
    splits = Predictions.of(run, classifier.weights()).splits.values()
    given = {digest: row for split in splits for digest, row in zip(split.sha256, split.logits, strict=True)}
    # Where the run has stored predictions, use them.
    kept = torch.stack([given.get(entry.sha256, row) for entry, row in zip(entries, logits, strict=True)])
    probabilities = classifier.calibrated(kept).numpy()
    start, before = Start.of(run), Manifest.read(run.manifest)
    trained, folded = {entry.sha256 for entry in before.of_split("train")}, before.folds > 0
    trained |= start.training_photos() if start is not None else set()
    _, unit = manifest.units(entries)
    learnt = {number for number, entry in zip(unit.tolist(), entries, strict=True) if entry.sha256 in trained}
    for row, (number, entry) in enumerate(zip(unit.tolist(), entries, strict=True)):
        if number in learnt and not (folded and entry.sha256 in given):
            probabilities[row] = math.nan
    return probabilities


def _seconds(run: Run, folds: int, fold: int, budget: float | None, started: float, after: float) -> float | None:
    """Training time for a fold; None for as many epochs as the run. `after`: seconds for its predictions."""
    if budget is None:
        seconds: float | None = run.read_state()["plan"]["seconds"]
        return seconds
    left = started + budget - clock.now() - plan.REPORT - (folds - fold) * after
    share = min(left / (folds - fold), (budget - plan.REPORT) / folds - after)
    if share * folds < LEAST_SHARE * budget:
        needed = (budget - share * folds) / (1 - LEAST_SHARE)
        raise PatiError(
            N_(
                "a budget of {budget:.0f} s leaves {share:.0f} s for each of the {folds} folds",
                budget=budget,
                share=max(0.0, share),
                folds=folds,
            ),
            N_("the same command resumes with the trained folds")
            if fold
            else N_("use --budget {needed:.1f}m or more", needed=math.ceil(needed / 6) / 10),
        )
    return share


# Photos for review ------------------------------------------------------------------


@dataclass(frozen=True)
class Before:
    """The contents of an existing decisions.csv.

    `header`: our columns, then its other ones; `rows`: by path; `decided`: decisions on photos that are unchanged or
    missing.
    """

    header: tuple[str, ...]
    rows: dict[str, dict[str, str]]
    decided: dict[str, Decision]

    @classmethod
    def read(cls, table: Path | None, manifest: Manifest) -> Before:
        """Read `table`; None: empty. Raises `PatiError` for an invalid row."""
        if table is None:
            return cls(COLUMNS, {}, {})
        header, rows = decisions.read_table(table)
        known = {entry.path: entry.sha256 for entry in manifest.entries}
        decided = {
            path: decision
            for path, decision in decisions.read(table, manifest.classes).items()
            if known.get(path, decision.sha256) == decision.sha256
        }
        # If a photo has two rows, use the one with the decision.
        by_path = {row["path"]: row for row in sorted(rows, key=lambda row: bool((row["decision"] or "").strip()))}
        return cls((*COLUMNS, *(name for name in header if name and name not in COLUMNS)), by_path, decided)


def _rows(manifest: Manifest, probabilities: Floats, distances: Floats) -> list[Row]:
    """Photos for review: duplicates in two classes, likely label errors in order, then the most unusual ones."""
    entries, labels = manifest.kept, np.array(manifest.targets(manifest.kept))
    number = {entry.path: index for index, entry in enumerate(entries)}
    known = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    order, believed = label_errors.ranked(probabilities[known], labels[known])
    reasons: dict[str, list[int]] = {
        "two-classes": [
            number[entry.path]
            for group in manifest.duplicate_groups()
            if len({entry.label for entry in group}) > 1
            for entry in group
        ],
        "label": known[order[believed[order]]].tolist(),
        "odd": np.argsort(-distances, kind="stable")[: math.ceil(OUTLIER_SHARE * len(entries))].tolist(),
    }
    assert tuple(reasons) == REASONS
    members = {why: set(numbers) for why, numbers in reasons.items()}
    rows = []
    for index in dict.fromkeys(index for numbers in reasons.values() for index in numbers):
        entry, row = entries[index], probabilities[index]
        rows.append(
            Row(
                entry,
                tuple(why for why in REASONS if index in members[why]),
                "" if math.isnan(row[0]) else manifest.classes[int(row.argmax())],
                float(row[labels[index]]),
            )
        )
    return rows


def _line(row: Row, before: Before) -> dict[str, str]:
    """A photo's undecided row for decisions.csv; keeps what a person wrote into other columns before."""
    entry, kept = row.entry, before.rows.get(row.entry.path, {})
    suggested = row.answer if row.answer != entry.label else ""
    if kept.get("sha256") != entry.sha256:
        kept = {}
    return {name: kept.get(name) or "" for name in before.header} | {
        "path": entry.path,
        "sha256": entry.sha256,
        "split": entry.split or "",
        "label": entry.label,
        "why": " ".join(row.why),
        "answer": row.answer,
        "label_probability": "" if math.isnan(row.label_probability) else f"{row.label_probability:.4f}",
        "decision": "",
        "new_label": kept.get("new_label") or suggested,
    }


def _table(header: Sequence[str], lines: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: guarded(cell or "") for name, cell in line.items()} for line in lines)
    return text.getvalue()


def _write_page(
    page: Path,
    document: CleanDocument,
    rows: Sequence[Row],
    header: Sequence[str],
    lines: Sequence[Mapping[str, str]],
    ready: Prepared,
) -> None:
    """Write the page: `rows` correspond to the first of `lines`, in the same order."""
    numbers = [n for why in REASONS for n in [n for n, row in enumerate(rows) if row.why[0] == why][:MOST_SHOWN]]
    items: list[ReviewItem] = [
        {
            "line": number,
            "path": rows[number].entry.path,
            "label": rows[number].entry.label,
            "why": rows[number].why[0],
            "answer": rows[number].answer,
            "label_probability": None if math.isnan(p := rows[number].label_probability) else p,
        }
        for number in numbers
    ]
    pixels = ready.packed.pixels[ready.packed.of([rows[number].entry for number in numbers])]
    plain = [[line.get(name) or "" for name in header] for line in lines]
    classes, language = ready.manifest.classes, catalogues.current()
    pages.write_review(page, document, header, plain, items, list(pixels), classes, language=language)
