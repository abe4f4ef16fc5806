"""What a person decided of single photos: keep, drop or relabel. The photos themselves are never touched.

A CSV with a row a photo: `path` and `sha256` as in the manifest, `decision` and, to relabel, `new_label`. A row without
a decision says nothing yet; other columns are for the person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pati.errors import PatiError
from pati.system.files import read_csv

ACTIONS = ("keep", "drop", "relabel")


@dataclass(frozen=True)
class Decision:
    """`action`: one of `ACTIONS`; `label`: the new one, for relabel; `sha256`: of the file that was looked at."""

    action: str
    sha256: str
    label: str = ""


def read(path: Path, classes: Iterable[str]) -> dict[str, Decision]:
    """The decisions in a CSV by the photos' paths; `classes`: those there are. Raises `PatiError` for a wrong row."""
    known = set(classes)
    header, rows = read_csv(path)
    lacking = [name for name in ("path", "sha256", "decision") if name not in header]
    if lacking:
        raise PatiError(
            f"{path} has no column {lacking[0]!r}",
            "expected path and sha256 as in the manifest, decision, and new_label to relabel",
        )
    found: dict[str, Decision] = {}
    for number, row in enumerate(rows, start=2):
        action, label = ((row.get(name) or "").strip() for name in ("decision", "new_label"))
        if not action:
            continue
        if action not in ACTIONS:
            raise PatiError(f"{path}, line {number}: decision {action!r}", f"expected {', '.join(ACTIONS)} or nothing")
        if action == "relabel" and label not in known:
            raise PatiError(
                f"{path}, line {number}: new_label {label!r} is no class", f"expected one of {', '.join(sorted(known))}"
            )
        made = Decision(action, (row["sha256"] or "").strip(), label if action == "relabel" else "")
        if found.setdefault(row["path"], made) != made:
            raise PatiError(f"{path}, line {number}: another decision for {row['path']} stands above", "leave one")
    return found


def unmet(decisions: Mapping[str, Decision], digests: Mapping[str, str]) -> tuple[str, ...]:
    """Notes on decisions that can't be followed; `digests`: the sha256 of each path that there is."""
    gone = sum(path not in digests for path in decisions)
    changed = sum(digests.get(path, made.sha256) != made.sha256 for path, made in decisions.items())
    notes = ((gone, "are not there"), (changed, "have changed since"))
    return tuple(f"decisions that are not followed, for photos that {what}: {count}" for count, what in notes if count)
