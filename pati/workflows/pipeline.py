"""The whole commands: audit, split, pack, plan, train, score, report.

Command line, Python and page call these. `listen` gets small dicts about what is going on
(`kind`: stage, audit, step, epoch, …); printing is up to the caller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import signal
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pati import models, plugins, report
from pati.data import decode, loader, pack
from pati.data.audit.judge import manifest
from pati.data.audit.pool import Progress, read_all
from pati.data.decisions import read as decisions_in
from pati.data.loader import Samples
from pati.data.manifest import Manifest, require_trainable
from pati.data.pack import Pack
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns, Source
from pati.data.sources.storage import Place
from pati.errors import Interrupted, PatiError
from pati.evaluation import analysis, metrics, out_of_distribution
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import Scope
from pati.inference import classifier, forward
from pati.inference.classifier import Classifier, Refused
from pati.models import Net
from pati.recipe import Recipe
from pati.runs.predictions import Predictions, Split
from pati.runs.run import Run, versions
from pati.system import clock, files, machine, threads
from pati.system.threads import Threads
from pati.training import balance, plan
from pati.training import budget as budgets
from pati.training.budget import Budget
from pati.training.loop import State
from pati.training.loop import train as train_net
from pati.training.plan import Outline, Plan
from pati.training.speed import of_python, of_reading, of_training
from pati.workflows import measure

Listen = Callable[[dict[str, Any]], None]
FEWEST_SCORED = 384  # validation photos, however little time is left: confidence is calibrated by them
SCORING_SHARE = 0.05  # of a budget, for scoring more of them, and more photos for the scope
LEAST_TRAINING = 0.2  # of a budget: with less a run is refused
TIMED, TIMES = 32, 2  # photos answered, and how often, to know what scoring takes
MOMENTS = 0.9  # of an answer's time, without its mirror image: the last stage is not needed for them
_PEEK = 64  # photos looked at before all are read,
_PEEK_BYTES = 64_000_000  # or fewer large ones


@dataclass(frozen=True)
class Result:
    """What a training left: the run's folder, the classifier, and the document of metrics.json."""

    run: Run
    classifier: Classifier
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """Data that nets can be trained on, and the recipe settled for them; the test photos are left alone.

    `preprocess` has the training photos' colour statistics; `speed`: see `plan.settle`.
    """

    recipe: Recipe
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
        assert recipe.model is not None
        assert recipe.width is not None
        assert recipe.size is not None
        options = models.Options(
            width=recipe.width, dropout=recipe.dropout, drop_path=recipe.drop_path, size=recipe.size
        )
        return models.build(recipe.model, len(self.found.classes), options, seed=recipe.seed).to(self.device)

    def classifier(self, net: Net) -> Classifier:
        """The net as people hold it, knowing nothing yet of its confidence and scope."""
        mirror = bool(self.recipe.mirror)
        return Classifier(net, self.preprocess, self.found.classes, mirror=mirror, facts={})


def _silent(event: dict[str, Any]) -> None:
    """Listens to nothing."""


@clock.watched()
def check(
    data: str | Path,
    recipe: Recipe,
    *,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    listen: Listen = _silent,
) -> Manifest:
    """Audit and split, without training. The manifest may be one that can't be trained on."""
    source = _find(data, recipe, columns, decisions)
    listen({"kind": "stage", "name": "audit", "photos": len(source.items)})
    findings = read_all(source, progress=_audit_progress(listen))
    listen({"kind": "stage", "name": "split"})
    return manifest(source, findings, recipe)


