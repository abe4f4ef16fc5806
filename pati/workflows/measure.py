"""Evaluate a finished training run, and write its report.

Nothing here scores the test split: its predictions were made once, and are read. Robustness and explanations are
measured on validation photos, on as many as the time allows.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.entries import Entry
from pati.data.manifest import Manifest
from pati.data.pack import Pack
from pati.data.preprocess import Photo
from pati.evaluation import analysis, metrics
from pati.evaluation.calibration import CrossCalibration
from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import (
    Analysis,
    EvaluationContext,
    ExplanationChecks,
    FoldFacts,
    LaterScores,
    Measurements,
    PartScores,
    Robustness,
    RunDocument,
    Scores,
    ScoresPage,
)
from pati.evaluation.intervals import KeptModel
from pati.explain import checks
from pati.explain.cams import explainer
from pati.explain.checks import Values
from pati.inference.classifier import Classifier
from pati.inference.predictor import Prediction
from pati.locale import catalogues
from pati.recipe import Recipe
from pati.report import pages
from pati.runs.attempts import Attempt, required
from pati.runs.history import epochs
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.system import clock

METHOD = "grad-cam"  # the explainer that is tested
EXPLAINING = 80  # number of predictions that take as long as the explanations in a report
SLACK = 1.15  # safety factor on the estimated time of a probe, which is lost if the time does not suffice
SHARE = 0.03  # of a budget, for the probes


def analyse(
    classifier: Classifier, manifest: Manifest, packed: Pack, answers: Predictions, attempt: Attempt = required
) -> Analysis:
    """The analysis of the stored predictions, without new ones."""
    assert classifier.calibration is not None, "learnt by the scoring"
    validation, tested = _scored(manifest.of_split("validation"), answers.validation.sha256), manifest.scored()
    logits, labels = answers.test.logits, answers.test.labels
    rows = packed.of(tested)
    clusters = analysis.clusters_of(tested)
    fitted = clusters if manifest.folds else analysis.clusters_of(validation)
    crossed = CrossCalibration.of(logits, labels, folds_of(tested)) if manifest.folds else None
    all_logits = torch.cat([answers.validation.logits, logits])
    all_labels = torch.cat([answers.validation.labels, labels])
    found: Analysis = {
        **analysis.of_answers(
            classifier.calibration, logits, labels, answers.p_values, manifest.classes, clusters, fitted, crossed
        ),
        "suspects": analysis.likely_label_errors(
            [*validation, *tested], all_logits, all_labels, classifier.calibration.temperature, manifest.classes
        ),
    }
    hits = (logits.argmax(1) == labels).tolist()
    slices = attempt(
        "slices",
        lambda: analysis.sliced(tested, lambda number: packed.pixels[rows[number]], hits, clusters),
        None,
    )
    return found if slices is None else {**found, "slices": slices}


def folds_of(entries: Sequence[Entry]) -> NDArray[np.int64]:
    """The fold of each entry, `(N,)`; all are in one."""
    return np.array([entry.fold for entry in entries], np.int64)


def _scored(entries: Sequence[Entry], digests: Sequence[str]) -> list[Entry]:
    """The entries whose contents are `digests`, in the same order: with a budget, not all may have been scored."""
    rest = iter(digests)
    wanted, kept = next(rest, None), []
    for entry in entries:
        if entry.sha256 == wanted:
            kept.append(entry)
            wanted = next(rest, None)
    return kept


def summaries(
    manifest: Manifest, answers: Predictions, folds: Sequence[FoldFacts], epochs: int
) -> tuple[Scores | None, Scores]:
    """The scores on validation photos, if there are any, and on test photos or folds, from the stored predictions.

    `folds`: the trainings of the folds, if any; `epochs`: of the model that is kept.
    """
    validated, tested = _scored(manifest.of_split("validation"), answers.validation.sha256), manifest.scored()
    kept = None
    if folds:
        others = len(manifest.of_split("train")) - statistics.mean(fold["photos"] for fold in folds)
        kept = KeptModel(
            photos=len(manifest.of_split("train")) / others,
            time=epochs / statistics.mean(fold["epochs"] for fold in folds),
        )
    validation = None
    if validated:
        part = answers.validation
        validation = metrics.summary(part.logits, part.labels, manifest.classes, analysis.clusters_of(validated))
    part = answers.test
    return validation, metrics.summary(part.logits, part.labels, manifest.classes, analysis.clusters_of(tested), kept)


def answering(run: Run, classifier: Classifier, fold: int | None) -> Classifier:
    """The classifier that predicted the photos of a fold, which was not trained on them; the run's if it is None."""
    return classifier if fold is None else Classifier.load(run.fold_model(fold))


