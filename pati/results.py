"""What a finished training is worth: measured, and written as its report.

Nothing here scores the test split: its answers were given once, and are read. Robustness and explanations are measured
on validation photos, on as many as there is time for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pati import analysis, report
from pati.classifier import Classifier
from pati.data.manifest import Manifest
from pati.data.pack import Pack
from pati.explain import checks
from pati.explain.cams import explainers
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
    made: Classifier, found: Manifest, packed: Pack, *, seconds: float | None = None, trained: int | None = None
) -> dict[str, Any]:
    """Robustness and the checks of explanations on validation photos; what there is no time for is left out.

    On as many as fit into `seconds`; else, so that a run by epochs is the same everywhere, on as many as suit the
    number of photos `trained` on; without either, on `DAMAGED` and `EXPLAINED`.
    """
    entries = found.of_split("validation")
    labels = torch.tensor(found.targets(entries))
    rows = packed.of(entries)

    def robustness(numbers: NDArray[np.int64]) -> dict[str, Any]:
        return analysis.robustness(made.logits, packed.pixels[rows[numbers]], labels[numbers])

    def explanations(numbers: NDArray[np.int64]) -> dict[str, Any]:
        images, classes = made.asked(torch.from_numpy(packed.pixels[rows[numbers]]))
        return {"method": METHOD, **checks.checked(made.net, explainers[METHOD], images, classes)}

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
            done[name] = measure(_spread(len(entries), count))
    return done


def _affordable(measure: Callable[[NDArray[np.int64]], dict[str, Any]], seconds: float, count: int) -> int:
    """Photos that can be measured in this time, the trial of a few that tells it included."""
    few = min(4, count)
    at = time.monotonic()
    measure(_spread(count, few))
    taken = time.monotonic() - at
    return int((seconds - taken) / (taken / few))


def _spread(count: int, some: int) -> NDArray[np.int64]:
    return np.linspace(0, count - 1, some).round().astype(np.int64)


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
    shown = report.pick_examples(outputs["test"]["logits"], outputs["test"]["labels"])
    pixels = packed.pixels[packed.of([test[index] for index in shown])]
    examples = [
        (test[index], made.explain(np.ascontiguousarray(photo))) for index, photo in zip(shown, pixels, strict=True)
    ]
    by_path = {entry.path: entry for entry in found.kept}
    suspicious = [by_path[row["path"]] for row in document["analysis"]["suspects"]["first"]]
    pictures = list(packed.pixels[packed.of(suspicious)]) if suspicious else []
    report.write(run, found, recipe, document, run.rows("epoch"), examples, pictures, language=language)