@clock.watched()
def train(
    data: str | Path,
    recipe: Recipe,
    *,
    out: Path | None = None,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    started: float | None = None,
    listen: Listen = _silent,
) -> Result:
    """Train from scratch and score the test split once. `started` (`clock.now`) begins the budget; `decisions`: a CSV
    of what a person decided of single photos (see `pati.data.decisions`)."""
    started = clock.now() if started is None else started
    source = _find(data, recipe, columns, decisions)
    given = recipe.budget
    recipe, speed, outline = _settled(source, recipe)
    where = str(Path(data).resolve()) if Path(data).exists() else str(data)
    run = Run.claim(out, source.name.split(".")[0])
    with _resumable(run), run.alone(), threads.restored():
        run.begin(recipe, {"data": where, "columns": asdict(columns), "speed": round(speed, 1)} | plugins.state())
        if decisions is not None:
            files.write_bytes(run.decisions, decisions.read_bytes())
        event = {"kind": "run", "folder": str(run.folder), "recipe": recipe}
        listen(event | {"outline": outline, "photos": len(source.items), "own_budget": given is None})
        elapsed = _Elapsed(run, started)
        with elapsed.kept():
            return _go(run, source, recipe, elapsed, listen)


@clock.watched()
def prepare(
    data: str | Path,
    recipe: Recipe,
    *,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    listen: Listen = _silent,
) -> Prepared:
    """Everything that comes before training, without a run's folder: settle, audit, split, pack."""
    source = _find(data, recipe, columns, decisions)
    recipe, speed, _ = _settled(source, recipe)
    return _prepared(*_audited(source, recipe, listen), recipe, speed)


@clock.watched()
def prepare_again(run: Run, recipe: Recipe, *, listen: Listen = _silent) -> Prepared:
    """The same for the data of a run, as they were prepared for it."""
    source = _source_of(run, recipe)
    recipe, speed, _ = _settled(source, recipe)
    found, packed = _audited(source, recipe, listen)
    _keep_manifest(run, found)
    return _prepared(found, packed, recipe, speed)


@clock.watched()
def fit(
    ready: Prepared,
    training: Samples,
    checkpoints: Path,
    *,
    owner: str,
    seconds: float | None,
    stopped: Callable[[], bool],
    log: Callable[[dict[str, Any]], None],
) -> tuple[Net, State]:
    """A fresh net trained on `training`, some of prepared data or like them, for `seconds` or by the recipe's epochs.

    Goes on from a checkpoint of `owner`. Raises `Interrupted`, `Diverged`.
    """
    net = ready.net()
    paced = plan.make(
        ready.recipe, photos=len(training), validation=len(ready.validation), minimum_size=net.minimum_size,
        speed=ready.speed, budget=None if seconds is None else Budget(seconds),
    )  # fmt: skip
    with threads.restored(), machine.enough_memory(paced.batch):
        state = train_net(
            net, training, ready.validation, ready.preprocess, ready.recipe, paced, checkpoints,
            owner=owner, device=ready.device, threads=_threads(ready, paced), stopped=stopped, log=log,
        )  # fmt: skip
    return net, state


@clock.watched()
def resume(folder: str | Path, *, started: float | None = None, listen: Listen = _silent) -> Result:
    """Go on with a run after any stop; a finished run is only read."""
    started = clock.now() if started is None else started
    run = Run.open(folder)
    state, recipe = run.read_state(), Recipe.read(run.recipe)
    before, now = state.get("versions", {}), versions()
    matters = [name for name in before if name != "timm" or (recipe.model or "").startswith("timm/")]
    changed = [f"{name} {before[name]} → {now.get(name)}" for name in matters if before[name] != now.get(name)]
    if changed and state["stage"] != "done":
        listen(
            {"kind": "warning", "text": f"other versions than at the start, so not the same bits: {', '.join(changed)}"}
        )
    if state["stage"] != "done":
        plugins.require_same(state)
    with _resumable(run), run.alone(), threads.restored():
        if run.read_state()["stage"] == "done":  # its photos may be gone by now
            return _read(run, recipe, listen)
        listen({"kind": "run", "folder": str(run.folder), "recipe": recipe})
        elapsed = _Elapsed(run, started)
        with elapsed.kept():
            return _go(run, _source_of(run, recipe), recipe, elapsed, listen)


def _source_of(run: Run, recipe: Recipe) -> Source:
    """The data of a run, with the decisions that it began with."""
    state = run.read_state()
    decided = run.decisions if run.decisions.exists() else None
    return _find(state["data"], recipe, Columns(**state["columns"]), decided)


