"""What a person sees in the terminal: progress on stderr, tables of results, errors.

Draws what it is handed; calls nothing of the pipeline.
"""

from __future__ import annotations

import contextlib
import itertools
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pati import plugins
from pati.data.decode import FLAGS, REASONS
from pati.data.manifest import Manifest
from pati.data.split import SPLITS
from pati.errors import Interrupted, PatiError
from pati.runs.run import Run
from pati.system.files import printable
from pati.system.rounding import hundredths, percent, rate


def console(*, stderr: bool = True) -> Console:
    """A console on stderr, or stdout for data; honours NO_COLOR."""
    return Console(stderr=stderr, highlight=False)


def say(text: str) -> None:
    """A line on stderr."""
    console().print(printable(text), markup=False, soft_wrap=True)


def fail(error: PatiError) -> None:
    """`error:` (or `stopped:`) and `hint:` lines on stderr."""
    screen = console()
    word = "stopped" if isinstance(error, Interrupted) else "error"
    screen.print(Text.assemble((f"{word}: ", "bold red"), error.message), soft_wrap=True)
    if error.hint:
        screen.print(Text.assemble(("hint: ", "bold cyan"), error.hint), soft_wrap=True)


@contextlib.contextmanager
def bar(what: str, *, unit: str = "files") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, fed with (done, total)."""
    counts = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), counts, TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


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


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 5 min, 2 h 10 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 100:
        return f"{minutes:.1f} min".replace(".0 min", " min")
    return f"{minutes // 60:.0f} h {minutes % 60:.0f} min"


SCORES = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def scored(score: str, value: float) -> str:
    """A score as people write it: an accuracy in per cent, others as they are."""
    return percent(value) if score == "accuracy" else rate(value)


def plain(value: Any) -> str:
    """A recipe's value in few letters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def check_document(found: Manifest) -> dict[str, Any]:
    """The audit's summary as plain values."""
    from pati.training import balance  # it brings torch, which errors and downloads need not wait for

    kept = found.kept
    widths, heights = sorted(entry.width for entry in kept), sorted(entry.height for entry in kept)
    groups = found.duplicate_groups()
    trained = Counter(entry.label for entry in found.of_split("train"))
    counts = [trained[name] for name in found.classes]
    evenness: dict[str, Any] | None = None
    if counts and min(counts) > 0:
        evenness = {"ratio": round(balance.ratio(counts), 2), "advised": balance.advised(counts)}
    return {
        "source": found.source,
        "root": found.root,
        "files": len(found.entries),
        "kept": len(kept),
        "quarantined": [
            {"path": printable(entry.path), "reason": entry.reason, "detail": entry.detail}
            for entry in found.entries
            if not entry.kept
        ],
        "flags": dict(Counter(flag for entry in kept for flag in entry.flags)),
        "classes": {
            name: {part: sum(entry.label == name for entry in found.of_split(part)) for part in SPLITS}
            for name in found.classes
        },
        "shares": found.shares(),
        "balance": evenness,
        "sizes": {
            name: {"smallest": values[0], "median": values[len(values) // 2], "largest": values[-1]}
            for name, values in (("width", widths), ("height", heights))
            if values
        },
        "duplicates": [[printable(entry.path) for entry in group] for group in groups],
        "across_classes": [
            [printable(entry.path) for entry in group] for group in groups if len({entry.label for entry in group}) > 1
        ],
        "leaks": [[printable(entry.path) for entry in group] for group in found.leaks()],
        "notes": list(found.notes),
        "manifest": found.hash(),
    }


def show_check(found: Manifest, screen: Console) -> None:
    """The audit's summary as tables."""
    document = check_document(found)
    found_here = f"{printable(document['root'])}: {document['files']} files, {document['kept']} photos kept"
    screen.print(found_here, markup=False, soft_wrap=True)
    if document["sizes"]:
        width, height = document["sizes"]["width"], document["sizes"]["height"]
        screen.print(
            f"sizes: {width['smallest']}×{height['smallest']} to {width['largest']}×{height['largest']}, "
            f"median {width['median']}×{height['median']}"
        )
    table = Table("class", *SPLITS, "all", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, counts in document["classes"].items():
        table.add_row(Text(name), *(str(counts[part]) for part in SPLITS), str(sum(counts.values())))
    table.add_row("share", *(f"{100 * document['shares'][part]:.1f} %" for part in SPLITS), "")
    screen.print(table)
    if document["balance"]:
        advised = document["balance"]["advised"]
        screen.print(
            f"balance: the largest class has {document['balance']['ratio']:.1f} times as many training photos as the "
            f"smallest; {'even enough' if advised == 'none' else f'advised: --balance {advised}'}",
            soft_wrap=True,
        )
    counts = Counter(row["reason"] for row in document["quarantined"])
    for reason, count in counts.most_common():
        screen.print(f"quarantined: {count} {reason}: {REASONS[reason]}", soft_wrap=True)
    for row in document["quarantined"][:20]:
        screen.print(f"  {row['path']}  {row['reason']}", markup=False, soft_wrap=True)
    if len(document["quarantined"]) > 20:
        screen.print(f"  … and {len(document['quarantined']) - 20} more, in the manifest")
    for flag, count in document["flags"].items():
        screen.print(f"flagged: {count} {flag}: {FLAGS[flag]}", soft_wrap=True)
    groups = document["duplicates"]
    screen.print(f"duplicates: {len(groups)} groups, {sum(map(len, groups))} photos; each group stays in one split")
    if document["across_classes"]:
        screen.print("the same picture in two classes (likely label errors):")
        for group in document["across_classes"][:20]:
            screen.print("  " + "  ".join(group), markup=False, soft_wrap=True)
    if document["leaks"]:
        count = len(document["leaks"])
        screen.print(
            f"[bold red]leaks:[/] {count} groups of copies, or by --group-by, lie in more than one given split"
        )
        for group in document["leaks"][:20]:
            screen.print("  " + "  ".join(group), markup=False, soft_wrap=True)
    for note in document["notes"]:
        screen.print(f"note: {note}", markup=False, soft_wrap=True)


def show_scores(document: dict[str, Any], screen: Console) -> None:
    """Scores of one set: a table of the classes, then the accuracy with its interval.

    Scores that count all classes alike come first where the classes are uneven or were made to count.
    """
    table = Table("class", "precision", "recall", "F1", "photos", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["per_class"]:
        values = (row[name] for name in ("precision", "recall", "f1"))
        numbers = ("–" if value is None else rate(value) for value in values)  # None: not defined
        table.add_row(Text(row["class"]), *numbers, str(row["support"]))
    screen.print(table)
    low, high = document["accuracy_interval"]
    accuracy = (
        f"accuracy {percent(document['accuracy'])} (95 % interval {100 * low:.1f} to {100 * high:.1f} %, "
        f"{document['photos']} photos)"
    )
    low, high = document["macro_f1_interval"]
    macro = f"macro F1 {rate(document['macro_f1'])} ({low:.3f} to {high:.3f})"
    if document.get("balance", {}).get("by_class"):
        low, high = (100 * end for end in document["balanced_accuracy_interval"])
        balanced = f"balanced accuracy {percent(document['balanced_accuracy'])} ({low:.1f} to {high:.1f} %)"
        screen.print(f"{macro}, {balanced}, {accuracy}", soft_wrap=True)
    else:
        screen.print(f"{accuracy}, {macro}", soft_wrap=True)


_MAPS = {"centre": "a blob in the middle", "edges": "edges", "random": "noise"}
_EVEN = "a map even all over"


def show_checked(document: dict[str, Any], screen: Console) -> None:
    """Checks of explanations: what was measured, and what it says in words."""
    forgotten, method, photos = document["forgotten"], document["method"], document["photos"]
    told = {
        True: "the maps change when the net forgets what it has learnt",
        False: "FAILED: the maps stay alike when the net forgets what it has learnt",
    }.get(document["depends"], "whether the maps change when the net forgets can't be told")
    screen.print(f"{method} on {photos} photos: {told} ({_likeness(forgotten['all'])})", soft_wrap=True)
    screen.print(f"when its head alone forgets: {_likeness(forgotten['head'])}", soft_wrap=True)
    if document["even"]:
        screen.print(f"of {document['even']} photos the map is even all over: it points nowhere", soft_wrap=True)
    screen.print(f"the photo moved by 4 %: {_likeness(document['steadiness'])}", soft_wrap=True)
    control = document.get("shuffled_labels")
    if control:
        told = {
            True: "the maps of a net trained on shuffled labels are others",
            False: "FAILED: the maps of a net trained on shuffled labels are alike",
        }.get(control["depends"], "whether the maps of a net trained on shuffled labels are others can't be told")
        learnt = f"{control['epochs']} epochs, {percent(control['train_accuracy'])} of these labels"
        screen.print(f"{told} ({_likeness(control['likeness'])}; one net, {learnt})", soft_wrap=True)
    table = Table("", method, *_MAPS.values(), box=None, pad_edge=False)
    for name, row in document["measures"].items():
        good = "high" if row["high_is_good"] else "low"
        table.add_row(f"{name} ({good} is good)", *(f"{row[key]['mean']:.3f}" for key in ("method", *_MAPS)))
    screen.print(table)
    for name, row in document["measures"].items():
        for other, words in _MAPS.items():
            verdict = {True: "better than", False: "WORSE than"}.get(row["against"][other]["better"])
            screen.print(
                f"{name}: {verdict or 'no difference can be told to'} {words} ({_spread(row['against'][other])})",
                soft_wrap=True,
            )
    failed = False in (document["depends"], (control or document)["depends"])
    screen.print(
        "In short: don't go by these maps: they would be alike if the net had learnt nothing."
        if failed
        else _beyond_centre(document["beyond_centre"]),
        soft_wrap=True,
    )
    _left_out(document, screen)


def _beyond_centre(found: dict[str, list[str]]) -> str:
    """Whether maps say more of what the answer rests on than a blob in the middle, in a sentence."""
    better, worse, open_ = (", ".join(found[verdict]) for verdict in ("better", "worse", "open"))
    if better and worse:
        return f"In short: better than a blob in the middle by {better}, but WORSE by {worse}."
    if better and open_:
        return f"In short: better than a blob in the middle by {better}; by {open_} it can't be told."
    if better:
        return "In short: by every measure the maps are better than a blob in the middle."
    if worse:
        return f"In short: WORSE than a blob in the middle by {worse}; better by no measure."
    return "In short: no difference can be told between the maps and a blob in the middle."


def show_located(document: dict[str, Any], screen: Console) -> None:
    """Maps against boxes: each measure with its interval, and how far above an even map and a blob in the middle."""
    screen.print(f"{document['photos']} photos; the boxes hold {_percents(document['area'])} of the area")
    table = Table("", "peak in it %", "energy in it %", "overlap (IoU) %", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
        column.justify = "right" if column.header else "left"
    known = {"even": _EVEN, **_MAPS}
    for name, row in document["methods"].items():
        cells = []
        for measure in ("pointing", "energy", "overlap"):
            low, high = (100 * end for end in row[measure]["interval"])
            cells.append(f"{hundredths(row[measure]['mean'])} ({low:.1f}–{high:.1f})")
        table.add_row(known.get(name, name), *cells)
    screen.print(table)
    for name, row in document["methods"].items():
        if name in known:
            continue
        for other in ("even", "centre"):
            told = []
            for measure in ("pointing", "energy", "overlap"):
                gain = row[measure]["against"][other]
                low, high = gain["interval"]
                verdict = "more" if low > 0 else "less" if high < 0 else "no difference can be told"
                told.append(f"{measure} {verdict} ({_spread(gain, sign=True)})")
            screen.print(f"{name} against {known[other]}: {', '.join(told)}", soft_wrap=True)
    _left_out(document, screen)


def _likeness(row: dict[str, Any]) -> str:
    """The rank correlation of two maps of the same photos, in words."""
    if row["mean"] is None:
        return f"{row['photos']} photos have maps that can be compared; at least 8 are needed"
    if row["interval"][0] is None:
        return f"likeness of the maps {row['mean']:.3f}, by one net alone"
    return f"likeness of the maps {_spread(row)}"


def _spread(row: dict[str, Any], *, sign: bool = False) -> str:
    low, high = row["interval"]
    form = "+.3f" if sign else ".3f"
    return f"{row['mean']:{form}}, {low:{form}} to {high:{form}}"


def _percents(row: dict[str, Any]) -> str:
    low, high = (100 * end for end in row["interval"])
    return f"{percent(row['mean'])} ({low:.1f} to {high:.1f} %)"


def _left_out(document: dict[str, Any], screen: Console) -> None:
    if document["unreadable"]:
        screen.print(f"note: {document['unreadable']} files could not be read and are not counted")
    if document.get("beyond"):
        screen.print(
            f"note: {document['beyond']} boxes lie beyond what the net sees of the cropped photo and are not counted",
            soft_wrap=True,
        )


def show_outside(document: dict[str, Any]) -> None:
    """Photos from elsewhere against the test photos, on stdout."""
    low, high = document["roc_interval"]
    print(
        f"{document['photos']} photos of {printable(document['data'])}: the less familiar of one of them and a test "
        f"photo is theirs in {percent(document['roc_area'])} of pairs (95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %)"
    )
    for key, told in (("odd", "called unlike the photos trained on"), ("unsure", "answered as unsure, with these")):
        low, high = document[f"{key}_interval"]
        print(f"{percent(document[key])} are {told} ({100 * low:.1f} to {100 * high:.1f} %)")


def show_clean(document: dict[str, Any]) -> None:
    """What `pati clean` found, on stdout: counts, where the lists lie, what to do."""
    counts = document["counts"]
    for why, told in (
        ("two-classes", "show a picture that is in two classes"),
        ("label", "have a label that is likely wrong"),
        ("odd", "are the least like the others"),
    ):
        print(f"{counts[why]:6} {told}")
    of = f"{document['judged']} of {document['photos']} labels judged by nets that had not trained on the photo"
    more = "; --folds 3 judges the training photos too, by three trainings" if document["unjudged"] else ""
    print(of + ("" if document["folds"] else more))
    if document["folds"]:
        took = duration(sum(row["seconds"] for row in document["folds"]))
        agreed = ", ".join(percent(row["agreement"]) for row in document["folds"])
        print(f"{len(document['folds'])} trainings took {took}; they answer {agreed} of their photos as labelled")
    if document["unlisted"]:
        print(f"{document['unlisted']} photos are not listed: their names are not valid text")
    print(f"table:    {document['table']}\npage:     {document['page']}")
    print(f"Decide in either (keep, drop, relabel), then: {document['command']}")


def show_result(run: Run, metrics: dict[str, Any]) -> None:
    """The end of a training on stdout: scores, where things lie, what to try."""
    show_scores(metrics["test"] | {"balance": metrics.get("balance", {})}, console(stderr=False))
    pictures = run.figures / "explanations.png"
    for what, path in (("report", run.report), ("pictures", pictures), ("model", run.model)):
        print(f"{what + ':':10}{path}")
    words = shlex.join([*plugins.options(), str(run.folder)])
    print(f"try:      pati predict {words} PHOTO…\n          pati explain {words} PHOTO…")


def show_comparison(document: dict[str, Any], screen: Console) -> None:
    """Runs as columns, as many abreast as fit, then what can be said of each pair."""
    columns = [
        (printable(row["name"]), _comparison_cells(row, by_class=document["by_class"])) for row in document["runs"]
    ]
    heads = [head for head, _ in columns[0][1]]
    room = screen.width - max(map(len, heads))
    while columns:
        widths = itertools.accumulate(2 + max(len(name), *(len(cell) for _, cell in cells)) for name, cells in columns)
        abreast = max(1, sum(width <= room for width in widths))
        table = Table("", box=None, pad_edge=False)
        for name, _ in columns[:abreast]:
            table.add_column(Text(name), justify="right", overflow="fold")
        for number, head in enumerate(heads):
            table.add_row(head, *(Text(cells[number][1]) for _, cells in columns[:abreast]))
        screen.print(table)
        screen.print()
        columns = columns[abreast:]
    for pair in document["pairs"]:
        low, high = pair["interval"]
        told = f"{pair['verdict']}: {100 * pair['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        if "only_first_right" in pair:
            told += f"; right alone: {pair['only_first_right']} and {pair['only_second_right']} photos"
        if document["by_class"] and "macro_f1_interval" in pair:
            low, high = pair["macro_f1_interval"]
            judged = "no difference can be told" if low <= 0 <= high else "a difference"
            told += f"; macro F1: {judged}, {pair['macro_f1_difference']:+.3f} ({low:+.3f} to {high:+.3f})"
        screen.print(printable(told), markup=False, soft_wrap=True)


def _comparison_cells(row: dict[str, Any], *, by_class: bool) -> list[tuple[str, str]]:
    low, high = row["accuracy_interval"]
    accuracy = [("accuracy %", hundredths(row["accuracy"])), ("  95 %", f"{100 * low:.1f}–{100 * high:.1f}")]
    low, high = row["macro_f1_interval"]
    alike = [
        ("macro F1", rate(row["macro_f1"])),
        ("  95 %", f"{low:.3f}–{high:.3f}"),
        ("balanced %", hundredths(row["balanced_accuracy"])),
    ]
    speed = row["photos_per_second"]
    return [
        ("model", row["model"]),
        *(alike + accuracy if by_class else accuracy + alike),
        ("log loss", f"{row['log_loss']:.3f}"),
        ("test photos", str(row["photos"])),
        ("size px", str(row["size"])),
        ("parameters", _thousands(row["parameters"])),
        ("multiply-adds", _thousands(row["multiply_adds"])),
        ("training min", f"{row['training_seconds'] / 60:.1f}"),
        ("photos/s", "–" if speed is None else f"{speed:.0f}"),
        ("epochs", str(row["epochs"])),
        ("seed", str(row["seed"])),
    ]


def _thousands(count: float) -> str:
    """A count with three digits: 998, 1.23 M."""
    for unit in ("", " k", " M", " G"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} T"


def show_search(document: dict[str, Any]) -> None:
    """The end of a search on stdout: the best against the recipe itself, where things lie, what to do."""
    best, default, score = document["best"], document["default"], document["score"]
    photos = f"on {document['validation_photos']} validation photos"
    print(f"best:     {SCORES[score]} {scored(score, best['value'])} {photos}, trial {best['number']}")
    if default is not None and default["value"] is not None:
        print(f"default:  {SCORES[score]} {scored(score, default['value'])}, trial {default['number']}")
    changed = {
        name: value
        for name, value in best["values"].items()
        if name not in best["idle"] and (default is None or value != default["values"][name])
    }
    for name, value in changed.items():
        print(f"          {name} {plain(value)}" + (f" ({plain(default['values'][name])})" if default else ""))
    print(f"recipe:   {document['recipe']}\nreport:   {document['report']}\ntrain it: {document['command']}")
