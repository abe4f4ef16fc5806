"""Build the manifest from the inspection results: merge duplicates, draw the split."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from pati.data.audit import crowds, duplicates
from pati.data.audit.inspections import Inspections
from pati.data.audit.worker import Inspection
from pati.data.columns import Codes
from pati.data.decisions import Decision, unmet
from pati.data.entries import QUARANTINED, Columns, Entries, Entry
from pati.data.manifest import (
    Manifest,
    SplitSettings,
    class_order,
    components,
    folds_for,
    join,
    with_folds,
    with_split,
)
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message
from pati.recipe import Recipe

_SMALLEST_FOR_NEAR = 32  # px; below, different drawings look the same at thumbnail size


def build_manifest(
    source: Source,
    inspections: Sequence[Inspection],
    recipe: Recipe,
    known: Mapping[str, str] = MappingProxyType({}),
    *,
    most_folds: int | None = None,
) -> Manifest:
    """The manifest of a source: inspection results with duplicates merged and the split, or the folds, drawn.

    `known`: splits of photos by content, see `with_split`. `most_folds`: how many folds there is time for, where the
    recipe leaves their number open; None: any number. Raises `PatiError` if folds are wanted for data that comes with a
    test split.
    """
    found = Inspections.of(inspections)
    entries = _entries(source, found)
    decided = {path: row for row, path in enumerate(source.columns.paths) if path in source.decisions}
    notes = source.notes + unmet(source.decisions, {path: entries[row].sha256 for path, row in decided.items()})
    entries = entries.with_rows(
        np.array(list(decided.values()), np.int64),
        [_decided(entries[row], source.decisions[path]) for path, row in decided.items()],
    )
    together, apart, told = _near(entries, found, recipe)
    entries = crowds.marked(join(entries, together), apart)
    folds = _folds(entries, recipe, most_folds, given=source.presplit)
    entries = with_split(
        entries,
        seed=recipe.split_seed,
        # With folds, only early stopping needs a validation split.
        validation=0.0 if folds and not recipe.patience else recipe.validation,
        test=0.0 if folds else recipe.test,
        given=source.presplit,
        known=known,
    )
    if folds:
        entries = with_folds(entries, folds, seed=recipe.split_seed)
    notes += told
    changed = sum(
        (entries[row].split == "test" or bool(folds)) and "relabelled" in entries[row].flags for row in decided.values()
    )
    if changed:
        notes += (
            NP_(
                "{n} test photo was relabelled by your decisions; the test score is no longer blind",
                "{n} test photos were relabelled by your decisions; the test score is no longer blind",
                n=changed,
            ),
        )
    dropped = entries.reason.counts().get("dropped", 0)
    if dropped:
        notes += (
            NP_(
                "{n} photo was excluded by your decisions; if a model's mistakes suggested it, no score is blind",
                "{n} photos were excluded by your decisions; if a model's mistakes suggested them, no score is blind",
                n=dropped,
            ),
        )
    settings: SplitSettings = {
        "seed": recipe.split_seed,
        "validation": recipe.validation,
        "test": recipe.test,
        "group_by": recipe.group_by,
        "near_duplicates": recipe.near_duplicates,
        "folds": folds,
        "given": source.presplit,
    }
    return Manifest(source.name, str(source.root), class_order(entries), entries, settings, notes)


def _folds(entries: Sequence[Entry], recipe: Recipe, most: int | None, *, given: bool) -> int:
    """Number of cross-validation folds: the recipe's, or the default for these photos."""
    if recipe.folds is None:
        return folds_for(entries, test=recipe.test, given=given, most=most)
    tested = Entries.of(entries).kept.split.counts().get("test", 0) if given else 0
    if recipe.folds and tested:
        raise PatiError(
            NP_(
                "the data comes with a test split of {n} photo, and --folds {folds} asks for cross-validation",
                "the data comes with a test split of {n} photos, and --folds {folds} asks for cross-validation",
                n=tested,
                folds=recipe.folds,
            ),
            N_("omit --folds to score that split, or give the training photos only"),
        )
    return recipe.folds


Pairs = list[tuple[int, int]]


