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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pati import plugins
from pati.data import decisions, manifest
from pati.data.decisions import Decision
from pati.data.manifest import Entry, Manifest
from pati.data.sources.source import Columns
from pati.errors import Interrupted, PatiError
from pati.evaluation import label_errors
from pati.evaluation.documents import CleanDocument, ReviewItem
from pati.events import Advanced, Listen, Stage, StageBegan
from pati.inference import forward
from pati.inference.classifier import Classifier
from pati.recipe import Recipe
from pati.report import pages
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.system import clock, files, locks, threads
from pati.system.files import is_text
from pati.training import plan
from pati.workflows.out_of_fold import CrossFit
from pati.workflows.prepare import Prepared, prepare
from pati.workflows.stopping import stoppable

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
    """List what to look at in `out` (default: `clean` in the run's folder): decisions.csv and review.html.

    `folds`: 2 or more judge the training photos too, by as many trainings: in `budget` seconds for the whole call, or
    each for as long as the run's. Decisions in a decisions.csv that is there already, or that the run was trained with,
    are followed and kept. The same call goes on with trainings that were stopped. Returns what was found.
    """
    started = clock.now() if started is None else started
    if folds != 0 and not 2 <= folds <= MOST_FOLDS:
        raise PatiError(f"--folds {folds}", f"expected a number from 2 to {MOST_FOLDS}")
    if budget is not None and (not folds or not 0 < budget < math.inf):
        raise PatiError("--budget is the time for --folds, more than 0 s", "for example --folds 3 --budget 15m")
    run = Run.open(folder)
    recipe, made = Recipe.read(run.recipe), Classifier.load(folder)
    plugins.require_same(run.read_state().get("plugins", {}))
    if made.scope is None:
        raise PatiError("this run is of an older pati, which kept less", "train it again with this version")
    own = run.read_state()["data"] == (str(Path(data).resolve()) if Path(data).exists() else str(data))
    if own and columns == Columns():
        columns = Columns(**run.read_state()["columns"])
    out = out or run.folder / "clean"
    _require_apart(out, Path(data), run)
    table, page = out / "decisions.csv", out / "review.html"
    earlier = table if table.exists() else run.decisions if own and run.decisions.exists() else None
    out.mkdir(parents=True, exist_ok=True)
    with _resumable(), locks.locked(out / ".lock", f"another process is working on {out}"):
        ready = prepare(data, recipe, columns=columns, decisions=earlier, listen=listen)
        found, entries = ready.found, ready.found.kept
        if found.classes != made.classes:
            raise PatiError(
                f"{data} has the classes {', '.join(found.classes)}",
                f"expected those of the run: {', '.join(made.classes)}",
            )
        cross = CrossFit(ready, out / "folds", folds, pace=budget, listen=listen) if folds else None
        listen(StageBegan(Stage.LOOK, len(entries)))
        logits, distances = _looked(made, ready, listen)
        probabilities = _of_run(run, made, entries, logits)
        trainings = []
        if cross is not None:
            training = np.flatnonzero([entry.split == "train" for entry in entries])
            after = cross.answering_seconds()
            with stoppable() as stopped, threads.restored():
                for fold in range(folds):
                    seconds = _seconds(run, folds, fold, budget, started, after)
                    answers = cross.answers(fold, seconds, stopped)
                    probabilities[training[answers.numbers]] = answers.probabilities
                    trainings.append(answers.facts)
        listen(StageBegan(Stage.REPORT))
        before = Before.read(table if table.exists() else earlier, found)  # as a person has left it by now
        rows = [row for row in _rows(found, probabilities, distances) if row.entry.path not in before.decided]
        listed = [row for row in rows if is_text(row.entry.path)]
        judged = int((~np.isnan(probabilities[:, 0])).sum())
        again = ["train", str(data), *columns.options(), "--recipe", str(run.recipe), "--decisions", str(table)]
        document: CleanDocument = {
            "data": found.source,
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
            "manifest": found.hash(),
        }
        lines = [_line(row, before) for row in listed] + [before.rows[path] for path in before.decided]
        files.write_bytes(table, _table(before.header, lines).encode("utf-8-sig"))  # the mark tells spreadsheets
        _write_page(page, document, listed, before.header, lines, ready)
    return {**document, "seconds": round(clock.now() - started, 1)}