def _find(data: str | Path, recipe: Recipe, columns: Columns, decided: Path | None = None) -> Source:
    if recipe.group_by is not None:
        columns = dataclasses.replace(columns, group=recipe.group_by)
    source = find_source(data, columns)
    if not source.items:
        raise PatiError(f"no photo found in {source.root}", "expected one folder a class with photos in it, or a CSV")
    if decided is not None:
        source = dataclasses.replace(source, decisions=decisions_in(decided, source.classes))
    return source


def _settled(source: Source, recipe: Recipe) -> tuple[Recipe, float, Outline | None]:
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
    return recipe, speed, plan.outline(
        recipe, photos=photos, minimum_size=minimum_size, speed=speed, reading=reading
    )  # fmt: skip


def _audited(source: Source, recipe: Recipe, listen: Listen, run: Run | None = None) -> tuple[Manifest, Pack]:
    """What was found and the decoded photos; `run` keeps the manifest, or makes sure that it is the one it kept."""
    assert recipe.size is not None
    listen({"kind": "stage", "name": "audit", "photos": len(source.items)})
    at = clock.now()
    preprocess = Preprocess(size=recipe.size, resize=recipe.resize)
    findings, packed, reused = pack.open_or_build(source, preprocess, _audit_progress(listen))
    found = manifest(source, findings, recipe)
    seconds = clock.now() - at
    if run is not None:
        _keep_manifest(run, found)
        run.append({"kind": "read", "files": len(found.entries), "reused": reused, "seconds": round(seconds, 2)})
    listen({"kind": "manifest", "manifest": found, "reused": reused, "seconds": seconds})
    require_trainable(found)
    return found, packed


def _prepared(found: Manifest, packed: Pack, recipe: Recipe, speed: float) -> Prepared:
    assert recipe.size is not None
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


def _audit_progress(listen: Listen) -> Progress:
    return lambda done, total: listen({"kind": "audit", "done": done, "total": total})


