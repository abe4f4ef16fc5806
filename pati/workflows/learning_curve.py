"""More photos, or more time? `pati learning-curve DATA` trains networks on parts of the photos, and fits a curve.

Photos are dealt to folds, as in cross-validation. For each fold, networks are trained on nested subsets of the other
photos, all of them for the same time, and one on all of these for half of it; each predicts the fold. So every photo is
predicted once at each size, and even few photos give a score. The time is the same for all sizes, since whoever adds
photos has no more minutes for that. All networks have the recipe that the planner chooses for all photos in this time.

The folder of a learning curve holds `settings.json` (written first), the trainings that are finished, checkpoints of
the one that is not, and the results, `learning-curve.json` and `report.html`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pati import plugins
from pati.data import manifest as manifests
from pati.data.entries import Entry
from pati.data.manifest import Manifest
from pati.data.sources.source import Columns, Source
from pati.errors import Interrupted, PatiError
from pati.evaluation import learning_curves
from pati.evaluation.clusters import Clusters
from pati.evaluation.documents import CurvePoint, CurvePrediction, LearningCurveDocument
from pati.evaluation.intervals import proportion_interval
from pati.evaluation.learning_curves import LearningCurve, Point
from pati.events import Event, Listen, NetworkBegan, Stage, StageBegan, StepDone
from pati.inference.splits import all_logits
from pati.locale import catalogues
from pati.locale.messages import N_
from pati.plugins import PluginState
from pati.recipe import Recipe, SettledRecipe
from pati.report import pages
from pati.runs.learning_curves import NAME, REPORT, RESULT, SETTINGS
from pati.runs.run import claimed, versions
from pati.system import clock, files, locks, threads
from pati.training import plan
from pati.workflows.fit import fit
from pati.workflows.opening import open_data, where_is
from pati.workflows.prepare import Prepared, audited, prepared, settled
from pati.workflows.reserve import as_option, time_predictions
from pati.workflows.stopping import stoppable

FORMAT = 1


class Size(NamedTuple):
    """What the networks of a fold are trained on: a `share` of the other photos, for a share `length` of the time."""

    share: float
    length: float


ALL = Size(1.0, 1.0)
SIZES = (Size(1 / 8, 1.0), Size(1 / 4, 1.0), Size(1 / 2, 1.0), ALL, Size(1.0, 0.5))
FOLDS, FEWER_FOLDS = 5, 3  # fewer if each training would be shorter than
SHORT = 20.0  # seconds
FEWEST_PER_CLASS = 2  # photos in a subset: with fewer, there is little to learn
BUDGETS = 5  # of `pati train`, together: the default
LEAST_SHARE = 0.5  # of a budget, for training; with less, it is refused
STARTING = 0.5  # seconds for each training before its first step
MORE = (2, 4)  # times the photos


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was asked for, and what was chosen for it; a resumed learning curve keeps both.

    `given`: the user's recipe; `recipe`: the same, settled. `seconds`: of each training; None for epochs.
    """

    data: str
    columns: Columns
    given: Recipe
    plugins: dict[str, PluginState]
    recipe: SettledRecipe
    manifest: str
    folds: int
    seconds: float | None

    def write(self, folder: Path) -> None:
        """Write settings.json."""
        document = {
            "format": FORMAT,
            "data": self.data,
            "columns": dataclasses.asdict(self.columns),
            "given": self.given.to_json(),
            "plugins": self.plugins,
            "recipe": self.recipe.to_json(),
            "manifest": self.manifest,
            "folds": self.folds,
            "seconds": self.seconds,
        }
        files.write_json(folder / SETTINGS, document)

    @classmethod
    def read(cls, folder: Path) -> Settings | None:
        """The settings in a folder; None for the folder of anything else, or of another version."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError, PatiError):
            document = files.read_json(folder / SETTINGS)
            if document["format"] == FORMAT:
                return cls(
                    data=document["data"],
                    columns=Columns(**document["columns"]),
                    given=Recipe.from_json(document["given"]),
                    plugins=document["plugins"],
                    recipe=SettledRecipe.from_json(document["recipe"]),
                    manifest=document["manifest"],
                    folds=document["folds"],
                    seconds=document["seconds"],
                )
        return None


@clock.watched()
def learning_curve(
    data: str | Path,
    recipe: Recipe,
    *,
    out: Path | None = None,
    columns: Columns = Columns(),
    started: float | None = None,
    listen: Listen,
) -> LearningCurveDocument:
    """Measure and fit the learning curve of DATA.

    The recipe's budget is the time of the whole call; its epochs, passes over all photos: parts of them are trained on
    for as many steps. `out`: default runs/learning-curve-N. The same call resumes after an interruption. Raises
    `PatiError`; `Interrupted` after a stop.
    """
    started = clock.now() if started is None else started
    if recipe.group_by is not None:
        columns = dataclasses.replace(columns, group=recipe.group_by)
    source = open_data(data, recipe, columns)
    folder = _folder(out, where_is(data), columns, recipe)
    with _resumable(folder), locks.locked(folder / ".lock", N_("another process is using {folder}", folder=folder)):
        ready, settings = _prepare(source, where_is(data), columns, recipe, folder, started, listen)
        points = _train(ready, settings, folder, listen)
        listen(StageBegan(Stage.REPORT))
        document = _document(ready, settings, folder, points, started)
        files.write_json(folder / RESULT, document)
        page = folder / REPORT
        pages.write_learning_curve(page, document, settings.recipe, language=catalogues.current())
    return document


def default_budget(photos: int) -> float:
    """Seconds for the whole command if the user sets no budget."""
    return BUDGETS * plan.default_budget(photos, plan.LARGEST)


def _folder(out: Path | None, data: str, columns: Columns, recipe: Recipe) -> Path:
    """The folder for the results: `out`, or in runs/ one of the same call that was interrupted, or a new one."""

    def begun(folder: Path) -> bool:
        kept = Settings.read(folder)
        return kept is not None and (kept.data, kept.columns, kept.given) == (data, columns, recipe)

    if out is None:
        open_ = (path.parent for path in sorted(Path("runs").glob(f"{NAME}-*/{SETTINGS}")))
        unfinished = [path for path in open_ if not (path / RESULT).exists() and begun(path)]
        return unfinished[0] if unfinished else claimed(Path("runs"), NAME)
    if out.is_file():
        raise PatiError(N_("--out {folder} is a file, expected a folder", folder=out))
    here = {path.name for path in out.glob("*") if not files.is_unfinished(path)} - {".lock", "job"}
    if here and not begun(out):
        if (out / SETTINGS).exists():
            raise PatiError(
                N_("{folder} contains a learning curve of other photos, or with other settings", folder=out),
                N_("choose another folder with --out"),
            )
        raise PatiError(
            N_("--out {folder} is not empty ({names})", folder=out, names=sorted(here)[:3]),
            N_("choose a new or empty folder"),
        )
    out.mkdir(parents=True, exist_ok=True)
    return out


@contextlib.contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        raise Interrupted(N_("the trained networks are saved"), N_("the same command resumes them")) from None
    except PatiError:
        with contextlib.suppress(OSError):  # refused before anything was written
            if not (folder / SETTINGS).exists() and not (folder / "job").exists():
                (folder / ".lock").unlink(missing_ok=True)
                folder.rmdir()
        raise


# Before training ----------------------------------------------------------------------


def _prepare(
    source: Source, data: str, columns: Columns, recipe: Recipe, folder: Path, started: float, listen: Listen
) -> tuple[Prepared, Settings]:
    """The photos, and how to train on them: chosen now, or as it was before an interruption."""
    kept, count = Settings.read(folder), len(source.items)
    budget = recipe.budget
    if budget is None and recipe.epochs is None:
        budget = default_budget(count)
    if kept is None:
        # The planner chooses as for a run that trains once for as long as each of the networks.
        each = None if budget is None else budget / _trainings(FEWER_FOLDS) + plan.overhead(photos=count, reading=0.0)
        chosen = settled(source, recipe.changed({"budget": each, "folds": 0}))
    else:
        plugins.require_same(kept.plugins)
        chosen = settled(source, kept.recipe.changed({"folds": 0}))
    # Without a limit on the folds of a run, few photos are not divided for a test.
    manifest, packed = audited(source, chosen.recipe.changed({"folds": recipe.folds}), listen)
    ready = prepared(manifest, packed, chosen.recipe, chosen.speed)
    if not recipe.patience:  # only early stopping needs them
        ready = dataclasses.replace(ready, validation=ready.validation.take(torch.zeros(0, dtype=torch.int64)))
    if kept is not None and kept.manifest == manifest.hash():
        return dataclasses.replace(ready, recipe=kept.recipe), kept
    if kept is not None:
        raise PatiError(
            N_("the data has changed since this learning curve was started"),
            N_("restore the photos, or choose another folder with --out"),
        )
    folds, seconds = FOLDS, None
    if budget is not None:
        folds, seconds = _paced(ready, budget, clock.now() - started)
    settings = Settings(
        data=data, columns=columns, given=recipe, plugins=plugins.state(), recipe=ready.recipe,
        manifest=manifest.hash(), folds=folds, seconds=seconds,
    )  # fmt: skip
    settings.write(folder)
    return ready, settings


def _trainings(folds: int) -> float:
    """The work of all trainings, in trainings of full length."""
    return folds * sum(size.length for size in SIZES)


def _paced(ready: Prepared, budget: float, spent: float) -> tuple[int, float]:
    """Number of folds, and seconds of each training, so that all end within the budget. Raises `PatiError`."""
    one = time_predictions(ready.classifier(ready.net()), ready)[0]
    predicting = len(SIZES) * len(ready.training) * one

    def seconds(folds: int) -> float:
        other = spent + plan.REPORT + predicting + folds * len(SIZES) * STARTING
        return (budget - other) / _trainings(folds)

    folds = FOLDS if seconds(FOLDS) >= SHORT else FEWER_FOLDS
    if seconds(folds) * _trainings(folds) < LEAST_SHARE * budget:
        needed = (budget - seconds(folds) * _trainings(folds)) / (1 - LEAST_SHARE)
        raise PatiError(
            N_(
                "a budget of {budget:.0f} s leaves {share:.0f} s for each of the {networks} networks",
                budget=budget,
                share=max(0.0, seconds(folds)),
                networks=folds * len(SIZES),
            ),
            N_("use --budget {enough} or more", enough=as_option(needed)),
        )
    return folds, seconds(folds)


# Training -----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fold:
    """The photos of a fold, and the others in an order in which every beginning has the classes' proportions.

    Both are positions among the training photos. `sizes` `(U + 1,)`: how many photos the first units have together.
    """

    held: torch.Tensor
    others: torch.Tensor
    sizes: NDArray[np.int64]

    def subset(self, share: float) -> torch.Tensor:
        """The first units that have at least this share of the photos."""
        return self.others[: int(self.sizes[np.searchsorted(self.sizes, share * len(self.others))])].sort().values


def folds_of(manifest: Manifest, folds: int, *, seed: int) -> list[Fold]:
    """Deal the training photos to folds, and order the others for each. Photos that belong together stay together.

    Raises `PatiError` if there are too few.
    """
    entries = manifests.with_folds(manifest.of_split("train"), folds, seed=seed)
    number = {entry.path: index for index, entry in enumerate(entries)}
    units: list[list[Entry]] = [[] for _ in range(len(manifests.units(entries)[0]))]
    for one, entry in zip(manifests.units(entries)[1].tolist(), entries, strict=True):
        units[one].append(entry)
    dealt = []
    for fold in range(folds):
        inside = [members for members in units if members[0].fold == fold]
        if not inside:
            raise PatiError(
                N_(
                    "too few photos for a learning curve: they form only {n} groups that must stay together",
                    n=len(units),
                ),
                N_("add photos"),
            )
        outside = _stratified([members for members in units if members[0].fold != fold], seed=seed + fold)
        dealt.append(
            Fold(
                torch.tensor(sorted(number[entry.path] for members in inside for entry in members)),
                torch.tensor([number[entry.path] for members in outside for entry in members]),
                np.cumsum([0, *map(len, outside)]),
            )
        )
    return dealt


def _stratified(units: Sequence[list[Entry]], *, seed: int) -> list[list[Entry]]:
    """Units in a random order in which each class is spread evenly, the first unit of each class at the beginning."""
    shuffled = random.Random(seed).sample(units, len(units))
    by_class: dict[str, list[list[Entry]]] = {}
    for members in shuffled:
        by_class.setdefault(members[0].label, []).append(members)
    place = {
        members[0].path: (place + 0.5) / len(group) if place else 0.0
        for group in by_class.values()
        for place, members in enumerate(group)
    }
    return sorted(shuffled, key=lambda members: place[members[0].path])


@dataclass(frozen=True, eq=False)
class Trained:
    """Networks of one size: `photos` that each was trained on, and `epochs`, by fold; and of each photo whether the
    prediction was `right` `bool (N,)`: False for photos in no fold."""

    photos: list[int]
    epochs: list[float]
    right: NDArray[np.bool_]


def _train(ready: Prepared, settings: Settings, folder: Path, listen: Listen) -> dict[Size, Trained]:
    """Train the networks of all folds and sizes; those that are finished are read from the folder."""
    dealt = folds_of(ready.manifest, settings.folds, seed=settings.recipe.split_seed)
    sizes = [
        size for size in SIZES
        if size.share == 1 or size.share * len(dealt[0].others) >= FEWEST_PER_CLASS * len(ready.manifest.classes)
    ]  # fmt: skip
    count, number = len(dealt) * len(sizes), 0
    trained = {size: Trained([], [], np.zeros(len(ready.training), np.bool_)) for size in sizes}
    with stoppable() as stopped, threads.restored():
        for fold in dealt:
            for size in sizes:
                number += 1
                subset = fold.subset(size.share)
                rest = _with_length(ready.trained_on(subset), size, len(ready.training))
                seconds = None if settings.seconds is None else size.length * settings.seconds
                network = Network(folder / "networks" / str(number), rest, seconds, settings)

                def begun(number: int = number, subset: torch.Tensor = subset, seconds: float | None = seconds) -> None:
                    listen(NetworkBegan(number, count, len(subset), seconds))

                right, epochs = network.right(ready, fold.held, begun, stopped, listen)
                trained[size].photos.append(len(subset))
                trained[size].epochs.append(epochs)
                trained[size].right[fold.held.numpy()] = right
    return trained


def _with_length(ready: Prepared, size: Size, photos: int) -> Prepared:
    """A recipe by epochs with those that are as many steps as its epochs on all `photos`."""
    recipe = ready.recipe
    if recipe.epochs is None:
        return ready
    epochs = max(1, round(size.length * recipe.epochs * photos / len(ready.training)))
    return dataclasses.replace(ready, recipe=recipe.changed({"epochs": epochs}))


@dataclass(frozen=True)
class Network:
    """One of the trainings, on `ready` data, whose result is stored in the file `path`.json."""

    path: Path
    ready: Prepared
    seconds: float | None
    settings: Settings

    def right(
        self,
        ready: Prepared,
        held: torch.Tensor,
        begun: Callable[[], None],
        stopped: Callable[[], bool],
        listen: Listen,
    ) -> tuple[NDArray[np.bool_], float]:
        """Train, and predict the photos `held` of all those in `ready`: whether each is right, `bool (H,)`; and epochs
        trained for."""
        stored, owner = self.path.with_suffix(".json"), self._owner()
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = files.read_json(stored)
            if document["owner"] == owner and len(document["right"]) == len(held):
                return np.array([letter == "1" for letter in document["right"]]), float(document["epochs"])
        begun()

        def log(event: Event) -> None:
            if isinstance(event, StepDone):  # the epochs of so many networks say little
                listen(event)

        net, state = fit(self.ready, self.path, owner=owner, seconds=self.seconds, stopped=stopped, log=log)
        answers = all_logits(self.ready.classifier(net), ready.training.take(held)).argmax(1)
        right = (answers == ready.training.labels[held.to(ready.training.rows.device)].cpu()).numpy()
        photos = len(self.ready.training)
        epochs = round(state.step * min(self.ready.recipe.batch, photos) / photos, 2)
        files.write_json(
            stored,
            {
                "owner": owner,
                "photos": photos,
                "epochs": epochs,
                "seconds": round(state.seconds, 1),
                "right": "".join("01"[int(one)] for one in right),
            },
        )
        shutil.rmtree(self.path, ignore_errors=True)
        return right, epochs

    def _owner(self) -> str:
        """A hash of what a checkpoint or result must share to be used."""
        parts = [self.path.name, self.settings.manifest, self.settings.folds, self.ready.recipe.to_json(), self.seconds]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


# The result ---------------------------------------------------------------------------


def _document(
    ready: Prepared, settings: Settings, folder: Path, trained: dict[Size, Trained], started: float
) -> LearningCurveDocument:
    """Fit the curve, and predict."""
    manifest, recipe = ready.manifest, settings.recipe
    dealt = folds_of(manifest, settings.folds, seed=recipe.split_seed)
    fold_of = np.full(len(ready.training), -1)
    for number, fold in enumerate(dealt):
        fold_of[fold.held.numpy()] = number
    scored = np.flatnonzero(fold_of >= 0)
    entries = manifest.of_split("train")
    clusters = Clusters.named(manifests.units(entries)[1][scored].tolist())
    points = [Point(float(np.mean(one.photos)), size.length, one.right[scored]) for size, one in trained.items()]
    curve = learning_curves.fit(
        points, fold_of[scored], classes=len(manifest.classes), epochs=float(np.mean(trained[ALL].epochs)),
        clusters=clusters,
    )  # fmt: skip
    photos = len(ready.training)
    least = min(point.photos for point in points)
    along = np.geomspace(least, max(MORE) * photos, 40)
    return {
        "folder": str(folder),
        "source": manifest.source,
        "photos": photos,
        "classes": len(manifest.classes),
        "scored": len(scored),
        "folds": settings.folds,
        "networks": settings.folds * len(points),
        "length": _length(settings),
        "by_time": settings.seconds is not None,
        "points": [_point(point, clusters) for point in points],
        "now": _predicted(curve, photos, photos),
        "more_photos": [_predicted(curve, times * photos, photos) for times in MORE],
        "more_time": _predicted(curve, photos, photos, length=2.0),
        "curve": [_predicted(curve, round(count), photos) for count in along],
        "dependent": manifests.dependent(entries.take(scored)),
        "effective_clusters": None if clusters is None else clusters.effective(),
        "report": str(folder / REPORT),
        "seed": recipe.seed,
        "manifest": manifest.hash(),
        "versions": versions(),
        "seconds": round(clock.now() - started, 1),
    }


def _length(settings: Settings) -> float:
    length = settings.recipe.epochs if settings.seconds is None else settings.seconds
    assert length is not None
    return round(length, 1)


def _point(point: Point, clusters: Clusters | None) -> CurvePoint:
    return {
        "photos": round(point.photos),
        "length": point.length,
        "accuracy": float(point.right.mean()),
        "interval": list(proportion_interval(point.right, clusters)),
    }


def _predicted(curve: LearningCurve, photos: int, now: int, length: float = 1.0) -> CurvePrediction:
    accuracy, gain = curve.accuracy(photos, length), curve.gain(photos, length, over=now)
    return {
        "photos": photos,
        "length": length,
        "accuracy": accuracy.value,
        "interval": [accuracy.low, accuracy.high],
        "gain": gain.value,
        "gain_interval": [gain.low, gain.high],
    }
