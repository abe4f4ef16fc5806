"""Progress on stderr: a bar while reading, a live table while training."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, assert_never

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pati.events import (
    Advanced,
    AlreadyFinished,
    ClassesCounted,
    DataRead,
    EpochDone,
    Event,
    FoldBegan,
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
from pati.terminal.console import SCORES, console, duration, plain, say, scored

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
        self._table = _epoch_table(by_class=False)
        self._drawn = 0.0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunOpened():
                self._run(event)
            case StageBegan():
                self.close()
                say(_STAGES[event.stage].format(photos=event.photos))
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
                say(f"note: {event.text}")
            case Warned():
                say(f"warning: {event.text}")
            case AlreadyFinished():
                say("this run is finished")
            case FoldBegan():
                self._fold(event)
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
        pace = f"{recipe.epochs} epochs" if recipe.epochs else f"a budget of {duration(recipe.budget or 0)}"
        if event.chosen and recipe.budget:
            pace += f" for {event.photos} photos (--budget changes it)"
        planned = ""
        if outline is not None:
            passes = f"{outline.passes:.0f}" if outline.passes >= 2 else f"{outline.passes:.1f}"
            planned = (
                f"; about {duration(outline.reading)} to start and read, {duration(outline.training)} of training, "
                f"{passes} passes over the photos, and {duration(outline.after)} to score and report"
            )
        say(f"run: {event.folder}: {recipe.model} at {recipe.size} px, {pace}, seed {recipe.seed}{planned}")

    def _advance(self, event: Advanced) -> None:
        if self._bar is None:
            columns = (TextColumn(_WORK[event.work]), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
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
        found = event.manifest
        reasons = Counter(entry.reason for entry in found.entries if not entry.kept)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        how = "reused the decoded photos" if event.reused else "read and decoded"
        say(
            f"{len(found.kept)} photos of {len(found.classes)} classes kept, "
            f"{len(found.entries) - len(found.kept)} files quarantined{f' ({told})' if told else ''}, "
            f"{len(found.duplicate_groups())} groups of duplicates; {how} in {event.seconds:.1f} s"
        )
        for note in found.notes:
            say(f"note: {note}")
        if found.leaks():
            say(f"warning: {len(found.leaks())} groups of copies, or by --group-by, lie in more than one given split")

    def _plan(self, event: Planned) -> None:
        plan = event.plan
        pace = f"{duration(plan.seconds)} of training" if plan.seconds else f"{plan.epochs} epochs"
        sizes = " → ".join(map(str, dict.fromkeys(plan.sizes)))
        say(
            f"training on {event.training} photos at {sizes} px for {pace}, batches of {plan.batch}; "
            f"{event.validation} to validate, {event.test} to test"
        )

    def _classes(self, event: ClassesCounted) -> None:
        evenness = event.evenness
        if evenness.by_class:
            self._by_class, self._table = True, _epoch_table(by_class=True)
            more = ""
            if evenness.method == "none" and event.advised != "none":
                more = f"; --balance {event.advised} would make the rare ones count"
            uneven = f"the largest class has {evenness.ratio:.1f} times as many training photos as the smallest"
            say(f"{uneven}; balance: {evenness.method}{more}")

    def _training(self, event: TrainingBegan) -> None:
        for what in event.passed_over:
            say(f"warning: checkpoint {what}; it is passed over")
        if event.passed_over and not event.step:
            say("warning: no sound checkpoint is left, so training begins anew")
        if event.step:
            say(f"going on from step {event.step}, epoch {event.epoch + 1}")

    def _search(self, event: SearchBegan) -> None:
        recipe, fields = event.recipe, ", ".join(event.fields)
        pace = f"{recipe.epochs} epochs" if recipe.epochs else duration(recipe.budget or 0)
        goal = f"{event.trials} trials" if event.trials else f"trials for {duration(event.budget or 0)}"
        say(f"search: {event.folder} ({recipe.model} at {recipe.size} px, {goal} of {pace}) over {fields}")
        say(f"{event.validation} validation photos judge by {SCORES[event.score]}; the test photos wait")
        if event.done:
            say(f"going on: {event.done} trials are finished")

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
        text = f"trial {event.number}: {100 * event.progress:.0f} % done, {duration(event.left)} left"
        self._live.update(Text(text), refresh=True)

    def _trial(self, event: TrialDone) -> None:
        self.close()
        trial, best, score = event.trial, event.best, event.score
        values = ", ".join(f"{name} {plain(value)}" for name, value in trial.values.items())
        why = f" ({trial.why})" if trial.why else ""
        came = scored(score, trial.value) if trial.value is not None else trial.state + why
        ahead = "no best yet"
        if best is not None and best.value is not None:
            ahead = f"best {scored(score, best.value)} (trial {best.number})"
        count = f"{event.done} of {event.trials}" if event.trials else str(event.done)
        say(
            f"trial {trial.number}: {came}, {ahead}, {duration(trial.seconds or 0)}; "
            f"{count} done, {duration(event.left)} left: {'the recipe itself' if trial.default else values}"
        )

    def _fold(self, event: FoldBegan) -> None:
        self.close()
        self._table = _epoch_table(by_class=self._by_class)
        pace = f" for {duration(event.seconds)}" if event.seconds else ""
        say(f"training {event.number} of {event.folds}: on {event.photos} photos{pace}, to judge the others")

    def _step(self, event: StepDone) -> None:
        if self._due():
            self._show(event)

    def _epoch(self, epoch: Epoch) -> None:
        cells = _epoch_cells(epoch, by_class=self._by_class)
        self._table.add_row(*cells)
        if self._screen.is_terminal:
            self._show(None)
        else:
            say("  ".join(f"{column.header} {cell}" for column, cell in zip(self._table.columns, cells, strict=True)))

    def _show(self, step: StepDone | None) -> None:
        if self._live is None:
            self._live = Live(console=self._screen, auto_refresh=False)
            self._live.start()
        view = Table.grid()
        view.add_row(self._table)
        if step:
            view.add_row(
                f"epoch {step.epoch + 1} · {100 * step.progress:.0f} % done · {duration(step.left)} left · "
                f"loss {step.loss:.3f} · {step.photos_per_second:.0f} photos/s at {step.size} px"
            )
        self._live.update(view, refresh=True)


_STAGES = {
    Stage.AUDIT: "reading {photos} files",
    Stage.SPLIT: "splitting",
    Stage.LOOK: "looking at {photos} photos",
    Stage.CONTROL: "training a net on shuffled labels, to compare with",
    Stage.SCORE: "scoring",
    Stage.REPORT: "writing the report",
}
_WORK = {Work.READING: "reading", Work.ROBUSTNESS: "damaged photos", Work.EXPLANATIONS: "explanations"}


def _epoch_table(*, by_class: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    macro = ["valid F1"] if by_class else []
    for name in ("epoch", "px", "train loss", "train %", "valid loss", "valid %", *macro, "photos/s", "time", "left"):
        table.add_column(name, justify="right")
    return table


def _epoch_cells(epoch: Epoch, *, by_class: bool) -> list[str]:
    return [
        str(epoch.epoch),
        str(epoch.size),
        f"{epoch.train_loss:.3f}",
        f"{100 * epoch.train_accuracy:.1f}",
        f"{epoch.validation_loss:.3f}",
        f"{100 * epoch.validation_accuracy:.1f}",
        *([f"{epoch.validation_macro_f1:.3f}"] if by_class else []),
        f"{epoch.photos_per_second:.0f}",
        duration(epoch.seconds),
        duration(epoch.left),
    ]
