"""A named list of labelled files, and the words that people use for splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pati.data.decisions import Decision

SPLITS = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
          "validation": "validation", "dev": "validation", "test": "test", "testing": "test"}  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One labelled file; `path` is relative to the source's root, with forward slashes."""

    path: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Source:
    """A named list of labelled files below `root`, in order of their paths; `places.at(root)` reads them.

    `mirrored`: a photo and its mirror image mean the same, so flips are a sound
    augmentation (false for digits). `turned`: so do small turns. `presplit`: the user's
    own train/val/test folders or CSV column rule. `decisions`: the user's, by path.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    mirrored: bool = True
    turned: bool = True
    presplit: bool = False
    notes: tuple[str, ...] = ()
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in natural order: 0, 1, 2, 10."""
        return tuple(sorted({item.label for item in self.items}, key=natural))


@dataclass(frozen=True)
class Columns:
    """Names of CSV columns; None means: found by usual names."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None

    def options(self) -> list[str]:
        """What names them on the command line; a group's column is named by the recipe."""
        named = (("path", self.path), ("label", self.label), ("split", self.split))
        return [part for name, value in named if value is not None for part in (f"--{name}-column", value)]


def natural(text: str) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """Sort key in which numbers count as numbers: 2 before 10. The text itself settles ties: 1 and 01."""
    parts = (part for part in re.split(r"(\d+)", text) if part)
    return tuple((0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts), text