class _Elapsed:
    """Active seconds of a run's command, over all its sittings."""

    def __init__(self, run: Run, started: float) -> None:
        self._run, self._started = run, started
        self._before = run.read_elapsed()

    def seconds(self) -> float:
        return self._before + clock.now() - self._started

    def at(self, seconds: float) -> float:
        """When so many seconds will have passed, by `clock.now`."""
        return self._started - self._before + seconds

    def raise_to(self, seconds: float) -> None:
        """It has been so long at least, by a checkpoint: the folder may have lost it, or be of an older pati."""
        self._before += max(0.0, seconds - self.seconds())

    def begin_anew(self) -> bool:
        """Count this sitting alone; whether earlier ones are left out by that."""
        before, self._before = self._before, 0.0
        return before > 0

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Inside, the run's folder is told every second: a process that is killed can't."""

        def keep() -> None:
            self._run.keep_elapsed(self.seconds())

        try:
            with clock.repeated(1.0, keep, name="elapsed"):
                yield
        finally:
            keep()


def _go(run: Run, source: Source, recipe: Recipe, elapsed: _Elapsed, listen: Listen) -> Result:
    """Every step of a run; each one that a killed run has finished already is found done."""
    machine.keep_blocks()
    suspended = clock.suspended()
    ready = _prepared(*_audited(source, recipe, listen, run), recipe, run.read_state()["speed"])
    if ready.recipe != recipe:
        recipe = ready.recipe
        files.write_json(run.recipe, recipe.to_json())
    counts = balance.counted(ready.training.targets)
    evened = balance.document(recipe.balance, counts)
    run.append({"kind": "balance", **evened})
    listen({"kind": "balance", "advised": balance.advised(counts), **evened})
    found, preprocess, training, validation = ready.found, ready.preprocess, ready.training, ready.validation
    testing = loader.samples(ready.packed, found, found.of_split("test"))
    net = ready.net()
    labels = validation.targets.argmax(1)
    chance = torch.randn(validation.targets.shape, generator=torch.Generator().manual_seed(0))
    metrics.summary(chance, labels, found.classes)  # a metric of a plugin that fails must do so before training
    paced = _plan(run, ready, ready.classifier(net), len(testing), elapsed)
    listen({"kind": "plan", "plan": paced, "train": len(training), "validation": len(validation), "test": len(testing)})

    begun_at = 0

    def log(row: dict[str, Any]) -> None:
        nonlocal begun_at
        if row["kind"] == "begun":
            begun_at = row["step"]
            run.rewind(row["epoch"])
        if row["kind"] != "step":
            run.append(row)
        listen(row)

    def note(text: str) -> None:
        run.append({"kind": "note", "text": text})
        listen({"kind": "note", "text": text})

    following = _threads(ready, paced)
    with stoppable() as stopped, machine.enough_memory(paced.batch):
        state = train_net(
            net, training, validation, preprocess, recipe, paced, run.checkpoints, owner=_identity(recipe, found),
            device=ready.device, threads=following, spent=elapsed.seconds(), stopped=stopped, log=log,
        )  # fmt: skip
    if state.progress < 1:
        assert state.least is not None
        lower_loss = recipe.balance == "none"
        what, least = ("lower validation loss", state.least) if lower_loss else ("higher macro F1", 1 - state.least)
        note(
            f"ended early: no {what} in the last {state.no_better} epochs than "
            f"{least:.3f} after epoch {state.epoch - state.no_better}"
        )
    listen({"kind": "stage", "name": "score"})
    elapsed.raise_to(state.pace.spent)
    made = ready.classifier(net)
    limits = paced.budget
    scoring = _Scoring(
        made, following, 0.0 if limits is None else limits.answer_cost * budgets.forward(limits, state.pace)
    )
    # A run that was stopped after its training has had its time: what it lost is done again, all of it.
    again = state.step == begun_at
    until, probing = math.inf, 0.0
    if limits is not None:
        one = budgets.answer_seconds(limits, state.pace)
        probing = measure.probing_seconds(len(validation), one, min(limits.spare, measure.SHARE * limits.seconds))
        after = one * (len(testing) + measure.EXPLAINING) + budgets.report_seconds(limits, state.pace) + probing
        until = math.inf if again else elapsed.at(limits.seconds - after)
    answers = _score(run, scoring, found, training, validation, testing, until)
    scored = len(answers.validation.labels)
    if scored < len(validation):
        note(
            f"scored on {scored} of {len(validation)} validation photos, as there was no time for more; the test "
            "photos were all scored"
        )
    document = _measure(answers, found, recipe, state.seconds, state.epoch) | {"balance": evened}
    made.facts = classifier.facts(
        recipe=recipe,
        metrics={name: document["test"][name] for name in (*metrics.metrics, "accuracy_interval", "photos")},
        manifest_hash=found.hash(),
        versions=versions(),
    )
    made.save(run.model)
    listen({"kind": "stage", "name": "report"})
    document["analysis"] = measure.analysed(made, found, ready.packed, answers)
    drawing = measure.drawn(run, made, found, ready.packed, document, answers)
    # The probes come last, as they can fill whatever time is left, and need none.
    left = None
    if limits is not None:
        writing = report.WRITING * budgets.report_seconds(limits, state.pace)
        left = probing if again else max(0.0, limits.seconds - elapsed.seconds() - writing)
    document["analysis"] |= measure.probed(
        made, found, ready.packed, seconds=left, trained=state.epoch * len(training) if limits is None else None
    )  # fmt: skip
    suspended = clock.suspended() - suspended
    if suspended >= 1:
        note(f"the machine or this process was suspended for {suspended:.0f} s; that time does not count")
    document["seconds"]["command"] = round(elapsed.seconds(), 1)
    files.write_json(run.metrics, document)
    measure.write(run, found, ready.packed, recipe, document, drawing)
    run.update(stage="done", versions=versions())
    return Result(run, made, document)


def _bytes(data: Samples) -> int:
    return len(data) * data.pixels[0].numel()


def _identity(recipe: Recipe, found: Manifest) -> str:
    """What a checkpoint must have in common with the run that goes on from it."""
    return hashlib.sha256(json.dumps([recipe.to_json(), found.hash()]).encode()).hexdigest()


def _keep_manifest(run: Run, found: Manifest) -> None:
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


def _plan(run: Run, ready: Prepared, untrained: Classifier, testing: int, elapsed: _Elapsed) -> Plan:
    """The run's plan: made once, then read back, so that a resumed run keeps its pace."""
    kept = run.read_state().get("plan")
    if kept is not None:
        with contextlib.suppress(KeyError, TypeError):  # of an older pati: made anew
            return Plan.from_json(kept)
    recipe, budget = ready.recipe, None
    if recipe.budget is not None:
        assert recipe.size is not None
        assert recipe.width is not None
        one, ratio = time_answers(untrained, ready)
        answers, more = answers_needed(recipe, len(ready.training), len(ready.validation), testing)
        probing = measure.probing_seconds(len(ready.validation), one, measure.SHARE * recipe.budget)
        spare = probing + min(more * one, SCORING_SHARE * recipe.budget)
        # Reading and scoring may leave too little; the report never does, though in a very short budget it ends late.
        most, needed = (1 - LEAST_TRAINING) * recipe.budget, elapsed.seconds() + answers * one
        if needed > most and elapsed.begin_anew():  # a sitting that was killed must not make the run impossible
            needed = elapsed.seconds() + answers * one
        if needed > most:
            raise PatiError(
                f"a budget of {recipe.budget:.0f} s leaves {max(0, recipe.budget - needed):.0f} s for training: "
                f"reading and scoring take the rest",
                f"give it --budget {needed / (1 - LEAST_TRAINING) / 60:.1f}m or more; the photos are decoded now, so "
                "try again at once",
            )
        drawing = min(report.seconds_to_draw(len(ready.found.classes)), most - needed)
        budget = Budget(
            recipe.budget,
            answers=answers,
            answer_seconds=one,
            answer_cost=ratio * plan.cost(recipe.size, recipe.width, recipe.model),
            report=drawing,
            python=statistics.median(of_python() for _ in range(budgets.LOOKS)),
            spare=min(spare, most - needed - drawing),
        )
    made = plan.make(
        recipe, photos=len(ready.training), validation=len(ready.validation), minimum_size=untrained.net.minimum_size,
        speed=ready.speed, budget=budget, spent=elapsed.seconds(),
    )  # fmt: skip
    run.append({"kind": "plan", **asdict(made)})
    run.update(plan=asdict(made), stage="training")
    return made


