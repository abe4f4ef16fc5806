"""`pati predict`: classify photos."""

from __future__ import annotations

import glob
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pati.cli.entry import program
from pati.cli.options import Place, said_if_included
from pati.errors import PatiError
from pati.locale.messages import N_, NP_

if TYPE_CHECKING:
    from pati.inference.predictor import Prediction


@program.command
def predict(
    *paths: Annotated[Place, Parameter(allow_leading_hyphen=True)],
    risk: float | None = None,
    format: Literal["table", "json", "csv"] = "table",
) -> None:
    """Classify photos: one row per input, in order; where a file cannot be read, its row says why.

    Photos that the model is unsure about are marked: with a question mark in the table.

    Parameters
    ----------
    paths
        A model file or the folder of a run, then files, folders (searched recursively), patterns such as "*.jpg", or -
        for a list on stdin. Without a model, the included model of cats and dogs is used.
    risk
        The error rate to accept, estimated on the validation photos. Default: 0.01. The model is unsure about the rest.
    format
        table, json (an array, one object per line) or csv.
    """
    from pati.cli.inputs import expand, model_first
    from pati.inference.load import load
    from pati.terminal import predictions
    from pati.terminal.console import percent, say

    for path in paths:  # a lone hyphen is stdin, any other one is a mistyped option
        if path.startswith("-") and path != "-" and not Path(path).exists():
            raise PatiError(
                N_("unknown option {option}", option=path),
                N_("see pati predict --help; if it is a file, write ./{path}", path=path),
            )
    model, photos = model_first(paths)
    if not photos:
        example = shlex.join(["pati", "predict", *([] if model is None else [str(model)]), "cat.jpg"])
        raise PatiError(N_("pati predict requires at least one photo"), N_("for example: {command}", command=example))
    classifier = load(said_if_included(model))
    if format == "table" and not any(path == "-" or os.path.lexists(path) or glob.has_magic(path) for path in photos):
        if len(photos) == 1:
            raise PatiError(N_("{path} does not exist", path=photos[0]), N_("expected a photo, or a folder of photos"))
        raise PatiError(N_("none of these files exists: {paths}", paths=photos[:5]), N_("check the paths"))
    write = predictions.writers[format]
    failed = [0, 0]
    unsure = 0

    def counted(predictions: Iterable[Prediction]) -> Iterator[Prediction]:
        nonlocal unsure
        for prediction in predictions:
            failed[bool(prediction.error)] += 1
            unsure += prediction.unsure
            yield prediction

    write(counted(classifier.predict_stream(expand(photos, sys.stdin or ()), risk=risk)), classifier.classes)
    if unsure and format == "table":
        threshold = percent(classifier.threshold(risk))
        say(
            N_(
                "? = unsure: the confidence is below {threshold}, or the photo is unlike the training photos",
                threshold=threshold,
            )
        )
    readable, unreadable = failed
    if not readable:
        if not unreadable:
            raise PatiError(N_("no file was found"), N_("check the paths"))
        raise PatiError(
            NP_("the file could not be read", "none of the {n} files could be read", n=unreadable),
            N_("each row says why"),
        )
