"""`pati predict`: classify photos."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import model_or_included
from pati.errors import PatiError

if TYPE_CHECKING:
    from pati.inference.classifier import Prediction


@program.command
def predict(
    *paths: Annotated[str, Parameter(allow_leading_hyphen=True)],
    risk: float | None = None,
    format: Literal["table", "json", "csv"] = "table",
) -> None:
    """Classify photos: one row for every input, in order; a row says why where a file can't be read.

    Answers that are not sure enough are marked: by a question mark in the table.

    Parameters
    ----------
    paths
        A model file or a run's folder, then files, folders (searched through), patterns such as "*.jpg", or - for a
        list on stdin. Without a model, the one of cats and dogs that comes with pati answers.
    risk
        The share of wrong answers that is put up with, by the validation photos; 0.01 if left out. The rest is unsure.
    format
        table, json (an array, one object a line), or csv.
    """
    from pati.cli.inputs import expand, model_first
    from pati.inference.classifier import Classifier
    from pati.terminal import predictions

    model, photos = model_first(paths)
    if not photos:
        raise PatiError("pati predict wants at least one photo", "for example: pati predict cat.jpg")
    for path in photos:  # a lone hyphen is stdin, any other one is a mistyped option
        if path.startswith("-") and path != "-" and not Path(path).exists():
            raise PatiError(f"unknown option {path}", "see pati predict --help; a file of that name is ./" + path)
    classifier = Classifier.load(model_or_included(model))
    write = predictions.writers[format]
    failed = [0, 0]

    def counted(answers: Iterable[Prediction]) -> Iterator[Prediction]:
        for prediction in answers:
            failed[bool(prediction.error)] += 1
            yield prediction

    write(counted(classifier.predict_stream(expand(photos, sys.stdin), risk=risk)), classifier.classes)
    readable, unreadable = failed
    if not readable:
        what = f"none of the {unreadable} files could be read" if unreadable else "no file was found"
        raise PatiError(what, "each row says why" if unreadable else "look at the paths")
