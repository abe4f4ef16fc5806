"""Sets of up to a million small photos, in folders and in tars: seconds and memory to read, split, cache and train."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.command import environment

COUNTS = (20_000, 200_000, 1_000_000)
CLASSES, SIDE, SHARD = 10, 32, 20_000
TRAINING = ("--epochs", "1", "--folds", "0", "--size", str(SIDE), "--set", "model=scratch", "width=0.125", "batch=256")


def photos(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents: random smooth colours, each class of another mean brightness."""
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = number % CLASSES
        small = rng.integers(0, 256, (6, 6, 3)) * 0.8 + 5 * kind
        image = Image.fromarray(small.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=80)
        yield f"class-{kind}/{number:07d}.jpg", file.getvalue()


def write(folder: Path, count: int, layout: str) -> Path:
    if layout == "folders":
        for kind in range(CLASSES):
            (folder / f"class-{kind}").mkdir(parents=True)
        for name, content in photos(count):
            (folder / name).write_bytes(content)
        return folder
    folder.mkdir(parents=True)
    source = photos(count)
    for shard in range(-(-count // SHARD)):
        with tarfile.open(folder / f"photos-{shard:04d}.tar", "w") as archive:
            for _, (name, content) in zip(range(SHARD), source, strict=False):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return folder


def measured(cache: Path, *words: object) -> dict[str, float]:
    """Seconds of a command, and the most memory of its own and of any of its processes, in MB.

    `mb_with_files`: its own, with the parts of mapped files that the system keeps in memory for it.
    """
    started, own, with_files, others = time.monotonic(), 0, 0, 0
    command = [sys.executable, "-P", "-m", "pati", *map(str, words)]
    with subprocess.Popen(command, env=environment(cache), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            own, with_files = max(own, _memory(process.pid, "RssAnon")), max(with_files, _memory(process.pid, "VmHWM"))
            others = max([others, *(_memory(child, "RssAnon") for child in _below(process.pid))])
            time.sleep(0.2)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {
        "seconds": round(time.monotonic() - started, 1),
        "mb": own // 1024,
        "mb_with_files": with_files // 1024,
        "mb_of_a_worker": others // 1024,
    }


def _memory(process: int, kind: str) -> int:
    """Memory of a process in kB. `kind`: `RssAnon`, without mapped files, or `VmHWM`, the most it had, with them."""
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        return int(lines[kind].split()[0])
    except (OSError, KeyError, ValueError):
        return 0


def _below(process: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def scale(*counts: int) -> dict[str, Any]:
    result = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for count in counts or COUNTS:
            for layout in ("tars", "folders"):
                data = write(Path(folder) / f"{layout}-{count}", count, layout)
                cache = Path(folder) / f"cache-{layout}-{count}"
                result[f"{layout}, {count:,} photos"] = {
                    "check": measured(cache, "check", data, "--out", Path(folder) / "manifest.jsonl"),
                    "train": measured(cache, "train", data, "--out", Path(folder) / f"run-{layout}-{count}", *TRAINING),
                    "cache_mb": sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()) // 1_000_000,
                }
    return result
