"""Whole trainings and predictions, as commands."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.command import commit, environment, measured
from pati.recipe import Recipe
from pati.workflows.check import check

KEPT = Path("runs") / "bench"
SEEDS = (0, 1, 2)


def facts(run: Path) -> dict[str, Any]:
    """What a finished run says of itself."""
    document = json.loads((run / "metrics.json").read_text())
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {
        "test_accuracy": round(document["test"]["accuracy"], 4),
        "interval": [round(value, 4) for value in document["test"]["accuracy_interval"]],
        "macro_f1": round(document["test"]["macro_f1"], 4),
        "test_photos": document["test"]["photos"],
        # With folds, there is no validation split.
        "validation_accuracy": document["validation"] and round(document["validation"]["accuracy"], 4),
        "epochs": document["epochs"],
        "read_seconds": next(row["seconds"] for row in rows if row["kind"] == "read"),
        "training_seconds": document["seconds"]["training"],
    }


def trained(
    name: str,
    *arguments: object,
    busy_after: float | None = None,
    busy_for: float = 1e9,
    stopped: tuple[float, float] | None = None,
    cache: Path | None = None,
    threads: int | None = None,
) -> tuple[Path, dict[str, Any]]:
    """A training; its run stays in runs/bench for the measurements that use it.

    One that this commit has finished already is not trained again, so that a measurement can be cut and gone on with.
    `busy_after`: seconds after which a busy loop takes one core, `busy_for` so many; `stopped`: see `measured`.
    `cache`: of decoded photos, and `threads`: where the time of the whole command does not matter; else an empty one,
    and all cores.
    """
    run, kept = KEPT / name, KEPT / f"{name}.json"
    now = {"commit": commit(), "arguments": [*map(str, arguments), f"{busy_after} {busy_for} {stopped}"]}
    if kept.exists() and (before := json.loads(kept.read_text())).items() >= now.items():
        return run, before["row"]
    shutil.rmtree(run, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as empty, busy_core(busy_after, busy_for):
        log = KEPT / f"{name}.txt"
        cost = measured(
            cache or Path(empty), "train", *arguments, "--out", run, log=log, threads=threads, stopped=stopped
        )
    row = cost | facts(run)
    kept.write_text(json.dumps(now | {"row": row}))
    return run, row


@contextlib.contextmanager
def busy_core(after: float | None, lasting: float) -> Iterator[None]:
    """A process that computes on one core, from `after` seconds on, for so many seconds."""
    if after is None:
        yield
        return
    core = min(os.sched_getaffinity(0))
    code = (
        f"import os, time\nos.sched_setaffinity(0, {{{core}}})\ntime.sleep({after})\n"
        f"ends = time.monotonic() + {lasting}\nwhile time.monotonic() < ends: pass"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def budget(minutes: float, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    given = f"{minutes:g}m" if minutes >= 1 else f"{60 * minutes:g}s"
    rows = {
        str(seed): trained(f"{given}-{seed}", "cats-vs-dogs", "--budget", given, "--seed", seed)[1] for seed in seeds
    }
    return {
        "command": f"pati train cats-vs-dogs --budget {given} --seed N",
        "minutes": minutes,
        "mean_test_accuracy": round(statistics.mean(row["test_accuracy"] for row in rows.values()), 4),
        "largest_miss_of_budget": round(max(abs(row["seconds"] / 60 / minutes - 1) for row in rows.values()), 3),
        "seeds": rows,
    }


def slowed() -> dict[str, Any]:
    """Two minutes with a busy loop on one core from halfway, against the same undisturbed."""
    pairs = []
    for seed in SEEDS:
        arguments = ("cats-vs-dogs", "--budget", "2m", "--seed", seed)
        free = trained(f"2m-{seed}", *arguments)[1]
        pairs.append({"free": free, "slowed": trained(f"slowed-{seed}", *arguments, busy_after=60.0)[1]})
    return {
        "command": "pati train cats-vs-dogs --budget 2m --seed N",
        "mean_difference": round(
            statistics.mean(pair["slowed"]["test_accuracy"] - pair["free"]["test_accuracy"] for pair in pairs), 4
        ),
        "pairs": pairs,
    }


def interrupted() -> dict[str, Any]:
    """Five minutes with a busy loop of a minute on one core, and two minutes on clothing with the process stopped, each
    against the same undisturbed, in turns."""
    clothing = Path(os.environ["PATI_MIRROR"]) / "clothing.zip"
    sets = {
        "busy for 60 s": ("5m", ("cats-vs-dogs",), [{"busy_after": 60.0 * at, "busy_for": 60.0} for at in (1, 2.5, 4)]),
        "stopped": ("2m", (clothing, "--group-by", "sender_id"), [{"stopped": (72.0, wait)} for wait in (8, 30, 90)]),
    }
    found = {}
    for name, (budget, data, disturbances) in sets.items():
        pairs = []
        for seed, disturbance in zip(SEEDS, disturbances, strict=True):
            arguments, slug = (*data, "--budget", budget, "--seed", seed), name.split()[0]
            free = trained(f"free-{slug}-{seed}", *arguments)[1]
            disturbed = trained(f"{slug}-{seed}", *arguments, **disturbance)[1]
            pairs.append({"disturbance": disturbance, "free": free, "disturbed": disturbed})
        means = {
            kind: round(statistics.mean(pair[kind]["test_accuracy"] for pair in pairs), 4)
            for kind in ("free", "disturbed")
        }
        found[name] = {"budget": budget, "mean_test_accuracy": means, "pairs": pairs}
    return found


def sittings() -> dict[str, Any]:
    """Five minutes in three sittings, of which `kill -9` ends the first two."""
    run, log = KEPT / "sittings", KEPT / "sittings.txt"
    shutil.rmtree(run, ignore_errors=True)
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as empty:
        cache, command = Path(empty), ["train", "cats-vs-dogs", "--budget", "5m", "--out", str(run)]
        killed = []
        for ends in (60.0, 120.0):
            started = time.monotonic()
            with log.open("ab") as sink, contextlib.suppress(subprocess.TimeoutExpired):  # which kills the process
                subprocess.run(
                    [sys.executable, "-m", "pati", *command],
                    env=environment(cache), stdout=sink, stderr=sink, timeout=ends,
                )  # fmt: skip
                raise SystemExit(f"the training ended before it could be killed; see {log}")
            killed.append(round(time.monotonic() - started, 1))
            command = ["train", "--resume", str(run)]
        last = measured(cache, *command, log=log)
    return {
        "command": "pati train cats-vs-dogs --budget 5m, killed twice and resumed",
        "seconds": [*killed, last["seconds"]],
        "sum": round(sum(killed) + last["seconds"], 1),
        "told": json.loads((run / "metrics.json").read_text())["seconds"]["command"],
        "test_accuracy": facts(run)["test_accuracy"],
    }


def scratch() -> dict[str, Any]:
    """The bootcamp's net in pati's pipeline: three and twelve epochs."""
    return {
        f"{epochs} epochs": trained(f"scratch-{epochs}", "cats-vs-dogs", "--model", "scratch", "--epochs", epochs)[1]
        for epochs in (3, 12)
    }


def small_sets() -> dict[str, Any]:
    """Two minutes on small sets against twelve epochs of the same recipe.

    The 24 test photos of 200 tell little: those models are scored on all of cats-vs-dogs too, the 200 among them.
    """
    mirror = Path(os.environ["PATI_MIRROR"])
    found: dict[str, Any] = {}
    for name, arguments in (
        ("clothing", (mirror / "clothing.zip", "--group-by", "sender_id")),
        ("200 photos", (two_hundred(),)),
        ("digits", ("digits",)),
    ):
        slug = name.replace(" ", "-")
        for kind, pace in (("budget 2m", ("--budget", "2m")), ("epochs 12", ("--epochs", 12))):
            made = [trained(f"{slug}-{pace[1]}-{seed}", *arguments, *pace, "--seed", seed) for seed in SEEDS]
            on_all = [accuracy_on_all(run) for run, _ in made] if name == "200 photos" else []
            measured = on_all or [row["test_accuracy"] for _, row in made]
            found.setdefault(name, {})[kind] = {
                "mean_accuracy": round(statistics.mean(measured), 4),
                **({"accuracy_on_cats_vs_dogs": on_all} if on_all else {}),
                "runs": [row for _, row in made],
            }
    return found


def accuracy_on_all(run: Path) -> float:
    """Of a run's model on all photos of cats-vs-dogs."""
    command = [sys.executable, "-m", "pati", "eval", run, "--data", "cats-vs-dogs", "--json"]
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    return round(float(json.loads(done.stdout)["accuracy"]), 4)


