"""From DATA and a recipe to what nets can be trained on: find, settle, audit, split, pack."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch

from pati import models
from pati.data import decode, loader, pack
from pati.data.audit.judge import manifest
from pati.data.audit.pool import Progress
from pati.data.decisions import read as decisions_in
from pati.data.loader import Samples
from pati.data.manifest import Manifest, require_trainable
from pati.data.pack import Pack
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import Scope
from pati.events import Advanced, DataRead, Listen, Stage, StageBegan, silent
from pati.inference.classifier import Classifier
from pati.models import Net
from pati.recipe import Recipe, SettledRecipe
from pati.runs.history import Reading
from pati.runs.run import Run
from pati.system import clock, machine
from pati.training import balance, plan
from pati.training.plan import Outline
from pati.training.speed import of_reading, of_training

_PEEK = 64  # photos looked at before all are read,
_PEEK_BYTES = 64_000_000  # or fewer large ones


@dataclass(frozen=True)
class Prepared:
    """Data that nets can be trained on, and the recipe settled for them; the test photos are left alone.

    `preprocess` has the training photos' colour statistics; `speed`: see `plan.settle`.
    """

    recipe: SettledRecipe
    found: Manifest
    packed: Pack
    preprocess: Preprocess
    training: Samples
    validation: Samples
    device: torch.device
    speed: float

    def net(self) -> Net:
        """A fresh net of the recipe, on the device."""
        recipe = self.recipe
        options = models.Options(
            width=recipe.width, dropout=recipe.dropout, drop_path=recipe.drop_path, size=recipe.size
        )
        return models.build(recipe.model, len(self.found.classes), options, seed=recipe.seed).to(self.device)

    def classifier(self, net: Net, *, calibration: Calibration | None = None, scope: Scope | None = None) -> Classifier:
        """The net as people hold it, with what is known of its confidence and scope."""
        return Classifier(
            net, self.preprocess, self.found.classes, mirror=self.recipe.mirror, facts={}, calibration=calibration,
            scope=scope,
        )  # fmt: skip


@clock.watched()
def prepare(
    data: str | Path,
    recipe: Recipe,
    *,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    listen: Listen = silent,
) -> Prepared:
    """Everything that comes before training, without a run's folder: settle, audit, split, pack."""
    source = open_data(data, recipe, columns, decisions)
    recipe, speed, _ = settled(source, recipe)
    return prepared(*audited(source, recipe, listen), recipe, speed)


@clock.watched()
def prepare_again(run: Run, recipe: SettledRecipe, *, listen: Listen = silent) -> Prepared:
    """The same for the data of a run, as they were prepared for it."""
    source = source_of(run, recipe)
    recipe, speed, _ = settled(source, recipe)
    found, packed = audited(source, recipe, listen)
    keep_manifest(run, found)
    return prepared(found, packed, recipe, speed)


def open_data(data: str | Path, recipe: Recipe, columns: Columns, decided: Path | None = None) -> Source:
    """What DATA names, grouped as the recipe asks for, with a person's decisions. Raises `PatiError`."""
    if recipe.group_by is not None:
        columns = dataclasses.replace(columns, group=recipe.group_by)
    source = find_source(data, columns)
    if not source.items:
        raise PatiError(f"no photo found in {source.root}", "expected one folder a class with photos in it, or a CSV")
    if decided is not None:
        source = dataclasses.replace(source, decisions=decisions_in(decided, source.classes))
    return source


def source_of(run: Run, recipe: Recipe) -> Source:
    """The data of a run, with the decisions that it began with."""
    state = run.read_state()
    decided = run.decisions if run.decisions.exists() else None
    return open_data(state["data"], recipe, Columns(**state["columns"]), decided)


def settled(source: Source, recipe: Recipe) -> tuple[SettledRecipe, float, Outline | None]:
    """The recipe with everything chosen, the machine's speed that it was chosen for, and what comes of its budget."""
    machine.keep_blocks()
    samples = _peek(source)
    precision = recipe.precision or machine.faster_precision(machine.device().type)
    speed = of_training(recipe.model, precision, machine.device())
    photos, minimum_size = len(source.items), models.smallest_size(recipe.model or plan.HOUSE)
    reading = of_reading(samples)
    recipe = plan.settle(
        recipe,
        photos=photos,
        natural=plan.natural_size([size for size in map(decode.header_size, samples) if size]),
        mirrored=source.mirrored,
        turned=source.turned,
        minimum_size=minimum_size,
        precision=precision,
        speed=speed,
        reading=reading,
    )
    if recipe.budget is None:
        return recipe, speed, None
    return (
        recipe,
        speed,
        plan.outline(recipe, recipe.budget, photos=photos, minimum_size=minimum_size, speed=speed, reading=reading),
    )


def audited(source: Source, recipe: SettledRecipe, listen: Listen, run: Run | None = None) -> tuple[Manifest, Pack]:
    """What was found and the decoded photos; `run` keeps the manifest, or makes sure that it is the one it kept."""
    listen(StageBegan(Stage.AUDIT, len(source.items)))
    at = clock.now()
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize)
    findings, packed, reused = pack.open_or_build(source, preprocess, audit_progress(listen))
    found = manifest(source, findings, recipe)
    seconds = clock.now() - at
    if run is not None:
        keep_manifest(run, found)
        Reading(len(found.entries), reused, round(seconds, 2)).keep(run)
    listen(DataRead(found, reused, seconds))
    require_trainable(found)
    return found, packed


def prepared(found: Manifest, packed: Pack, recipe: SettledRecipe, speed: float) -> Prepared:
    """Splits with their colour statistics, on the device where they fit."""
    training, validation = (loader.samples(packed, found, found.of_split(name)) for name in ("train", "validation"))
    mean, std = loader.colour_statistics(training)
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize, mean=mean, std=std)
    recipe = balance.settled(recipe, balance.counted(training.targets))
    device = machine.device()
    if device.type == "cuda" and _bytes(training) < torch.cuda.mem_get_info(device)[0] / 2:
        training = training.on(device)
    return Prepared(recipe, found, packed, preprocess, training, validation, device, speed)


def _peek(source: Source) -> list[bytes]:
    step, place = max(1, len(source.items) // _PEEK), storage.at(source.root)
    found: list[bytes] = []
    for item in source.items[::step]:
        with contextlib.suppress(decode.Unreadable):
            found.append(place.read(item.path))
        if sum(map(len, found)) > _PEEK_BYTES:
            break
    return found


def audit_progress(listen: Listen) -> Progress:
    """Tells how many files have been read."""
    return lambda done, total: listen(Advanced(done, total))


def _bytes(data: Samples) -> int:
    return len(data) * data.pixels[0].numel()


def keep_manifest(run: Run, found: Manifest) -> None:
    """Write the run's manifest, or make sure that it is the one there. Raises `PatiError`."""
    if run.manifest.exists():
        before = Manifest.read(run.manifest)
        if before.hash() != found.hash():
            changed = sorted({entry.path for entry in set(before.entries) ^ set(found.entries)})
            raise PatiError(
                f"the data changed since this run began, for example {', '.join(changed[:3])}",
                "put the photos back as they were, or start a new run",
            )
    else:
        found.write(run.manifest)
