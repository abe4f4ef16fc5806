"""The comparison study: families at equal minutes, and the effect of regularisers and balancing methods.

The clothing photos are scored in five folds: a sender's photos, and duplicates, lie in one fold together, each fold is
answered by a net trained on the others, and the answers are pooled. The photos of the default test split take no part,
so that choices made by this study leave it untouched. Differences are told by a bootstrap over trainings and senders,
paired: both choices are scored on the same drawn ones.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import statistics
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from bench.command import commit, measured
from bench.runs import KEPT, facts, trained
from pati.data.entries import Entry
from pati.recipe import Recipe
from pati.runs.predictions import Predictions
from pati.runs.run import Run
from pati.system.machine import cores
from pati.workflows.check import check

# Family -> options of `pati train`; the house net is what is trained where nothing is named.
FAMILIES: dict[str, tuple[str, ...]] = {
    "house": (),
    "scratch": ("--model", "scratch"),
    "vgg11": ("--model", "vgg11"),
    "resnet18": ("--model", "resnet18"),
    "efficientnet-b0": ("--model", "efficientnet-b0"),
    "mobilenetv3-small": ("--model", "mobilenetv3-small"),
    "convnext-atto": ("--model", "convnext-atto"),
}
MINUTES = 10
GPU_SIZE, GPU_BATCH = 128, 256

FOLDS = 5
EPOCHS = 10
PACE = ("--epochs", EPOCHS, "--size", 64)
SHAPE = "width=1"
PLAIN = ("label_smoothing=0", "brightness=0", "crop=1")  # nothing that regularises but the horizontal flip

# Name in the table -> settings, each against the one before it that is named in `AGAINST`, or else the default.
REGULARISERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "nothing but flips": PLAIN,
    "no label smoothing": ("label_smoothing=0",),
    "label smoothing 0.1": ("label_smoothing=0.1",),
    **{f"dropout {rate}": (f"dropout={rate}",) for rate in (0.2, 0.4, 0.5, 0.6)},
    "mixup 0.2": ("mixup=0.2",),
    "cutmix 1": ("cutmix=1",),
    "random erasing": ("erase=0.25",),
    "TrivialAugment": ("policy=trivial",),
    "RandAugment": ("policy=randaugment",),
    "weight averaging": ("averaging=0.1",),
}
OPTIMISERS: dict[str, tuple[str, ...]] = {
    "default": (),
    "cosine": ("schedule=cosine",),
    "linear": ("schedule=linear",),
    "early stopping, patience 2": ("patience=2",),
    "pati-deep": ("model=pati-deep",),
    **{f"drop-path {rate} in pati-deep": ("model=pati-deep", f"drop_path={rate}") for rate in (0.1, 0.3)},
    **{f"SGD at {rate}": ("optimizer=sgd", f"learning_rate={rate}") for rate in (0.05, 0.1, 0.2)},
    **{f"AdamW at {rate}": ("optimizer=adamw", f"learning_rate={rate}") for rate in (0.001, 0.002, 0.004)},
}
DECAYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "weight decay 0.01, under muon": ("weight_decay=0.01",),
    "L2 0.0005, under muon": ("l2=0.0005",),
    "SGD": ("optimizer=sgd",),
    "weight decay 0.005, under SGD": ("optimizer=sgd", "weight_decay=0.005"),
    "L2 0.0005, under SGD": ("optimizer=sgd", "l2=0.0005"),
    "AdamW": ("optimizer=adamw",),
    "weight decay 0.05, under AdamW": ("optimizer=adamw", "weight_decay=0.05"),
    "L2 0.0005, under AdamW": ("optimizer=adamw", "l2=0.0005"),
}
AGAINST = {
    name: base
    for base in ("SGD", "AdamW", "pati-deep")
    for name in (*OPTIMISERS, *DECAYS)
    if name.endswith((f"under {base}", f"in {base}"))
}
BALANCING: dict[str, tuple[str, ...]] = {
    "none": ("balance=none",),
    **{
        f"{name}, power {power:g}": (f"balance={method}", f"balance_power={power:g}")
        for name, method in (
            ("sampling", "sampling"),
            ("weights", "weights"),
            ("logit adjustment", "logits"),
            ("balancing augmentation", "augment"),
        )
        for power in (1, 0.5)
    },
    "effective numbers": ("balance=effective",),
}
FOCAL: dict[str, tuple[str, ...]] = {"none": ("balance=none",), "focal loss": ("balance=focal",)}

TRIALS = 30
TUNED_SEEDS = 3  # a fold
JUDGE = 1  # the fold that judges the trials: the one after the first

RESAMPLES = 10_000


def families() -> dict[str, Any]:
    """Each family trained on cats-vs-dogs for the same minutes by one command."""
    rows = {}
    for name, options in FAMILIES.items():
        run, row = trained(f"family-{name}", "cats-vs-dogs", *options, "--budget", f"{MINUTES}m")
        recipe = Recipe.read(run / "recipe.json")
        epochs = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        pace = [line["photos_per_second"] for line in epochs if line["kind"] == "epoch"]
        rows[name] = row | {
            "model": recipe.model,
            "size": recipe.size,
            "width": recipe.width,
            "photos_per_second": round(statistics.median(pace), 1),
        }
    return {"command": f"pati train cats-vs-dogs --model NAME --budget {MINUTES}m", "rows": rows}


def families_gpu() -> dict[str, Any]:
    """Each family on cats-vs-dogs for 15 and for 60 epochs on one GPU; without one, in miniature: that it runs.

    All families train side by side, as many a small net leaves most of a GPU idle: times are not those of one alone.
    """
    small = not torch.cuda.is_available()
    device = "CPU, in miniature" if small else torch.cuda.get_device_name()
    found: dict[str, Any] = {"device": device, "size": GPU_SIZE, "batch": GPU_BATCH, "epochs": {}}
    shape = ("--size", 32, "--set", "width=0.25", "growth=1") if small else ("--size", GPU_SIZE, "--set")
    cache = (KEPT / "cache").resolve()
    for epochs in (1,) if small else (15, 60):
        pace = ("--epochs", epochs, *shape, f"batch={GPU_BATCH}")
        with ThreadPoolExecutor(1 if small else len(FAMILIES)) as workers:
            runs = {
                name: workers.submit(
                    trained, f"family-{name}-{epochs}", "cats-vs-dogs", *options, *pace, cache=cache, threads=2
                )
                for name, options in FAMILIES.items()
            }
        found["epochs"][str(epochs)] = {name: run.result()[1] for name, run in runs.items()}
    command = f"pati train cats-vs-dogs --model NAME --epochs N --size {GPU_SIZE} --set batch={GPU_BATCH}"
    return {"command": command, **found}


def regularisers() -> dict[str, Any]:
    """Each regulariser's macro F1 on clothing against the recipe without it."""
    return _compared(REGULARISERS, {}, seeds=3)


