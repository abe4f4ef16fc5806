"""Progress on stderr: a bar while reading, a live table while training."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pati.data.manifest import Manifest
from pati.terminal.console import SCORES, console, duration, plain, say, scored


class Watch:
    """Listens to the pipeline and draws it: a bar while reading, a live table while training.

    Where stderr is no terminal, each epoch is one plain line.
    """

    def __init__(self) -> None:
        self._screen = console()
        self._bar: Progress | None = None
        self._live: Live | None = None
        self._by_class = False
        self._table = _epoch_table(by_class=False)
        self._drawn = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        """One event of the pipeline."""
        handler = getattr(self, f"_on_{event['kind']}", None)
        if handler:
            handler(event)

    def close(self) -> None:
        """Leave the terminal as it was; what was drawn stays."""
        self._end_bar()
        if self._live:
            self._live.stop()
            self._live = None

    def _on_run(self, event: dict[str, Any]) -> None:
        recipe, outline = event["recipe"], event.get("outline")
        pace = f"{recipe.epochs} epochs" if recipe.epochs else f"a budget of {duration(recipe.budget)}"
        if event.get("own_budget") and recipe.budget:
            pace += f" for {event['photos']} photos (--budget changes it)"
        planned = ""
        if outline is not None:
            passes = f"{outline.passes:.0f}" if outline.passes >= 2 else f"{outline.passes:.1f}"
            planned = (
                f"; about {duration(outline.reading)} to start and read, {duration(outline.training)} of training, "
                f"{passes} passes over the photos, and {duration(outline.after)} to score and report"
            )
        say(f"run: {event['folder']}: {recipe.model} at {recipe.size} px, {pace}, seed {recipe.seed}{planned}")

    def _on_stage(self, event: dict[str, Any]) -> None:
        self.close()
        said = {
            "audit": "reading {photos} files",
            "score": "scoring",
            "split": "splitting",
            "report": "writing the report",
            "control": "training a net on shuffled labels, to compare with",
            "look": "looking at {photos} photos",
        }
        say(said[event["name"]].format(photos=event.get("photos")))

    def _on_audit(self, event: dict[str, Any]) -> None:
        if self._bar is None:
            what = {"robustness": "damaged photos", "explanations": "explanations"}.get(
                event.get("what", ""), "reading"
            )
            columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=self._screen, transient=True, disable=not self._screen.is_terminal)
            self._bar.start()
            self._bar.add_task("", total=event["total"])
        self._bar.update(self._bar.task_ids[0], completed=event["done"])
        if event["done"] == event["total"]:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _on_manifest(self, event: dict[str, Any]) -> None:
        self._end_bar()
        found: Manifest = event["manifest"]
        reasons = Counter(entry.reason for entry in found.entries if not entry.kept)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        how = "reused the decoded photos" if event["reused"] else "read and decoded"
        say(
            f"{len(found.kept)} photos of {len(found.classes)} classes kept, "
            f"{len(found.entries) - len(found.kept)} files quarantined{f' ({told})' if told else ''}, "
            f"{len(found.duplicate_groups())} groups of duplicates; {how} in {event['seconds']:.1f} s"
        )
        for note in found.notes:
            say(f"note: {note}")
        if found.leaks():
            say(f"warning: {len(found.leaks())} groups of copies, or by --group-by, lie in more than one given split")

    def _on_plan(self, event: dict[str, Any]) -> None:
        plan = event["plan"]
        pace = f"{duration(plan.seconds)} of training" if plan.seconds else f"{plan.epochs} epochs"
        sizes = " → ".join(map(str, dict.fromkeys(plan.sizes)))
        say(
            f"training on {event['train']} photos at {sizes} px for {pace}, batches of {plan.batch}; "
            f"{event['validation']} to validate, {event['test']} to test"
        )

    def _on_balance(self, event: dict[str, Any]) -> None:
        if event["by_class"]:
            self._by_class, self._table = True, _epoch_table(by_class=True)
            more = ""
            if event["method"] == "none" and event["advised"] != "none":
                more = f"; --balance {event['advised']} would make the rare ones count"
            uneven = f"the largest class has {event['ratio']:.1f} times as many training photos as the smallest"
            say(f"{uneven}; balance: {event['method']}{more}")

    def _on_begun(self, event: dict[str, Any]) -> None:
        for what in event["passed_over"]:
            say(f"warning: checkpoint {what}; it is passed over")
        if event["passed_over"] and not event["step"]:
            say("warning: no sound checkpoint is left, so training begins anew")
        if event["step"]:
            say(f"going on from step {event['step']}, epoch {event['epoch'] + 1}")

    def _on_note(self, event: dict[str, Any]) -> None:
        self.close()
        say(f"note: {event['text']}")

    def _on_warning(self, event: dict[str, Any]) -> None:
        say(f"warning: {event['text']}")

    def _on_finished(self, event: dict[str, Any]) -> None:
        say("this run is finished")

    def _on_search(self, event: dict[str, Any]) -> None:
        recipe, fields = event["recipe"], ", ".join(event["space"])
        pace = f"{recipe.epochs} epochs" if recipe.epochs else duration(recipe.budget)
        goal = f"{event['trials']} trials" if event["trials"] else f"trials for {duration(event['budget'])}"
        say(f"search: {event['folder']} ({recipe.model} at {recipe.size} px, {goal} of {pace}) over {fields}")
        say(f"{event['validation']} validation photos judge by {SCORES[event['score']]}; the test photos wait")
        if event["done"]:
            say(f"going on: {event['done']} trials are finished")

    def _on_trying(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if not self._screen.is_terminal or now - self._drawn < 0.5:
            return
        self._drawn = now
        if self._live is None:
            self._live = Live(console=self._screen, auto_refresh=False, transient=True)
            self._live.start()
        text = f"trial {event['number']}: {100 * event['progress']:.0f} % done, {duration(event['left'])} left"
        self._live.update(Text(text), refresh=True)

    def _on_trial(self, event: dict[str, Any]) -> None:
        self.close()
        trial, best, score = event["trial"], event["best"], event["score"]
        values = ", ".join(f"{name} {plain(value)}" for name, value in trial["values"].items())
        why = f" ({trial['why']})" if trial["why"] else ""
        came = scored(score, trial["value"]) if trial["value"] is not None else trial["state"] + why
        ahead = f"best {scored(score, best['value'])} (trial {best['number']})" if best else "no best yet"
        count = f"{event['done']} of {event['trials']}" if event["trials"] else str(event["done"])
        say(
            f"trial {trial['number']}: {came}, {ahead}, {duration(trial['seconds'])}; "
            f"{count} done, {duration(event['left'])} left: {'the recipe itself' if trial['default'] else values}"
        )

    def _on_fold(self, event: dict[str, Any]) -> None:
        self.close()
        self._table = _epoch_table(by_class=self._by_class)
        pace = f" for {duration(event['seconds'])}" if event["seconds"] else ""
        say(f"training {event['number']} of {event['folds']}: on {event['photos']} photos{pace}, to judge the others")

    def _on_step(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if not self._screen.is_terminal or now - self._drawn < 0.5:
            return
        self._drawn = now
        self._show(event)

    def _on_epoch(self, event: dict[str, Any]) -> None:
        cells = _epoch_cells(event, by_class=self._by_class)
        self._table.add_row(*cells)
        if self._screen.is_terminal:
            self._show(None)
        else:
            say("  ".join(f"{column.header} {cell}" for column, cell in zip(self._table.columns, cells, strict=True)))

    def _show(self, step: dict[str, Any] | None) -> None:
        if self._live is None:
            self._live = Live(console=self._screen, auto_refresh=False)
            self._live.start()
        view = Table.grid()
        view.add_row(self._table)
        if step:
            rate = step["seen"] / max(step["epoch_seconds"], 1e-6)
            view.add_row(
                f"epoch {step['epoch'] + 1} · {100 * step['progress']:.0f} % done · {duration(step['left'])} left · "
                f"loss {step['loss_sum'] / step['seen']:.3f} · {rate:.0f} photos/s at {step['size']} px"
            )
        self._live.update(view, refresh=True)


def _epoch_table(*, by_class: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    macro = ["valid F1"] if by_class else []
    for name in ("epoch", "px", "train loss", "train %", "valid loss", "valid %", *macro, "photos/s", "time", "left"):
        table.add_column(name, justify="right")
    return table


def _epoch_cells(row: dict[str, Any], *, by_class: bool) -> list[str]:
    return [
        str(row["epoch"]),
        str(row["size"]),
        f"{row['train_loss']:.3f}",
        f"{100 * row['train_accuracy']:.1f}",
        f"{row['validation_loss']:.3f}",
        f"{100 * row['validation_accuracy']:.1f}",
        *([f"{row['validation_macro_f1']:.3f}"] if by_class else []),
        f"{row['photos_per_second']:.0f}",
        duration(row["seconds"]),
        duration(row["left"]),
    ]
