"""Progress on stderr: a bar while reading, a live table while training."""

from __future__ import annotations

import errno
import time
from collections import Counter
from typing import TYPE_CHECKING, assert_never

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pati.evaluation.shortcuts import telling_properties
from pati.events import (
    Advanced,
    AlreadyFinished,
    ClassesCounted,
    DataRead,
    EpochDone,
    Event,
    FoldBegan,
    FoldDone,
    FoldsPlanned,
    NetworkBegan,
    Noted,
    Planned,
    RunOpened,
    SearchBegan,
    Stage,
    StageBegan,
    StepDone,
    TrainingBegan,
    TrialAdvanced,
    TrialDone,
    Warned,
    Work,
)
from pati.inference.lineage import origin
from pati.locale.messages import N_, NC_, NP_, Message, as_is
from pati.report.labels import REASONS, TRIALS
from pati.system import signals
from pati.terminal.console import console, duration, note, number, plain, say, scored, warning
from pati.terminal.labels import SCORES

if TYPE_CHECKING:
    from pati.runs.history import Epoch


class Watch:
    """Listens to a workflow and draws it: a bar while reading, a live table while training.

    Where stderr is no terminal, each epoch is one plain line.
    """

    def __init__(self) -> None:
        self._screen = console()
        self._bar: Progress | None = None
        self._live: Live | None = None
        self._by_class = False
        self._scoring = False  # by cross-validation
        self._table = _epoch_table(by_class=False)
        self._drawn = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event; a terminal that has been closed does not end the work."""
        try:
            self._tell(event)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            signals.leave_lost_terminal()

    def _tell(self, event: Event) -> None:
        match event:
            case RunOpened():
                self._run(event)
            case StageBegan():
                self.close()
                say(_stage(event))
            case Advanced():
                self._advance(event)
            case DataRead():
                self._data(event)
            case ClassesCounted():
                self._classes(event)
            case Planned():
                self._plan(event)
            case TrainingBegan():
                self._training(event)
            case StepDone():
                self._step(event)
            case EpochDone():
                self._epoch(event.epoch)
            case Noted():
                self.close()
                say(note(event.text))
            case Warned():
                say(warning(event.text))
            case AlreadyFinished():
                say(N_("this run is already finished"))
            case FoldsPlanned():
                self._folds(event)
            case FoldBegan():
                self._fold(event)
            case FoldDone():
                self._fold_done(event)
            case NetworkBegan():
                self._network(event)
            case SearchBegan():
                self._search(event)
            case TrialAdvanced():
                self._trying(event)
            case TrialDone():
                self._trial(event)
            case _:
                assert_never(event)

    def close(self) -> None:
        """Leave the terminal as it was; what was drawn stays."""
        self._end_bar()
        if self._live:
            self._live.stop()
            self._live = None

    def _run(self, event: RunOpened) -> None:
        recipe, outline = event.recipe, event.outline
        pace = _pace(recipe.epochs, recipe.budget)
        if event.chosen and recipe.budget:
            pace = NP_(
                "time budget {budget:duration} (chosen for {n} photo; --budget changes it)",
                "time budget {budget:duration} (chosen for {n} photos; --budget changes it)",
                n=event.photos or 0,
                budget=recipe.budget,
            )
        say(
            N_(
                "run: {folder}: {model} at {size} px, {pace}, seed {seed}",
                folder=event.folder,
                model=recipe.model or "",
                size=recipe.size or "",
                pace=pace,
                seed=recipe.seed,
            )
        )
        if event.lineage:
            say(origin(event.lineage))
        if outline is not None and outline.folds:
            say(
                N_(
                    "plan: about {reading:duration} to start and read, {folds:duration} of cross-validation, "
                    "{training:duration} of training (epochs: about {passes}), {after:duration} to score and report",
                    reading=outline.reading,
                    folds=outline.folds,
                    training=outline.training,
                    passes=number(outline.passes, ".0f" if outline.passes >= 2 else ".1f"),
                    after=outline.after,
                )
            )
        elif outline is not None:
            say(
                N_(
                    "plan: about {reading:duration} to start and read, {training:duration} of training (epochs: "
                    "about {passes}), {after:duration} to score and report",
                    reading=outline.reading,
                    training=outline.training,
                    passes=number(outline.passes, ".0f" if outline.passes >= 2 else ".1f"),
                    after=outline.after,
                )
            )

    def _advance(self, event: Advanced) -> None:
        if self._bar is None:
            columns = (TextColumn(str(_WORK[event.work])), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._screen, transient=True, disable=not self._screen.is_terminal)
            self._bar.start()
            self._bar.add_task("", total=event.total)
        self._bar.update(self._bar.task_ids[0], completed=event.done)
        if event.done == event.total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _data(self, event: DataRead) -> None:
        self._end_bar()
        manifest = event.manifest
        reasons = Counter(manifest.entries.quarantined.reason.counts())
        quarantined = NP_("{n} file quarantined", "{n} files quarantined", n=reasons.total())
        if reasons:
            counts_by_reason = [f"{count} {REASONS.get(reason, reason)}" for reason, count in reasons.most_common()]
            quarantined = NP_(
                "{n} file quarantined ({reasons})",
                "{n} files quarantined ({reasons})",
                n=reasons.total(),
                reasons=counts_by_reason,
            )
        groups = len(manifest.duplicate_groups())
        facts = [
            NP_("{n} photo kept", "{n} photos kept", n=len(manifest.kept)),
            NP_("{n} class", "{n} classes", n=len(manifest.classes)),
            quarantined,
            NP_("{n} group of duplicates", "{n} groups of duplicates", n=groups),
        ]
        if event.reused:
            say(N_("{facts}; reused the decoded photos in {seconds:.1f} s", facts=facts, seconds=event.seconds))
        else:
            say(N_("{facts}; read and decoded in {seconds:.1f} s", facts=facts, seconds=event.seconds))
        if manifest.shortcuts:
            telling = telling_properties(manifest.shortcuts)
            say(warning(telling) if manifest.shortcuts[0].strong else note(telling))
        for text in manifest.notes:
            say(note(text))
        if manifest.leaks():
            say(warning(leaking(len(manifest.leaks()))))

    def _plan(self, event: Planned) -> None:
        plan = event.plan
        pace = NP_("{n} epoch", "{n} epochs", n=plan.epochs or 0)
        if plan.seconds:
            pace = N_("{seconds:duration}", seconds=plan.seconds)
        sizes = " → ".join(map(str, dict.fromkeys(plan.sizes)))
        if event.test:
            text = N_(
                "training: {pace} at {sizes} px, batch size {batch}; photos: {training} train, {validation} "
                "validation, {test} test",
                pace=pace,
                sizes=sizes,
                batch=plan.batch,
                training=event.training,
                validation=event.validation,
                test=event.test,
            )
        else:
            text = NP_(
                "training the model: {pace} at {sizes} px, batch size {batch}, on {n} photo",
                "training the model: {pace} at {sizes} px, batch size {batch}, on all {n} photos",
                pace=pace,
                sizes=sizes,
                batch=plan.batch,
                n=event.training,
            )
        say(text)

    def _classes(self, event: ClassesCounted) -> None:
        class_balance = event.class_balance
        if not class_balance.by_class:
            return
        self._by_class, self._table = True, _epoch_table(by_class=True)
        if class_balance.method == "none" and event.advised != "none":
            say(
                N_(
                    "the largest class has {ratio:.1f} times as many training photos as the smallest; balance: none "
                    "(to balance the classes, add --balance {advised})",
                    ratio=class_balance.ratio,
                    advised=event.advised,
                )
            )
        else:
            say(
                N_(
                    "the largest class has {ratio:.1f} times as many training photos as the smallest; balance: "
                    "{method}",
                    ratio=class_balance.ratio,
                    method=class_balance.method,
                )
            )

    def _training(self, event: TrainingBegan) -> None:
        for reason in event.skipped:
            say(warning(N_("{reason}; it is skipped", reason=reason)))
        if event.skipped and not event.step:
            say(warning(N_("no usable checkpoint is left: training starts from the beginning")))
        if event.step:
            say(N_("resuming at step {step}, epoch {epoch}", step=event.step, epoch=event.epoch + 1))

    def _search(self, event: SearchBegan) -> None:
        recipe, pace = event.recipe, _pace(event.recipe.epochs, event.recipe.budget)
        goal = N_("trials for {budget:duration}", budget=event.budget or 0)
        if event.trials:
            goal = NP_("{n} trial", "{n} trials", n=event.trials)
        say(
            N_(
                "search: {folder}: {model} at {size} px, {goal}, each: {pace}; fields: {fields}",
                folder=event.folder,
                model=recipe.model,
                size=recipe.size,
                goal=goal,
                pace=pace,
                fields=event.fields,
            )
        )
        say(
            NP_(
                "trials are scored by {score} on {n} validation photo; the test photos are not used",
                "trials are scored by {score} on {n} validation photos; the test photos are not used",
                n=event.validation,
                score=SCORES[event.score],
            )
        )
        if event.done:
            say(NP_("resuming: {n} trial is finished", "resuming: {n} trials are finished", n=event.done))

    def _due(self) -> bool:
        """Whether the terminal is to be drawn again; not after every step."""
        now = time.monotonic()
        if not self._screen.is_terminal or now - self._drawn < 0.5:
            return False
        self._drawn = now
        return True

    def _trying(self, event: TrialAdvanced) -> None:
        if not self._due():
            return
        if self._live is None:
            self._live = Live(console=self._screen, auto_refresh=False, transient=True)
            self._live.start()
        text = N_(
            "trial {number}: {progress:percent0} done, {left:duration} left",
            number=event.number,
            progress=event.progress,
            left=event.left,
        )
        self._live.update(Text(str(text)), refresh=True)

    def _trial(self, event: TrialDone) -> None:
        self.close()
        trial, best, score = event.trial, event.best, event.score
        outcome = TRIALS.get(trial.state, as_is(trial.state))
        if trial.value is not None:
            outcome = as_is(scored(score, trial.value))
        elif trial.why:
            outcome = N_("{state} ({why})", state=outcome, why=trial.why)
        ahead = N_("no best trial yet")
        if best is not None and best.value is not None:
            ahead = N_("best: {value} (trial {number})", value=scored(score, best.value), number=best.number)
        count = N_("done: {done}", done=event.done)
        if event.trials:
            count = N_("done: {done} of {trials}", done=event.done, trials=event.trials)
        values = [f"{name} {plain(value)}" for name, value in trial.values.items()]
        say(
            N_(
                "trial {number}: {outcome}, {seconds:duration}; {ahead}; {count}, {left:duration} left; {recipe}",
                number=trial.number,
                outcome=outcome,
                seconds=trial.seconds or 0,
                ahead=ahead,
                count=count,
                left=event.left,
                recipe=N_("baseline (the recipe's own values)") if trial.default else values,
            )
        )

    def _fold(self, event: FoldBegan) -> None:
        if self._scoring:  # told when it is done
            return
        self.close()
        self._table = _epoch_table(by_class=self._by_class)
        facts = {"number": event.number, "folds": event.folds}
        if event.seconds:
            say(
                NP_(
                    "fold {number} of {folds}: training on {n} photo for {seconds:duration}, to predict the others",
                    "fold {number} of {folds}: training on {n} photos for {seconds:duration}, to predict the others",
                    n=event.photos,
                    seconds=event.seconds,
                    **facts,
                )
            )
        else:
            say(
                NP_(
                    "fold {number} of {folds}: training on {n} photo, to predict the others",
                    "fold {number} of {folds}: training on {n} photos, to predict the others",
                    n=event.photos,
                    **facts,
                )
            )

    def _network(self, event: NetworkBegan) -> None:
        self.close()
        self._table = _epoch_table(by_class=False)
        facts = {"number": event.number, "networks": event.networks}
        if event.seconds:
            say(
                NP_(
                    "network {number} of {networks}: training on {n} photo for {seconds:duration}",
                    "network {number} of {networks}: training on {n} photos for {seconds:duration}",
                    n=event.photos,
                    seconds=event.seconds,
                    **facts,
                )
            )
        else:
            say(
                NP_(
                    "network {number} of {networks}: training on {n} photo",
                    "network {number} of {networks}: training on {n} photos",
                    n=event.photos,
                    **facts,
                )
            )

    def _folds(self, event: FoldsPlanned) -> None:
        self._scoring = True
        if event.chosen:
            say(
                NP_(
                    "score: by {folds}-fold cross-validation, as a test split would have only about {n} photo; the "
                    "final model is then trained on all photos (--folds 0: a test split)",
                    "score: by {folds}-fold cross-validation, as a test split would have only about {n} photos; the "
                    "final model is then trained on all photos (--folds 0: a test split)",
                    n=event.tested,
                    folds=event.folds,
                )
            )
        else:
            say(
                N_(
                    "score: by {folds}-fold cross-validation; the final model is then trained on all photos",
                    folds=event.folds,
                )
            )

    def _fold_done(self, event: FoldDone) -> None:
        self.close()
        self._table = _epoch_table(by_class=self._by_class)
        say(
            NP_(
                "fold {number} of {folds}: accuracy {share:percent} on {n} photo",
                "fold {number} of {folds}: accuracy {share:percent} on {n} photos",
                n=event.facts["photos"],
                number=event.number,
                folds=event.folds,
                share=event.facts["agreement"],
            )
        )

    def _step(self, event: StepDone) -> None:
        if self._due():
            self._show(event)

    def _epoch(self, epoch: Epoch) -> None:
        cells = _epoch_cells(epoch, by_class=self._by_class)
        self._table.add_row(*cells)
        if self._screen.is_terminal:
            self._show(None)
        else:
            columns = zip(self._table.columns, cells, strict=True)
            say(as_is("  ".join(f"{column.header} {cell}" for column, cell in columns)))

    def _show(self, step: StepDone | None) -> None:
        if self._live is None:
            self._live = Live(console=self._screen, auto_refresh=False)
            self._live.start()
        view = Table.grid()
        view.add_row(self._table)
        if step:
            line = N_(
                "epoch {epoch} · {progress:percent0} done · {left:duration} left · loss {loss:.3f} · {speed:.0f} "
                "photos/s at {size} px",
                epoch=step.epoch + 1,
                progress=step.progress,
                left=step.left,
                loss=step.loss,
                speed=step.photos_per_second,
                size=step.size,
            )
            view.add_row(Text(str(line)))
        self._live.update(view, refresh=True)


def leaking(count: int) -> Message:
    """That photos which belong together are in several splits."""
    return NP_(
        "{n} group of photos that belong together (duplicates, or the same --group-by value) is in more than one of "
        "the given splits",
        "{n} groups of photos that belong together (duplicates, or the same --group-by value) are in more than one of "
        "the given splits",
        n=count,
    )


def _pace(epochs: int | None, budget: float | None) -> Message:
    if epochs:
        return NP_("{n} epoch", "{n} epochs", n=epochs)
    return N_("time budget {budget:duration}", budget=budget or 0)


def _stage(event: StageBegan) -> Message:
    count = event.photos or 0
    match event.stage:
        case Stage.AUDIT:
            return NP_("reading {n} file", "reading {n} files", n=count)
        case Stage.SPLIT:
            return N_("splitting the data")
        case Stage.INSPECT:
            return NP_("checking the label of {n} photo", "checking the labels of {n} photos", n=count)
        case Stage.CONTROL:
            return N_("training a network on shuffled labels, for comparison")
        case Stage.SCORE:
            return N_("scoring")
        case Stage.REPORT:
            return N_("writing the report")
        case Stage.EXPORT:
            return N_("exporting, and checking that the answers are the same")
        case _:
            assert_never(event.stage)


_WORK = {
    Work.READING: NC_("work", "reading"),
    Work.ROBUSTNESS: NC_("work", "corruptions"),
    Work.EXPLANATIONS: NC_("work", "explanations"),
}


def _epoch_table(*, by_class: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in (
        NC_("column of epochs", "epoch"),
        NC_("column of epochs", "px"),
        NC_("column of epochs", "train loss"),
        NC_("column of epochs", "train %"),
        NC_("column of epochs", "valid loss"),
        NC_("column of epochs", "valid %"),
        *([NC_("column of epochs", "valid F1")] if by_class else []),
        NC_("column of epochs", "photos/s"),
        NC_("column of epochs", "time"),
        NC_("column of epochs", "left"),
    ):
        table.add_column(str(head), justify="right")
    return table


def _epoch_cells(epoch: Epoch, *, by_class: bool) -> list[str]:
    return [
        str(epoch.epoch),
        str(epoch.size),
        number(epoch.train_loss, ".3f"),
        number(100 * epoch.train_accuracy, ".1f"),
        *_validation_cells(epoch, by_class=by_class),
        number(epoch.photos_per_second, ".0f"),
        duration(epoch.seconds),
        duration(epoch.left),
    ]


def _validation_cells(epoch: Epoch, *, by_class: bool) -> list[str]:
    if not epoch.validated:
        return ["–"] * (2 + by_class)
    return [
        number(epoch.validation_loss, ".3f"),
        number(100 * epoch.validation_accuracy, ".1f"),
        *([number(epoch.validation_macro_f1, ".3f")] if by_class else []),
    ]
