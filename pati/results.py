"""What a finished training is worth: measured, and written as its report.

Nothing here scores the test split: its answers were given once, and are read. Robustness and explanations are measured
on validation photos, on as many as there is time for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pati import analysis, metrics, report
from pati.classifier import Classifier, Prediction
from pati.data.manifest import Manifest
from pati.data.pack import Pack
from pati.explain import checks
from pati.explain.cams import explainers
from pati.preprocess import Photo
from pati.recipe import Recipe
from pati.run import Run

METHOD = "grad-cam"  # whose maps are checked
SHARE = 0.03  # of a budget, for what takes longer the more photos it is measured on
DAMAGED, EXPLAINED = 1000, 100  # photos at most
FEWEST = {"robustness": 20, "explanations": 8}  # photos: fewer would tell nothing
_EPOCH_PHOTOS = {"robustness": 1000, "explanations": 8000}  # trained on for each that is measured, in runs by epochs

Answers = dict[str, dict[str, torch.Tensor]]  # split -> logits, labels and, of the test, familiarity


def analysed(made: Classifier, found: Manifest, packed: Pack, outputs: Answers) -> dict[str, Any]:
    """What the answers are worth, without asking for more."""
    assert made.calibration is not None, "learnt by the scoring"
    splits = {name: found.of_split(name) for name in ("validation", "test")}
    logits, labels, familiarity = (outputs["test"][part] for part in ("logits", "labels", "familiarity"))
    rows = packed.of(splits["test"])
    all_logits, all_labels = (torch.cat([outputs[name][part] for name in splits]) for part in ("logits", "labels"))
    return {
        **analysis.of_answers(made.calibration, logits, labels, familiarity, found.classes),
        "slices": analysis.sliced(
            splits["test"], lambda number: packed.pixels[rows[number]], (logits.argmax(1) == labels).tolist()
        ),
        "suspects": analysis.suspected(
            [*splits["validation"], *splits["test"]], all_logits, all_labels, made.calibration.temperature,
            found.classes,
        ),
    }  # fmt: skip


def probed(
    made: Classifier,
    found: Manifest,
    packed: Pack,
    *,
    seconds: float | None = None,
    trained: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Robustness and the checks of explanations on validation photos; what there is no time for is left out.

    On as many as fit into `seconds`; else, so that a run by epochs is the same everywhere, on as many as suit the
    number of photos `trained` on; without either, on `DAMAGED` and `EXPLAINED`. `progress` hears what is measured and
    how far it is, done of total.
    """
    entries = found.of_split("validation")
    labels = torch.tensor(found.targets(entries))
    rows = packed.of(entries)

    def robustness(numbers: NDArray[np.int64]) -> dict[str, Any]:
        return analysis.robustness(
            made.logits, packed.pixels[rows[numbers]], labels[numbers], progress=partial(progress, "robustness")
        )

    def explanations(numbers: NDArray[np.int64]) -> dict[str, Any]:
        images, classes = made.asked(torch.from_numpy(packed.pixels[rows[numbers]]))
        told = partial(progress, "explanations")
        return {"method": METHOD, **checks.checked(made.net, explainers[METHOD], images, classes, progress=told)}

    done: dict[str, Any] = {}
    tasks: dict[str, tuple[Callable[[NDArray[np.int64]], dict[str, Any]], int]] = {
        "robustness": (robustness, DAMAGED),
        "explanations": (explanations, EXPLAINED),
    }
    for name, (measure, most) in tasks.items():
        count = min(most, len(entries))
        if seconds is not None:
            count = min(count, _affordable(measure, seconds / len(tasks), len(entries)))
        elif trained is not None:
            count = min(count, trained // _EPOCH_PHOTOS[name])
        if count >= FEWEST[name]:
            done[name] = measure(analysis.spread(len(entries), count))
    return done


def _affordable(measure: Callable[[NDArray[np.int64]], dict[str, Any]], seconds: float, count: int) -> int:
    """Photos that can be measured in this time, the trial of a few that tells it included."""
    few = min(4, count)
    at = time.monotonic()
    measure(analysis.spread(count, few))
    taken = time.monotonic() - at
    return int((seconds - taken) / (taken / few))


def scored(
    made: Classifier,
    page: Path,
    answers: Sequence[Prediction],
    labels: torch.Tensor,
    paths: Sequence[str],
    photo: Callable[[int], Photo],
    document: dict[str, Any],
) -> dict[str, Any]:
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
        about = document | {"scores": scores, "analysis": analysis_of, "classes": list(made.classes)}
        report.write_scores(page, about, explained(made, logits, labels, paths, photo))
        document = document | {"report": str(page)}
    return scores | document


def write(
    run: Run,
    made: Classifier,
    found: Manifest,
    packed: Pack,
    recipe: Recipe,
    document: dict[str, Any],
    outputs: Answers,
    *,
    language: str = "en",
) -> None:
    """The report and its figures. `document`: that of metrics.json; `language`: the one shown first."""
    test = found.of_split("test")
    rows = packed.of(test)
    examples = explained(
        made, outputs["test"]["logits"], outputs["test"]["labels"],
        [entry.path for entry in test], lambda number: np.ascontiguousarray(packed.pixels[rows[number]]),
    )  # fmt: skip
    by_path = {entry.path: entry for entry in found.kept}
    suspicious = [by_path[row["path"]] for row in document["analysis"]["suspects"]["first"]]
    pictures = list(packed.pixels[packed.of(suspicious)]) if suspicious else []
    report.write(run, found, recipe, document, run.rows("epoch"), examples, pictures, language=language)


def explained(
    made: Classifier, logits: torch.Tensor, labels: torch.Tensor, paths: Sequence[str], photo: Callable[[int], Photo]
) -> list[report.Example]:
    """The photos that a report shows, with their explanations; `photo` gives each one by its number."""
    return [
        report.Example(group, paths[number], made.classes[int(labels[number])], made.explain(photo(number)))
        for group, number in report.pick_examples(made.calibrated(logits), labels)
    ]
