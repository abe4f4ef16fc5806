"""Train from scratch: audit, split, pack, plan, train, score, report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pati import plugins
from pati.data import loader
from pati.data.loader import Samples
from pati.data.sources.archives import stem
from pati.data.sources.source import Columns, Source
from pati.evaluation import metrics
from pati.evaluation.calibration import Calibration
from pati.evaluation.documents import Analysis, RunDocument
from pati.evaluation.out_of_distribution import Scope
from pati.events import (
    AlreadyFinished,
    ClassesCounted,
    EpochDone,
    Event,
    Listen,
    Noted,
    Planned,
    RunOpened,
    Stage,
    StageBegan,
    Warned,
    silent,
)
from pati.inference import classifier as classifiers
from pati.inference.classifier import Classifier
from pati.inference.splits import SplitAnswers
from pati.models import Net
from pati.recipe import Recipe, SettledRecipe
from pati.report import pages
from pati.runs import checkpoint
from pati.runs.elapsed import Elapsed
from pati.runs.history import Evenness
from pati.runs.predictions import Predictions, Split
from pati.runs.run import Run, RunStage, versions
from pati.system import clock, files, machine, threads
from pati.system.threads import Threads
from pati.training import balance, plan
from pati.training import budget as budgets
from pati.training.loop import State
from pati.training.loop import train as train_net
from pati.training.plan import Plan
from pati.workflows import measure
from pati.workflows.fit import following_threads
from pati.workflows.prepare import Prepared, audited, open_data, prepared, settled, source_of
from pati.workflows.reserve import reserve
from pati.workflows.stopping import resumable, stoppable


@dataclass(frozen=True)
class Result:
    """What a training left: the run's folder, the classifier, and the document of metrics.json."""

    run: Run
    classifier: Classifier
    metrics: RunDocument


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
    chosen, speed, outline = settled(source, recipe)
    where = str(Path(data).resolve()) if Path(data).exists() else str(data)
    run = Run.claim(out, stem(source.name))
    with resumable(run), run.alone(), threads.restored():
        run.begin(chosen, data=where, columns=asdict(columns), speed=round(speed, 1), plugins=plugins.state())
        if decisions is not None:
            files.write_bytes(run.decisions, decisions.read_bytes())
        listen(RunOpened(run.folder, chosen, len(source.items), outline, chosen=recipe.budget is None))
        return _go(run, source, chosen, started, listen)


@clock.watched()
def resume(folder: str | Path, *, started: float | None = None, listen: Listen = silent) -> Result:
    """Go on with a run after any stop; a finished run is only read."""
    started = clock.now() if started is None else started
    run = Run.open(folder)
    with resumable(run), run.alone(), threads.restored():
        if run.stage is RunStage.DONE:  # its photos may be gone by now, and its pati be an old one
            listen(RunOpened(run.folder, Recipe.read(run.recipe)))
            listen(AlreadyFinished())
            return Result(run, Classifier.load(run.model), run.read_metrics())
        recipe = SettledRecipe.read(run.recipe)
        _warn_of_versions(run, recipe, listen)
        plugins.require_same(run.read_state().get("plugins", {}))
        listen(RunOpened(run.folder, recipe))
        return _go(run, source_of(run, recipe), recipe, started, listen)


def _warn_of_versions(run: Run, recipe: SettledRecipe, listen: Listen) -> None:
    before, now = run.read_state().get("versions", {}), versions()
    matters = [name for name in before if name != "timm" or recipe.model.startswith("timm/")]
    changed = [f"{name} {before[name]} → {now.get(name)}" for name in matters if before[name] != now.get(name)]
    if changed:
        listen(Warned(f"other versions than at the start, so not the same bits: {', '.join(changed)}"))


def _go(run: Run, source: Source, recipe: SettledRecipe, started: float, listen: Listen) -> Result:
    """Every step of a run; each one that a killed run has finished already is found done."""
    elapsed = Elapsed(run, started)
    with elapsed.kept():
        going = TrainingRun(run, elapsed, listen)
        ready = going.audit(source, recipe)
        paced = going.plan(ready)
        fitted = going.fit(ready, paced)
        scored = going.score(ready, paced, fitted)
        measured = going.measure(ready, paced, fitted, scored)
        going.report(ready, measured)
        return Result(run, scored.classifier, measured.document)


@dataclass(frozen=True)
class Fitted:
    """A trained net, and where its training ended. `again`: nothing was left to train in this sitting."""

    net: Net
    state: State
    threads: Threads | None
    again: bool


@dataclass(frozen=True)
class Scored:
    """The classifier, which now knows its confidence and scope, and its answers."""

    classifier: Classifier
    answers: Predictions


