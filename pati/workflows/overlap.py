"""Which photos of another dataset a run has trained on or tested with: the same files, and near copies of them.

Near copies, such as a photo saved again in another format or size, are found as the audit finds near duplicates.
"""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pati.data import pack
from pati.data.audit import crowds
from pati.data.audit.inspections import Inspections
from pati.data.audit.judge import near_pairs
from pati.data.audit.pool import read_all
from pati.data.audit.worker import Inspection
from pati.data.entries import Entries, Entry
from pati.data.manifest import STRONGEST, Manifest, components, join
from pati.data.preprocess import Preprocess
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.evaluation.documents import PhotoCopy
from pati.events import Listen, Noted, Stage, StageBegan
from pati.locale.messages import N_, NP_
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.runs.start import Start
from pati.workflows.opening import audit_progress, source_of

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Overlap:
    """The readable photos of a dataset, and those that the run knows, by split, with the photo that each is a copy of.

    `entries` have their duplicates among each other.
    """

    entries: Sequence[Entry]
    known: dict[str, list[PhotoCopy]]


def same_files(entries: Sequence[Entry], manifest: Manifest, start: Start | None) -> dict[str, list[PhotoCopy]]:
    """The entries whose content is that of a training or test photo of a run, by split.

    The training photos of what the run started from are training photos too.
    """
    known = {name: {entry.sha256: entry.path for entry in manifest.of_split(name)} for name in SPLITS}
    if start is not None:
        known["train"] = dict.fromkeys(start.training_photos(), start.parent["name"]) | known["train"]
    return {
        name: [
            {"path": entry.path, "of": paths[entry.sha256], "same_file": True}
            for entry in entries
            if entry.sha256 in paths
        ]
        for name, paths in known.items()
    }


def overlap(run: Run, manifest: Manifest, source: Source, listen: Listen) -> Overlap:
    """Compare a dataset with the training and test photos of a run."""
    listen(StageBegan(Stage.AUDIT, len(source.items)))
    inspections = read_all(source, progress=audit_progress(listen))
    ours = _entries(source, inspections)
    theirs, their_inspections = _of_run(run, manifest, SPLITS, listen)
    pairs, notes = near_pairs(Inspections.joined([Inspections.of(inspections), Inspections.of(their_inspections)]))
    for note in notes:
        listen(Noted(note))
    near = _groups([*ours, *theirs], pairs)
    among = [pair for group in near for pair in _chained([index for index in group if index < len(ours)])]
    known = same_files([entry for entry in ours if entry.kept], manifest, Start.of(run))
    for group in near:
        for name in SPLITS:
            of = [theirs[index - len(ours)] for index in group if index >= len(ours)]
            paths = [entry.path for entry in of if entry.split == name]
            same = {row["path"] for row in known[name]}
            known[name] += [
                {"path": ours[index].path, "of": paths[0], "same_file": False}
                for index in group
                if paths and index < len(ours) and ours[index].path not in same
            ]
    return Overlap(join(ours, among).kept, known)


def known_copies(run: Run, source: Source, inspections: Sequence[Inspection], listen: Listen) -> dict[str, str]:
    """The photos of a dataset that are near copies of a run's photos: the split of those, by SHA-256 of ours."""
    manifest = Manifest.read(run.manifest)
    ours = _entries(source, inspections)
    here = {entry.sha256 for entry in ours}
    # Those that are among ours too stay together with their copies anyway.
    gone = {entry.sha256 for entry in manifest.kept} - here
    if not gone:
        return {}
    theirs, their_inspections = _of_run(run, manifest, STRONGEST, listen, among=gone)
    pairs, _ = near_pairs(Inspections.joined([Inspections.of(inspections), Inspections.of(their_inspections)]))
    known: dict[str, str] = {}
    for group in _groups([*ours, *theirs], pairs):
        splits = {theirs[index - len(ours)].split for index in group if index >= len(ours)}
        where = next((name for name in STRONGEST if name in splits), None)
        if where is not None:
            known |= {ours[index].sha256: where for index in group if index < len(ours)}
    return known


def _entries(source: Source, inspections: Sequence[Inspection]) -> Entries:
    return Entries.of(
        Entry(item.path, item.label, "quarantined" if found.reason else "kept", sha256=found.sha256, group=item.group)
        for item, found in zip(source.items, inspections, strict=True)
    )


def _of_run(
    run: Run, manifest: Manifest, splits: Sequence[str], listen: Listen, *, among: Container[str] | None = None
) -> tuple[list[Entry], list[Inspection]]:
    """The run's photos of these splits that can still be read, and how they look; only those `among` some hashes."""
    entries = [entry for name in splits for entry in manifest.of_split(name) if among is None or entry.sha256 in among]
    recipe = Recipe.read(run.recipe)
    preprocess = Preprocess(size=recipe.size or 1, resize=recipe.resize)
    # By content, so it does not matter whether the photos have changed since.
    seen = _by_content(pack.known_inspections(Path(manifest.root), preprocess))
    if any(entry.sha256 not in seen for entry in entries):
        try:
            source = source_of(run, recipe)
            listen(StageBegan(Stage.AUDIT, len(source.items)))
            seen |= _by_content(read_all(source, progress=audit_progress(listen)))
        except PatiError as error:
            listen(Noted(N_("the photos of the run cannot be read: {error}", error=error.message)))
    there = [entry for entry in entries if entry.sha256 in seen]
    if len(there) < len(entries):
        listen(
            Noted(
                NP_(
                    "{n} photo of the run is no longer there: only exact copies of it can be found, not near copies",
                    "{n} photos of the run are no longer there: only exact copies of them can be found, not near "
                    "copies",
                    n=len(entries) - len(there),
                )
            )
        )
    return there, [seen[entry.sha256] for entry in there]


def _by_content(inspections: Iterable[Inspection]) -> dict[str, Inspection]:
    return {inspection.sha256: inspection for inspection in inspections if not inspection.reason}


def _groups(entries: Sequence[Entry], pairs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The groups of near duplicates, without those of photos that only look alike, as from a fixed camera."""
    loose = {index for crowd in crowds.found(entries, pairs) for index in crowd.members}
    loose |= {index for index, entry in enumerate(entries) if entry.alike}
    return [group for group in components(pairs) if loose.isdisjoint(group)]


def _chained(numbers: Sequence[int]) -> Iterable[tuple[int, int]]:
    return itertools.pairwise(numbers)
