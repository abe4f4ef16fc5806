"""Two of everything at once, on one cache: two tables, check and train, train and predict, page and command line, ….

Each round starts both at the same moment; in a third of them one is killed with `kill -9` and started again. Then every
pack in the cache is compared with its photos, decoded anew.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pati.data.preprocess import Preprocess
from tests.support.photos import write_shapes

ROUNDS = 200
PHOTOS = 10  # of each class
OPTIONS = ("--epochs", "1", "--folds", "0", "--size", "32", "--set", "width=0.25", "batch=8")
# Nobody looks at the figures here, and drawing them takes a third of such a training.
RUNNER = "import pati.report.figures as f; f._svg = lambda figure: '<svg></svg>'; from pati.cli import main; main()"
PAGE = """
import sys, time
from pathlib import Path
from pati.app import jobs
from pati.recipe import Recipe
run = jobs.train(Path(sys.argv[1]), sys.argv[2], Recipe(epochs=1, size=32, width=0.25, batch=8))
while (job := jobs.job(run)).state == "running":
    time.sleep(0.1)
print((run / "job" / "output.txt").read_text(), file=sys.stderr)
sys.exit(0 if job.state == "done" else f"the job has {job.state}: {job.error}")
"""


@dataclass(frozen=True)
class Place:
    """Where a round happens: its own folder, and the photos."""

    base: Path

    @property
    def photos(self) -> Path:
        return self.base / "photos"

    @property
    def others(self) -> Path:
        """Photos of the same names as `photos`."""
        return self.base / "others"

    @property
    def cache(self) -> Path:
        return self.base / "cache"


Command = list[str]
Pair = Callable[[Place], tuple[Command, Command]]


def pati(*words: object) -> Command:
    return [sys.executable, "-c", RUNNER, *map(str, words)]


def train(data: Path, out: Path | None = None) -> Command:
    return pati("train", data, *OPTIONS, *(("--out", out) if out else ()))


def two_tables(place: Place) -> tuple[Command, Command]:
    """Tables of different photos of one folder, some of them in both."""
    paths = [path.relative_to(place.photos) for path in sorted(place.photos.rglob("*.jpg"))]
    for name, chosen in (("first", paths[:-6]), ("second", paths[6:][::-1])):
        with (place.photos / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *((path.as_posix(), path.parts[0]) for path in chosen)])
    first, second = (train(place.photos / f"{name}.csv", place.base / name) for name in ("first", "second"))
    return first, second


def the_same(place: Place) -> tuple[Command, Command]:
    """Without --out: the runs are numbered by themselves."""
    return train(place.photos), train(place.photos)


def check_and_train(place: Place) -> tuple[Command, Command]:
    return pati("check", place.photos), train(place.photos, place.base / "run")


def train_and_predict(place: Place) -> tuple[Command, Command]:
    return train(place.photos, place.base / "run"), pati("predict", place.photos, "--format", "csv")


def page_and_command_line(place: Place) -> tuple[Command, Command]:
    job = [sys.executable, "-c", PAGE, str(place.base / "runs"), str(place.photos)]
    return job, train(place.photos, place.base / "run")


def one_archive(place: Place) -> tuple[Command, Command]:
    archive = place.base / "photos.tar"
    with tarfile.open(archive, "w") as file:
        file.add(place.photos, "photos")
    return train(archive, place.base / "first"), pati("check", archive)


def two_containers(place: Place) -> tuple[Command, Command]:
    """Namespaces of their own, with other photos under the same path."""
    mounted = place.base / "data"
    mounted.mkdir()
    inside = 'mount --bind "$0" "$1" && shift && exec "$@"'
    alone = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "sh", "-c", inside]
    first, second = (
        [*alone, str(data), str(mounted), *train(mounted, place.base / data.name / "run")]
        for data in (place.photos, place.others)
    )
    return first, second


PAIRS: tuple[Pair, ...] = (
    two_tables, the_same, check_and_train, train_and_predict, page_and_command_line, one_archive, two_containers,
)  # fmt: skip


def together(rounds: int = ROUNDS) -> dict[str, Any]:
    pairs = list(PAIRS)
    reason = None if may_unshare() else "needs the right to make namespaces (unshare --pid --mount)"
    if reason:
        pairs.remove(two_containers)
    rng = random.Random(0)
    count: Counter[str] = Counter()
    problems: list[str] = []
    with tempfile.TemporaryDirectory() as shared:
        for number in range(rounds):
            pair = pairs[number % len(pairs)]
            # Half of the rounds on a fresh cache, half on one that all of them share.
            cache = None if rng.random() < 0.5 else Path(shared) / "cache"
            found, facts = one_round(pair, rng, cache)
            problems += [f"round {number}, {pair.__name__}: {problem}" for problem in found]
            count.update(facts | {pair.__name__: 1})
    skipped = {"skipped": {two_containers.__name__: reason}} if reason else {}
    return {"rounds": rounds, **count, "problems": problems, **skipped}


def one_round(pair: Pair, rng: random.Random, shared: Path | None) -> tuple[list[str], dict[str, int]]:
    """What went wrong, and numbers of kills and verified packs."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        write_shapes(place.photos, PHOTOS, first=rng.randrange(10**6))
        for photo in place.photos.rglob("*.jpg"):
            other = place.others / photo.relative_to(place.photos)
            other.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(rng.choice(sorted(place.photos.glob(f"{photo.parent.name}/*.jpg"))), other)
        cache = shared or place.cache
        commands = pair(place)
        processes = [start(command, cache, place) for command in commands]
        victim = rng.randrange(2) if rng.random() < 1 / 3 else None
        if victim is not None:
            time.sleep(rng.uniform(0.5, 8.0))
            processes[victim].kill()
        told = [process.communicate()[1] for process in processes]
        codes = [process.returncode for process in processes]
        killed = victim is not None and codes[victim] == -9
        if killed and victim is not None:
            again = start(resumed(commands[victim]), cache, place)
            told[victim] += again.communicate()[1]
            codes[victim] = again.returncode
        problems = [f"exit code {code}: {text[-1500:]}" for code, text in zip(codes, told, strict=True) if code]
        problems += [f"traceback: {text[-1500:]}" for text in told if "Traceback" in text]
        packs, wrong = verified(cache, place)
        return problems + wrong, {"kills": int(killed), "packs_verified": packs, "wrong_packs": len(wrong)}


