"""Open the data, and make the manifest of what was found in its files. Needs no torch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pati.data.audit.inspections import Inspections
from pati.data.audit.judge import build_manifest
from pati.data.audit.pool import Progress
from pati.data.audit.worker import Inspection
from pati.data.decisions import read as decisions_in
from pati.data.manifest import Manifest
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.evaluation.shortcuts import find_shortcuts
from pati.events import Advanced, Listen
from pati.locale.messages import N_
from pati.recipe import Recipe
from pati.runs.run import Run


def open_data(data: str | Path, recipe: Recipe, columns: Columns, decided: Path | None = None) -> Source:
    """Open DATA, with the grouping of the recipe and a person's decisions. Raises `PatiError`."""
    if recipe.group_by is not None:
        columns = dataclasses.replace(columns, group=recipe.group_by)
    source = find_source(data, columns)
    if not source.items:
        raise PatiError(
            N_("no photos found in {root}", root=source.root),
            N_("expected one folder of photos per class, or a CSV"),
        )
    if decided is not None:
        source = dataclasses.replace(source, decisions=decisions_in(decided, source.classes))
    return source


def where_is(data: str | Path) -> str:
    """DATA as runs store it: an absolute path, or the name of a built-in dataset."""
    # Not resolved: the photos of a table that is a link lie beside the link.
    return os.path.abspath(data) if os.path.exists(data) else str(data)


def source_of(run: Run, recipe: Recipe) -> Source:
    """The data of a run, with the decisions that it started with."""
    state = run.read_state()
    if Path(state["data"]).is_absolute() and not Path(state["data"]).exists():
        raise PatiError(
            N_("the data of this run is no longer at {data}", data=state["data"]),
            N_("if it has moved, name its new place with --data"),
        )
    decided = run.decisions if run.decisions.exists() else None
    return open_data(state["data"], recipe, Columns(**state["columns"]), decided)


def manifest_of(
    source: Source,
    inspections: Sequence[Inspection],
    recipe: Recipe,
    known: Mapping[str, str] = MappingProxyType({}),
    *,
    most_folds: int | None = None,
) -> Manifest:
    """The manifest of the files of a source, with the properties of the files that tell its classes.

    `known`: splits of photos by content, see `manifest.with_split`; `most_folds`: see `build_manifest`.
    """
    manifest = build_manifest(source, inspections, recipe, known, most_folds=most_folds)
    found = Inspections.of(inspections)
    thumb = found.thumb[manifest.entries.is_kept].astype(np.int64)
    shortcuts = find_shortcuts(manifest.kept, lambda rows: found.thumbs.take(thumb[rows]))
    return dataclasses.replace(manifest, shortcuts=shortcuts)


def audit_progress(listen: Listen) -> Progress:
    """Report how many files have been read."""
    return lambda done, total: listen(Advanced(done, total))


def keep_manifest(run: Run, manifest: Manifest) -> None:
    """Write the run's manifest, or verify that it equals the stored one. Raises `PatiError`."""
    if run.manifest.exists():
        before = Manifest.read(run.manifest)
        if before.hash() != manifest.hash():
            changed = sorted({entry.path for entry in set(before.entries) ^ set(manifest.entries)})
            raise PatiError(
                N_("the data has changed since this run was started, for example {changed}", changed=changed[:3]),
                N_("restore the photos, or start a new run"),
            )
    else:
        manifest.write(run.manifest)
