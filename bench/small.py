"""Small sets: accuracy on photos that are held back, of this commit and of another one ($BASE), in turns.

Sets are cut by the hash of each photo, so that smaller ones are parts of larger ones; the photos of a contributor of
the clothes are all held back, or none.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.command import commit, environment, machine
from pati.data.sources import storage
from pati.data.sources.find import find_source
from pati.evaluation.intervals import crossed_interval

BASE = "c4409bb"
SEEDS = (0, 1, 2)
COUNTS = (25, 100, 1000)  # photos a class
HELD = 2000  # photos held back, at most
SETS = [f"{name}-{count}" for name in ("cats-vs-dogs", "clothing") for count in COUNTS] + ["cats-vs-dogs-32", "digits"]
# The code that a training and its score depend on: if it changes, stored pairs are measured again.
TRAINING_CODE = (
    "pati/data", "pati/models", "pati/training", "pati/recipe.py", "pati/inference/forward.py",
    "pati/system/machine.py", "pati/system/threads.py", "pati/workflows/prepare.py",
)  # fmt: skip
# The plain reference: ResNet-18 with SGD, flips and crops.
REFERENCE = ("model=resnet18", "optimizer=sgd", "schedule=cosine", "label_smoothing=0", "brightness=0", "l2=0.0005")


def small(
    seconds: int = 300, names: Sequence[str] = SETS, reference: Sequence[str] | None = REFERENCE
) -> dict[str, Any]:
    """Every set, seed and commit, `seconds` each; then the settings of a plain reference, if any, with one seed."""
    base = os.environ.get("BASE", BASE)
    kept = Path(__file__).parent / "results" / "small" / f"{base}-{seconds}s"
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        old, sets = Path(folder) / base, Path(folder) / "sets"
        subprocess.run(["git", "clone", "--quiet", ".", str(old)], check=True)
        subprocess.run(["git", "-C", str(old), "checkout", "--quiet", base], check=True)
        write(sets)

        def pair(name: str, seed: int) -> dict[str, Any]:
            roots = {"old": old, "new": Path.cwd()}
            return {"set": name, "seed": seed} | {
                which: once(root, sets, name, seconds, seed) for which, root in roots.items()
            }

        rows = [
            once_only(kept / f"{name}-{seed}.json", functools.partial(pair, name, seed))
            for seed in SEEDS
            for name in names
        ]
        plain = {
            name: once_only(
                kept / f"{name}-resnet18.json",
                functools.partial(once, Path.cwd(), sets, name, seconds, 0, reference),
            )
            for name in names
            if reference is not None
        }
    return {
        "base": base,
        "commits": sorted({row["commit"] for row in [*rows, *plain.values()]}),
        "processors": sorted({row["cpu"] for row in [*rows, *plain.values()]}),
        "budget_seconds": seconds,
        "seeds": SEEDS,
        "sets": {name: compared([row for row in rows if row["set"] == name]) for name in names},
        "resnet18": {name: row["accuracy"] for name, row in plain.items()},
    }


def compared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean accuracies of both commits over the seeds, and the 95 % interval of their difference on the same photos."""
    gains = np.array([[int(new) - int(old) for old, new in zip(row["old"]["right"], row["new"]["right"], strict=True)]
                      for row in rows], float).T  # fmt: skip
    return {
        "old": round(statistics.mean(row["old"]["accuracy"] for row in rows), 4),
        "new": round(statistics.mean(row["new"]["accuracy"] for row in rows), 4),
        "gain": round(float(gains.mean()), 4),
        "interval": [round(end, 4) for end in crossed_interval(gains, (-1, 1))],
        "photos": len(gains),
    }


def once_only(file: Path, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The stored result of an earlier call, or a new measurement if there is none or `TRAINING_CODE` has changed."""
    if not file.exists() or trains_differently(json.loads(file.read_text())["commit"]):
        file.write_text(json.dumps({"commit": commit(), "cpu": machine()["cpu"], **measure()}) + "\n")
    found: dict[str, Any] = json.loads(file.read_text())
    rows = {which: found[which] for which in ("old", "new")} if "old" in found else {"resnet18": found}
    print(file.stem, {which: row["accuracy"] for which, row in rows.items()}, flush=True)
    return found


def trains_differently(earlier: str) -> bool:
    """Whether `TRAINING_CODE` has changed since a commit, committed or not."""
    return subprocess.run(["git", "diff", "--quiet", earlier, "--", *TRAINING_CODE]).returncode != 0


def once(root: Path, sets: Path, name: str, seconds: int, seed: int, changes: Sequence[str] = ()) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = [str(Path(__file__).parent / "small_once.py"), str(sets / name), str(held_back(sets, name))]
        command = [sys.executable, *words, str(seconds), str(seed), str(Path(folder) / "run"), *changes]
        own = environment(Path(folder) / "cache") | {"PYTHONPATH": str(root)}
        done = subprocess.run(command, env=own, cwd=folder, check=True, capture_output=True, text=True)
    document: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return document


def held_back(sets: Path, name: str) -> Path:
    return sets / "held" / (name.rpartition("-")[0] if name.rpartition("-")[2] in map(str, COUNTS) else name)


# The sets -------------------------------------------------------------------------------


def write(root: Path) -> None:
    """Write the sets as ROOT/NAME/CLASS/…, and the photos that are held back as ROOT/held/NAME/CLASS/…"""
    for archive, share in (("cats-vs-dogs", 0.1), ("clothing", 0.2), ("digits", 0.3)):
        by_class: dict[str, list[tuple[float, str, bytes]]] = defaultdict(list)
        held = 0
        for name, label, group, data in photos(archive):
            if place(f"held {group}") < share:
                if held < HELD:
                    put(root / "held" / archive / label / Path(name).name, data)
                    held += 1
            else:
                by_class[label].append((place(name), name, data))
        for count in COUNTS if archive != "digits" else (None,):
            for label, rows in by_class.items():
                for _, name, data in sorted(rows)[:count]:
                    put(root / (archive if count is None else f"{archive}-{count}") / label / Path(name).name, data)
        if archive == "cats-vs-dogs":
            for label, rows in by_class.items():
                for _, name, data in rows:
                    put(root / f"{archive}-32" / label / Path(name).name, tiny(data))
            for file in (root / "held" / archive).rglob("*.jpg"):
                put(root / "held" / f"{archive}-32" / file.parent.name / file.name, tiny(file.read_bytes()))


def photos(archive: str) -> Iterator[tuple[str, str, str, bytes]]:
    """Name, class, group and contents of each photo."""
    if archive == "digits":
        source = find_source("digits")
        store = storage.at(source.root)
        for item in source.items:
            yield item.path, item.label, item.path, store.read(item.path)
        return
    with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / f"{archive}.zip") as file:
        senders = {}
        if archive == "clothing":
            for row in csv.DictReader(io.StringIO(file.read("clothing/images.csv").decode())):
                senders[f"clothing/{row['file']}"] = row["sender_id"]
        for name in file.namelist():
            if name.endswith(".jpg") and (data := file.read(name)):
                yield name, name.split("/")[-2], senders.get(name, name), data


def place(name: str) -> float:
    """A number from 0 to 1 by which photos are drawn."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def tiny(data: bytes) -> bytes:
    """A JPEG of 32 × 32 px."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as opened:
        opened.convert("RGB").resize((32, 32), Image.Resampling.BOX).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def put(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