def start(command: Command, cache: Path, place: Place) -> subprocess.Popen[str]:
    environment = os.environ | {"PATI_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PATI_LANG": "en"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command, cwd=place.base, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def resumed(command: Command) -> Command:
    """The command that goes on where this one was killed."""
    out = Path(command[command.index("--out") + 1]) if "--out" in command else None
    if out is None or not (out / "run.json").exists():
        return command
    data = command.index("train") + 1
    return [*command[:data], "--resume", str(out)]


def verified(cache: Path, place: Place) -> tuple[int, list[str]]:
    """How many packs of this round's photos there are, and what is wrong with any."""
    known = {
        hashlib.sha256(path.read_bytes()).hexdigest(): path
        for folder in (place.photos, place.others)
        for path in folder.rglob("*.jpg")
    }
    count, wrong = 0, []
    for slot in (cache / "packs").glob("[!.]*"):
        findings = json.loads((slot / "pack.json").read_text())["findings"]
        kept = {finding[0]: finding[-1] for finding in findings if not finding[4]}
        if not kept.keys() <= known.keys():
            continue  # of an earlier round
        pixels = np.load(slot / "pixels.npy", mmap_mode="r", allow_pickle=False)
        preprocess = Preprocess(size=pixels.shape[1])
        count += 1
        wrong += [
            f"{slot.name} holds other pixels of {known[digest].name}"
            for digest, row in kept.items()
            if not np.array_equal(pixels[row], preprocess(known[digest]))
        ]
    return count, wrong


def may_unshare() -> bool:
    command = ["unshare", "--pid", "--mount", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False
