"""Later evaluations of a run's model: on a split, on another labelled dataset, or on out-of-distribution photos."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from pati.data import decode, pack
from pati.data.entries import Entries, Entry
from pati.data.manifest import Manifest, dependent
from pati.data.sources import storage
from pati.data.sources.find import find_photos
from pati.data.sources.interface import Storage, reading_order
from pati.data.sources.source import Columns, Source
from pati.data.sources.spelling import spelled_as
from pati.errors import PatiError
from pati.evaluation import analysis
from pati.evaluation.analysis import clusters_of
from pati.evaluation.documents import EvaluationContext, LaterScores, OutOfDistributionScores
from pati.events import Advanced, Listen, Noted, Stage, StageBegan, Warned, silent
from pati.inference.classifier import Classifier
from pati.inference.predictor import Refused
from pati.locale.messages import N_, NP_
from pati.recipe import Recipe
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.runs.start import Start
from pati.system import files
from pati.training import balance
from pati.workflows import measure
from pati.workflows.opening import open_data
from pati.workflows.overlap import Overlap, overlap, same_files
from pati.workflows.relocate import relocated
from pati.workflows.report import report_again


def score(
    folder: str | Path,
    *,
    split: str = "test",
    data: str | Path | None = None,
    columns: Columns = Columns(),
    group_by: str | None = None,
    listen: Listen = silent,
) -> LaterScores:
    """Score a run's model on one of its splits, or on another labelled dataset, and write a page with the results.

    `group_by`: column of groups in the table of the other dataset, whose photos are not independent.

    Every further scoring of the test split, or of test photos contained in another dataset, also as near copies, is
    counted in the run, and stated in its report. Raises `PatiError`.
    """
    run = Run.open(folder)
    if data is not None and columns == Columns() and relocated(run, data):
        listen(Noted(N_("{data} is the data of the run: its {split} split is scored", data=data, split=split)))
        data = None
    classifier, manifest = Classifier.load(run.folder), Manifest.read(run.manifest)
    if data is not None:
        source = open_data(data, Recipe(group_by=group_by), columns)
        for note in source.notes:
            listen(Noted(note))
        source = spelled_as(_test_part(source, listen), classifier.classes, caseless=columns.class_case == "join")
        unknown = sorted(set(source.classes) - set(classifier.classes))
        if unknown:
            joined = spelled_as(source, classifier.classes, caseless=True)
            raise PatiError(
                N_("{data} has classes that the model does not know: {unknown}", data=data, unknown=unknown[:5]),
                N_("the model's classes: {classes}", classes=classifier.classes)
                if set(joined.classes) - set(classifier.classes)
                else N_("they differ in case only: add --class-case join"),
            )
        name, store, rows = source.name, storage.at(source.root), [(item.path, item.label, "") for item in source.items]
        counts = Counter(item.label for item in source.items)
        found = overlap(run, manifest, source, listen)
    else:
        if split not in ("train", "validation", "test"):
            raise PatiError(N_("there is no split {split!r}", split=split), N_("expected train, validation or test"))
        if not manifest.of_split(split):
            raise PatiError(
                N_("this run has no {split} split: it was scored by cross-validation", split=split),
                N_("its scores are in {report}; to score other photos, name them with --data", report=run.report),
            )
        name, store = split, storage.at(Path(manifest.root))
        rows = [(entry.path, entry.label, entry.sha256) for entry in manifest.of_split(split)]
        counts = Counter(manifest.of_split("train").label.counts())
        entries = manifest.of_split(split)
        found = Overlap(entries, same_files(entries, manifest, Start.of(run)))
    listen(StageBegan(Stage.SCORE, len(rows)))
    stored = {path: digest for path, _, digest in rows if digest}
    hashes = zip(stored, pack.hashes_now(store, [*stored]), strict=True)
    changed = [str(store.root / path) for path, digest in hashes if stored[path] != digest]
    if changed:
        raise PatiError(
            NP_(
                "{n} photo has changed or disappeared since the run: {example}",
                "{n} photos have changed or disappeared since the run, for example {example}",
                n=len(changed),
                example=changed[0],
            ),
            N_("restore them, or name the new place of all photos with --data"),
        )
    order = reading_order(store, [path for path, _, _ in rows])
    stream = classifier.predict_stream(photos_of(store, [rows[number] for number in order]))
    predicted = {}
    for done, (number, answer) in enumerate(zip(order, stream, strict=True), start=1):
        listen(Advanced(done, len(rows)))
        if not answer.error:
            predicted[number] = answer
    read = sorted(predicted)
    answers = [predicted[number] for number in read]
    labels = [classifier.classes.index(rows[number][1]) for number in read]
    paths = [rows[number][0] for number in read]
    if not labels:
        raise PatiError(NP_("the photo could not be read", "none of the {n} photos could be read", n=len(rows)))
    scored = {entry.path: entry for entry in found.entries}
    entries = Entries.of(scored.get(path) or Entry(path, "", "kept", sha256=path) for path in paths)
    known = {name: [row for row in copies if row["path"] in {*paths}] for name, copies in found.known.items()}
    about: EvaluationContext = {
        "data": name,
        "kind": "data" if data is not None else split,
        "model": str(run.model),
        "manifest": manifest.hash(),
        "balance": balance.class_balance(Recipe.read(run.recipe).balance, list(counts.values())).document(),
        "dependent": dependent(entries),
        "unreadable": len(rows) - len(labels),
        "trained_on": len(known["train"]),
        "test_photos": len(known["test"]),
        "training_copies": known["train"] if data is not None else [],
        "test_copies": known["test"] if data is not None else [],
        "without_training_photos": None,
    }
    if known["test"]:
        with run.alone():
            about["test_scored"] = run.count_scoring(name, len(known["test"]), classifier.weights())
    listen(StageBegan(Stage.REPORT))
    # Two datasets may have folders of the same name: their pages must not overwrite each other.
    mark = hashlib.sha256(os.fsencode(store.root.resolve())).hexdigest()[:6]
    page = run.folder / "eval" / (f"{name}.html" if data is None else f"data-{files.shortened(name)}-{mark}.html")
    document = measure.scored(
        classifier, page, answers, torch.tensor(labels), paths, lambda number: store.read(paths[number]), about,
        entries, clusters_of(manifest.calibrating()),
    )  # fmt: skip
    if "test_scored" in document:
        _tell(run, listen)
    return document


def _test_part(source: Source, listen: Listen) -> Source:
    """The test photos of a dataset that comes with splits; all photos of one without a test split."""
    tested = tuple(item for item in source.items if item.split == "test")
    if not tested or len(tested) == len(source.items):
        return source
    listen(
        Noted(
            NP_(
                "{source} comes with splits: the {n} photo of its test split is scored, the {others} others are not",
                "{source} comes with splits: the {n} photos of its test split are scored, the {others} others are not",
                n=len(tested),
                source=source.name,
                others=len(source.items) - len(tested),
            )
        )
    )
    return replace(source, items=tested)


def _tell(run: Run, listen: Listen) -> None:
    """Update the report with the new results; a failure is only a warning."""
    try:
        report_again(run.folder, thorough=False)
    except PatiError as error:
        listen(Warned(N_("{path} was not updated: {error}", path=run.report, error=error.message)))


def outside(folder: str | Path, data: str | Path, *, listen: Listen = silent) -> OutOfDistributionScores:
    """Measure how well a run's model distinguishes out-of-distribution photos from its test photos.

    `data`: as for training, or a photo or a folder of photos in any layout: labels don't matter. The result is stored
    in the run, and added to its report. Raises `PatiError`.
    """
    run = Run.open(folder)
    classifier = Classifier.load(run.folder)
    if classifier.detector is None:
        raise PatiError(
            N_("this model has no out-of-distribution detector"), N_("train it again with this version of pati")
        )
    p_values = Predictions.of(run, classifier.weights()).p_values
    source = find_photos(data)
    for note in source.notes:
        listen(Noted(note))
    if not source.items:
        raise PatiError(N_("no photos found in {root}", root=source.root))
    store, rows = storage.at(source.root), [(item.path, item.label, "") for item in source.items]
    listen(StageBegan(Stage.SCORE, len(rows)))
    answers = []
    for done, answer in enumerate(classifier.predict_stream(photos_of(store, rows)), start=1):
        listen(Advanced(done, len(rows)))
        if not answer.error:
            answers.append(answer)
    if not answers:
        raise PatiError(NP_("the photo could not be read", "none of the {n} photos could be read", n=len(rows)))
    strange = torch.tensor([answer.ood_p_value for answer in answers], dtype=torch.float64)
    clusters = clusters_of(Manifest.read(run.manifest).scored())
    document = analysis.outside(p_values, strange, [answer.unsure for answer in answers], clusters)
    with run.alone():
        kept = run.read_metrics()
        kept.setdefault("outside", {})[source.name] = document
        files.write_json(run.metrics, kept)
    listen(StageBegan(Stage.REPORT))
    _tell(run, listen)
    return {"data": source.name, **document}


def photos_of(store: Storage, rows: list[tuple[str, str, str]]) -> Iterator[bytes | Refused]:
    """The bytes of the photos in `rows` (path, label, hash), or why one can't be read."""
    for path, _, _ in rows:
        try:
            yield store.read(path)
        except decode.Unreadable as error:
            yield Refused(str(store.root / path), error)
