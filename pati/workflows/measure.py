"""What a finished training is worth: measured, and written as its report.

Nothing here scores the test split: its answers were given once, and are read. Robustness and explanations are measured
on validation photos, on as many as there is time for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data.manifest import Entry, Manifest
from pati.data.pack import Pack
from pati.data.preprocess import Photo
from pati.evaluation import analysis, metrics
from pati.evaluation.documents import (
    About,
    Analysis,
    ExplanationChecks,
    LaterScores,
    Probed,
    Robustness,
    RunDocument,
    ScoresPage,
)
from pati.explain import checks
from pati.explain.cams import explainer
from pati.explain.checks import Values
from pati.inference.classifier import Classifier, Prediction
from pati.recipe import Recipe
from pati.report import pages
from pati.runs.history import epochs
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.system import clock

METHOD = "grad-cam"  # whose maps are checked
EXPLAINING = 80  # answers take about as long as the explanations that a report shows
SLACK = 1.15  # of what a probe is thought to take: a little too short, and it comes to nothing
SHARE = 0.03  # of a budget, for what takes longer the more photos it is measured on


def analysed(made: Classifier, found: Manifest, packed: Pack, answers: Predictions) -> Analysis:
    """What the answers are worth, without asking for more."""
    assert made.calibration is not None, "learnt by the scoring"
    splits = {
        "validation": _scored(found.of_split("validation"), answers.validation.sha256),
        "test": found.of_split("test"),
    }
    logits, labels = answers.test.logits, answers.test.labels
    rows = packed.of(splits["test"])
    all_logits = torch.cat([answers.validation.logits, logits])
    all_labels = torch.cat([answers.validation.labels, labels])
    return {
        **analysis.of_answers(made.calibration, logits, labels, answers.familiarity, found.classes),
        "slices": analysis.sliced(
            splits["test"], lambda number: packed.pixels[rows[number]], (logits.argmax(1) == labels).tolist()
        ),
        "suspects": analysis.suspected(
            [*splits["validation"], *splits["test"]], all_logits, all_labels, made.calibration.temperature,
            found.classes,
        ),
    }  # fmt: skip


def _scored(entries: Sequence[Entry], digests: Sequence[str]) -> list[Entry]:
    """Those of a split's entries whose contents these are, in the same order: on a budget not all may be scored."""
    rest = iter(digests)
    wanted, found = next(rest, None), []
    for entry in entries:
        if entry.sha256 == wanted:
            found.append(entry)
            wanted = next(rest, None)
    return found


