"""Later scorings of a run's model: a split again, another labelled set, photos of something else."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch

from pati.data import decode, pack
from pati.data.manifest import Manifest
from pati.data.sources import storage
from pati.data.sources.source import Columns
from pati.data.sources.storage import Place
from pati.errors import PatiError
from pati.evaluation import analysis
from pati.evaluation.documents import About, LaterScores, OutsideOf
from pati.events import Advanced, Listen, Stage, StageBegan, Warned, silent
from pati.inference.classifier import Classifier, Refused
from pati.recipe import Recipe
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.system import files
from pati.training import balance
from pati.workflows import measure
from pati.workflows.prepare import open_data
from pati.workflows.report import report_again


def score(
    folder: str | Path,
    *,
    split: str = "test",
    data: str | Path | None = None,
    columns: Columns = Columns(),
    listen: Listen = silent,
) -> LaterScores:
    """Score a run's model on one of its splits, or on another labelled set, and write a page about it.

    A further scoring of the test split, or of some of its photos in another set, is counted in the run, and said in its
    report.
    """
    run = Run.open(folder)
    made, found = Classifier.load(run.folder), Manifest.read(run.manifest)
    if data is not None:
        source = open_data(data, Recipe(), columns)
        unknown = sorted(set(source.classes) - set(made.classes))
        if unknown:
            raise PatiError(
                f"{data} has classes that the model does not know: {', '.join(unknown[:5])}",
                f"the model's classes: {', '.join(made.classes)}",
            )
        name, place, rows = source.name, storage.at(source.root), [(item.path, item.label, "") for item in source.items]
        counts = Counter(item.label for item in source.items)
    else:
        if split not in ("train", "validation", "test"):
            raise PatiError(f"there is no split {split!r}", "expected train, validation or test")
        name, place = split, storage.at(Path(found.root))
        rows = [(entry.path, entry.label, entry.sha256) for entry in found.of_split(split)]
        counts = Counter(entry.label for entry in found.of_split("train"))
    listen(StageBegan(Stage.SCORE, len(rows)))
    changed = [str(place.root / path) for path, _, digest in rows if digest and pack.hash_now(place, path) != digest]
    if changed:
        raise PatiError(
            f"{len(changed)} photos changed or are gone since the run, for example {changed[0]}",
            "put them back as they were, or score another set with --data",
        )
    known = {part: {entry.sha256 for entry in found.of_split(part)} for part in ("train", "test")}
    seen: Counter[str] = Counter()  # photos here that are the run's own, by split

    def looked_up() -> Iterator[bytes | Refused]:
        for photo in photos_of(place, rows):
            if isinstance(photo, bytes):
                digest = hashlib.sha256(photo).hexdigest()
                seen.update(part for part, digests in known.items() if digest in digests)
            yield photo

    answers, labels, paths = [], [], []
    for done, ((path, label, _), answer) in enumerate(
        zip(rows, made.predict_stream(looked_up()), strict=True), start=1
    ):
        listen(Advanced(done, len(rows)))
        if not answer.error:
            answers.append(answer)
            labels.append(made.classes.index(label))
            paths.append(path)
    if not labels:
        raise PatiError(f"none of the {len(rows)} photos could be read")
    about: About = {
        "data": name,
        "kind": "data" if data is not None else split,
        "model": str(run.model),
        "manifest": found.hash(),
        "balance": balance.evenness(Recipe.read(run.recipe).balance, list(counts.values())).document(),
        "dependent": found.dependent(split) if data is None else {},
        "unreadable": len(rows) - len(labels),
        "trained_on": seen["train"],
        "test_photos": seen["test"],
    }
    if seen["test"]:
        with run.alone():
            about["test_scored"] = run.count_scoring(name, seen["test"])
    listen(StageBegan(Stage.REPORT))
    # Two sets may have folders of one name: neither page takes the other's place.
    mark = hashlib.sha256(os.fsencode(place.root.resolve())).hexdigest()[:6]
    page = run.folder / "eval" / (f"{name}.html" if data is None else f"data-{name}-{mark}.html")
    document = measure.scored(
        made, page, answers, torch.tensor(labels), paths, lambda number: place.read(paths[number]), about
    )
    if "test_scored" in document:
        _tell(run, listen)
    return document


def _tell(run: Run, listen: Listen) -> None:
    """What was just measured is told in the report, where that can be written."""
    try:
        report_again(run.folder, thorough=False)
    except PatiError as error:
        listen(Warned(f"{run.report} does not tell of this: {error.message}"))


def outside(folder: str | Path, data: str | Path, *, listen: Listen = silent) -> OutsideOf:
    """Show a run's model photos of something else: how well does it tell them from its test photos?

    `data`: as for training; its classes don't matter. The result is kept in the run, and told in its report.
    """
    run = Run.open(folder)
    made = Classifier.load(run.folder)
    if made.scope is None:
        raise PatiError("this model knows nothing of its scope", "train it again with this version of pati")
    familiarity = Predictions.read(run).familiarity
    source = open_data(data, Recipe(), Columns())
    place, rows = storage.at(source.root), [(item.path, item.label, "") for item in source.items]
    listen(StageBegan(Stage.SCORE, len(rows)))
    answers = []
    for done, answer in enumerate(made.predict_stream(photos_of(place, rows)), start=1):
        listen(Advanced(done, len(rows)))
        if not answer.error:
            answers.append(answer)
    if not answers:
        raise PatiError(f"none of the {len(rows)} photos could be read")
    strange = torch.tensor([answer.familiarity for answer in answers], dtype=torch.float64)
    document = analysis.outside(familiarity, strange, [answer.unsure for answer in answers])
    with run.alone():
        kept = run.read_metrics()
        kept.setdefault("outside", {})[source.name] = document
        files.write_json(run.metrics, kept)
    listen(StageBegan(Stage.REPORT))
    _tell(run, listen)
    return {"data": source.name, **document}


def photos_of(place: Place, rows: list[tuple[str, str, str]]) -> Iterator[bytes | Refused]:
    """The bytes of the photos in `rows` (path, label, hash), or why one can't be read."""
    for path, _, _ in rows:
        try:
            yield place.read(path)
        except decode.Unreadable as error:
            yield Refused(str(place.root / path), str(error))
