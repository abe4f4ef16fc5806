"""Tables of results: the audit, scores, comparisons, searches."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pati import plugins
from pati.data.decode import FLAGS, REASONS
from pati.data.manifest import Manifest
from pati.data.split import SPLITS
from pati.evaluation.documents import (
    Balance,
    CleanDocument,
    Comparison,
    OutsideOf,
    RunDocument,
    RunRow,
    Scores,
    SearchDocument,
)
from pati.evaluation.metrics import further
from pati.runs.run import Run
from pati.system.files import printable
from pati.system.rounding import hundredths, percent, rate
from pati.terminal.console import SCORES, console, duration, plain, scored


class Quarantined(TypedDict):
    """A file that was set aside."""

    path: str
    reason: str
    detail: str


class Advice(TypedDict):
    """How many times as many training photos the largest class has, and the balancing method for that."""

    ratio: float
    advised: str


class CheckDocument(TypedDict):
    """The audit's summary."""

    source: str
    root: str
    files: int
    kept: int
    quarantined: list[Quarantined]
    flags: dict[str, int]
    classes: dict[str, dict[str, int]]
    shares: dict[str, float]
    balance: Advice | None
    sizes: dict[str, dict[str, int]]
    duplicates: list[list[str]]
    across_classes: list[list[str]]
    leaks: list[list[str]]
    notes: list[str]
    manifest: str


def check_document(found: Manifest) -> CheckDocument:
    """The audit's summary as plain values."""
    from pati.training import balance  # it brings torch, which errors and downloads need not wait for

    kept = found.kept
    widths, heights = sorted(entry.width for entry in kept), sorted(entry.height for entry in kept)
    groups = found.duplicate_groups()
    trained = Counter(entry.label for entry in found.of_split("train"))
    counts = [trained[name] for name in found.classes]
    evenness: Advice | None = None
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
        table.add_row(Text(printable(name)), *(str(counts[part]) for part in SPLITS), str(sum(counts.values())))
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


def show_scores(document: Scores, balance: Balance | None, screen: Console) -> None:
    """Scores of one set: a table of the classes, then the accuracy with its interval.

    Scores that count all classes alike come first where the classes are uneven or were made to count.
    """
    table = Table("class", "precision", "recall", "F1", "photos", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["per_class"]:
        values = (row[name] for name in ("precision", "recall", "f1"))
        numbers = ("–" if value is None else rate(value) for value in values)  # None: not defined
        table.add_row(Text(printable(row["class"])), *numbers, str(row["support"]))
    screen.print(table)
    low, high = document["accuracy_interval"]
    accuracy = (
        f"accuracy {percent(document['accuracy'])} (95 % interval {100 * low:.1f} to {100 * high:.1f} %, "
        f"{document['photos']} photos)"
    )
    low, high = document["macro_f1_interval"]
    macro = f"macro F1 {rate(document['macro_f1'])} ({low:.3f} to {high:.3f})"
    if balance is not None and balance["by_class"]:
        low, high = (100 * end for end in document["balanced_accuracy_interval"])
        balanced = f"balanced accuracy {percent(document['balanced_accuracy'])} ({low:.1f} to {high:.1f} %)"
        screen.print(f"{macro}, {balanced}, {accuracy}", soft_wrap=True)
    else:
        screen.print(f"{accuracy}, {macro}", soft_wrap=True)
    more = [f"{name} {_value(value)}" for name, value in further(document).items()]
    if more:
        screen.print(", ".join(more), markup=False, soft_wrap=True)


def _value(value: float | None) -> str:
    """A metric whose scale is not known."""
    return "–" if value is None else f"{value:.4g}"


def show_outside(document: OutsideOf) -> None:
    """Photos from elsewhere against the test photos, on stdout."""
    low, high = document["roc_interval"]
    print(
        f"{document['photos']} photos of {printable(document['data'])}: the less familiar of one of them and a test "
        f"photo is theirs in {percent(document['roc_area'])} of pairs (95 % interval {100 * low:.1f} to "
        f"{100 * high:.1f} %)"
    )
    for share, (low, high), told in (
        (document["odd"], document["odd_interval"], "called unlike the photos trained on"),
        (document["unsure"], document["unsure_interval"], "answered as unsure, with these"),
    ):
        print(f"{percent(share)} are {told} ({100 * low:.1f} to {100 * high:.1f} %)")


def show_clean(document: CleanDocument) -> None:
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


def show_result(run: Run, metrics: RunDocument) -> None:
    """The end of a training on stdout: scores, where things lie, what to try."""
    show_scores(metrics["test"], metrics.get("balance"), console(stderr=False))
    pictures = run.figures / "explanations.png"
    for what, path in (("report", run.report), ("pictures", pictures), ("model", run.model)):
        print(f"{what + ':':10}{path}")
    words = shlex.join([*plugins.options(), str(run.folder)])
    print(f"try:      pati predict {words} PHOTO…\n          pati explain {words} PHOTO…")


def show_comparison(document: Comparison, screen: Console) -> None:
    """Runs as columns, as many abreast as fit, then what can be said of each pair."""
    further = list(dict.fromkeys(name for row in document["runs"] for name in row["further"]))
    columns = [
        (printable(row["name"]), _comparison_cells(row, further, by_class=document["by_class"]))
        for row in document["runs"]
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


def _comparison_cells(row: RunRow, further: Sequence[str], *, by_class: bool) -> list[tuple[str, str]]:
    """Head and text of each cell; `further`: the metrics of all runs, of which this one may lack some."""
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
        ("model", row["model"] or ""),
        *(alike + accuracy if by_class else accuracy + alike),
        ("log loss", f"{row['log_loss']:.3f}"),
        *((name, _value(row["further"].get(name))) for name in further),
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


def show_search(document: SearchDocument) -> None:
    """The end of a search on stdout: the best against the recipe itself, where things lie, what to do."""
    best, default, score = document["best"], document["default"], document["score"]
    photos = f"on {document['validation_photos']} validation photos"
    if best is None or best["value"] is None:
        return
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
