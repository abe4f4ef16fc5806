"""One training for `bench small`, in any commit of pati, scored on photos that took no part in it.

`python small_once.py DATA HELD BUDGET SEED OUT [FIELD=VALUE …]` prints a JSON document; `right` has one digit a photo.
"""

from __future__ import annotations

import time

STARTED = time.monotonic()

import dataclasses  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from pati.recipe import Recipe  # noqa: E402
from pati.workflows.train import train  # noqa: E402

data, held, budget, seed, out, *changes = sys.argv[1:]
recipe = Recipe(budget=float(budget), seed=int(seed)).updated(changes)
if "folds" in {field.name for field in dataclasses.fields(Recipe)}:
    recipe = recipe.updated(["folds=0"])
result = train(data, recipe, out=Path(out), started=STARTED)
seconds = time.monotonic() - STARTED
files = [file for file in sorted(Path(held).rglob("*.*")) if file.parent.name in result.classifier.classes]
answers = result.classifier.predict([str(file) for file in files])
right = [answer.label == file.parent.name for file, answer in zip(files, answers, strict=True)]
settled = Recipe.read(result.run.recipe)
print(
    json.dumps(
        {
            "seconds": round(seconds, 1),
            "epochs": result.metrics["epochs"],
            "model": f"{settled.model} {settled.width} at {settled.size} px, batches of {settled.batch}",
            "accuracy": round(sum(right) / len(right), 4),
            "right": "".join("01"[hit] for hit in right),
        }
    )
)