def _near(
    entries: Sequence[Entry], inspections: Sequence[Inspection], recipe: Recipe
) -> tuple[Pairs, Pairs, tuple[Message, ...]]:
    """Near duplicates that stay together, those that need not, and notes; as `recipe.near_duplicates` wants it."""
    if recipe.near_duplicates == "off":
        return [], [], (N_("near duplicates were not looked for (--near-duplicates off)"),)
    pairs, notes = near_pairs(inspections)
    if recipe.near_duplicates == "report":
        photos = sum(map(len, components(pairs)))
        told = NP_(
            "{n} photo is a near duplicate of another one; near duplicates are not kept together "
            "(--near-duplicates report)",
            "{n} photos are near duplicates of others; near duplicates are not kept together "
            "(--near-duplicates report)",
            n=photos,
        )
        return [], pairs, (*notes, told)
    found = crowds.found(entries, pairs)
    if recipe.near_duplicates == "group":
        kept = (
            N_("{crowd}; they stay in one split (--near-duplicates group)", crowd=crowd.described()) for crowd in found
        )
        return pairs, [], (*notes, *kept)
    loose = frozenset[int]().union(*(crowd.members for crowd in found))
    told_of = (
        N_(
            "{crowd}; in one split they would leave too little for the others, so they are not kept together; if they "
            "are copies of one photo, use --near-duplicates group",
            crowd=crowd.described(),
        )
        for crowd in found
    )
    together = [pair for pair in pairs if pair[0] not in loose]
    return together, [pair for pair in pairs if pair[0] in loose], (*notes, *told_of)


def near_pairs(inspections: Sequence[Inspection]) -> tuple[Pairs, tuple[Message, ...]]:
    """Pairs of near duplicates by their index, and a note if not all candidates were compared."""
    results = Inspections.of(inspections)
    comparable = np.flatnonzero(
        results.reason.equal("") & (np.minimum(results.width, results.height) >= _SMALLEST_FOR_NEAR)
    )
    # Exact copies share a thumbnail, so compare each content only once.
    _, last, content = np.unique(results.digest[comparable][::-1], return_index=True, return_inverse=True)
    first = np.full(len(last), len(comparable))
    np.minimum.at(first, content[::-1], np.arange(len(comparable)))
    unique = comparable[first[np.argsort(-last, kind="stable")]]
    if not len(unique):
        return [], ()
    found, skipped = duplicates.near_duplicates(results.thumbs, results.thumb[unique].astype(np.int64))
    note = NP_(
        "many photos look alike: {n} pair was not checked for near duplicates",
        "many photos look alike: {n} pairs were not checked for near duplicates",
        n=skipped,
    )
    return [(int(unique[i]), int(unique[j])) for i, j in found], (note,) if skipped else ()


_STATUS = ("kept", "flagged", QUARANTINED)


def _entries(source: Source, found: Inspections) -> Entries:
    """The entries of all files, as their inspection left them."""
    items, count = source.columns, len(found)
    flagged, out = ~found.flags.equal(()), ~found.reason.equal("")
    none: Codes[str | None] = Codes.all(None, count)
    return Entries(
        Columns(
            path=items.paths, label=items.labels, status=Codes(_STATUS, np.where(out, 2, flagged).astype(np.int32)),
            digest=found.digest, bytes=found.bytes, width=found.width, height=found.height, reason=found.reason,
            detail=found.detail, flags=found.flags, group=items.groups, duplicate=none, alike=none, split=items.splits,
            fold=Codes.all(None, count), properties=found.properties,
        )
    )  # fmt: skip


def _decided(entry: Entry, decision: Decision) -> Entry:
    """The entry as a person has decided on it."""
    if decision.sha256 != entry.sha256 or not entry.kept:
        return entry
    if decision.action == "drop":
        return dataclasses.replace(entry, status=QUARANTINED, reason="dropped")
    if decision.action == "relabel" and decision.label != entry.label:
        detail = N_("was {label}", label=entry.label)
        flags = (*entry.flags, "relabelled")
        return dataclasses.replace(entry, status="flagged", label=decision.label, detail=detail, flags=flags)
    return dataclasses.replace(entry, flags=(*entry.flags, "confirmed"))
