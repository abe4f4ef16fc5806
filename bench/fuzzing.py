"""Fuzzing by coverage (`make fuzz`), and single-bit flips of model file and checkpoint."""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pati import models
from pati.data.preprocess import Preprocess
from pati.errors import PatiError
from pati.inference.classifier import Classifier
from pati.runs import checkpoint

RUNS = {"decode": 1_000_000, "model": 200_000}
FLIPS = 500  # of each kind of file


def fuzz() -> dict[str, Any]:
    result = {}
    for target, runs in RUNS.items():
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", "fuzz", target, str(runs)], capture_output=True, text=True)
        result[target] = summary(target, done.stderr, done.returncode, time.monotonic() - started)
    return result


def summary(target: str, told: str, code: int, seconds: float) -> dict[str, Any]:
    """What libFuzzer's last lines say."""

    def figure(name: str) -> int | None:
        found = re.search(rf"stat::{name}:\s*(\d+)", told)
        return int(found.group(1)) if found else None

    return {
        "command": f"python -m fuzz {target} {RUNS[target]}",
        "exit": code,
        "inputs": figure("number_of_executed_units") or 0,
        "seconds": round(seconds),
        "peak_megabytes": figure("peak_rss_mb"),
        "slowest_seconds": figure("slowest_unit_time_sec"),
        **({"last_words": told[-2000:]} if code else {}),
    }


def bit_flips() -> dict[str, Any]:
    rng = random.Random(0)
    net = models.build("pati", 2, models.Options(width=0.5))
    facts = {"model": {"name": "pati", "width": 0.5, "dropout": 0.0}}
    with tempfile.TemporaryDirectory() as folder:
        model, other = Path(folder) / "m.safetensors", Path(folder) / "c"
        Classifier(net, Preprocess(size=64), ["cat", "dog"], mirror=True, facts=facts).save(model)
        saved = checkpoint.save(other, 1, dict(net.state_dict()), '{"state": {"step": 1}}', owner="bench")
        return {
            "model": flipped(model, rng, lambda: Classifier.load(model)),
            "checkpoint": flipped(saved, rng, lambda: taken(other)),
        }


def taken(folder: Path) -> None:
    tensors, facts, _ = checkpoint.newest(folder, owner="bench")
    if facts is None and not tensors:
        raise PatiError("passed over")


def flipped(path: Path, rng: random.Random, load: Any) -> dict[str, int]:
    """How many of FLIPS single flipped bits, a third of them in the header, were found before anything was used."""
    data = path.read_bytes()
    load()
    found = 0
    header = 8 + int.from_bytes(data[:8], "little")
    for number in range(FLIPS):
        at = rng.randrange(header if number % 3 == 0 else len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        with contextlib.suppress(PatiError):
            load()
            continue
        found += 1
    path.write_bytes(data)
    load()
    return {"flips": FLIPS, "found": found, "bytes": len(data)}