def two_hundred() -> Path:
    """A folder of 200 photos of cats-vs-dogs, half of them cats."""
    folder = KEPT / "few"
    with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
        for kind in ("Cat", "Dog"):
            names = [name for name in archive.namelist() if f"/{kind}/" in name and name.endswith(".jpg")]
            for name in [name for name in names if archive.getinfo(name).file_size][:100]:
                target = folder / kind / Path(name).name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    return folder


def decoding() -> dict[str, Any]:
    """Photos read, decoded, shrunk and packed in a second, and again from the pack: copies of 180 px and originals."""
    found = {}
    for name, archive in (("copies", "cats-vs-dogs"), ("originals", "originals")):
        with tempfile.TemporaryDirectory() as folder:
            with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / f"{archive}.zip") as photos:
                photos.extractall(Path(folder) / "photos")
            times = {}
            for when in ("first", "again"):
                started = time.monotonic()
                command = [sys.executable, "-m", "bench.reading", str(Path(folder) / "photos")]
                done = subprocess.run(
                    command, env=environment(Path(folder) / "cache"), stdout=subprocess.PIPE, text=True, check=True
                )
                times[f"{when}_whole_command_seconds"] = round(time.monotonic() - started, 2)
                times |= {f"{when}_{key}": value for key, value in json.loads(done.stdout).items()}
            found[name] = times
    return found


