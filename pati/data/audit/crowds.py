"""Crowds: groups of near duplicates that are no copies, but many photos of one scene, as from a fixed camera.

In one split, a crowd would leave too little of its classes for the others. Knows nothing of pixels.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pati.data.entries import Entries, Entry
from pati.data.manifest import components
from pati.locale.messages import N_, Message

FEWEST = 10  # different photos: copies of one photo are rarely as many, and rarely more in several classes
MOST_SHARE = 0.5  # of a class


@dataclass(frozen=True)
class Crowd:
    """Photos that look alike, by their index; `classes`: how many different ones of each class, and of how many."""

    members: frozenset[int]
    classes: dict[str, tuple[int, int]]

    def described(self) -> Message:
        """Its size and its part of each class."""
        shares = [
            N_("{count} of {total} of {label}", count=count, total=total, label=label)
            for label, (count, total) in self.classes.items()
        ]
        return N_(
            "{n} photos look so alike that they would be one group of near duplicates, as from a fixed camera "
            "({shares})",
            n=len(self.members),
            shares=shares[:5],
        )


def found(entries: Sequence[Entry], near: Iterable[tuple[int, int]]) -> list[Crowd]:
    """The crowds among the groups that `near` pairs of indices form.

    A crowd has at least `FEWEST` different photos, and holds more than `MOST_SHARE` of a class or that many photos of
    each of several classes.
    """
    large = [group for group in components(near) if len(group) >= FEWEST]
    if not large:
        return []
    rows = Entries.of(entries)
    totals = _different(rows.kept)
    crowds = []
    for group in large:
        members = [index for index in group if rows[index].kept]
        counts = _different(rows.take(np.array(members, np.int64)))
        much = any(count > MOST_SHARE * totals[label] for label, count in counts.items())
        several = sum(count >= FEWEST for count in counts.values()) > 1
        if counts.total() >= FEWEST and (much or several):
            classes = {label: (count, totals[label]) for label, count in counts.most_common()}
            crowds.append(Crowd(frozenset(members), classes))
    return crowds


def marked(entries: Sequence[Entry], near: Iterable[tuple[int, int]]) -> Entries:
    """Entries with `alike` set for the groups that `near` pairs form, which need not stay together."""
    rows = Entries.of(entries)
    changed: dict[int, Entry] = {}
    for group in components(near):
        members = {index: entry for index in group if (entry := rows[index]).kept}
        digests = {entry.sha256 for entry in members.values()}
        for index, entry in members.items() if len(digests) > 1 else ():
            flags = (*entry.flags, "look-alike")
            changed[index] = dataclasses.replace(entry, alike=min(digests)[:16], status="flagged", flags=flags)
    return rows.with_rows(np.array(list(changed), np.int64), changed.values())


def _different(rows: Entries) -> Counter[str]:
    """Number of different photos by class: copies of one file count once."""
    labels = rows.label
    _, first = np.unique(np.char.add(labels.codes.astype("S12"), rows.digest), return_index=True)
    return Counter(labels.take(first).counts())
