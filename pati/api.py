"""The functions that Python users call: thin names over the workflows, which are imported when they are called."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pati.evaluation.documents import Comparison
    from pati.inference.classifier import Classifier
    from pati.recipe import Recipe


def train(
    data: str | Path, recipe: Recipe | None = None, *, out: str | Path | None = None, progress: bool = False
) -> Classifier:
    """Train a classifier from scratch on a folder, archive, CSV or known set.

    `out` is the run's folder (default: the next free one in runs/); the report lies there,
    and the scores are in the classifier's `facts`. `progress` shows on stderr how far it is, as the command line does.
    Raises `PatiError`.
    """
    from pati.events import silent
    from pati.recipe import Recipe
    from pati.terminal.progress import Watch
    from pati.workflows import train as workflow

    with contextlib.closing(Watch()) as watch:
        listen = watch if progress else silent
        run = workflow.train(data, recipe or Recipe(), out=Path(out) if out else None, listen=listen)
    return run.classifier


def load(path: str | Path | None = None) -> Classifier:
    """The classifier in a model file or a run's folder; without either, the one of cats and dogs that comes with pati.

    Runs no code from the file. Raises `PatiError`.
    """
    from pati.inference.classifier import Classifier
    from pati.models import included

    return Classifier.load(included.model() if path is None else path)


def compare(runs: Sequence[str | Path], *, paired: bool = True) -> Comparison:
    """Scores and costs of finished runs, and which differences are more than chance; see `pati.workflows.compare`."""
    from pati.workflows import compare as comparing

    return comparing.compare(runs, paired=paired)
