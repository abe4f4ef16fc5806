"""Train from scratch: audit, split, pack, plan, train, score, report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pati import plugins
from pati.data import loader
from pati.data.loader import Samples
from pati.data.manifest import Manifest
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.evaluation import metrics, out_of_distribution
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import Scope
from pati.events import Listen, silent
from pati.inference import classifier, forward
from pati.inference.classifier import Classifier
from pati.inference.splits import FEWEST_SCORED, SplitAnswers
from pati.recipe import Recipe, SettledRecipe
from pati.report import pages
from pati.runs.elapsed import Elapsed
from pati.runs.predictions import Predictions, Split
from pati.runs.run import Run, versions
from pati.system import clock, files, machine, threads
from pati.training import balance, plan
from pati.training import budget as budgets
from pati.training.budget import Budget
from pati.training.loop import train as train_net
from pati.training.plan import Plan
from pati.training.speed import of_python
from pati.workflows import measure
from pati.workflows.fit import following_threads
from pati.workflows.prepare import Prepared, audited, open_data, prepared, settled, source_of
from pati.workflows.stopping import resumable, stoppable

SCORING_SHARE = 0.05  # of a budget, for scoring more validation photos, and more photos for the scope
LEAST_TRAINING = 0.2  # of a budget: with less a run is refused
TIMED, TIMES = 32, 2  # photos answered, and how often, to know what scoring takes
MOMENTS = 0.9  # of an answer's time, without its mirror image: the last stage is not needed for them


@dataclass(frozen=True)
class Result:
    """What a training left: the run's folder, the classifier, and the document of metrics.json."""

    run: Run
    classifier: Classifier
    metrics: dict[str, Any]


@clock.watched()
def train(
    data: str | Path,
    recipe: Recipe,
    *,
    out: Path | None = None,
    columns: Columns = Columns(),
    decisions: Path | None = None,
    started: float | None = None,
    listen: Listen = silent,
) -> Result:
    """Train from scratch and score the test split once. `started` (`clock.now`) begins the budget; `decisions`: a CSV
    of what a person decided of single photos (see `pati.data.decisions`)."""
    started = clock.now() if started is None else started
    source = open_data(data, recipe, columns, decisions)
    given = recipe.budget
    recipe, speed, outline = settled(source, recipe)
    where = str(Path(data).resolve()) if Path(data).exists() else str(data)
    run = Run.claim(out, source.name.split(".")[0])
    with resumable(run), run.alone(), threads.restored():
        run.begin(recipe, {"data": where, "columns": asdict(columns), "speed": round(speed, 1)} | plugins.state())
        if decisions is not None:
            files.write_bytes(run.decisions, decisions.read_bytes())
        event = {"kind": "run", "folder": str(run.folder), "recipe": recipe}
        listen(event | {"outline": outline, "photos": len(source.items), "own_budget": given is None})
        elapsed = Elapsed(run, started)
        with elapsed.kept():
            return _go(run, source, recipe, elapsed, listen)


@clock.watched()
def resume(folder: str | Path, *, started: float | None = None, listen: Listen = silent) -> Result:
    """Go on with a run after any stop; a finished run is only read."""
    started = clock.now() if started is None else started
    run = Run.open(folder)
    state, recipe = run.read_state(), SettledRecipe.read(run.recipe)
    before, now = state.get("versions", {}), versions()
    matters = [name for name in before if name != "timm" or (recipe.model or "").startswith("timm/")]
    changed = [f"{name} {before[name]} → {now.get(name)}" for name in matters if before[name] != now.get(name)]
    if changed and state["stage"] != "done":
        listen(
            {"kind": "warning", "text": f"other versions than at the start, so not the same bits: {', '.join(changed)}"}
        )
    if state["stage"] != "done":
        plugins.require_same(state)
    with resumable(run), run.alone(), threads.restored():
        if run.read_state()["stage"] == "done":  # its photos may be gone by now
            return _read(run, recipe, listen)
        listen({"kind": "run", "folder": str(run.folder), "recipe": recipe})
        elapsed = Elapsed(run, started)
        with elapsed.kept():
            return _go(run, source_of(run, recipe), recipe, elapsed, listen)


def _go(run: Run, source: Source, recipe: SettledRecipe, elapsed: Elapsed, listen: Listen) -> Result:
    """Every step of a run; each one that a killed run has finished already is found done."""
    machine.keep_blocks()
    suspended = clock.suspended()
    ready = prepared(*audited(source, recipe, listen, run), recipe, run.read_state()["speed"])
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

    following = following_threads(ready, paced)
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
    scoring = SplitAnswers(
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
        writing = pages.WRITING * budgets.report_seconds(limits, state.pace)
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


def _identity(recipe: SettledRecipe, found: Manifest) -> str:
    """What a checkpoint must have in common with the run that goes on from it."""
    return hashlib.sha256(json.dumps([recipe.to_json(), found.hash()]).encode()).hexdigest()


def _plan(run: Run, ready: Prepared, untrained: Classifier, testing: int, elapsed: Elapsed) -> Plan:
    """The run's plan: made once, then read back, so that a resumed run keeps its pace."""
    kept = run.read_state().get("plan")
    if kept is not None:
        with contextlib.suppress(KeyError, TypeError):  # of an older pati: made anew
            return Plan.from_json(kept)
    recipe, budget = ready.recipe, None
    if recipe.budget is not None:
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
        drawing = min(pages.seconds_to_draw(len(ready.found.classes)), most - needed)
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


def answers_needed(recipe: SettledRecipe, training: int, validation: int, testing: int) -> tuple[int, int]:
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
        precision = ready.recipe.precision
        forward.logits_of(made.net, some, ready.preprocess, device=ready.device, precision=precision)

    photos = pixels.cpu().numpy()
    taken = [[measure.seconds_to_answer(ask, photos) for ask in (made.answers, validate)] for _ in range(TIMES)]
    answer, validation = (max(min(seconds), budgets.LEAST) for seconds in zip(*taken, strict=True))
    return answer / len(some), answer / validation


def _score(
    run: Run,
    scoring: SplitAnswers,
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


def _measure(
    answers: Predictions, found: Manifest, recipe: SettledRecipe, training_seconds: float, epochs: int
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


def _read(run: Run, recipe: SettledRecipe, listen: Listen) -> Result:
    listen({"kind": "run", "folder": str(run.folder), "recipe": recipe})
    listen({"kind": "finished"})
    return Result(run, Classifier.load(run.model), run.read_metrics())
