"""Budgets of this commit against another one ($BASE, or 9c1e5ec), in turns: multiply-adds done, and accuracy."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from bench.command import commit, environment
from pati.data import pack
from pati.data.preprocess import Preprocess
from pati.data.sources.find import find_source
from pati.training import plan

BASE = "9c1e5ec"
SEEDS = {1: (0, 1, 2), 2: (0, 1, 2), 5: (0, 1, 2), 10: (0,)}  # by minutes
KEPT = (Path("runs") / "bench").resolve()
CACHE = KEPT / "against-cache"


def against() -> dict[str, Any]:
    base = os.environ.get("BASE", BASE)
    rows = []
    with mock.patch.dict(os.environ, PATI_CACHE=str(CACHE)):  # so that neither commit reads what the other does not
        for size in sorted({tier.size for tier in plan.TIERS}):
            pack.open_or_build(find_source("cats-vs-dogs"), Preprocess(size=size))
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / base
        subprocess.run(["git", "clone", "--quiet", ".", str(old)], check=True)
        subprocess.run(["git", "-C", str(old), "checkout", "--quiet", base], check=True)
        for minutes, seeds in SEEDS.items():
            for seed in seeds:
                pair = {name: worked(root, minutes, seed, name) for name, root in (("old", old), ("new", Path.cwd()))}
                rows.append({"minutes": minutes, "seed": seed, **pair})
    means = {
        minutes: {
            what: [
                round(statistics.mean(row[name][what] for row in rows if row["minutes"] == minutes), 4)
                for name in ("old", "new")
            ]
            for what in ("multiply_adds", "seconds", "test_accuracy", "validation_accuracy")
        }
        for minutes in SEEDS
    }
    return {
        "old": base,
        "command": "pati train cats-vs-dogs --budget …, photos decoded before",
        "means": means,
        "rows": rows,
    }


def worked(root: Path, minutes: int, seed: int, name: str) -> dict[str, Any]:
    """One training by the pati in `root`; kept, so that a measurement that was cut goes on."""
    kept = KEPT / f"against-{root.name if name == 'old' else commit()}-{name}-{minutes}-{seed}.json"
    if not kept.exists():
        KEPT.mkdir(parents=True, exist_ok=True)
        run = KEPT / f"against-{name}"
        shutil.rmtree(run, ignore_errors=True)
        script = Path(__file__).with_name("work.py")
        done = subprocess.run(
            [sys.executable, "-P", str(script), str(60 * minutes), str(seed), str(run)],
            env=environment(CACHE) | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE, text=True, check=True,
        )  # fmt: skip
        kept.write_text(done.stdout)
    found: dict[str, Any] = json.loads(kept.read_text())
    return found
