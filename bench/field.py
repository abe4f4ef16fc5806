"""Random datasets as people have them, read by this commit and by another one ($BASE): right, refused or misread."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

from bench.against import BASE
from bench.command import environment
from bench.datasets import CONTAINERS, Dataset, drawn

COUNT = 2000
SHOWN = 40  # misread datasets that the result lists


def field() -> dict[str, Any]:
    count, base = int(os.environ.get("COUNT", COUNT)), os.environ.get("BASE", BASE)
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        old = top / base
        subprocess.run(["git", "clone", "--quiet", ".", str(old)], check=True)
        subprocess.run(["git", "-C", str(old), "checkout", "--quiet", base], check=True)
        sets = [written(seed, top / "sets") for seed in range(count)]
        judged = {
            name: judge_all(sets, root, top / f"cache-{number}")
            for number, (name, root) in enumerate((("this commit", Path.cwd()), (base, old)))
        }
    kinds = [data.words[0] for data, _ in sets]
    return {
        "datasets": count,
        "outcomes": {name: Counter(outcome for outcome, _ in rows) for name, rows in judged.items()},
        "by_kind": {
            name: {
                kind: Counter(outcome for (outcome, _), its in zip(rows, kinds, strict=True) if its == kind)
                for kind in sorted(set(kinds))
            }
            for name, rows in judged.items()
        },
        **{
            outcome: [
                {"seed": seed, "words": data.words, "what": what}
                for seed, ((data, _), (its, what)) in enumerate(zip(sets, judged["this commit"], strict=True))
                if its == outcome
            ][:SHOWN]
            for outcome in ("misread", "traceback", "refused though clear")
        },
    }  # fmt: skip


def written(seed: int, top: Path) -> tuple[Dataset, Path]:
    """The dataset of this seed, and where it is."""
    draw = random.Random(seed)
    data = drawn(draw)
    container = draw.choices(list(CONTAINERS), list(CONTAINERS.values()))[0]
    if container.__name__ not in ("as_folder", "as_links", "as_linked_folders"):
        data.start = None
    data.words.append(container.__name__)
    top.mkdir(exist_ok=True)
    return data, container(data, top / f"photos{seed}")


def judge_all(sets: list[tuple[Dataset, Path]], root: Path, cache: Path) -> list[tuple[str, str]]:
    """The outcome of each dataset with the pati in `root`, and what was wrong."""
    asked = "".join(json.dumps(str(path)) + "\n" for _, path in sets)
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).with_name("listed.py"))],
        input=asked, env=environment(cache) | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return [judged(data, json.loads(line)) for (data, _), line in zip(sets, done.stdout.splitlines(), strict=True)]


def judged(data: Dataset, found: dict[str, Any]) -> tuple[str, str]:
    """right, refused (where the meaning is unclear), refused though clear, misread, or traceback; and why."""
    if "traceback" in found:
        return "traceback", found["traceback"]
    if "refused" in found:
        return ("refused though clear" if data.clear else "refused"), found["refused"]
    truth = {unicodedata.normalize("NFC", name): list(meaning) for name, meaning in data.truth.items()}
    if len({split for _, split in truth.values()}) == 1:  # one split alone: pati draws the others
        truth = {name: [label, None] for name, (label, _) in truth.items()}
    if found["photos"] == truth:
        return "right", ""
    wrong = [(name, truth.get(name), found["photos"].get(name)) for name in {**truth, **found["photos"]}]
    wrong = [row for row in wrong if row[1] != row[2]]
    return "misread", f"{len(wrong)} photos, such as {wrong[:3]}; {found['notes']}"


if __name__ == "__main__":
    print(json.dumps(field(), indent=1, ensure_ascii=False))