def answers_needed(recipe: Recipe, training: int, validation: int, testing: int) -> tuple[int, int]:
    """How many answers take as long as scoring does with so many photos: at least, and those for which time may be
    short."""
    scoped = MOMENTS / (2 if recipe.mirror else 1)
    least = min(validation, FEWEST_SCORED) + scoped * min(training, out_of_distribution.FEWEST_PHOTOS)
    most = validation + scoped * min(training, out_of_distribution.PHOTOS)
    return round(least) + testing + measure.EXPLAINING, round(most - least)


def time_answers(made: Classifier, ready: Prepared) -> tuple[float, float]:
    """What scoring takes for a photo on this machine, and how many times what a validation pass takes for one of that
    size; timed in turns, so that both meet the same machine."""
    some = ready.training.some(TIMED)
    pixels, _ = some.at(torch.arange(len(some)))

    def validate(pixels: torch.Tensor) -> None:  # of the same photos
        precision = ready.recipe.precision or "float32"
        forward.logits_of(made.net, some, ready.preprocess, device=ready.device, precision=precision)

    photos = pixels.cpu().numpy()
    taken = [[measure.seconds_to_answer(ask, photos) for ask in (made.answers, validate)] for _ in range(TIMES)]
    answer, validation = (max(min(seconds), budgets.LEAST) for seconds in zip(*taken, strict=True))
    return answer / len(some), answer / validation