def notebook() -> dict[str, Any]:
    """The bootcamp notebook's recipe on the same split, three epochs, from the unpacked photos to its last score."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "cats-vs-dogs.zip") as archive:
            archive.extractall(base)
        check(base / "PetImages", Recipe()).write(base / "manifest.jsonl")
        command = [sys.executable, "-m", "bench.notebook", base / "PetImages", base / "manifest.jsonl", 3]
        done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, text=True, check=True)
    return {"recipe": "bench/notebook.py", "epochs": [json.loads(line) for line in done.stdout.splitlines()]}


def demo_sets() -> dict[str, Any]:
    mirror = Path(os.environ["PATI_MIRROR"])
    return {
        "digits": trained("digits", "digits")[1],
        "clothing": trained("clothing", mirror / "clothing.zip", "--group-by", "sender_id")[1],
    }


def originals() -> dict[str, Any]:
    """Agreement of originals and copies, and photos a second beyond the start, by the 5-minute model of seed 0."""
    model = KEPT / "5m-0"
    if not (model / "model.safetensors").exists():
        trained("5m-0", "cats-vs-dogs", "--budget", "5m", "--seed", 0)
    mirror = Path(os.environ["PATI_MIRROR"])
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for name in ("originals", "cats-vs-dogs"):
            with zipfile.ZipFile(mirror / f"{name}.zip") as archive:
                archive.extractall(base)
        pairs = list(csv.DictReader((base / "originals" / "matches.csv").open()))
        large = answers(model, [base / row["original"] for row in pairs])
        small = answers(model, [base / "PetImages" / row["petimages"] for row in pairs])
        one, many = [], []
        for _ in range(3):  # in turn, so that a slow spell of the machine hits both
            one.append(timed(model, [base / pairs[0]["original"]]))
            many.append(timed(model, [base / row["original"] for row in pairs]))
    seconds = statistics.median(many) - statistics.median(one)
    same = sum(a == b for a, b in zip(large, small, strict=True))
    return {
        "photos": len(pairs),
        "same_prediction": round(same / len(pairs), 4),
        "start_seconds": round(statistics.median(one), 2),
        "photos_per_second_after_start": round((len(pairs) - 1) / seconds),
    }


def answers(model: Path, photos: list[Path]) -> list[str]:
    command = [sys.executable, "-m", "pati", "predict", str(model), "-", "--format", "csv"]
    listed = "\n".join(map(str, photos))
    done = subprocess.run(command, input=listed, capture_output=True, text=True, check=True)
    return [row["prediction"] for row in csv.DictReader(done.stdout.splitlines())]


def timed(model: Path, photos: list[Path]) -> float:
    started = time.monotonic()
    answers(model, photos)
    return time.monotonic() - started


def startup() -> dict[str, Any]:
    times = []
    for _ in range(11):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "pati", "--help"], capture_output=True, check=True)
        times.append(time.monotonic() - started)
    return {
        "command": "pati --help",
        "median_seconds": round(statistics.median(times), 3),
        "max_seconds": round(max(times), 3),
    }
