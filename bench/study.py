"""The comparison study: families at equal minutes, and the effect of regularisers and balancing methods.

The clothing photos are scored in five folds: a sender's photos, and duplicates, lie in one fold together, each fold is
answered by a net trained on the others, and the answers are pooled. The photos of the default test split take no part,
so that choices made by this study leave it untouched. Differences are told by a bootstrap over senders, paired: both
nets are scored on the same drawn senders.
"""

from __future__ import annotations

import csv
import functools
import json
import os
import statistics
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
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
from bench.runs import KEPT, SEEDS, trained
from pati import pipeline
from pati.data.manifest import Entry
from pati.recipe import Recipe

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

FOLDS = 5
PACE = ("--epochs", 10, "--size", 64)
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
    "weight decay 0.01, under muon": ("weight_decay=0.01",),
    "L2 0.0005, under muon": ("l2=0.0005",),
    "SGD": ("optimizer=sgd",),
    "weight decay 0.005, under SGD": ("optimizer=sgd", "weight_decay=0.005"),
    "L2 0.0005, under SGD": ("optimizer=sgd", "l2=0.0005"),
    "AdamW": ("optimizer=adamw",),
    "weight decay 0.05, under AdamW": ("optimizer=adamw", "weight_decay=0.05"),
    "L2 0.0005, under AdamW": ("optimizer=adamw", "l2=0.0005"),
}
AGAINST = {name: base for base in ("SGD", "AdamW") for name in REGULARISERS if name.endswith(f"under {base}")}
REGULARISED_FOLDS = 3

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
    "focal loss": ("balance=focal",),
}

TRIALS = 20

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
    """Each family on cats-vs-dogs for 15 and for 60 epochs on one GPU; without one, in miniature: that it runs."""
    small = not torch.cuda.is_available()
    found: dict[str, Any] = {"device": "CPU, in miniature" if small else torch.cuda.get_device_name()}
    for epochs in (1,) if small else (15, 60):
        pace = ("--epochs", epochs, "--size", *((32, "--set", "width=0.25", "growth=1") if small else (128,)))
        found[f"{epochs} epochs"] = {
            name: trained(f"family-{name}-{epochs}", "cats-vs-dogs", *options, *pace)[1]
            for name, options in FAMILIES.items()
        }
    return found


def regularisers() -> dict[str, Any]:
    """Each regulariser's macro F1 on clothing against the recipe without it."""
    return _compared(REGULARISERS, AGAINST, folds=REGULARISED_FOLDS)


def balancing() -> dict[str, Any]:
    """Each balancing method's macro F1 on clothing against none."""
    return _compared(BALANCING, {}, folds=FOLDS)


def tuned() -> dict[str, Any]:
    """A search judged by the second fold; its recipe against the default on the first one, three seeds each."""
    table, folder = fold_tables(validated=True)[0], KEPT / f"tune-{commit()}"  # a cut search goes on
    choices = (table, "--group-by", "sender", *PACE, "--set", SHAPE)
    with tempfile.TemporaryDirectory() as cache:
        cost = measured(Path(cache), "tune", *choices, "--trials", TRIALS, "--out", folder, log=KEPT / "tune.txt")
    pooled = {}
    for name in ("default", "tuned"):
        recipe = ("--recipe", folder / "best.json") if name == "tuned" else ()
        made = [trained(f"{name}-{seed}", *choices, *recipe, "--seed", seed)[0] for seed in SEEDS]
        pooled[name] = functools.reduce(Pooled.joined, (Pooled.of(run, table) for run in made))
    best, default = (Recipe.read(path).to_json() for path in (folder / "best.json", KEPT / "default-0" / "recipe.json"))
    return {
        "command": f"pati tune FOLD.csv --group-by sender {' '.join(map(str, PACE))} --set {SHAPE} --trials {TRIALS}",
        "search": cost,
        "changed": {name: value for name, value in best.items() if value != default[name]},
        **{name: answers.scores() for name, answers in pooled.items()},
        "difference": pooled["tuned"].difference(pooled["default"]),
        "photos": len(pooled["tuned"].labels) // len(SEEDS),
        "seeds": len(SEEDS),
    }


