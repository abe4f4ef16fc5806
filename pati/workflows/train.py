"""Train a classifier: audit, split, pack, plan, train, score, report."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

from pati import plugins
from pati.data import loader
from pati.data.manifest import Manifest, folds_for
from pati.data.sources.archives import stem
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.evaluation import metrics
from pati.evaluation.calibration import Calibration
from pati.evaluation.documents import Analysis, Ancestor, FoldFacts, Measurements, RunDocument, Scores
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.events import (
    AlreadyFinished,
    ClassesCounted,
    EpochDone,
    Event,
    FoldDone,
    FoldsPlanned,
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
from pati.inference.splits import SplitPredictor, all_logits
from pati.locale import catalogues
from pati.locale.messages import N_, NP_, Message
from pati.models import Net
from pati.recipe import Recipe, SettledRecipe
from pati.report import pages
from pati.runs import checkpoint
from pati.runs.attempts import Attempts
from pati.runs.elapsed import Elapsed
from pati.runs.history import ClassBalance
from pati.runs.predictions import Predictions, Split
from pati.runs.run import Run, RunFacts, RunStage, versions
from pati.runs.start import Start
from pati.system import clock, files, machine, threads
from pati.system.ranks import ALONE, Ranks
from pati.system.threads import Threads
from pati.training import balance, plan
from pati.training import budget as budgets
from pati.training.budget import Pace
from pati.training.loop import State
from pati.training.loop import train as train_net
from pati.training.plan import Plan
from pati.workflows import measure, seen
from pati.workflows import start as starts
from pati.workflows.fit import following_threads
from pati.workflows.follow import Assignment
from pati.workflows.opening import open_data, source_of, where_is
from pati.workflows.out_of_fold import Answers, CrossFit, OutOfFold
from pati.workflows.prepare import Prepared, audited, prepared, settled
from pati.workflows.relocate import relocate
from pati.workflows.reserve import reserve
from pati.workflows.stopping import resumable, stoppable

LEAST_FOLD = 0.25  # of its planned time: a fold is trained at least as long, even if the others took too long


@dataclass(frozen=True)
class Result:
    """The result of a training run: the run folder, the classifier, and the contents of metrics.json."""

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
    start: str | Path | None = None,
    weights: str | Path | None = None,
    started: float | None = None,
    listen: Listen = silent,
    ranks: Ranks = ALONE,
) -> Result:
    """Train from scratch, or from an earlier model, and score the test split once.

    `started` (`clock.now`): start of the budget; `decisions`: a CSV with decisions about individual photos (see
    `pati.data.decisions`); `start`: a run, a model file or the included model's name; `weights`: a file of pretrained
    weights of a timm network, or "pretrained" for those that timm downloads; `ranks`: that train; this is the first of
    them, see `follow`. Raises `PatiError`, `Interrupted`.
    """
    started = clock.now() if started is None else started
    opened = starts.opened(start, weights, recipe)
    recipe = recipe if opened is None else opened.applied(recipe).changed({"folds": 0})
    source = open_data(data, recipe, columns, decisions)
    chosen = settled(source, recipe, opened, processes=ranks.size)
    if opened is not None:
        starts.require_fitting(opened, chosen.recipe)
    _require_shareable(chosen.recipe, ranks)
    run = Run.claim(out, stem(source.name))
    with resumable(run), run.alone(), threads.restored():
        given = {} if opened is None else opened.kept(run)
        if decisions is not None:
            given[run.decisions] = decisions.read_bytes()
        facts: RunFacts = {
            "data": where_is(data), "columns": columns.document(), "speed": round(chosen.speed, 1),
            "most_folds": chosen.most_folds, "threads": torch.get_num_threads(), "plugins": plugins.state(),
            "processes": ranks.size,
        }  # fmt: skip
        if opened is not None:
            facts["start"] = opened.start.parent["sha256"]
        run.begin(chosen.recipe, given, **facts)
        listen(
            RunOpened(
                run.folder, chosen.recipe, len(source.items), chosen.outline, chosen=recipe.budget is None,
                lineage=() if opened is None else opened.start.lineage,
            )
        )  # fmt: skip
        with run.discarded_if_refused() if out is None else contextlib.nullcontext():
            return _go(run, source, chosen.recipe, started, listen, ranks)


@clock.watched()
def resume(
    folder: str | Path,
    *,
    data: str | Path | None = None,
    started: float | None = None,
    listen: Listen = silent,
    ranks: Ranks = ALONE,
) -> Result:
    """Resume a run after any interruption; a finished run is only read. `data`: where its data is now, if it moved.

    `ranks`: see `train`.
    """
    started = clock.now() if started is None else started
    run = Run.open(folder)
    with resumable(run), run.alone(), threads.restored():
        if run.stage is RunStage.DONE:  # its photos may be gone by now, and it may come from an older version
            listen(RunOpened(run.folder, Recipe.read(run.recipe)))
            listen(AlreadyFinished())
            return Result(run, Classifier.load(run.model), run.read_metrics())
        if data is not None:
            relocate(run, data)
        recipe = SettledRecipe.read(run.recipe)
        _require_shareable(recipe, ranks)
        _warn_of_versions(run, recipe, listen)
        _warn_of_threads(run, recipe, listen, ranks)
        plugins.require_same(run.read_state().get("plugins", {}))
        start = Start.of(run)
        listen(RunOpened(run.folder, recipe, lineage=() if start is None else start.lineage))
        return _go(run, source_of(run, recipe), recipe, started, listen, ranks)


def _require_shareable(recipe: SettledRecipe, ranks: Ranks) -> None:
    """Raise `PatiError` if a batch has fewer photos than there are processes."""
    if recipe.batch < ranks.size:
        raise PatiError(
            N_("a batch of {batch} photos cannot be shared by {n} processes", batch=recipe.batch, n=ranks.size),
            N_("use fewer processes, or a larger batch: --set batch=N"),
        )


def _warn_of_versions(run: Run, recipe: SettledRecipe, listen: Listen) -> None:
    before, now = run.read_state().get("versions", {}), versions()
    matters = [name for name in before if name != "timm" or recipe.model.startswith("timm/")]
    changed = [f"{name} {before[name]} → {now.get(name)}" for name in matters if before[name] != now.get(name)]
    if changed:
        listen(
            Warned(
                N_(
                    "versions have changed since the start, so results may differ in the last bits: {changed}",
                    changed=changed,
                )
            )
        )


def _warn_of_threads(run: Run, recipe: SettledRecipe, listen: Listen, ranks: Ranks) -> None:
    processes = run.read_state().get("processes", 1)
    if processes != ranks.size:
        listen(
            Warned(
                N_(
                    "the run was started with {before} processes and is resumed with {now}, so results may differ in "
                    "the last bits",
                    before=processes,
                    now=ranks.size,
                )
            )
        )
        return
    before, now = run.read_state().get("threads"), torch.get_num_threads()
    if recipe.epochs is not None and before not in (None, now):
        listen(
            Warned(
                N_(
                    "the run was started with {before} threads and is resumed with {now}, so results may differ in "
                    "the last bits",
                    before=before,
                    now=now,
                )
            )
        )


def _go(run: Run, source: Source, recipe: SettledRecipe, started: float, listen: Listen, ranks: Ranks) -> Result:
    """All steps of a run; work that an earlier session finished is reused."""
    elapsed = Elapsed(run, started)
    with elapsed.kept():
        going = TrainingRun(run, elapsed, listen, ranks)
        ready = going.audit(source, recipe)
        held = going.cross_validate(ready)
        paced = going.plan(ready)
        fitted = going.fit(ready, paced)
        scored = going.score(ready, paced, fitted, held)
        measured = going.measure(ready, paced, fitted, scored)
        going.report(ready, measured)
        return Result(run, scored.classifier, measured.document)


@dataclass(frozen=True)
class Fitted:
    """A trained network and its final state. `again`: this session had nothing left to train."""

    net: Net
    state: State
    threads: Threads | None
    again: bool


@dataclass(frozen=True)
class Scored:
    """The classifier, with calibration and out-of-distribution detector, and its predictions.

    With cross-validation, the predictions are those of the folds' networks, and `folds` the facts about these.
    """

    classifier: Classifier
    answers: Predictions
    folds: list[FoldFacts]


@dataclass(frozen=True)
class Measured:
    """The contents of metrics.json, and the figures of the report."""

    document: RunDocument
    drawing: pages.Drawing


class TrainingRun:
    """The steps of a run, in the order in which they are called."""

    def __init__(self, run: Run, elapsed: Elapsed, listen: Listen, ranks: Ranks) -> None:
        self._run, self._elapsed, self._listen, self._ranks = run, elapsed, listen, ranks
        self._start = Start.of(run)
        self._suspended = clock.suspended()
        self._attempt = Attempts(run, listen)
        machine.keep_blocks()

    def audit(self, source: Source, recipe: SettledRecipe) -> Prepared:
        """Read every file once, split, and settle the fields that depend on the training photos."""
        run = self._run
        ready = prepared(*audited(source, recipe, self._listen, run), recipe, run.read_state()["speed"], run)
        if ready.recipe != recipe:
            files.write_json(run.recipe, ready.recipe.to_json())
        metrics.check_plugin_metrics(
            len(ready.manifest.classes)
        )  # a failing metric of a plugin must fail before training
        class_balance = _class_balance(ready)
        class_balance.keep(run)
        if ready.manifest.folds:
            tested = round(recipe.test * len(ready.training))
            self._listen(FoldsPlanned(ready.manifest.folds, tested, chosen=recipe.folds is None))
        elif (recipe.folds is None or self._start) and (wanted := _folds_wanted(ready.manifest, recipe)):
            self._note(_uncertain(len(ready.manifest.scored()), wanted, self._start))
        self._listen(ClassesCounted(class_balance, balance.advised(ready.training.counts())))
        return ready

    def cross_validate(self, ready: Prepared) -> OutOfFold | None:
        """Predict each photo by a network that was not trained on it; None if there is a test split instead.

        With a budget, all folds together take a part of it. Raises `Interrupted`, `Diverged`.
        """
        if not ready.manifest.folds:
            return None
        entries = ready.manifest.of_split("train")
        fold_of = torch.tensor([-1 if entry.fold is None else entry.fold for entry in entries])
        folds, parts = int(fold_of.max()) + 1, list[Answers]()
        until = self._folds_until(ready)
        cross = CrossFit(
            ready, self._run.folds, fold_of,
            pace=ready.recipe.budget, listen=self._without_epochs, networks=self._run.folds,
        )  # fmt: skip
        after = 0.0 if until is None else cross.prediction_seconds()
        with stoppable() as stopped, threads.restored():
            for fold in range(folds):
                seconds, at = None, self._elapsed.seconds()
                if until is not None:  # what an interruption or a slow fold cost is shared by the others
                    seconds = max((until - at) / (folds - fold) - after, LEAST_FOLD * until / folds)
                parts.append(cross.answers(fold, seconds, stopped))
                after = max(after, self._elapsed.seconds() - at - parts[-1].facts["seconds"])
                self._listen(FoldDone(fold + 1, folds, parts[-1].facts))
        return OutOfFold.of(parts, ready.training.labels.cpu())

    def _folds_until(self, ready: Prepared) -> float | None:
        """Seconds of the command at which the folds end; None for epochs."""
        if ready.recipe.budget is None:
            return None
        kept = self._run.read_state().get("folds_until")
        if kept is not None:
            return kept
        limits = reserve(ready, ready.classifier(ready.net()), 0, self._elapsed)
        assert limits is not None
        spent = self._elapsed.seconds()
        until = spent + plan.FOLDS_SHARE * (limits.seconds - spent - budgets.closing_seconds(limits, Pace()))
        self._run.update(folds_until=round(until, 2))
        return until

    def _without_epochs(self, event: Event) -> None:
        """Listens to the folds, whose epochs are not those of the run."""
        if not isinstance(event, EpochDone):
            self._listen(event)

    def plan(self, ready: Prepared) -> Plan:
        """Plan the training once; a resumed run reads the stored plan."""
        testing = len(ready.manifest.of_split("test"))
        paced = _kept_plan(self._run)
        if paced is None:
            untrained = ready.classifier(ready.net())
            paced = plan.make(
                ready.recipe, photos=len(ready.training), classes=len(ready.manifest.classes),
                validation=len(ready.validation), minimum_size=untrained.net.minimum_size, speed=ready.speed,
                budget=reserve(ready, untrained, testing, self._elapsed, begun=ready.manifest.folds > 0),
                spent=self._elapsed.seconds(),
            )  # fmt: skip
            self._run.append("plan", paced)
            self._run.enter(RunStage.TRAINING, plan=paced.document())
        self._listen(Planned(paced, len(ready.training), len(ready.validation), testing))
        return paced

    def fit(self, ready: Prepared, paced: Plan) -> Fitted:
        """Train to the end of the plan, resuming from the newest checkpoint. Raises `Interrupted`, `Diverged`."""
        run, recipe, net, ranks = self._run, ready.recipe, ready.net(), self._ranks
        following = following_threads(ready, paced) if ranks.size == 1 else None
        ranks.shared(Assignment(ready.manifest, recipe, ready.preprocess, paced))
        ranks.wait()  # until they have their photos
        owner = _identity(ready, self._start)
        kept = checkpoint.newest(run.checkpoints, owner=owner)
        begun = State.of(kept)
        if self._start is not None and not kept.tensors:
            starts.begin(net, run, self._start, recipe, ready.manifest.classes)
        run.rewind(begun.epoch)
        with stoppable() as stopped, machine.enough_memory(paced.batch):
            state = train_net(
                net, ready.training, ready.validation, ready.preprocess, recipe, paced, run.checkpoints, owner=owner,
                device=ready.device, threads=following, spent=self._elapsed.seconds(), stopped=stopped, log=self._log,
                kept=kept, ranks=ranks,
            )  # fmt: skip
        if state.progress < 1 and state.least is not None:
            best = state.epoch - state.no_better
            lower = NP_(
                "stopped early: the validation loss has not improved on {best:.3f} (epoch {epoch}) for {n} epoch",
                "stopped early: the validation loss has not improved on {best:.3f} (epoch {epoch}) for {n} epochs",
                n=state.no_better, best=state.least, epoch=best,
            )  # fmt: skip
            higher = NP_(
                "stopped early: the validation macro F1 has not improved on {best:.3f} (epoch {epoch}) for {n} epoch",
                "stopped early: the validation macro F1 has not improved on {best:.3f} (epoch {epoch}) for {n} epochs",
                n=state.no_better, best=1 - state.least, epoch=best,
            )  # fmt: skip
            self._note(lower if recipe.balance == "none" else higher)
        self._elapsed.raise_to(state.pace.spent)
        return Fitted(net, state, following, again=state.step == begun.step)

    def score(self, ready: Prepared, paced: Plan, fitted: Fitted, held: OutOfFold | None) -> Scored:
        """Predict validation and test photos with the final weights: the only scoring of the test split.

        The calibration and the out-of-distribution detector are fitted on the other photos, as many as the time allows.
        With cross-validation, the predictions that are `held` give the scores and fit both of them.
        """
        self._listen(StageBegan(Stage.SCORE))
        run, manifest, pace, limits = self._run, ready.manifest, fitted.state.pace, paced.budget
        cost = 0.0 if limits is None else limits.answer_cost * budgets.forward(limits, pace)
        answering = SplitPredictor(ready.classifier(fitted.net), fitted.threads, cost, self._ranks)
        testing = loader.samples(ready.packed, manifest, manifest.of_split("test"))
        until = math.inf
        # A run interrupted after training has used up its time: the rest is done in full, without a limit.
        if limits is not None and not fitted.again:
            one = budgets.answer_seconds(limits, pace)
            after = one * (len(testing) + measure.EXPLAINING) + budgets.report_seconds(limits, pace)
            until = self._elapsed.at(limits.seconds - after - self._probing(ready, paced, fitted))

        if held is not None:
            return self._score_folds(ready, fitted, answering, held, until)
        numbers, logits, moments = answering.answers(ready.validation, until=until)
        digests = [entry.sha256 for entry in manifest.of_split("validation")]
        watched = Split(logits, ready.validation.labels[numbers], [digests[number] for number in numbers.tolist()])
        if len(numbers) < len(ready.validation):
            self._note(
                N_(
                    "for lack of time, only {scored} of {total} validation photos were scored; all test photos were",
                    scored=len(numbers),
                    total=len(ready.validation),
                )
            )
        calibration = Calibration.of(watched.logits, watched.labels)
        usual = answering.moments(answering.some(ready.training), until=until)
        detector = OutOfDistributionDetector.of(usual, moments, calibration.probabilities(logits).max(1).values)
        classifier = ready.classifier(fitted.net, calibration=calibration, detector=detector)

        weights = classifier.weights()
        stored = self._stored(weights, watched)
        self._ranks.decided(stored is not None)  # the others compute what is needed here
        if stored is not None:  # already scored before the interruption: not a second time
            tested, moments = stored.test, answering.moments(testing)
        else:
            _, logits, moments = answering.answers(testing)
            tested = Split(logits, testing.labels, [entry.sha256 for entry in manifest.of_split("test")])
        answers = Predictions(watched, tested, classifier.p_values(tested.logits, moments), weights)
        answers.write(run)
        if stored is None or not run.has_counted(weights):
            run.count_scoring("test", len(testing), weights)
        run.enter(RunStage.SCORED)
        return Scored(classifier, answers, [])

    def _score_folds(
        self, ready: Prepared, fitted: Fitted, answering: SplitPredictor, held: OutOfFold, until: float
    ) -> Scored:
        run, manifest, calibration = self._run, ready.manifest, held.calibration()
        detector = OutOfDistributionDetector.fitted(answering.moments(answering.some(ready.training), until=until))
        confidences = calibration.probabilities(held.logits).max(1).values
        classifier = ready.classifier(
            fitted.net, calibration=calibration, detector=detector.ranked(held.distances, confidences)
        )
        logits = torch.zeros(0, len(manifest.classes))
        if len(ready.validation):  # a given validation split, or one for early stopping
            logits = all_logits(classifier, ready.validation)
        validation, scored = manifest.of_split("validation"), manifest.scored()
        watched = Split(logits, ready.validation.labels, [entry.sha256 for entry in validation])
        tested = Split(held.logits, held.labels, [entry.sha256 for entry in scored])
        weights = classifier.weights()
        answers = Predictions(watched, tested, held.p_values(detector), weights)
        answers.write(run)
        if not run.has_counted(weights):
            run.count_scoring("folds", len(scored), weights)
        run.enter(RunStage.SCORED)
        return Scored(classifier, answers, held.facts)

    def _stored(self, weights: str, watched: Split) -> Predictions | None:
        """The predictions of an earlier session by these weights; those of others are never reported as theirs.

        `watched`: the predictions of these weights on validation photos.
        """
        if not self._run.predictions.exists():
            return None
        stored = Predictions.read(self._run)
        if stored.weights == weights or (not stored.weights and stored.validation.agrees(watched)):
            return stored
        self._note(
            NP_(
                "the stored predictions are those of other weights, from an earlier training of this run: the {n} test "
                "photo is scored again",
                "the stored predictions are those of other weights, from an earlier training of this run: the {n} test "
                "photos are scored again",
                n=len(stored.test.labels),
            )
        )
        return None

    def measure(self, ready: Prepared, paced: Plan, fitted: Fitted, scored: Scored) -> Measured:
        """Evaluate the predictions; the model file is written first."""
        run, classifier, manifest, state, limits = (
            self._run,
            scored.classifier,
            ready.manifest,
            fitted.state,
            paced.budget,
        )
        document = _document(
            ready, scored, state, seen.lineage(self._start, manifest),
            measure.analyse(classifier, manifest, ready.packed, scored.answers, self._attempt), self._ranks.size,
        )  # fmt: skip
        guessing = _like_guessing(document["test"])
        if guessing is not None:
            self._note(guessing)
        classifier.facts = classifiers.facts(
            recipe=ready.recipe,
            metrics=classifiers.file_scores(document["test"], folds=len(scored.folds)),
            source=manifest.source,
            training_photos=len(ready.training),
            manifest_hash=manifest.hash(),
            versions=document["versions"],
            lineage=document.get("lineage", []),
        )
        classifier.save(run.model)
        self._listen(StageBegan(Stage.REPORT))
        language = catalogues.current()
        drawing = measure.drawn(
            run, classifier, manifest, ready.packed, document, scored.answers, language=language, attempt=self._attempt
        )
        # The probes come last: they are optional, and can use whatever time is left.
        left = None
        if limits is not None:
            writing = pages.WRITING * budgets.report_seconds(limits, state.pace)
            rest = max(0.0, limits.seconds - self._elapsed.seconds() - writing)
            left = self._probing(ready, paced, fitted) if fitted.again else rest
        trained = state.epoch * len(ready.training) if limits is None else None
        probed = self._attempt(
            "robustness, explanations",
            lambda: measure.probed(
                measure.probing(run, classifier, manifest), manifest, ready.packed, seconds=left, trained=trained
            ),
            Measurements(),
        )
        document["analysis"] = {**document["analysis"], **probed}
        return Measured(document, drawing)

    def report(self, ready: Prepared, measured: Measured) -> None:
        """Write metrics.json, the report and the model card."""
        suspended = clock.suspended() - self._suspended
        if suspended >= 1:
            self._note(
                N_(
                    "the machine or this process was suspended for {seconds:.0f} s; this time does not count",
                    seconds=suspended,
                )
            )
        run, document = self._run, measured.document
        document["seconds"]["command"] = round(self._elapsed.seconds(), 1)
        files.write_json(run.metrics, document)
        language = catalogues.current()
        measure.write(
            run, ready.manifest, ready.packed, ready.recipe, document, measured.drawing, language=language,
            attempt=self._attempt,
        )  # fmt: skip
        run.enter(RunStage.DONE, versions=versions(), language=language)

    def _probing(self, ready: Prepared, paced: Plan, fitted: Fitted) -> float:
        """Seconds to reserve for measuring robustness and testing explanations."""
        limits = paced.budget
        if limits is None:
            return 0.0
        one = budgets.answer_seconds(limits, fitted.state.pace)
        most = min(limits.spare, measure.SHARE * limits.seconds)
        return measure.probing_seconds(len(ready.manifest.probing()), one, most)

    def _log(self, event: Event) -> None:
        if isinstance(event, EpochDone):
            event.epoch.keep(self._run)
        self._listen(event)

    def _note(self, text: Message) -> None:
        self._run.note(text)
        self._listen(Noted(text))


def _identity(ready: Prepared, start: Start | None) -> str:
    """The owner of checkpoints: a hash of everything that a run must share to resume from them."""
    recipe = ready.recipe.to_json()
    # Without fields that older versions, whose checkpoints are valid, do not have.
    if recipe["near_duplicates"] is None:
        del recipe["near_duplicates"]
    if not recipe["folds"]:
        del recipe["folds"]
    if recipe["center_crop"] == 1:
        del recipe["center_crop"]
    if recipe["sync_batch_norm"]:
        del recipe["sync_batch_norm"]
    started = [] if start is None else [start.parent["sha256"]]
    return hashlib.sha256(json.dumps([recipe, ready.manifest.hash(), *started]).encode()).hexdigest()


def _uncertain(tested: int, folds: int, start: Start | None) -> Message:
    """That a test split is small, and why there is no cross-validation in its place."""
    if start is not None:
        return NP_(
            "the test split has only {n} photo, so the score will be uncertain; a training that starts from other "
            "weights is not scored by cross-validation",
            "the test split has only {n} photos, so the score will be uncertain; a training that starts from other "
            "weights is not scored by cross-validation",
            n=tested,
        )
    return NP_(
        "the test split has only {n} photo, so the score will be uncertain; with a longer budget it would come from "
        "cross-validation (--folds {folds} forces it)",
        "the test split has only {n} photos, so the score will be uncertain; with a longer budget it would come from "
        "cross-validation (--folds {folds} forces it)",
        n=tested,
        folds=folds,
    )


def _folds_wanted(manifest: Manifest, recipe: Recipe) -> int:
    """Number of folds that these photos would have if there were time for them."""
    return folds_for(manifest.kept, test=recipe.test, given=manifest.split.get("given", False), most=None)


def _kept_plan(run: Run) -> Plan | None:
    kept = run.read_state().get("plan")
    if kept is not None:
        with contextlib.suppress(KeyError, TypeError):  # from an older version: plan again
            return Plan.from_document(kept)
    return None


def _class_balance(ready: Prepared) -> ClassBalance:
    return balance.class_balance(ready.recipe.balance, ready.training.counts())


def _like_guessing(test: Scores) -> Message | None:
    """A note if the test photos can't tell the model from guessing."""
    classes = sum(any(row) for row in test["confusion"])
    low, high = test["balanced_accuracy_interval"]
    if classes < 2 or not low <= (chance := 1 / classes):
        return None
    return N_(
        "these photos can't tell the model from guessing: balanced accuracy {score:percent}, 95 % CI "
        "{low:percent} to {high:percent}, guessing {chance:percent}; train longer, or with more photos",
        score=test["balanced_accuracy"],
        low=low,
        high=high,
        chance=chance,
    )


def _document(
    ready: Prepared, scored: Scored, state: State, lineage: list[Ancestor], analysis: Analysis, processes: int
) -> RunDocument:
    manifest, recipe = ready.manifest, ready.recipe
    validation, test = measure.summaries(manifest, scored.answers, scored.folds, state.epoch)
    document: RunDocument = {
        "classes": list(manifest.classes),
        "validation": validation,
        "test": test,
        "epochs": state.epoch,
        "seconds": {"training": round(state.seconds, 1)},
        "seed": recipe.seed,
        "split_seed": recipe.split_seed,
        "manifest": manifest.hash(),
        "weights": scored.answers.weights,
        "shares": manifest.shares(),
        "versions": versions(processes),
        "balance": _class_balance(ready).document(),
        "analysis": analysis,
    }
    if scored.folds:
        document["folds"] = scored.folds
    if lineage:
        document["lineage"] = lineage
    return document
