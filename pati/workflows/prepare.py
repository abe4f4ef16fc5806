"""Prepare data for training: settle the recipe, audit, split, pack."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from pati import models
from pati.data import decode, loader, pack, split
from pati.data.loader import Samples
from pati.data.manifest import Manifest, require_trainable
from pati.data.pack import Pack
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.interface import reading_order
from pati.data.sources.source import Columns, Source
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.events import DataRead, Listen, Stage, StageBegan, silent
from pati.inference.classifier import Classifier
from pati.models import Net
from pati.recipe import Recipe, SettledRecipe
from pati.runs.history import Reading
from pati.runs.run import Run
from pati.runs.start import Start
from pati.system import clock, machine
from pati.training import balance, network, plan
from pati.training.plan import Outline
from pati.training.speed import of_reading, of_training
from pati.workflows import seen
from pati.workflows import start as starts
from pati.workflows.opening import audit_progress, keep_manifest, manifest_of, open_data, source_of
from pati.workflows.start import Opened

_PEEK = 64  # photos sampled before all are read,
_PEEK_BYTES = 64_000_000  # or fewer if they are large


@dataclass(frozen=True)
class Prepared:
    """Data ready for training, and the recipe settled for it; the test photos are not used.

    `preprocess` has the colour statistics of the training photos; `speed`: see `plan.settle`. `validation` may be empty
    if there are folds.
    """

    recipe: SettledRecipe
    manifest: Manifest
    packed: Pack
    preprocess: Preprocess
    training: Samples
    validation: Samples
    device: torch.device
    speed: float

    def trained_on(self, numbers: torch.Tensor) -> Prepared:
        """The same with only these of the training photos `(B,)`, and their colour statistics."""
        training = self.training.take(numbers)
        mean, std = loader.colour_statistics(training)
        return dataclasses.replace(
            self, training=training, preprocess=dataclasses.replace(self.preprocess, mean=mean, std=std)
        )

    def net(self) -> Net:
        """A new network of the recipe, on the device, with random weights."""
        return network.built(self.recipe, len(self.manifest.classes)).to(self.device)

    def classifier(
        self, net: Net, *, calibration: Calibration | None = None, detector: OutOfDistributionDetector | None = None
    ) -> Classifier:
        """A classifier with this network, optionally with calibration and out-of-distribution detector."""
        return Classifier(
            net, self.preprocess, self.manifest.classes, mirror=self.recipe.mirror,
            center_crop=self.recipe.center_crop, facts={}, calibration=calibration, detector=detector,
        )  # fmt: skip


@clock.watched()
def prepare(
    data: str | Path,
    recipe: Recipe,
    *,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    start: Start | None = None,
    listen: Listen = silent,
) -> Prepared:
    """Everything before training, without a run folder: settle, audit, split, pack. Raises `PatiError`.

    With a validation split even where a run would have folds: its scores are what other recipes are compared by.
    `start`: what a run with this data started from; its photos keep their splits.
    """
    recipe = recipe.changed({"folds": 0})
    source = open_data(data, recipe, columns, decisions)
    chosen = settled(source, recipe)
    return prepared(*audited(source, chosen.recipe, listen, start=start), chosen.recipe, chosen.speed, start=start)


@clock.watched()
def prepare_again(run: Run, recipe: SettledRecipe, *, listen: Listen = silent) -> Prepared:
    """The same for the data of a run, as it was prepared for the run."""
    source = source_of(run, recipe)
    chosen = settled(source, _with_folds_of(run, recipe))
    manifest, packed = audited(source, chosen.recipe, listen, colour=_colour(run), start=Start.of(run))
    keep_manifest(run, manifest)
    return prepared(manifest, packed, chosen.recipe, chosen.speed, run)


@dataclass(frozen=True)
class Settled:
    """A settled recipe, the measured speed of the machine, and the outline of the recipe's budget, if it has one.

    `most_folds`: how many cross-validation folds there is time for; None if there is no limit.
    """

    recipe: SettledRecipe
    speed: float
    outline: Outline | None
    most_folds: int | None


def settled(source: Source, recipe: Recipe, opened: Opened | None = None, *, processes: int = 1) -> Settled:
    """Settle the recipe for the data, as far as it is known before reading it, and this machine.

    `opened`: what the training starts from; `processes`: that train together, each as fast as this one.
    """
    machine.keep_blocks()
    samples = _peek(source)
    precision = recipe.precision or machine.faster_precision(machine.device().type)
    speed = processes * of_training(recipe.model, precision, machine.device())
    photos, minimum_size = len(source.items), models.smallest_size(recipe.model or plan.DEFAULT_MODEL)
    reading = of_reading(samples)
    settle = functools.partial(
        plan.settle,
        photos=photos,
        natural=plan.natural_size([size for size in map(decode.header_size, samples) if size]),
        flip_invariant=source.flip_invariant,
        rotation_invariant=source.rotation_invariant,
        minimum_size=minimum_size,
        precision=precision,
        speed=speed,
        reading=reading,
    )

    def for_folds(folds: int) -> tuple[SettledRecipe, int | None]:
        for_recipe = functools.partial(settle, folds=folds)
        chosen = for_recipe(recipe) if opened is None else starts.settled(opened, recipe, for_recipe)
        most = plan.most_folds(chosen, photos=photos, minimum_size=minimum_size, speed=speed, reading=reading)
        return chosen, most

    folds = _expected_folds(source, recipe, None)
    chosen, most = for_folds(folds)
    if folds and not (folds := _expected_folds(source, recipe, most)):
        chosen, _ = for_folds(0)
    if chosen.budget is None:
        return Settled(chosen, speed, None, None)
    outline = plan.outline(
        chosen, chosen.budget, photos=photos, folds=folds, minimum_size=minimum_size, speed=speed, reading=reading
    )
    return Settled(chosen, speed, outline, most)


def _expected_folds(source: Source, recipe: Recipe, most: int | None) -> int:
    """Number of folds if every file is a photo that is independent of the others; `most`: see `split.folds_for`."""
    if recipe.folds is not None:
        return recipe.folds
    if source.presplit and "test" in source.columns.splits.counts():
        return 0
    return split.folds_for(len(source.items), test=recipe.test, most=most)


def audited(
    source: Source,
    recipe: SettledRecipe,
    listen: Listen,
    run: Run | None = None,
    *,
    colour: str | None = None,
    start: Start | None = None,
) -> tuple[Manifest, Pack]:
    """The manifest and the decoded photos; `run` stores the manifest, or verifies that it equals the stored one.

    `colour`: see `Preprocess`; by default that of the run. `start`: see `prepare`; by default that of the run.
    """
    start = start if run is None else Start.of(run)
    listen(StageBegan(Stage.AUDIT, len(source.items)))
    at = clock.now()
    if run is not None:
        recipe = _with_folds_of(run, recipe)
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize, colour=colour or _colour(run))
    begun = run is not None and run.manifest.exists()  # what was found holds until its end
    inspections, packed, reused = pack.open_or_build(source, preprocess, audit_progress(listen), unsettled=begun)
    most_folds = None if run is None else run.read_state().get("most_folds")
    known = seen.known_splits(start, run, source, inspections, recipe, listen)
    manifest = manifest_of(source, inspections, recipe, known, most_folds=most_folds)
    seconds = clock.now() - at
    if run is not None:
        seen.require_unseen(start, known, manifest)
        keep_manifest(run, manifest)
        Reading(len(manifest.entries), reused, round(seconds, 2)).keep(run)
    listen(DataRead(manifest, reused, seconds))
    if run is not None:
        seen.tell(start, known, manifest, listen)
    require_trainable(manifest)
    machine.return_free_memory()  # of the audit, a few hundred bytes a photo
    return manifest, packed


def _with_folds_of(run: Run, recipe: SettledRecipe) -> SettledRecipe:
    """The recipe with the folds of a run that has begun: older versions, which had none, did not store them."""
    if recipe.folds is None and run.manifest.exists():
        return recipe.changed({"folds": Manifest.read(run.manifest).folds})
    return recipe


def prepared(
    manifest: Manifest,
    packed: Pack,
    recipe: SettledRecipe,
    speed: float,
    run: Run | None = None,
    *,
    start: Start | None = None,
) -> Prepared:
    """The splits with their colour statistics, on the device if they fit; `start`: see `audited`."""
    start = start if run is None else Start.of(run)
    recipe = recipe.changed({"folds": manifest.folds})
    training, validation = (
        loader.samples(packed, manifest, manifest.of_split(name)) for name in ("train", "validation")
    )
    mean, std = starts.colours(start, recipe) or loader.colour_statistics(training)
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize, mean=mean, std=std, colour=_colour(run))
    recipe = balance.settled(recipe, training.counts())
    device = machine.device()
    training = near_device(training, device)
    return Prepared(recipe, manifest, packed, preprocess, training, validation, device, speed)


def near_device(training: Samples, device: torch.device) -> Samples:
    """The training photos, in the memory of a GPU if they fit."""
    if device.type == "cuda" and _bytes(training) < torch.cuda.mem_get_info(device)[0] / 2:
        return training.on(device)
    return training


def _colour(run: Run | None) -> str:
    """How colours with a profile are read, see `Preprocess`: for a run as in its beginning."""
    return "srgb" if run is None or "pi-heif" in run.read_state().get("versions", {}) else "stored"


def _peek(source: Source) -> list[bytes]:
    step, store = max(1, len(source.items) // _PEEK), storage.at(source.root)
    paths = [item.path for item in source.items[::step]]
    samples: list[bytes] = []
    for number in reading_order(store, paths):
        with contextlib.suppress(decode.Unreadable):
            samples.append(store.read(paths[number]))
        if sum(map(len, samples)) > _PEEK_BYTES:
            break
    return samples


def _bytes(data: Samples) -> int:
    return len(data) * math.prod(data.pixels.shape[1:])
