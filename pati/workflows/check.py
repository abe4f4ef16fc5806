"""Audit the data and draw the split, without training."""

from __future__ import annotations

from pathlib import Path

from pati.data.audit.pool import read_all
from pati.data.manifest import Manifest
from pati.data.sources.source import Columns
from pati.events import Listen, Stage, StageBegan, silent
from pati.recipe import Recipe
from pati.system import clock
from pati.workflows.opening import audit_progress, manifest_of, open_data


@clock.watched()
def check(
    data: str | Path,
    recipe: Recipe,
    *,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    listen: Listen = silent,
) -> Manifest:
    """Audit the data and draw the split, without training. The manifest may not be valid for training."""
    source = open_data(data, recipe, columns, decisions)
    listen(StageBegan(Stage.AUDIT, len(source.items)))
    findings = read_all(source, progress=audit_progress(listen))
    listen(StageBegan(Stage.SPLIT))
    return manifest_of(source, findings, recipe)