def optimisers() -> dict[str, Any]:
    """Macro F1 on clothing with other optimisers, rates and schedules, and of early stopping and drop-path."""
    return _compared(OPTIMISERS, AGAINST, seeds=3)


def decays() -> dict[str, Any]:
    """Macro F1 on clothing with weight decay and L2 under each optimiser, against it without them."""
    return _compared(DECAYS, AGAINST, seeds=1)


def balancing() -> dict[str, Any]:
    """Each balancing method's macro F1 on clothing against none."""
    return _compared(BALANCING, {}, seeds=3)


def focal() -> dict[str, Any]:
    """The same of focal loss."""
    return _compared(FOCAL, {}, seeds=3)


def tuned() -> dict[str, Any]:
    """A search on one fold, judged by another; its recipe against the default on all folds but the judge, whose photos
    are the only ones that chose anything.

    And against the default for as long as the tuned one takes: smaller steps alone cost time.
    """
    folder, choices = KEPT / "tune", ("--group-by", "sender", "--set", SHAPE)
    cost = _searched(folder, fold_tables(validated=True)[0], *choices, *PACE, "--trials", TRIALS)
    found = json.loads((folder / "tune.json").read_text())["recipe"]
    changed = {
        name: value for name, value in Recipe.read(folder / "best.json").to_json().items() if value != found[name]
    }
    settings = tuple(f"{name}={value}" for name, value in changed.items())
    tables = [table for number, table in enumerate(fold_tables()) if number != JUDGE] * TUNED_SEEDS

    rows: dict[str, dict[str, Any]] = {}
    pooled: dict[str, Pooled] = {}

    def scored(name: str, settings: Sequence[str], epochs: int) -> None:
        with ThreadPoolExecutor(cores()) as workers:
            made = [workers.submit(_fold, table, seed, settings, epochs) for seed, table in enumerate(tables)]
        pooled[name] = Pooled.of([run.result() for run in made], tables)
        # Other programs can only make a training slower.
        seconds = min(facts(run.result())["training_seconds"] for run in made)
        rows[name] = pooled[name].scores() | {"epochs": epochs, "training_seconds": round(seconds, 1)}

    scored("default", (), EPOCHS)
    scored("tuned", settings, EPOCHS)
    longer = round(EPOCHS * rows["tuned"]["training_seconds"] / rows["default"]["training_seconds"])
    scored("default for as long", (), longer)
    for name in ("tuned", "default for as long"):
        rows[name] |= {"difference": pooled[name].difference(pooled["default"])}
    return {
        "command": f"pati tune FOLD.csv {' '.join(choices)} {' '.join(map(str, PACE))} --trials {TRIALS}",
        "search": cost,
        "changed": changed,
        "rows": rows,
        "tuned_against_as_long": pooled["tuned"].difference(pooled["default for as long"]),
        "photos": len(pooled["tuned"].labels) // TUNED_SEEDS,
        "folds": FOLDS - 1,
        "seeds": TUNED_SEEDS,
    }