def probing(run: Run, classifier: Classifier, manifest: Manifest) -> Classifier:
    """The classifier to measure on `Manifest.probing`: the run's, or the first fold's if it was trained on these."""
    return answering(run, classifier, manifest.probing()[0].fold)


def probed(
    classifier: Classifier,
    manifest: Manifest,
    packed: Pack,
    *,
    seconds: float | None = None,
    trained: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Measurements:
    """Measure robustness and test explanations on photos not trained on; what there is no time for is left out.

    `classifier`: see `probing`.

    Limited by `seconds`; else by the number of photos `trained` on, so that runs by epochs give the same result
    everywhere; without either, up to the `most` of `PROBES`. `progress` is called with the name of the probe, and
    photos done and total.
    """
    entries = manifest.probing()
    labels, rows = torch.tensor(manifest.targets(entries)), packed.of(entries)
    clusters = analysis.clusters_of(entries)
    # A random order, so that any number of photos is a sample of all.
    order = np.random.default_rng(0).permutation(len(entries))
    ends = None if seconds is None else clock.now() + seconds
    done: dict[str, list[Values]] = {name: [] for name in PROBES}
    each: dict[str, float] = {}  # seconds per photo
    for share in (True, False):  # the second round uses the time that other probes left
        for name, probe in PROBES.items():
            some = order[: probe.most if trained is None else min(probe.most, trained // probe.trained)]
            if seconds is not None and name not in each and len(some) >= probe.fewest:
                pixels = packed.pixels[rows[some[: probe.part]]]
                each[name] = probe.answers * seconds_to_answer(classifier.logits, pixels) / len(pixels)
            until = None if ends is None else ends - (seconds or 0) * (1 - probe.share) * share
            while count := next_part(
                probe, len(some), _photos(done[name]), None if until is None else until - clock.now(), each.get(name, 0)
            ):
                start, at = _photos(done[name]), clock.now()
                progress(name, start, len(some))
                part = some[start : start + count]
                done[name].append(probe.measure(classifier, packed.pixels[rows[part]], labels[part], start))
                each[name] = (clock.now() - at) / count
    summaries = {}
    for name, parts in done.items():
        if _photos(parts) >= PROBES[name].fewest:
            progress(name, _photos(parts), _photos(parts))
            values = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
            summaries[name] = PROBES[name].summary(values, clusters and clusters.take(order[: _photos(parts)]))
    return cast(Measurements, summaries)


def _photos(parts: Sequence[Values]) -> int:
    """Number of photos in these parts."""
    return sum(len(next(iter(part.values()))) for part in parts)


def next_part(probe: Probe, photos: int, done: int, seconds: float | None, each: float) -> int:
    """Number of photos to measure next, of `photos` with `done` done, in `seconds`, at `each` seconds per photo.

    0 if the time does not suffice for one more, or for enough to give a result.
    """
    count = min(probe.part, photos - done) if photos >= probe.fewest else 0
    if seconds is None or count == 0:
        return count
    fit = int(seconds / max(each, 1e-9))
    return max(0, min(count, fit)) if done + fit >= probe.fewest else 0


def probing_seconds(photos: int, one: float, most: float) -> float:
    """Seconds to reserve for the probes, of at most `most`; `photos`: number of validation photos.

    `one`: seconds per prediction. Only for probes that can give a result, and no more than they can use.
    """
    aside = 0.0
    for probe in sorted(PROBES.values(), key=lambda probe: probe.fewest * probe.answers):
        each = SLACK * probe.answers * one
        if photos >= probe.fewest and probe.fewest * each <= most - aside:
            aside += min(min(probe.most, photos) * each, most - aside)
    return aside


def seconds_to_answer(ask: Callable[[torch.Tensor], object], photos: NDArray[np.uint8]) -> float:
    """Seconds that `ask` takes for these photos `uint8 (N, size, size, 3)` on this machine."""
    pixels = torch.from_numpy(photos)
    ask(pixels)  # warm-up
    at = clock.now()
    ask(pixels)
    return clock.now() - at


def _corrupted(classifier: Classifier, photos: NDArray[np.uint8], labels: torch.Tensor, seed: int) -> Values:
    return {"right": analysis.damaged(classifier.logits, photos, labels, seed=seed)}


def _explained(classifier: Classifier, photos: NDArray[np.uint8], labels: torch.Tensor, seed: int) -> Values:
    return checks.values(classifier.net, explainer(METHOD), *classifier.explainer_inputs(torch.from_numpy(photos)))


@dataclass(frozen=True)
class Probe:
    """A measurement that takes longer on more photos."""

    measure: Callable[[Classifier, NDArray[np.uint8], torch.Tensor, int], Values]  # photos, labels, seed -> by photo
    summary: Callable[[Values, Clusters | None], Robustness | ExplanationChecks]
    answers: float  # cost per photo as a number of predictions, including other work
    part: int  # photos per batch
    most: int  # maximum number of photos
    fewest: int  # minimum number of photos for a result
    trained: int  # in runs by epochs: one photo is measured for this many trained on
    share: float  # of the time, cumulative over the probes up to this one


PROBES = {
    "robustness": Probe(
        _corrupted, lambda values, clusters: analysis.robustness(values["right"], clusters),
        1.3 * (1 + len(analysis.CORRUPTION_LEVELS)), part=16, most=1000, fewest=20, trained=1000, share=0.3,
    ),
    "explanations": Probe(
        _explained, lambda values, clusters: {"method": METHOD, **checks.summary(values, clusters)}, 3 * checks.ANSWERS,
        part=4, most=100, fewest=checks.FEWEST, trained=8000, share=1.0,
    ),
}  # fmt: skip


def scored(
    classifier: Classifier,
    page: Path,
    answers: Sequence[Prediction],
    labels: torch.Tensor,
    paths: Sequence[str],
    photo: Callable[[int], Photo],
    document: EvaluationContext,
    entries: Sequence[Entry],
    validation: Clusters | None = None,
) -> LaterScores:
    """A later evaluation: `document` extended with the scores, and a page if the model is calibrated.

    `answers`, `labels` `(N,)` and `paths` are by photo; `photo` returns a photo by its number. `entries`: these photos
    with their groups; `validation`: clusters of the photos that calibrated the model.
    """
    clusters = analysis.clusters_of(entries)
    # Log probabilities can replace logits: they differ by a constant per photo, and by the temperature.
    temperature = 1.0 if classifier.calibration is None else classifier.calibration.temperature
    probabilities = torch.tensor([list(answer.probabilities.values()) for answer in answers], dtype=torch.float64)
    logits = temperature * probabilities.clamp_min(1e-300).log()
    scores = metrics.summary(logits, labels, classifier.classes, clusters)
    if document["training_copies"]:
        trained = {row["path"] for row in document["training_copies"]}
        rest = [number for number, path in enumerate(paths) if path not in trained]
        document["without_training_photos"] = _part(
            logits[rest], labels[rest], classifier.classes, [entries[number] for number in rest]
        )
    if classifier.calibration is not None:
        p_values = torch.tensor([answer.ood_p_value for answer in answers], dtype=torch.float64)
        analysis_of = analysis.of_answers(
            classifier.calibration, logits, labels, p_values, classifier.classes, clusters, validation
        )
        shown: ScoresPage = {**document, "scores": scores, "analysis": analysis_of, "classes": list(classifier.classes)}
        examples = explained(classifier, logits, labels, paths, photo)
        pages.write_scores(page, shown, examples, language=catalogues.current())
        document = {**document, "report": str(page)}
    return {**scores, **document}


def _part(
    logits: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], entries: Sequence[Entry]
) -> PartScores | None:
    """Scores on some photos; None without any."""
    if not entries:
        return None
    scores = metrics.summary(logits, labels, classes, analysis.clusters_of(entries))
    return {
        "photos": scores["photos"],
        "accuracy": scores["accuracy"],
        "accuracy_interval": scores["accuracy_interval"],
        "macro_f1": scores["macro_f1"],
        "macro_f1_interval": scores["macro_f1_interval"],
    }


def drawn(
    run: Run,
    classifier: Classifier,
    manifest: Manifest,
    packed: Pack,
    document: RunDocument,
    answers: Predictions,
    *,
    language: str,
    attempt: Attempt,
) -> pages.Drawing:
    """Draw the report's figures that need no probe.

    `document`: the contents of metrics.json; `language`: the one shown first.
    """
    test = manifest.scored()
    rows = packed.of(test)
    by_fold = functools.cache(functools.partial(answering, run, classifier))

    def explain() -> list[pages.Example]:
        return explained(
            classifier, answers.test.logits, answers.test.labels,
            [entry.path for entry in test], lambda number: np.ascontiguousarray(packed.pixels[rows[number]]),
            lambda number: by_fold(test[number].fold),
        )  # fmt: skip

    examples = attempt("examples", explain, list[pages.Example]())
    return pages.draw(document, epochs(run), examples, language=language, attempt=attempt)


def write(
    run: Run,
    manifest: Manifest,
    packed: Pack,
    recipe: Recipe,
    document: RunDocument,
    drawing: pages.Drawing,
    *,
    language: str,
    attempt: Attempt,
) -> None:
    """Write the report and its figures. `document`: the contents of metrics.json; `language`: the one shown first."""
    by_path = {entry.path: entry for entry in manifest.kept}
    suspicious = [by_path[row["path"]] for row in document["analysis"]["suspects"]["first"]]
    pictures = list(packed.pixels[packed.of(suspicious)]) if suspicious else []
    pages.write(run, manifest, recipe, document, epochs(run), drawing, pictures, language=language, attempt=attempt)


def explained(
    classifier: Classifier,
    logits: torch.Tensor,
    labels: torch.Tensor,
    paths: Sequence[str],
    photo: Callable[[int], Photo],
    answering: Callable[[int], Classifier] | None = None,
) -> list[pages.Example]:
    """The photos shown in a report, with explanations of their predictions; `photo` returns a photo by its number.

    `answering` returns the classifier that predicted a photo, if it is not `classifier`.
    """
    probabilities, examples = classifier.calibrated(logits), []
    for group, number in pages.pick_examples(probabilities, labels):
        row = dict(zip(classifier.classes, probabilities[number].tolist(), strict=True))
        label = max(row, key=row.__getitem__)
        explanation = (answering(number) if answering else classifier).explain(photo(number), label=label)
        # Keep the stored prediction; only the map is new.
        given = replace(explanation.prediction, label=label, confidence=row[label], probabilities=row)
        truth = classifier.classes[int(labels[number])]
        examples.append(pages.Example(group, paths[number], truth, replace(explanation, prediction=given)))
    return examples