def _compared(tried: Mapping[str, Sequence[str]], against: Mapping[str, str], *, folds: int) -> dict[str, Any]:
    tables = fold_tables()[:folds]
    base = next(iter(tried))
    pooled, seconds = {}, {}
    for name, settings in tried.items():
        made = [_fold(table, number, settings) for number, table in enumerate(tables)]
        pooled[name] = functools.reduce(
            Pooled.joined, (Pooled.of(run, table) for (run, _), table in zip(made, tables, strict=True))
        )
        seconds[name] = round(float(np.mean([row["training_seconds"] for _, row in made])), 1)
    rows = {}
    for name, answers in pooled.items():
        reference = against.get(name, base)
        rows[name] = answers.scores() | {"settings": " ".join(tried[name]), "training_seconds": seconds[name]}
        if name != reference:
            rows[name] |= {"against": reference, "difference": answers.difference(pooled[reference])}
    command = f"pati train FOLD.csv --group-by sender {' '.join(map(str, PACE))} --seed FOLD --set {SHAPE} SETTINGS"
    photos, senders = len(pooled[base].labels), len(set(pooled[base].senders.tolist()))
    return {"command": command, "folds": folds, "photos": photos, "senders": senders, "rows": rows}


def _fold(table: Path, number: int, settings: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """One training: its fold is the test, its number the seed."""
    slug = "-".join(["fold", str(number), *(text.replace("=", "-") for text in settings)])
    return trained(slug, table, "--group-by", "sender", *PACE, "--seed", number, "--set", SHAPE, *settings)


@dataclass(frozen=True)
class Pooled:
    """Answers of several folds: class indices `(N,)` of truth and answer, and each photo's sender."""

    labels: NDArray[np.int64]
    answers: NDArray[np.int64]
    senders: NDArray[np.int64]
    classes: int

    @classmethod
    def of(cls, run: Path, table: Path) -> Pooled:
        """Of one run, whose photos' senders stand in its table."""
        with table.open(newline="", encoding="utf-8") as file:
            senders = {row["sha256"]: row["sender"] for row in csv.DictReader(file)}
        with np.load(run / "predictions.npz", allow_pickle=False) as stored:
            logits, labels = stored["test_logits"], stored["test_labels"]
            names = np.array([int(senders[digest]) for digest in stored["test_sha256"].tolist()])
        return cls(labels, logits.argmax(1), names, logits.shape[1])

    def joined(self, other: Pooled) -> Pooled:
        """Both, one after the other."""
        pairs = ((self.labels, other.labels), (self.answers, other.answers), (self.senders, other.senders))
        return Pooled(*(np.concatenate(pair) for pair in pairs), self.classes)  # type: ignore[arg-type]

    def scores(self) -> dict[str, float]:
        counts = self._by_sender().sum(0, keepdims=True)
        accuracy = float((self.labels == self.answers).mean())
        recall = _recall(counts)[0]
        return {
            "macro_f1": round(float(macro_f1(counts)[0]), 4),
            "balanced_accuracy": round(float(recall), 4),
            "accuracy": round(accuracy, 4),
        }

    def difference(self, other: Pooled) -> dict[str, Any]:
        """Of macro F1 to `other`'s on the same photos, with a 95 % interval over senders drawn with replacement."""
        if not (np.array_equal(self.labels, other.labels) and np.array_equal(self.senders, other.senders)):
            raise SystemExit("the folds of two methods hold other photos")
        mine, theirs = self._by_sender(), other._by_sender()
        generator = np.random.default_rng(0)
        drawn = []
        for _ in range(0, RESAMPLES, 500):
            times = generator.multinomial(len(mine), np.full(len(mine), 1 / len(mine)), 500)
            drawn.append(macro_f1(np.tensordot(times, mine, 1)) - macro_f1(np.tensordot(times, theirs, 1)))
        low, high = np.percentile(np.concatenate(drawn), [2.5, 97.5])
        told = macro_f1(mine.sum(0, keepdims=True))[0] - macro_f1(theirs.sum(0, keepdims=True))[0]
        return {"macro_f1": round(float(told), 4), "interval": [round(float(low), 4), round(float(high), 4)]}

    def _by_sender(self) -> NDArray[np.int64]:
        """Confusion matrices `(S, K, K)`, a sender each."""
        names, at = np.unique(self.senders, return_inverse=True)
        counts = np.zeros((len(names), self.classes, self.classes), np.int64)
        np.add.at(counts, (at, self.labels, self.answers), 1)
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
    found = pipeline.check(archive, Recipe(group_by="sender_id"))
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