def _searched(folder: Path, *arguments: object) -> dict[str, float]:
    """A search and its cost; like a training, one that this commit has finished is not made again."""
    kept = KEPT / f"{folder.name}.json"
    now = {"commit": commit(), "arguments": [*map(str, arguments)]}
    if kept.exists() and (before := json.loads(kept.read_text())).items() >= now.items():
        return dict(before["cost"])
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        cost = measured(Path(cache), "tune", *arguments, "--out", folder, log=KEPT / f"{folder.name}.txt")
    kept.write_text(json.dumps(now | {"cost": cost}))
    return cost


def _compared(tried: Mapping[str, Sequence[str]], against: Mapping[str, str], *, seeds: int) -> dict[str, Any]:
    """`seeds`: of each fold. No two trainings of a choice have the same one."""
    tables = fold_tables() * seeds
    base = next(iter(tried))
    # As many trainings at once as there are cores, a thread each, are done sooner than one after the other on all.
    with ThreadPoolExecutor(cores()) as workers:
        runs = {
            name: [workers.submit(_fold, table, seed, settings) for seed, table in enumerate(tables)]
            for name, settings in tried.items()
        }
        pooled = {name: Pooled.of([run.result() for run in made], tables) for name, made in runs.items()}
    rows = {}
    for name, answers in pooled.items():
        reference = against.get(name, base)
        rows[name] = answers.scores() | {"settings": " ".join(tried[name])}
        if name != reference:
            rows[name] |= {"against": reference, "difference": answers.difference(pooled[reference])}
    command = f"pati train FOLD.csv --group-by sender {' '.join(map(str, PACE))} --seed N --set {SHAPE} SETTINGS"
    photos, senders = len(pooled[base].labels) // seeds, len(set(pooled[base].senders.tolist()))
    return {"command": command, "folds": FOLDS, "seeds": seeds, "photos": photos, "senders": senders, "rows": rows}


def _fold(table: Path, seed: int, settings: Sequence[str], epochs: int = EPOCHS) -> Path:
    """The run of one training, whose table says which fold is the test."""
    slug = "-".join([table.stem, str(seed), str(epochs), *(text.replace("=", "-") for text in settings)])
    choices = ("--group-by", "sender", "--epochs", epochs, *PACE[2:], "--seed", seed, "--set", SHAPE, *settings)
    return trained(slug, table, *choices, cache=(KEPT / "cache").resolve(), threads=1)[0]


