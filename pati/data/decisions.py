"""A person's decisions about individual photos: keep, drop or relabel. The photos themselves are never changed.

A CSV with one row per photo: `path` and `sha256` as in the manifest, `decision` and, to relabel, `new_label`. A row
without a decision is undecided; other columns are ignored and may hold notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pati.errors import PatiError
from pati.locale.messages import N_, NP_, Message
from pati.system.csv_text import read_csv, unguarded

ACTIONS = ("keep", "drop", "relabel")


@dataclass(frozen=True)
class Decision:
    """`action`: one of `ACTIONS`; `label`: the new label, for relabel; `sha256`: of the file that was reviewed."""

    action: str
    sha256: str
    label: str = ""


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Header and rows of a decisions.csv, whose cells are guarded against formulas. Raises `PatiError`."""
    header, rows = read_csv(path)
    return header, [
        {name: unguarded(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows
    ]


def read(path: Path, classes: Iterable[str]) -> dict[str, Decision]:
    """Read the decisions in a CSV, by photo path. `classes`: the valid labels. Raises `PatiError` for invalid rows."""
    known = set(classes)
    header, rows = read_table(path)
    lacking = [name for name in ("path", "sha256", "decision") if name not in header]
    if lacking:
        raise PatiError(
            N_("{path} has no column {column!r}", path=path, column=lacking[0]),
            N_("expected path and sha256 as in the manifest, decision, and new_label to relabel"),
        )
    decisions: dict[str, Decision] = {}
    for number, row in enumerate(rows, start=2):
        action, label = ((row.get(name) or "").strip() for name in ("decision", "new_label"))
        action = action.casefold()
        if not action:
            continue
        if action not in ACTIONS:
            raise PatiError(
                N_("{path}, line {number}: unknown decision {action!r}", path=path, number=number, action=action),
                N_("expected one of {actions}, or an empty cell", actions=ACTIONS),
            )
        if action == "relabel" and label not in known:
            raise PatiError(
                N_("{path}, line {number}: new_label {label!r} is not a class", path=path, number=number, label=label),
                N_("expected one of {names}", names=sorted(known)),
            )
        decision = Decision(action, (row["sha256"] or "").strip(), label if action == "relabel" else "")
        if decisions.setdefault(row["path"], decision) != decision:
            raise PatiError(
                N_(
                    "{path}, line {number}: {photo} already has another decision",
                    path=path,
                    number=number,
                    photo=row["path"],
                ),
                N_("keep one of them"),
            )
    return decisions


def unmet(decisions: Mapping[str, Decision], digests: Mapping[str, str]) -> tuple[Message, ...]:
    """Notes on decisions that can't be applied; `digests`: sha256 of every existing path."""
    gone = sum(path not in digests for path in decisions)
    changed = sum(digests.get(path, decision.sha256) != decision.sha256 for path, decision in decisions.items())
    notes = (
        NP_(
            "{n} decision is not applied: the photo does not exist",
            "{n} decisions are not applied: the photos do not exist",
            n=gone,
        ),
        NP_(
            "{n} decision is not applied: the photo has changed since",
            "{n} decisions are not applied: the photos have changed since",
            n=changed,
        ),
    )
    return tuple(note for note, count in zip(notes, (gone, changed), strict=True) if count)
