"""Keras's example "image classification from scratch", run in an environment of its own.

The example's net and recipe (https://keras.io/examples/vision/image_classification_from_scratch/, written anew in
`bench/keras_example.py`) on the same training photos as pati, one epoch at 180 px. Its 25 epochs would take a day
on two cores; what they end at is published: 95.75 % of its validation photos at the best epoch, 87.10 % at the last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

from pati.recipe import Recipe
from pati.workflows.check import check

ENVIRONMENT = Path(".venv-keras")
NEEDED = ("tensorflow-cpu==2.21.0", "keras==3.15.1")


def keras() -> dict[str, Any]:
    python = ENVIRONMENT / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *NEEDED], check=True)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
            archive.extractall(base)
        check(base / "PetImages", Recipe()).write(base / "manifest.jsonl")
        # -P: bench/ is no place to import from, its keras.py would hide the library.
        command = [python, "-P", Path("bench") / "keras_example.py", base / "PetImages", base / "manifest.jsonl"]
        done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    published = {
        "best_epoch": 0.9575,
        "last_epoch": 0.8710,
        "epochs": 25,
        "source": "keras-team/keras-io, same example",
    }
    return {"needed": NEEDED, "measured": json.loads(done.stdout.splitlines()[-1]), "published": published}