@dataclass(frozen=True)
class Pooled:
    """Answers of several trainings: class indices `(N,)` of truth and answer, each photo's sender, and the training's
    number."""

    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    senders: NDArray[np.int64]
    trainings: NDArray[np.int64]
    classes: int

    @classmethod
    def of(cls, runs: Sequence[Path], tables: Sequence[Path]) -> Pooled:
        """Of these runs, whose photos' senders stand in their tables."""
        parts, classes = [], 0
        for number, (run, table) in enumerate(zip(runs, tables, strict=True)):
            with table.open(newline="", encoding="utf-8") as file:
                senders = {row["sha256"]: int(row["sender"]) for row in csv.DictReader(file)}
            tested = Predictions.read(Run.open(run)).test
            names = [senders[digest] for digest in tested.sha256]
            answers = tested.logits.argmax(1).numpy()
            parts.append((tested.labels.numpy(), answers, np.array(names), np.full(len(names), number)))
            classes = tested.logits.shape[1]
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)), classes)  # type: ignore[arg-type]

    def scores(self) -> dict[str, float]:
        counts = self._counts().sum((0, 1))[None]
        return {
            "macro_f1": round(float(macro_f1(counts)[0]), 4),
            "balanced_accuracy": round(float(_recall(counts)[0]), 4),
            "accuracy": round(float((self.labels == self.answers).mean()), 4),
        }

    def difference(self, other: Pooled) -> dict[str, Any]:
        """Of macro F1 to `other`'s on the same photos, with a 95 % interval over trainings and senders.

        Both are drawn with replacement, by themselves, and an answer counts as often as its training was drawn times
        its sender (the pigeonhole bootstrap: Owen, 2007, https://doi.org/10.1214/07-AOAS122): the interval covers that
        other seeds would have come out otherwise, and is rather too wide than too narrow.
        """
        for mine, theirs in ((self.labels, other.labels), (self.senders, other.senders)):
            if not np.array_equal(mine, theirs):
                raise SystemExit("the folds of two methods hold other photos")
        ours, others = self._counts(), other._counts()
        trainings, senders, classes, _ = ours.shape
        generator = np.random.default_rng(0)

        def drawn(count: int) -> NDArray[np.int64]:
            return generator.multinomial(count, np.full(count, 1 / count), 500)

        differences = []
        for _ in range(0, RESAMPLES, 500):
            times = (drawn(trainings)[:, :, None] * drawn(senders)[:, None, :]).reshape(500, -1).astype(np.float64)
            one, two = (
                (times @ counts.reshape(-1, classes**2)).reshape(-1, classes, classes) for counts in (ours, others)
            )
            differences.append(macro_f1(one) - macro_f1(two))
        low, high = np.percentile(np.concatenate(differences), [2.5, 97.5])
        told = macro_f1(ours.sum((0, 1))[None])[0] - macro_f1(others.sum((0, 1))[None])[0]
        return {"macro_f1": round(float(told), 4), "interval": [round(float(low), 4), round(float(high), 4)]}

    def _counts(self) -> NDArray[np.int64]:
        """Confusion matrices `(T, S, K, K)`, one of each training and sender."""
        names, at = np.unique(self.senders, return_inverse=True)
        counts = np.zeros((self.trainings.max() + 1, len(names), self.classes, self.classes), np.int64)
        np.add.at(counts, (self.trainings, at, self.labels, self.answers), 1)
        return counts


def macro_f1(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Macro F1 `(B,)` of confusion matrices `(B, K, K)`; a class neither present nor answered counts not at all."""
    hits = np.diagonal(counts, axis1=1, axis2=2)
    both = counts.sum(1) + counts.sum(2)
    scored = both > 0
    return np.asarray((2 * hits / np.maximum(both, 1)).sum(1) / np.maximum(scored.sum(1), 1))


def _recall(counts: NDArray[Any]) -> NDArray[np.float64]:
    hits, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2)
    return np.asarray((hits / np.maximum(support, 1)).sum(1) / np.maximum((support > 0).sum(1), 1))


def fold_tables(*, validated: bool = False) -> list[Path]:
    """A CSV for each fold, where it is the test and the rest to train on; the photos lie beside them.

    `validated`: the fold after it is for validation. Else that is drawn from the rest: fewer photos, as many have large
    senders, which stay in training.
    """
    folder = (KEPT / "photos").resolve()
    archive = Path(os.environ["PATI_MIRROR"]) / "clothing.zip"
    if not (folder / "clothing").is_dir():
        with zipfile.ZipFile(archive) as photos:
            photos.extractall(folder)
    found = check(archive, Recipe(group_by="sender_id"))
    entries = [entry for entry in found.kept if entry.split != "test"]
    labels, senders = found.targets(entries), _together(entries)
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    folds = [set(held_out.tolist()) for _, held_out in splitter.split(labels, labels, senders)]
    tables = []
    for number, test in enumerate(folds):
        validation = folds[(number + 1) % FOLDS] if validated else set()
        table = folder / "clothing" / f"{'validated' if validated else 'fold'}-{number}.csv"
        with table.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "sender", "split", "sha256"])
            for index, entry in enumerate(entries):
                where = "test" if index in test else "validation" if index in validation else "train"
                writer.writerow([entry.path, entry.label, senders[index], where, entry.sha256])
        tables.append(table)
    return tables


def _together(entries: Sequence[Entry]) -> NDArray[np.int32]:
    """A number for each photo, equal for those of one sender and for duplicates: for senders, in short."""
    links: list[tuple[int, int]] = []
    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        keys = (f"sender {entry.group}", f"copy {entry.duplicate or entry.sha256}")
        links += [(index, first.setdefault(key, index)) for key in keys]
    rows, columns = zip(*links, strict=True)
    graph = scipy.sparse.coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(entries), len(entries)))
    return np.asarray(connected_components(graph, directed=False)[1])