class _Scoring:
    """Answers of whole splits; on a budget, torch's threads follow the machine here as they do in training.

    `cost`: of one answer, in steps' costs.
    """

    def __init__(self, made: Classifier, following: Threads | None, cost: float) -> None:
        self.made, self._following, self._cost = made, following, cost

    def answers(self, data: Samples, *, until: float = math.inf) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Numbers, logits and moments of the samples: of all, or, where that would take longer than until then, of
        some from everywhere, `FEWEST_SCORED` at least."""
        order = torch.arange(len(data)) if until == math.inf else loader.order(0, 0, len(data))
        parts: list[tuple[torch.Tensor, torch.Tensor]] = []
        for start in range(0, len(order), forward.BATCH):
            at = clock.now()
            if at > until and start >= FEWEST_SCORED:
                break
            pixels, _ = data.at(order[start : start + forward.BATCH])
            parts.append(self.made.answers(pixels))
            if self._following is not None:
                taken = clock.now() - at
                self._following.follow(taken / (len(pixels) * self._cost), taken)
        logits, moments = (torch.cat(side) for side in zip(*parts, strict=True))
        numbers, places = order[: len(logits)].sort()
        return numbers, logits[places], moments[places]

    def some(self, training: Samples) -> Samples:
        """The training photos that the scope is learnt from, in random order."""
        return training.take(loader.order(0, 0, len(training))[: out_of_distribution.PHOTOS])

    def moments(self, data: Samples, *, until: float = math.inf) -> torch.Tensor:
        """Moments of the samples: of all, or of as many as there is time for until then, `scope.FEWEST_PHOTOS` at
        least."""
        parts: list[torch.Tensor] = []
        for pixels, _ in data.in_order(forward.BATCH):
            if clock.now() > until and sum(map(len, parts)) >= out_of_distribution.FEWEST_PHOTOS:
                break
            parts.append(self.made.moments(pixels))
        return torch.cat(parts)


def _threads(ready: Prepared, paced: Plan) -> Threads | None:
    """What follows the machine in a run by budget; by epochs, its bits must not depend on what else it does."""
    return Threads() if paced.budget is not None and ready.device.type == "cpu" else None


def _score(
    run: Run,
    scoring: _Scoring,
    found: Manifest,
    training: Samples,
    validation: Samples,
    testing: Samples,
    until: float,
) -> Predictions:
    """The answers of the final weights for validation and test: the one scoring of the test split. What the classifier
    knows of its own confidence and scope is learnt from the other photos, as many as there is time for `until` then.
    """
    made = scoring.made
    digests = {name: [entry.sha256 for entry in found.of_split(name)] for name in ("validation", "test")}
    numbers, logits, moments = scoring.answers(validation, until=until)
    labels = validation.targets.argmax(1)[numbers]
    watched = Split(logits, labels, [digests["validation"][number] for number in numbers.tolist()])
    made.calibration = Calibration.of(watched.logits, watched.labels)
    usual = scoring.moments(scoring.some(training), until=until)
    made.scope = Scope.of(usual, moments, made.calibrated(logits).max(1).values)
    before = run.predictions.exists()
    if before:  # scored before the run was stopped: not a second time
        split = Predictions.read(run).test
        logits, moments = split.logits, scoring.moments(testing)
    else:
        _, logits, moments = scoring.answers(testing)
        split = Split(logits, testing.targets.argmax(1), digests["test"])
    answers = Predictions(watched, split, made.familiarity(logits, moments))
    answers.write(run)
    if not before or not run.read_state()["test_scored"]:
        run.count_scoring("test", len(testing))
    run.update(stage="scored")
    return answers


def logits(made: Classifier, data: Samples) -> torch.Tensor:
    """A classifier's logits `float32 (N, K)` of all samples, on the CPU."""
    return torch.cat([made.logits(pixels) for pixels, _ in data.in_order(forward.BATCH)])


def _measure(
    answers: Predictions, found: Manifest, recipe: Recipe, training_seconds: float, epochs: int
) -> dict[str, Any]:
    return {
        "classes": list(found.classes),
        **{name: metrics.summary(part.logits, part.labels, found.classes) for name, part in answers.splits.items()},
        "epochs": epochs,
        "seconds": {"training": round(training_seconds, 1)},
        "seed": recipe.seed,
        "split_seed": recipe.split_seed,
        "manifest": found.hash(),
        "shares": found.shares(),
        "versions": versions(),
    }


def _read(run: Run, recipe: Recipe, listen: Listen) -> Result:
    listen({"kind": "run", "folder": str(run.folder), "recipe": recipe})
    listen({"kind": "finished"})
    return Result(run, Classifier.load(run.model), run.read_metrics())


