"""Predictions as a table, a JSON array or CSV on stdout, written as they come."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from pati.inference.classifier import Prediction
from pati.system.files import printable
from pati.system.rounding import percent

Writer = Callable[[Iterable[Prediction], Sequence[str]], None]


def table(predictions: Iterable[Prediction], classes: Sequence[str]) -> None:
    """Aligned columns: answer, with a question mark where it is unsure, confidence, path."""
    width = max(map(len, classes)) + 1
    for row in predictions:
        label = printable(row.label) + "?" * row.unsure
        answer = f"{label:{width}}  {percent(row.confidence):>8}" if not row.error else f"{'–':{width}}  {'':8}"
        note = row.error or "unlike the photos trained on" * row.odd
        print(f"{answer}  {printable(row.path)}{f'  ({note})' if note else ''}")


def json_array(predictions: Iterable[Prediction], classes: Sequence[str]) -> None:
    """One JSON array, an object a line: path, prediction, unsure, odd, confidence, familiarity and the like."""
    before = "["
    for row in predictions:
        document = {
            "path": row.path,
            "prediction": row.label or None,
            "unsure": None if row.error else row.unsure,
            "odd": None if row.error else row.odd,
            "confidence": None if math.isnan(row.confidence) else row.confidence,
            "familiarity": None if math.isnan(row.familiarity) else row.familiarity,
            "probabilities": row.probabilities or None,
            "error": row.error or None,
        }
        print(before + json.dumps(document), end="")
        before = ",\n "
    print("[]" if before == "[" else "]")


def comma_separated(predictions: Iterable[Prediction], classes: Sequence[str], to: TextIO | None = None) -> None:
    """Columns path, prediction, unsure and odd (yes or no), confidence, one a class in class order, error."""
    writer = csv.writer(to or sys.stdout, lineterminator="\n")
    writer.writerow(["path", "prediction", "unsure", "odd", "confidence", *classes, "error"])
    for row in predictions:
        path = row.path.encode("utf-8", "replace").decode("utf-8")
        if row.error:
            writer.writerow([path, "", "", "", "", *[""] * len(classes), row.error])
        else:
            numbers = [f"{row.probabilities[name]:.6f}" for name in classes]
            flags = [("no", "yes")[flag] for flag in (row.unsure, row.odd)]
            writer.writerow([path, row.label, *flags, f"{row.confidence:.6f}", *numbers, ""])


writers: dict[str, Writer] = {"table": table, "json": json_array, "csv": comma_separated}
