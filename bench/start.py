"""`python -m bench start`: trainings that start from an earlier model, against trainings from scratch.

Two cases: a class more on clothing, and twice the photos on cats-vs-dogs. Accuracy on photos that no training has seen.
"""

from __future__ import annotations

import shutil
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pati
from bench.runs import KEPT, SEEDS, trained
from bench.small import photos, place, put
from pati.evaluation.intervals import wilson

HELD = 2000  # photos held back, at most
NEW_CLASS = "Skirt"
First = Callable[[str, int], bool]


def start(minutes: float = 4, seeds: Sequence[int] = SEEDS, count: int = 1000) -> dict[str, Any]:
    """`minutes`: of a training from scratch; `count`: photos of a class."""
    return {
        "minutes": minutes,
        "a class more on clothing": case("clothing", minutes, seeds, count, lambda label, _: label != NEW_CLASS),
        "twice the photos on cats-vs-dogs": case(
            "cats-vs-dogs", minutes, seeds, count, lambda _, number: number < count / 2
        ),
    }


def case(archive: str, minutes: float, seeds: Sequence[int], count: int, first: First) -> dict[str, Any]:
    """`first`: whether the earlier training has a photo, by its class and its number in it."""
    base = KEPT / f"start-{archive}-{count}"
    write(archive, base, count, first)
    held = sorted((base / "held").rglob("*.jpg"))
    budget, half = (f"{60 * length:.0f}s" for length in (minutes, minutes / 2))
    arms: dict[str, list[list[bool]]] = {name: [] for name in ("scratch", "half", "whole")}
    for seed in seeds:
        name, cache = f"{base.name}-{minutes:g}-{seed}", KEPT / "start-cache"
        common = ("--seed", seed, "--set", "split_seed=0")
        earlier, _ = trained(f"{name}-earlier", base / "earlier", "--budget", budget, *common, cache=cache)
        for arm, options in (
            ("scratch", ("--budget", budget)),
            ("half", ("--budget", half, "--from", earlier)),
            ("whole", ("--budget", budget, "--from", earlier)),
        ):
            run, _ = trained(f"{name}-{arm}", base / "later", *options, *common, cache=cache)
            arms[arm].append(right(run, held))
    return {
        "held_back": len(held),
        **{
            arm: {
                "accuracy": [round(statistics.mean(answers), 4) for answers in rows],
                "intervals": [[round(end, 4) for end in wilson(sum(answers), len(answers))] for answers in rows],
            }
            for arm, rows in arms.items()
        },
        **{f"{arm} against scratch": paired(arms[arm], arms["scratch"]) for arm in ("half", "whole")},
    }


def right(run: Path, files: Sequence[Path]) -> list[bool]:
    answers = pati.load(run).predict([str(file) for file in files])
    return [answer.label == file.parent.name for file, answer in zip(files, answers, strict=True)]


def paired(ours: Sequence[Sequence[bool]], theirs: Sequence[Sequence[bool]]) -> dict[str, Any]:
    """The difference in accuracy, mean over the seeds, with the 95 % interval over photos."""
    gains = [[a - b for a, b in zip(*pair, strict=True)] for pair in zip(ours, theirs, strict=True)]  # by seed
    differences = [statistics.mean(photo) for photo in zip(*gains, strict=True)]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    return {"difference": round(mean, 4), "interval": [round(mean + sign * 1.96 * error, 4) for sign in (-1, 1)]}


def write(archive: str, base: Path, count: int, first: First) -> None:
    """`earlier`, `later` and `held`, each with a folder per class, cut by the hash of each photo."""
    if base.exists():
        return
    part = base.with_name(f"{base.name}-part")
    shutil.rmtree(part, ignore_errors=True)
    held = 0
    rows: dict[str, list[tuple[float, str, bytes]]] = defaultdict(list)
    for name, label, group, data in photos(archive):
        if place(f"held {group}") < 0.1:
            if held < HELD:
                put(part / "held" / label / Path(name).name, data)
                held += 1
        else:
            rows[label].append((place(name), name, data))
    for label, named in rows.items():
        for number, (_, name, data) in enumerate(sorted(named)[:count]):
            put(part / "later" / label / Path(name).name, data)
            if first(label, number):
                put(part / "earlier" / label / Path(name).name, data)
    part.rename(base)