def score(
    folder: str | Path,
    *,
    split: str = "test",
    data: str | Path | None = None,
    columns: Columns = Columns(),
    listen: Listen = _silent,
) -> dict[str, Any]:
    """Score a run's model on one of its splits, or on another labelled set, and write a page about it.

    A further scoring of the test split, or of some of its photos in another set, is counted in the run, and said in its
    report.
    """
    run = Run.open(folder)
    made, found = Classifier.load(run.folder), Manifest.read(run.manifest)
    if data is not None:
        source = _find(data, Recipe(), columns)
        unknown = sorted(set(source.classes) - set(made.classes))
        if unknown:
            raise PatiError(
                f"{data} has classes that the model does not know: {', '.join(unknown[:5])}",
                f"the model's classes: {', '.join(made.classes)}",
            )
        name, place, rows = source.name, storage.at(source.root), [(item.path, item.label, "") for item in source.items]
        counts = Counter(item.label for item in source.items)
    else:
        if split not in ("train", "validation", "test"):
            raise PatiError(f"there is no split {split!r}", "expected train, validation or test")
        name, place = split, storage.at(Path(found.root))
        rows = [(entry.path, entry.label, entry.sha256) for entry in found.of_split(split)]
        counts = Counter(entry.label for entry in found.of_split("train"))
    listen({"kind": "stage", "name": "score", "photos": len(rows)})
    changed = [str(place.root / path) for path, _, digest in rows if digest and pack.hash_now(place, path) != digest]
    if changed:
        raise PatiError(
            f"{len(changed)} photos changed or are gone since the run, for example {changed[0]}",
            "put them back as they were, or score another set with --data",
        )
    known = {part: {entry.sha256 for entry in found.of_split(part)} for part in ("train", "test")}
    seen: Counter[str] = Counter()  # photos here that are the run's own, by split

    def looked_up() -> Iterator[bytes | Refused]:
        for photo in _photos(place, rows):
            if isinstance(photo, bytes):
                digest = hashlib.sha256(photo).hexdigest()
                seen.update(part for part, digests in known.items() if digest in digests)
            yield photo

    answers, labels, paths = [], [], []
    for done, ((path, label, _), answer) in enumerate(
        zip(rows, made.predict_stream(looked_up()), strict=True), start=1
    ):
        listen({"kind": "audit", "done": done, "total": len(rows)})
        if not answer.error:
            answers.append(answer)
            labels.append(made.classes.index(label))
            paths.append(path)
    if not labels:
        raise PatiError(f"none of the {len(rows)} photos could be read")
    document: dict[str, Any] = {"unreadable": len(rows) - len(labels), "trained_on": seen["train"]}
    document["test_photos"] = seen["test"]
    document["dependent"] = found.dependent(split) if data is None else {}
    if seen["test"]:
        with run.alone():
            document["test_scored"] = run.count_scoring(name, seen["test"])
    document["balance"] = balance.document(Recipe.read(run.recipe).balance, list(counts.values()))
    listen({"kind": "stage", "name": "report"})
    # Two sets may have folders of one name: neither page takes the other's place.
    mark = hashlib.sha256(os.fsencode(place.root.resolve())).hexdigest()[:6]
    page = run.folder / "eval" / (f"{name}.html" if data is None else f"data-{name}-{mark}.html")
    about = {"data": name, "kind": "data" if data is not None else split, "model": str(run.model)}
    document = measure.scored(
        made, page, answers, torch.tensor(labels), paths, lambda number: place.read(paths[number]),
        document | about | {"manifest": found.hash()},
    )  # fmt: skip
    if "test_scored" in document:
        _tell(run, listen)
    return document


def _tell(run: Run, listen: Listen) -> None:
    """What was just measured is told in the report, where that can be written."""
    try:
        report_again(run.folder, thorough=False)
    except PatiError as error:
        listen({"kind": "warning", "text": f"{run.report} does not tell of this: {error.message}"})


