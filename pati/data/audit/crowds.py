"""Crowds: groups of near duplicates that are no copies, but many photos of one scene, as from a fixed camera.

In one split, a crowd would leave too little of its classes for the others. Knows nothing of pixels.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pati.data.manifest import Entry, components
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
    totals = _different(entries, range(len(entries)))
    crowds = []
    for group in large:
        members = [index for index in group if entries[index].kept]
        counts = _different(entries, members)
        much = any(count > MOST_SHARE * totals[label] for label, count in counts.items())
        several = sum(count >= FEWEST for count in counts.values()) > 1
        if counts.total() >= FEWEST and (much or several):
            classes = {label: (count, totals[label]) for label, count in counts.most_common()}
            crowds.append(Crowd(frozenset(members), classes))
    return crowds


def marked(entries: Sequence[Entry], near: Iterable[tuple[int, int]]) -> list[Entry]:
    """Entries with `alike` set for the groups that `near` pairs form, which need not stay together."""
    result = list(entries)
    for group in components(near):
        members = [index for index in group if entries[index].kept]
        name = min((entries[index].sha256 for index in members), default="")[:16]
        for index in members if len({entries[index].sha256 for index in members}) > 1 else ():
            flags = (*entries[index].flags, "look-alike")
            result[index] = dataclasses.replace(entries[index], alike=name, status="flagged", flags=flags)
    return result


def _different(entries: Sequence[Entry], members: Iterable[int]) -> Counter[str]:
    """Number of different photos by class: copies of one file count once."""
    contents = defaultdict(set)
    for index in members:
        if entries[index].kept:
            contents[entries[index].label].add(entries[index].sha256)
    return Counter({label: len(digests) for label, digests in contents.items()})
