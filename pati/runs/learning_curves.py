"""The folders of learning curves, which lie beside those of runs: names of their files, and their results."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import cast

from pati.evaluation.documents import LearningCurveDocument
from pati.system import files

NAME = "learning-curve"  # of the folders, with a number
SETTINGS, RESULT, REPORT = "settings.json", "learning-curve.json", "report.html"


def read(folder: Path) -> LearningCurveDocument | None:
    """The result in the folder of a learning curve; None without any."""
    with contextlib.suppress(OSError, ValueError):
        return cast(LearningCurveDocument, files.read_json(folder / RESULT))
    return None


def found(runs: Path, manifest: str) -> LearningCurveDocument | None:
    """The newest learning curve of these photos, known by the hash of their manifest, in a folder of runs."""
    paths = sorted(runs.glob(f"{NAME}-*/{RESULT}"), key=lambda path: path.stat().st_mtime, reverse=True)
    documents = (read(path.parent) for path in paths)
    return next((one for one in documents if one is not None and one.get("manifest") == manifest), None)
