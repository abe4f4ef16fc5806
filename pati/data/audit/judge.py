"""Inspection results of all files -> the manifest: duplicates joined, split drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from pati.data.audit import duplicates
from pati.data.audit.worker import Finding
from pati.data.decisions import Decision, unmet
from pati.data.manifest import Entry, Manifest, SplitSettings, class_order, join, with_split
from pati.data.sources.source import Item, Source
from pati.recipe import Recipe

_SMALLEST_FOR_NEAR = 32  # px; below, different drawings look alike at thumbnail size


def manifest(source: Source, findings: Sequence[Finding], recipe: Recipe) -> Manifest:
    """Findings -> manifest: duplicates joined, split drawn."""
    entries = [
        _entry(item, finding, source.decisions.get(item.path))
        for item, finding in zip(source.items, findings, strict=True)
    ]
    comparable = [
        index
        for index, finding in enumerate(findings)
        if not finding.reason and min(finding.width, finding.height) >= _SMALLEST_FOR_NEAR
    ]
    # Exact copies share a thumbnail: compare each content once.
    unique = list({findings[index].sha256: index for index in reversed(comparable)}.values())[::-1]
    near: list[tuple[int, int]] = []
    notes = source.notes + unmet(source.decisions, {entry.path: entry.sha256 for entry in entries})
    if unique:
        pairs, passed_over = duplicates.near_duplicates(np.stack([findings[index].thumb for index in unique]))
        near = [(unique[i], unique[j]) for i, j in pairs]
        if passed_over:
            notes += (f"many photos look alike: {passed_over} pairs were not compared closely for near-duplicates",)
    entries = with_split(
        join(entries, near),
        seed=recipe.split_seed,
        validation=recipe.validation,
        test=recipe.test,
        given=source.presplit,
    )
    changed = sum(entry.split == "test" and "relabelled" in entry.flags for entry in entries)
    if changed:
        notes += (f"test photos relabelled by decisions: {changed}; a score on them is not blind",)
    dropped = sum(entry.reason == "dropped" for entry in entries)
    if dropped:
        notes += (f"photos left out by decisions: {dropped}; where a model's mistakes chose them, no score is blind",)
    settings: SplitSettings = {
        "seed": recipe.split_seed,
        "validation": recipe.validation,
        "test": recipe.test,
        "group_by": recipe.group_by,
        "given": source.presplit,
    }
    return Manifest(source.name, str(source.root), class_order(entries), tuple(entries), settings, notes)


def _entry(item: Item, finding: Finding, decision: Decision | None) -> Entry:
    status = "quarantined" if finding.reason else "flagged" if finding.flags else "kept"
    facts = {field.name: getattr(finding, field.name) for field in dataclasses.fields(Finding) if field.name != "thumb"}
    entry = Entry(item.path, item.label, status, group=item.group, split=item.split, **facts)
    if decision is None or decision.sha256 != entry.sha256 or not entry.kept:
        return entry
    if decision.action == "drop":
        return dataclasses.replace(entry, status="quarantined", reason="dropped")
    if decision.action == "relabel" and decision.label != entry.label:
        detail = f"was {entry.label}"
        flags = (*entry.flags, "relabelled")
        return dataclasses.replace(entry, status="flagged", label=decision.label, detail=detail, flags=flags)
    return dataclasses.replace(entry, flags=(*entry.flags, "confirmed"))