def probed(
    made: Classifier,
    found: Manifest,
    packed: Pack,
    *,
    seconds: float | None = None,
    trained: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Probed:
    """Robustness and the checks of explanations on validation photos; what there is no time for is left out.

    On as many as fit into `seconds`; else, so that a run by epochs is the same everywhere, on as many as suit the
    number of photos `trained` on; without either, on the `most` of `PROBES`. `progress` hears what is measured and how
    far it is, photos done of total.
    """
    entries = found.of_split("validation")
    labels, rows = torch.tensor(found.targets(entries)), packed.of(entries)
    # Whatever the count, these are photos from everywhere.
    order = np.random.default_rng(0).permutation(len(entries))
    ends = None if seconds is None else clock.now() + seconds
    done: dict[str, list[Values]] = {name: [] for name in PROBES}
    each: dict[str, float] = {}  # seconds for a photo
    for share in (True, False):  # what one has no use for is the others'
        for name, probe in PROBES.items():
            some = order[: probe.most if trained is None else min(probe.most, trained // probe.trained)]
            if seconds is not None and name not in each and len(some) >= probe.fewest:
                pixels = packed.pixels[rows[some[: probe.part]]]
                each[name] = probe.answers * seconds_to_answer(made.logits, pixels) / len(pixels)
            until = None if ends is None else ends - (seconds or 0) * (1 - probe.share) * share
            while count := next_part(
                probe, len(some), _photos(done[name]), None if until is None else until - clock.now(), each.get(name, 0)
            ):
                start, at = _photos(done[name]), clock.now()
                progress(name, start, len(some))
                part = some[start : start + count]
                done[name].append(probe.measure(made, packed.pixels[rows[part]], labels[part], start))
                each[name] = (clock.now() - at) / count
    summaries = {}
    for name, parts in done.items():
        if _photos(parts) >= PROBES[name].fewest:
            progress(name, _photos(parts), _photos(parts))
            summaries[name] = PROBES[name].summary({key: torch.cat([part[key] for part in parts]) for key in parts[0]})
    return cast(Probed, summaries)


def _photos(parts: Sequence[Values]) -> int:
    """On how many something was measured."""
    return sum(len(next(iter(part.values()))) for part in parts)


def next_part(probe: Probe, photos: int, done: int, seconds: float | None, each: float) -> int:
    """How many photos to measure next, of so many of which some are done, in so many `seconds`, where one takes `each`:
    0 where these are too few to come to a summary, or for one more."""
    count = min(probe.part, photos - done) if photos >= probe.fewest else 0
    if seconds is None or count == 0:
        return count
    fit = int(seconds / max(each, 1e-9))
    return max(0, min(count, fit)) if done + fit >= probe.fewest else 0


def probing_seconds(photos: int, one: float, most: float) -> float:
    """What to set aside for the probes on so many validation photos, of `most` seconds, where an answer takes `one`:
    only for those that could come to a summary, and no more than they can use."""
    aside = 0.0
    for probe in sorted(PROBES.values(), key=lambda probe: probe.fewest * probe.answers):
        each = SLACK * probe.answers * one
        if photos >= probe.fewest and probe.fewest * each <= most - aside:
            aside += min(min(probe.most, photos) * each, most - aside)
    return aside


def seconds_to_answer(ask: Callable[[torch.Tensor], object], photos: NDArray[np.uint8]) -> float:
    """What it takes on this machine to `ask` a classifier for all these photos `uint8 (N, size, size, 3)`."""
    pixels = torch.from_numpy(photos)
    ask(pixels)  # the first time is slower
    at = clock.now()
    ask(pixels)
    return clock.now() - at


def _damaged(made: Classifier, photos: NDArray[np.uint8], labels: torch.Tensor, seed: int) -> Values:
    return {"right": analysis.damaged(made.logits, photos, labels, seed=seed)}


def _explained(made: Classifier, photos: NDArray[np.uint8], labels: torch.Tensor, seed: int) -> Values:
    return checks.values(made.net, explainer(METHOD), *made.asked(torch.from_numpy(photos)))


@dataclass(frozen=True)
class Probe:
    """What takes longer the more photos it is measured on."""

    measure: Callable[[Classifier, NDArray[np.uint8], torch.Tensor, int], Values]  # photos, labels, seed -> by photo
    summary: Callable[[Values], Robustness | ExplanationChecks]
    answers: float  # take as long as it does for a photo, with what is done beside them
    part: int  # photos at once
    most: int  # photos
    fewest: int  # photos: fewer would tell nothing
    trained: int  # photos trained on for each that is measured, in runs by epochs
    share: float  # of the time, with those before


PROBES = {
    "robustness": Probe(
        _damaged, lambda found: analysis.robustness(found["right"]), 1.3 * (1 + len(analysis.DAMAGES)),
        part=16, most=1000, fewest=20, trained=1000, share=0.3,
    ),
    "explanations": Probe(
        _explained, lambda found: {"method": METHOD, **checks.summary(found)}, 3 * checks.ANSWERS,
        part=4, most=100, fewest=checks.FEWEST, trained=8000, share=1.0,
    ),
}  # fmt: skip


def scored(
    made: Classifier,
    page: Path,
    answers: Sequence[Prediction],
    labels: torch.Tensor,
    paths: Sequence[str],
    photo: Callable[[int], Photo],
    document: About,
) -> LaterScores:
    """A later scoring: the `document` about it with the scores, and a page of them where the model's confidence is
    calibrated. `answers`, `labels` `(N,)` and `paths` by photo; `photo` gives each one by its number."""
    # The logarithm of probabilities is as good as logits: they differ by a constant a photo, and the temperature.
    heat = 1.0 if made.calibration is None else made.calibration.temperature
    probabilities = torch.tensor([list(answer.probabilities.values()) for answer in answers], dtype=torch.float64)
    logits = heat * probabilities.clamp_min(1e-300).log()
    scores = metrics.summary(logits, labels, made.classes)
    if made.calibration is not None:
        familiarity = torch.tensor([answer.familiarity for answer in answers], dtype=torch.float64)
        analysis_of = analysis.of_answers(made.calibration, logits, labels, familiarity, made.classes)
        shown: ScoresPage = {**document, "scores": scores, "analysis": analysis_of, "classes": list(made.classes)}
        pages.write_scores(page, shown, explained(made, logits, labels, paths, photo))
        document = {**document, "report": str(page)}
    return {**scores, **document}


def drawn(
    run: Run, made: Classifier, found: Manifest, packed: Pack, document: RunDocument, answers: Predictions
) -> pages.Drawing:
    """The pictures of the report, which need no probe. `document`: that of metrics.json."""
    test = found.of_split("test")
    rows = packed.of(test)
    examples = explained(
        made, answers.test.logits, answers.test.labels,
        [entry.path for entry in test], lambda number: np.ascontiguousarray(packed.pixels[rows[number]]),
    )  # fmt: skip
    return pages.draw(document, epochs(run), examples)


def write(
    run: Run,
    found: Manifest,
    packed: Pack,
    recipe: Recipe,
    document: RunDocument,
    drawing: pages.Drawing,
    *,
    language: str = "en",
) -> None:
    """The report and its figures. `document`: that of metrics.json; `language`: the one shown first."""
    by_path = {entry.path: entry for entry in found.kept}
    suspicious = [by_path[row["path"]] for row in document["analysis"]["suspects"]["first"]]
    pictures = list(packed.pixels[packed.of(suspicious)]) if suspicious else []
    pages.write(run, found, recipe, document, epochs(run), drawing, pictures, language=language)


def explained(
    made: Classifier, logits: torch.Tensor, labels: torch.Tensor, paths: Sequence[str], photo: Callable[[int], Photo]
) -> list[pages.Example]:
    """The photos that a report shows, with explanations of the answers given; `photo` gives each one by its number."""
    probabilities, found = made.calibrated(logits), []
    for group, number in pages.pick_examples(probabilities, labels):
        row = dict(zip(made.classes, probabilities[number].tolist(), strict=True))
        label = max(row, key=row.__getitem__)
        explanation = made.explain(photo(number), label=label)
        # Only the map is new.
        given = replace(explanation.prediction, label=label, confidence=row[label], probabilities=row)
        truth = made.classes[int(labels[number])]
        found.append(pages.Example(group, paths[number], truth, replace(explanation, prediction=given)))
    return found