def decide(table: Path, path: str, action: str, label: str = "") -> None:
    """Write a person's decision on one photo into decisions.csv; without an `action`, take it back.

    `label`: the new one, for relabel. Raises `PatiError` where the table holds no such photo.
    """
    with locks.locked(table.parent / ".lock", f"another process is working on {table.parent}"):
        header, rows = files.read_csv(table)
        found = [row for row in rows if row["path"] == path]
        if not found:
            raise PatiError(f"{table} does not list {path}", "make the list again: pati clean")
        for row in found:
            row["decision"] = action
            row["new_label"] = label or row["new_label"]
        files.write_bytes(table, _table(header, rows).encode("utf-8-sig"))


def _require_apart(out: Path, data: Path, run: Run) -> None:
    """Nothing is written among the user's photos, or over what the run was trained with."""
    where = out.resolve()
    if out.is_file():
        raise PatiError(f"--out {out} is a file, expected a folder")
    if where == run.folder.resolve():
        raise PatiError(f"--out {out} is the run's folder itself", f"leave it out, and it is {run.folder / 'clean'}")
    if data.is_dir() and where.is_relative_to(data.resolve()):
        raise PatiError(f"{out} lies among the photos of {data}", "name a folder elsewhere with --out")


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
    for start in range(0, len(rows), forward.BATCH):
        part = rows[start : start + forward.BATCH]
        some, moments = made.answers(torch.from_numpy(ready.packed.pixels[part]))
        logits.append(some)
        distances.append(made.scope.distance(moments))
        listen(Advanced(start + len(part), len(rows)))
    return torch.cat(logits), torch.cat(distances).double().numpy()


def _of_run(run: Run, made: Classifier, entries: Sequence[Entry], logits: torch.Tensor) -> Floats:
    """Probabilities `(N, K)` by the run's net; not numbers for its training photos and what belongs to them."""
    splits = Predictions.read(run).splits.values()
    given = {digest: row for split in splits for digest, row in zip(split.sha256, split.logits, strict=True)}
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
    left = started + budget - clock.now() - plan.REPORT - (folds - fold) * after
    share = min(left / (folds - fold), (budget - plan.REPORT) / folds - after)
    if share * folds < LEAST_SHARE * budget:
        needed = (budget - share * folds) / (1 - LEAST_SHARE)
        raise PatiError(
            f"a budget of {budget:.0f} s leaves {max(0.0, share):.0f} s for each of {folds} trainings",
            "the same command goes on with what is trained"
            if fold
            else f"give it --budget {math.ceil(needed / 6) / 10:.1f}m or more",
        )
    return share


# What to look at --------------------------------------------------------------------


@dataclass(frozen=True)
class Before:
    """What a decisions.csv holds already: its columns and ours, its rows by path, and those of their decisions that are
    for the photos as they are now, or for photos that are not there."""

    header: tuple[str, ...]
    rows: dict[str, dict[str, str]]
    decided: dict[str, Decision]

    @classmethod
    def read(cls, table: Path | None, found: Manifest) -> Before:
        """Of `table`, or of nothing; raises `PatiError` for a wrong row."""
        if table is None:
            return cls(COLUMNS, {}, {})
        header, rows = files.read_csv(table)
        known = {entry.path: entry.sha256 for entry in found.entries}
        decided = {
            path: made
            for path, made in decisions.read(table, found.classes).items()
            if known.get(path, made.sha256) == made.sha256
        }
        # Of two rows for a photo, the one with the decision.
        by_path = {row["path"]: row for row in sorted(rows, key=lambda row: bool((row["decision"] or "").strip()))}
        return cls((*COLUMNS, *(name for name in header if name and name not in COLUMNS)), by_path, decided)


def _rows(found: Manifest, probabilities: Floats, distances: Floats) -> list[Row]:
    """Photos to look at: pictures in two classes, labels by suspicion, then odd ones."""
    entries, labels = found.kept, np.array(found.targets(found.kept))
    number = {entry.path: index for index, entry in enumerate(entries)}
    known = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    order, believed = label_errors.ranked(probabilities[known], labels[known])
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
        rows.append(
            Row(
                entry,
                tuple(why for why in REASONS if index in members[why]),
                "" if math.isnan(row[0]) else found.classes[int(row.argmax())],
                float(row[labels[index]]),
            )
        )
    return rows


def _line(row: Row, before: Before) -> dict[str, str]:
    """A photo's line in decisions.csv, still to be decided; what a person wrote beside it before stays."""
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
    writer.writerows(lines)
    return text.getvalue()


def _write_page(
    page: Path,
    document: CleanDocument,
    rows: Sequence[Row],
    header: Sequence[str],
    lines: Sequence[Mapping[str, str]],
    ready: Prepared,
) -> None:
    """The page: `rows` are the first of `lines`, in their order."""
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
    pages.write_review(page, document, header, plain, items, list(pixels), ready.found.classes)