def report_again(
    folder: str | Path, *, language: str | None = None, thorough: bool = True, listen: Listen = _silent
) -> tuple[Run, dict[str, Any]]:
    """Write a finished run's report anew from what it keeps and its photos; `thorough`: measured on more of them than
    in training. `language`: the one shown first; that of before if left out.

    No test photo is scored: the answers are those that were given. Returns the run and the document of metrics.json.
    """
    run = Run.open(folder)
    recipe, state = Recipe.read(run.recipe), run.read_state()
    made = Classifier.load(run.folder)
    if state["stage"] != "done":
        again = plugins.command("train", "--resume", str(run.folder))
        raise PatiError(f"the run {run.folder} is not finished", f"go on with it: {again}")
    if made.calibration is None or made.scope is None:
        raise PatiError("this run is of an older pati, which kept less", "train it again with this version")
    language = language or state.get("language", "en")
    with run.alone():
        run.update(language=language)
        found, packed = _audited(_source_of(run, recipe), recipe, listen, run)
        answers, document = Predictions.read(run), run.read_metrics()
        listen({"kind": "stage", "name": "report"})
        probes = {name: part for name, part in document["analysis"].items() if name in measure.PROBES}
        if thorough:
            probes = measure.probed(
                made, found, packed, progress=lambda what, done, total: listen(
                    {"kind": "audit", "what": what, "done": done, "total": total}
                ),
            )  # fmt: skip
        document["analysis"] = measure.analysed(made, found, packed, answers) | probes
        for name, part in answers.splits.items():  # an older pati may have kept less of them
            document[name] |= metrics.summary(part.logits, part.labels, found.classes)
        if thorough:
            files.write_json(run.metrics, document)
        drawing = measure.drawn(run, made, found, packed, document, answers)
        measure.write(run, found, packed, recipe, document, drawing, language=language)
    return run, document


def outside(folder: str | Path, data: str | Path, *, listen: Listen = _silent) -> dict[str, Any]:
    """Show a run's model photos of something else: how well does it tell them from its test photos?

    `data`: as for training; its classes don't matter. The result is kept in the run, and told in its report.
    """
    run = Run.open(folder)
    made = Classifier.load(run.folder)
    if made.scope is None:
        raise PatiError("this model knows nothing of its scope", "train it again with this version of pati")
    familiarity = Predictions.read(run).familiarity
    source = _find(data, Recipe(), Columns())
    place, rows = storage.at(source.root), [(item.path, item.label, "") for item in source.items]
    listen({"kind": "stage", "name": "score", "photos": len(rows)})
    answers = []
    for done, answer in enumerate(made.predict_stream(_photos(place, rows)), start=1):
        listen({"kind": "audit", "done": done, "total": len(rows)})
        if not answer.error:
            answers.append(answer)
    if not answers:
        raise PatiError(f"none of the {len(rows)} photos could be read")
    strange = torch.tensor([answer.familiarity for answer in answers], dtype=torch.float64)
    document = analysis.outside(familiarity, strange, [answer.unsure for answer in answers])
    with run.alone():
        kept = run.read_metrics()
        kept.setdefault("outside", {})[source.name] = document
        files.write_json(run.metrics, kept)
    listen({"kind": "stage", "name": "report"})
    _tell(run, listen)
    return {"data": source.name, **document}


def _photos(place: Place, rows: list[tuple[str, str, str]]) -> Iterator[bytes | Refused]:
    for path, _, _ in rows:
        try:
            yield place.read(path)
        except decode.Unreadable as error:
            yield Refused(str(place.root / path), str(error))


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the loop to stop after its step; a second one stops at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {}
    if threading.current_thread() is threading.main_thread():  # Python sets handlers nowhere else
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _resumable(run: Run) -> Iterator[None]:
    """A stop anywhere inside says how to go on."""
    hint = f"go on with: {plugins.command('train', '--resume', str(run.folder))}"
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("what is done so far is kept", hint) from None
    except Interrupted as stop:
        raise Interrupted(stop.message, hint) from None
    except OSError as error:
        where = error.filename or run.folder
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        told = f"no room left on the disk: {where}" if full else f"{error.strerror or error}: {where}"
        raise PatiError(told, f"mend that; what is done so far is kept. Then {hint}") from error
