"""Every kind of bad or odd file through the audit's worker: outcomes, the slowest file, the highest memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pati.recipe import Recipe
from pati.workflows.check import check
from tests.support.bad_files import FILES, KINDS
from tests.support.costs import cost


def bad_files() -> dict[str, Any]:
    costs = {}
    with tempfile.TemporaryDirectory() as base:
        root = Path(base) / "all" / "data"
        for name, kind in KINDS.items():
            (root / name).mkdir(parents=True)
            for number in range(FILES):
                kind.write(root / name, number)
            costs[name] = cost(name, Path(base) / name)
        found = check(root, Recipe())
    wrong = [
        entry.path
        for entry in found.entries
        if entry.label in KINDS and "twin" not in entry.path
        if entry.reason != KINDS[entry.label].reason or (KINDS[entry.label].flag not in ("", *entry.flags))
    ]
    slowest = max(costs, key=lambda name: costs[name][0])
    largest = max(costs, key=lambda name: costs[name][1])
    return {
        "kinds": len(KINDS),
        "files": FILES * len(KINDS),
        "wrong": wrong,
        "slowest": {"kind": slowest, "seconds": round(costs[slowest][0], 3)},
        "highest_memory": {"kind": largest, "megabytes": round(costs[largest][1] / 1e6)},
    }