@dataclass(frozen=True)
class Measured:
    """The document of metrics.json, and the pictures drawn for the report."""

    document: RunDocument
    drawing: pages.Drawing


class TrainingRun:
    """The steps of one run, in the order that they are called in."""

    def __init__(self, run: Run, elapsed: Elapsed, listen: Listen) -> None:
        self._run, self._elapsed, self._listen = run, elapsed, listen
        self._suspended = clock.suspended()
        machine.keep_blocks()

    def audit(self, source: Source, recipe: SettledRecipe) -> Prepared:
        """Read every file once, split, and settle what depends on the training photos."""
        run = self._run
        ready = prepared(*audited(source, recipe, self._listen, run), recipe, run.read_state()["speed"])
        if ready.recipe != recipe:
            files.write_json(run.recipe, ready.recipe.to_json())
        metrics.require_sound(len(ready.found.classes))  # one of a plugin that fails must do so before training
        evenness = _evenness(ready)
        evenness.keep(run)
        self._listen(ClassesCounted(evenness, balance.advised(balance.counted(ready.training.targets))))
        return ready

    def plan(self, ready: Prepared) -> Plan:
        """How training is paced: made once, then read back, so that a resumed run keeps its pace."""
        testing = len(ready.found.of_split("test"))
        paced = _kept_plan(self._run)
        if paced is None:
            untrained = ready.classifier(ready.net())
            paced = plan.make(
                ready.recipe, photos=len(ready.training), validation=len(ready.validation),
                minimum_size=untrained.net.minimum_size, speed=ready.speed,
                budget=reserve(ready, untrained, testing, self._elapsed), spent=self._elapsed.seconds(),
            )  # fmt: skip
            self._run.append("plan", paced)
            self._run.enter(RunStage.TRAINING, plan=paced.document())
        self._listen(Planned(paced, len(ready.training), len(ready.validation), testing))
        return paced

    def fit(self, ready: Prepared, paced: Plan) -> Fitted:
        """Train to the end of the plan, going on from the newest checkpoint. Raises `Interrupted`, `Diverged`."""
        run, recipe, net, following = self._run, ready.recipe, ready.net(), following_threads(ready, paced)
        owner = _identity(ready)
        kept = checkpoint.newest(run.checkpoints, owner=owner)
        begun = State.of(kept)
        run.rewind(begun.epoch)
        with stoppable() as stopped, machine.enough_memory(paced.batch):
            state = train_net(
                net, ready.training, ready.validation, ready.preprocess, recipe, paced, run.checkpoints, owner=owner,
                device=ready.device, threads=following, spent=self._elapsed.seconds(), stopped=stopped, log=self._log,
                kept=kept,
            )  # fmt: skip
        if state.progress < 1 and state.least is not None:
            by_loss = recipe.balance == "none"
            what, least = ("lower validation loss", state.least) if by_loss else ("higher macro F1", 1 - state.least)
            self._note(
                f"ended early: no {what} in the last {state.no_better} epochs than "
                f"{least:.3f} after epoch {state.epoch - state.no_better}"
            )
        self._elapsed.raise_to(state.pace.spent)
        return Fitted(net, state, following, again=state.step == begun.step)

    def score(self, ready: Prepared, paced: Plan, fitted: Fitted) -> Scored:
        """The answers of the final weights for validation and test: the one scoring of the test split.

        What the classifier knows of its own confidence and scope is learnt from the other photos, as many as there is
        time for.
        """
        self._listen(StageBegan(Stage.SCORE))
        run, found, pace, limits = self._run, ready.found, fitted.state.pace, paced.budget
        cost = 0.0 if limits is None else limits.answer_cost * budgets.forward(limits, pace)
        answering = SplitAnswers(ready.classifier(fitted.net), fitted.threads, cost)
        testing = loader.samples(ready.packed, found, found.of_split("test"))
        until = math.inf
        # A run that was stopped after its training has had its time: what it lost is done again, all of it.
        if limits is not None and not fitted.again:
            one = budgets.answer_seconds(limits, pace)
            after = one * (len(testing) + measure.EXPLAINING) + budgets.report_seconds(limits, pace)
            until = self._elapsed.at(limits.seconds - after - self._probing(ready, paced, fitted))

        numbers, logits, moments = answering.answers(ready.validation, until=until)
        digests = [entry.sha256 for entry in found.of_split("validation")]
        watched = Split(logits, _labels(ready.validation)[numbers], [digests[number] for number in numbers.tolist()])
        if len(numbers) < len(ready.validation):
            self._note(
                f"scored on {len(numbers)} of {len(ready.validation)} validation photos, as there was no time for "
                "more; the test photos were all scored"
            )
        calibration = Calibration.of(watched.logits, watched.labels)
        usual = answering.moments(answering.some(ready.training), until=until)
        scope = Scope.of(usual, moments, calibration.probabilities(logits).max(1).values)
        made = ready.classifier(fitted.net, calibration=calibration, scope=scope)

        before = run.predictions.exists()
        if before:  # scored before the run was stopped: not a second time
            tested = Predictions.read(run).test
            moments = answering.moments(testing)
        else:
            _, logits, moments = answering.answers(testing)
            tested = Split(logits, _labels(testing), [entry.sha256 for entry in found.of_split("test")])
        answers = Predictions(watched, tested, made.familiarity(tested.logits, moments))
        answers.write(run)
        if not before or not run.read_state()["test_scored"]:
            run.count_scoring("test", len(testing))
        run.enter(RunStage.SCORED)
        return Scored(made, answers)

    def measure(self, ready: Prepared, paced: Plan, fitted: Fitted, scored: Scored) -> Measured:
        """What the answers are worth; the model file is written first."""
        run, made, found, state, limits = self._run, scored.classifier, ready.found, fitted.state, paced.budget
        document = _document(ready, scored.answers, state, measure.analysed(made, found, ready.packed, scored.answers))
        made.facts = classifiers.facts(
            recipe=ready.recipe,
            metrics=classifiers.told(document["test"]),
            manifest_hash=found.hash(),
            versions=versions(),
        )
        made.save(run.model)
        self._listen(StageBegan(Stage.REPORT))
        drawing = measure.drawn(run, made, found, ready.packed, document, scored.answers)
        # The probes come last, as they can fill whatever time is left, and need none.
        left = None
        if limits is not None:
            writing = pages.WRITING * budgets.report_seconds(limits, state.pace)
            rest = max(0.0, limits.seconds - self._elapsed.seconds() - writing)
            left = self._probing(ready, paced, fitted) if fitted.again else rest
        trained = state.epoch * len(ready.training) if limits is None else None
        probed = measure.probed(made, found, ready.packed, seconds=left, trained=trained)
        document["analysis"] = {**document["analysis"], **probed}
        return Measured(document, drawing)

    def report(self, ready: Prepared, measured: Measured) -> None:
        """Write metrics.json, report and card."""
        suspended = clock.suspended() - self._suspended
        if suspended >= 1:
            self._note(f"the machine or this process was suspended for {suspended:.0f} s; that time does not count")
        run, document = self._run, measured.document
        document["seconds"]["command"] = round(self._elapsed.seconds(), 1)
        files.write_json(run.metrics, document)
        measure.write(run, ready.found, ready.packed, ready.recipe, document, measured.drawing)
        run.enter(RunStage.DONE, versions=versions())

    def _probing(self, ready: Prepared, paced: Plan, fitted: Fitted) -> float:
        """Seconds to set aside for robustness and explanations."""
        limits = paced.budget
        if limits is None:
            return 0.0
        one = budgets.answer_seconds(limits, fitted.state.pace)
        most = min(limits.spare, measure.SHARE * limits.seconds)
        return measure.probing_seconds(len(ready.validation), one, most)

    def _log(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            event.epoch.keep(self._run)
        self._listen(event)

    def _note(self, text: str) -> None:
        self._run.note(text)
        self._listen(Noted(text))


def _identity(ready: Prepared) -> str:
    """What a checkpoint must have in common with the run that goes on from it."""
    return hashlib.sha256(json.dumps([ready.recipe.to_json(), ready.found.hash()]).encode()).hexdigest()


def _kept_plan(run: Run) -> Plan | None:
    kept = run.read_state().get("plan")
    if kept is not None:
        with contextlib.suppress(KeyError, TypeError):  # of an older pati: made anew
            return Plan.from_document(kept)
    return None


def _evenness(ready: Prepared) -> Evenness:
    return balance.evenness(ready.recipe.balance, balance.counted(ready.training.targets))


def _labels(data: Samples) -> torch.Tensor:
    return data.targets.argmax(1)


def _document(ready: Prepared, answers: Predictions, state: State, analysis: Analysis) -> RunDocument:
    found, recipe = ready.found, ready.recipe
    validation, test = (
        metrics.summary(part.logits, part.labels, found.classes) for part in (answers.validation, answers.test)
    )
    return {
        "classes": list(found.classes),
        "validation": validation,
        "test": test,
        "epochs": state.epoch,
        "seconds": {"training": round(state.seconds, 1)},
        "seed": recipe.seed,
        "split_seed": recipe.split_seed,
        "manifest": found.hash(),
        "shares": found.shares(),
        "versions": versions(),
        "balance": _evenness(ready).document(),
        "analysis": analysis,
    }
