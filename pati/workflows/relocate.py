"""The new place of a run's data, after it was moved."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pati.data import pack
from pati.data.manifest import Manifest
from pati.data.sources import storage
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.locale.messages import N_, NP_
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.workflows.opening import open_data, where_is


def relocate(run: Run, data: str | Path) -> None:
    """Record that the data of a run is now at `data`. Raises `PatiError` unless its files are the same, by SHA-256."""
    manifest = Manifest.read(run.manifest)
    source = _opened(run, data)
    different = _different(manifest, source)
    if different:
        raise PatiError(
            NP_(
                "{data} is not the data of this run: {n} file is missing or different, {example}",
                "{data} is not the data of this run: {n} files are missing or different, for example {example}",
                n=len(different),
                data=data,
                example=different[0],
            ),
            N_("name the folder, archive or CSV that the run was started with, in its new place"),
        )
    _record(run, manifest, source, data)


def relocated(run: Run, data: str | Path) -> bool:
    """The same, if `data` holds the files of the run and no others. Returns whether it does."""
    manifest = Manifest.read(run.manifest)
    try:
        source = _opened(run, data)
    except PatiError:  # other data, which needs other options
        return False
    if {item.path for item in source.items} != {entry.path for entry in manifest.entries}:
        return False
    if _different(manifest, source):
        return False
    _record(run, manifest, source, data)
    return True


def _opened(run: Run, data: str | Path) -> Source:
    return open_data(data, Recipe.read(run.recipe), Columns(**run.read_state()["columns"]))


def _different(manifest: Manifest, source: Source) -> list[str]:
    """Paths of the run's files that are missing or changed, and of new ones."""
    found, store = {item.path for item in source.items}, storage.at(source.root)
    known = {entry.path for entry in manifest.entries}
    hashes = pack.hashes_now(store, [entry.path for entry in manifest.entries])
    changed = [
        entry.path
        for entry, digest in zip(manifest.entries, hashes, strict=True)
        if entry.path not in found or digest != entry.sha256
    ]
    return changed + sorted(found - known)


def _record(run: Run, manifest: Manifest, source: Source, data: str | Path) -> None:
    moved = dataclasses.replace(manifest, root=str(source.root))
    if moved.root != manifest.root:
        moved.write(run.manifest)
    run.update(data=where_is(data))
