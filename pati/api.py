"""The Python API: thin wrappers around the workflows, which are imported on the first call."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pati.system import extras

if TYPE_CHECKING:
    from pati.evaluation.documents import Comparison
    from pati.inference.classifier import Classifier
    from pati.inference.predictor import Predictor
    from pati.recipe import Recipe


@extras.required("pati.train")
def train(
    data: str | Path,
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    start: str | Path | None = None,
    weights: str | Path | None = None,
    processes: int = 1,
    progress: bool = False,
) -> Classifier:
    """Train a classifier on a folder, archive, CSV file or built-in dataset: from scratch, if nothing else is given.

    `out` is the run folder (default: the next free one in runs/). It will contain the report; the scores are also in
    the classifier's `facts`. `start`: an earlier model to start from: a run folder, a model file, or "cats-vs-dogs" for
    the included model. `weights`, with a timm network: a safetensors file of pretrained weights, or "pretrained" for
    those that timm downloads. `processes`: that train together on this machine, started anew: they do not see what this
    process has changed. `progress` shows progress on stderr, as on the command line. Raises `PatiError`.
    """
    from pati.events import silent
    from pati.recipe import Recipe

    recipe = recipe or Recipe()
    if processes > 1:
        from pati.workflows import launch

        given = {"--out": out, "--from": start, "--weights": weights}
        words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        return launch.train(str(data), recipe, words, processes, progress=progress)
    from pati.terminal.progress import Watch
    from pati.workflows import train as workflow

    with contextlib.closing(Watch()) as watch:
        listen = watch if progress else silent
        run = workflow.train(data, recipe, out=Path(out) if out else None, start=start, weights=weights, listen=listen)
    return run.classifier


@extras.required("pati.load")
def load(path: str | Path | None = None) -> Predictor:
    """Load the classifier from a model file or a run folder; default: the cats-vs-dogs model included with pati.

    A `Classifier`; for an exported model, or where torch is not installed, an `OnnxClassifier`, which answers without
    torch. Runs no code from the file. Raises `PatiError`.
    """
    from pati.inference.load import load

    return load(path)


@extras.required("pati.compare")
def compare(runs: Sequence[str | Path], *, paired: bool = True) -> Comparison:
    """Scores and costs of finished runs, and which differences are significant; see `pati.workflows.compare`."""
    from pati.workflows import compare as comparing

    return comparing.compare(runs, paired=paired)
