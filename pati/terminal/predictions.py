"""Predictions as a table, a JSON array or CSV on stdout, written as they come."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from pati.data import decode
from pati.inference.json_array import json_array
from pati.inference.predictor import Prediction
from pati.locale.formats import printable
from pati.locale.messages import N_, Message
from pati.report.labels import REASONS
from pati.system.csv_text import guarded
from pati.terminal.console import percent

Writer = Callable[[Iterable[Prediction], Sequence[str]], None]


def table(predictions: Iterable[Prediction], classes: Sequence[str]) -> None:
    """Aligned columns: the class, with a question mark where the model is unsure, confidence, path."""
    width = max(map(len, classes)) + 1
    for row in predictions:
        label = printable(row.label) + "?" * row.unsure
        answer = f"{label:{width}}  {percent(row.confidence):>8}" if not row.error else f"{'–':{width}}  {'':8}"
        note = _why(row)
        print(f"{answer}  {printable(row.path)}{f'  ({note})' if note else ''}")


def _why(row: Prediction) -> Message | None:
    """What is to be said of a photo beside its class."""
    if row.error is None:
        return N_("out of distribution: unlike the training photos") if row.out_of_distribution else None
    if row.reason not in REASONS:
        return row.error
    reason, meaning, detail = REASONS[row.reason], decode.REASONS[row.reason], row.error.arguments.get("detail")
    if detail is None:
        return N_("{reason}: {meaning}", reason=reason, meaning=meaning)
    if row.reason == "unreadable":  # the detail is all of the reason
        return N_("{reason}: {meaning}", reason=reason, meaning=detail)
    return N_("{reason} ({detail}): {meaning}", reason=reason, detail=detail, meaning=meaning)


def json_objects(predictions: Iterable[Prediction], classes: Sequence[str]) -> None:
    """One JSON array, an object a line, the same in every language."""
    for part in json_array(predictions):
        print(part, end="")


def comma_separated(predictions: Iterable[Prediction], classes: Sequence[str], to: TextIO | None = None) -> None:
    """The same columns in every language: also a probability a class, in class order; flags are yes or no."""
    writer = csv.writer(to or sys.stdout, lineterminator="\n")
    head = ["path", "prediction", "unsure", "out_of_distribution", "confidence", *map(_cell, classes), "error"]
    writer.writerow(head)
    for row in predictions:
        path = _cell(row.path)
        if row.error:
            writer.writerow([path, "", "", "", "", *[""] * len(classes), _cell(row.error.shown("en"))])
        else:
            numbers = [_number(row.probabilities[name]) for name in classes]
            flags = [("no", "yes")[flag] for flag in (row.unsure, row.out_of_distribution)]
            writer.writerow([path, _cell(row.label), *flags, _number(row.confidence), *numbers, ""])


def _cell(name: str) -> str:
    return guarded(printable(name))


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6f}"


writers: dict[str, Writer] = {"table": table, "json": json_objects, "csv": comma_separated}
