"""Predictions as a JSON array, the same from the command line and from the server, in every language."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pati.inference.predictor import Prediction
from pati.system.files import finite


def json_array(predictions: Iterable[Prediction]) -> Iterator[str]:
    """The parts of an array with one object a line, as the predictions come."""
    before = "["
    for row in predictions:
        document = {
            "path": row.path,
            "prediction": row.label or None,
            "unsure": None if row.error else row.unsure,
            "out_of_distribution": None if row.error else row.out_of_distribution,
            "confidence": row.confidence,
            "ood_p_value": row.ood_p_value,
            "probabilities": row.probabilities or None,
            "error": row.error.shown("en") if row.error else None,
        }
        yield before + json.dumps(finite(document), allow_nan=False)
        before = ",\n "
    yield "[]\n" if before == "[" else "]\n"
