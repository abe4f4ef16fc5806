"""One training by budget in this process, for `bench against`: `python work.py BUDGET SEED OUT`, in any commit of pati.

Prints a JSON document: multiply-adds done in training, photos trained on, seconds, test accuracy.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import json  # noqa: E402
import sys  # noqa: E402
from collections import Counter  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from pati import models  # noqa: E402
from pati.models.counting import cost_of  # noqa: E402
from pati.recipe import Recipe  # noqa: E402

try:
    from pati.workflows.train import train
except ImportError:  # before there were workflows
    from pati.pipeline import train

budget, seed, out = float(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
photos: Counter[int] = Counter()  # trained on, by size
batches: list[int] = []


def listen(event: Any) -> None:
    kind = event["kind"] if isinstance(event, dict) else type(event).__name__  # older commits told by dictionaries
    if kind in ("plan", "Planned"):
        batches.append(event["plan"].batch if isinstance(event, dict) else event.plan.batch)
    if kind in ("step", "StepDone"):
        photos[event["size"] if isinstance(event, dict) else event.size] += batches[-1]


result = train("cats-vs-dogs", Recipe(budget=budget, seed=seed), out=out, started=STARTED, listen=listen)
recipe = Recipe.read(result.run.recipe)
net = models.build(
    recipe.model or "",
    len(result.classifier.classes),
    models.Options(width=recipe.width or 1.0, size=recipe.size or 64),
)
print(
    json.dumps(
        {
            "multiply_adds": sum(count * cost_of(net, size)[1] for size, count in photos.items()),
            "photos": sum(photos.values()),
            "model": f"{recipe.model} {recipe.width} at {recipe.size} px",
            "seconds": round(time.monotonic() - STARTED, 1),
            "test_accuracy": round(result.metrics["test"]["accuracy"], 4),
            "validation_accuracy": round(result.metrics["validation"]["accuracy"], 4),
        }
    )
)
