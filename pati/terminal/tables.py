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
from pati.data import decode
from pati.data.manifest import Manifest
from pati.evaluation import learning_curves
from pati.evaluation.clusters import FEW, few_clusters
from pati.evaluation.documents import (
    Balance,
    CleanDocument,
    Comparison,
    LaterScores,
    LearningCurveDocument,
    OutOfDistributionScores,
    Pair,
    RunDocument,
    RunRow,
    Scores,
    SearchDocument,
)
from pati.evaluation.metrics import absent, other_metrics, weakest
from pati.evaluation.shortcuts import telling_properties
from pati.locale import catalogues
from pati.locale.formats import printable, signed
from pati.locale.messages import N_, NC_, NP_, Message, as_is
from pati.report.labels import FLAGS, REASONS, scored_by
from pati.runs.run import Run
from pati.system import command
from pati.terminal.console import (
    console,
    duration,
    indented,
    note,
    number,
    percent,
    percent_number,
    plain,
    put,
    rate,
    say,
    scored,
    show,
    tell,
    warning,
)
from pati.terminal.explanations import not_counted
from pati.terminal.labels import SCORES, SPLITS
from pati.terminal.progress import leaking
from pati.training import balance

SHOWN = 20  # files and groups, of any number
MOST_CLASSES = 100  # in a table of scores


class Quarantined(TypedDict):
    """A file that was set aside."""

    path: str
    reason: str
    detail: str


class Advice(TypedDict):
    """How many times as many training photos the largest class has, and the balancing method for that."""

    ratio: float
    advised: str


class ShortcutRow(TypedDict):
    """A property of the files that tells the classes: see `manifest.Shortcut`."""

    property: str
    accuracy: float
    interval: tuple[float, float]
    chance: float


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
    folds: int
    balance: Advice | None
    sizes: dict[str, dict[str, int]]
    duplicates: list[list[str]]
    look_alikes: list[list[str]]
    across_classes: list[list[str]]
    leaks: list[list[str]]
    shortcuts: list[ShortcutRow] | None
    notes: list[str]
    manifest: str


def check_document(manifest: Manifest) -> CheckDocument:
    """The audit's summary as plain values."""
    kept = manifest.kept
    widths, heights = (sorted(side.tolist()) for side in kept.size)
    groups = manifest.duplicate_groups()
    by_split = {part: manifest.of_split(part).label.counts() for part in SPLITS}
    counts = [by_split["train"].get(name, 0) for name in manifest.classes]
    class_balance: Advice | None = None
    if counts and min(counts) > 0:
        class_balance = {"ratio": round(balance.ratio(counts), 2), "advised": balance.advised(counts)}
    return {
        "source": manifest.source,
        "root": manifest.root,
        "files": len(manifest.entries),
        "kept": len(kept),
        "quarantined": [
            {
                "path": printable(entry.path),
                "reason": entry.reason,
                "detail": entry.detail.shown("en") if entry.detail else "",
            }
            for entry in manifest.entries.quarantined
        ],
        "flags": dict(kept.flag_counts()),
        "classes": {name: {part: by_split[part].get(name, 0) for part in SPLITS} for name in manifest.classes},
        "shares": manifest.shares(),
        "folds": manifest.folds,
        "balance": class_balance,
        "sizes": {
            name: {"smallest": values[0], "median": values[len(values) // 2], "largest": values[-1]}
            for name, values in (("width", widths), ("height", heights))
            if values
        },
        "duplicates": [[printable(entry.path) for entry in group] for group in groups],
        "look_alikes": [[printable(entry.path) for entry in group] for group in manifest.alike()],
        "across_classes": [
            [printable(entry.path) for entry in group] for group in groups if len({entry.label for entry in group}) > 1
        ],
        "leaks": [[printable(entry.path) for entry in group] for group in manifest.leaks()],
        "shortcuts": None
        if manifest.shortcuts is None
        else [
            {
                "property": found.name,
                "accuracy": round(found.accuracy, 4),
                "interval": (round(found.low, 4), round(found.high, 4)),
                "chance": found.chance,
            }
            for found in manifest.shortcuts
        ],
        "notes": [text.shown("en") for text in manifest.notes],
        "manifest": manifest.hash(),
    }


def show_check(manifest: Manifest, screen: Console) -> None:
    """The audit's summary as tables."""
    document = check_document(manifest)
    show(
        N_(
            "{root}: {files}, {photos}",
            root=document["root"],
            files=NP_("{n} file", "{n} files", n=document["files"]),
            photos=NP_("{n} photo kept", "{n} photos kept", n=document["kept"]),
        ),
        screen,
    )
    if document["sizes"]:
        width, height = document["sizes"]["width"], document["sizes"]["height"]
        sizes = {name: f"{width[name]}×{height[name]}" for name in ("smallest", "largest", "median")}
        show(N_("sizes: {smallest} to {largest}, median {median}", **sizes), screen)
    if manifest.shortcuts:
        telling = telling_properties(manifest.shortcuts)
        if manifest.shortcuts[0].strong:
            show(warning(telling), screen, style="bold red")
        else:
            show(note(telling), screen)
    table = Table(box=None, pad_edge=False)
    table.add_column(str(NC_("column of splits", "class")))
    for head in (*SPLITS.values(), NC_("column of splits", "all")):
        table.add_column(str(head), justify="right")
    for name, counts in document["classes"].items():
        table.add_row(Text(printable(name)), *(str(counts[part]) for part in SPLITS), str(sum(counts.values())))
    shares = (signed(f"{100 * document['shares'][part]:.1f}", catalogues.current()) for part in SPLITS)
    table.add_row(str(NC_("row of splits", "share")), *shares, "")
    screen.print(table)
    if document["folds"]:
        show(
            N_(
                "folds: {folds}; a test split would be too small for a reliable score, so the score comes from "
                "cross-validation if there is enough time",
                folds=document["folds"],
            ),
            screen,
        )
    if document["balance"]:
        show(_class_balance(document["balance"]), screen)
    _show_files(document, manifest, screen)
    groups = document["duplicates"]
    show(
        N_(
            "duplicates: {groups}, {photos}; each group stays in one split",
            **_sizes(groups),
        ),
        screen,
    )
    if alike := document["look_alikes"]:
        show(
            N_(
                "look-alikes: {groups}, {photos}; not kept together",
                **_sizes(alike),
            ),
            screen,
        )
    if document["across_classes"]:
        show(N_("duplicates across classes (likely label errors):"), screen)
        _show_groups(document["across_classes"], screen)
    if document["leaks"]:
        show(warning(leaking(len(document["leaks"]))), screen, style="bold red")
        _show_groups(document["leaks"], screen)
    for text in manifest.notes:
        show(note(text), screen)


def _sizes(groups: Sequence[Sequence[str]]) -> dict[str, Message]:
    """How many groups and photos there are, for a sentence."""
    return {
        "groups": NP_("{n} group", "{n} groups", n=len(groups)),
        "photos": NP_("{n} photo", "{n} photos", n=sum(map(len, groups))),
    }


def _class_balance(balance: Advice) -> Message:
    if balance["advised"] == "none":
        return N_(
            "balance: the largest class has {ratio:.1f} times as many training photos as the smallest; no balancing "
            "needed",
            ratio=balance["ratio"],
        )
    return N_(
        "balance: the largest class has {ratio:.1f} times as many training photos as the smallest; recommended: "
        "--balance {advised}",
        ratio=balance["ratio"],
        advised=balance["advised"],
    )


def _show_files(document: CheckDocument, manifest: Manifest, screen: Console) -> None:
    """Files that were set aside, and flags of those that were not."""
    for reason, count in Counter(row["reason"] for row in document["quarantined"]).most_common():
        show(
            N_(
                "quarantined: {count} {reason}: {meaning}",
                count=count,
                reason=REASONS[reason],
                meaning=decode.REASONS[reason],
            ),
            screen,
        )
    aside = manifest.entries.quarantined
    for entry in aside[:SHOWN]:
        why: Message = REASONS[entry.reason]
        if entry.detail:
            why = N_("{reason}: {detail}", reason=why, detail=entry.detail)
        show(Message("  {path}  {why}", {"path": printable(entry.path), "why": why}), screen)
    more = len(aside) - SHOWN
    if more > 0:
        show(indented(NP_("… and {n} more, in the manifest", "… and {n} more, in the manifest", n=more)), screen)
    for flag, count in document["flags"].items():
        show(
            N_("flagged: {count} {flag}: {meaning}", count=count, flag=FLAGS[flag], meaning=decode.FLAGS[flag]), screen
        )


def _show_groups(groups: list[list[str]], screen: Console) -> None:
    for group in groups[:SHOWN]:
        show(indented(as_is("  ".join(group[:SHOWN]) + "  …" * (len(group) > SHOWN))), screen)


def show_scores(document: Scores, balance: Balance | None, screen: Console) -> None:
    """Scores of one set: a table of the classes, then the accuracy with its interval.

    Scores that count all classes alike come first where the classes are uneven or were made to count.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column(str(NC_("column of scores", "class")))
    for head in (
        NC_("column of scores", "precision"),
        NC_("column of scores", "recall"),
        NC_("column of scores", "F1"),
        NC_("column of scores", "photos"),
    ):
        table.add_column(str(head), justify="right")
    rows = weakest(document, MOST_CLASSES)
    for row in rows:
        values = (row[name] for name in ("precision", "recall", "f1"))
        numbers = ("–" if value is None else rate(value) for value in values)  # None: not defined
        table.add_row(Text(printable(row["class"])), *numbers, str(row["support"]))
    screen.print(table)
    if len(rows) < len(document["per_class"]):
        text = N_(
            "these are the {shown} of {n:,} classes with the lowest F1", shown=len(rows), n=len(document["per_class"])
        )
        show(text, screen)
    low, high = document["accuracy_interval"]
    accuracy = NP_(
        "accuracy {share:percent} (95 % CI {low:.1f} to {high:.1f} %, {n} photo)",
        "accuracy {share:percent} (95 % CI {low:.1f} to {high:.1f} %, {n} photos)",
        n=document["photos"],
        share=document["accuracy"],
        low=100 * low,
        high=100 * high,
    )
    low, high = document["macro_f1_interval"]
    macro = N_("macro F1 {score:rate} ({low:.3f} to {high:.3f})", score=document["macro_f1"], low=low, high=high)
    scores = [accuracy, macro]
    if balance is not None and balance["by_class"]:
        low, high = document["balanced_accuracy_interval"]
        balanced = N_(
            "balanced accuracy {share:percent} ({low:.1f} to {high:.1f} %)",
            share=document["balanced_accuracy"],
            low=100 * low,
            high=100 * high,
        )
        scores = [macro, balanced, accuracy]
    show(_listed(scores), screen)
    more = [as_is(f"{name} {_value(value)}") for name, value in other_metrics(document).items()]
    if more:
        show(_listed(more), screen)
    if clusters := document.get("clusters"):
        show(
            NP_(
                "the photos are not independent: intervals resample whole groups of photos, {n} group (cluster "
                "bootstrap)",
                "the photos are not independent: intervals resample whole groups of photos, {n} groups (cluster "
                "bootstrap)",
                n=clusters,
            ),
            screen,
        )
    if (effective := document.get("effective_clusters")) and effective < FEW:
        show(warning(few_clusters(effective)), screen)
    if missing := absent(document):
        text = NP_(
            "{n} class has no photos here, so these scores say nothing about it: {classes}",
            "{n} classes have no photos here, so these scores say nothing about them: {classes}",
            n=len(missing),
            classes=[printable(name) for name in missing[:10]],
        )
        show(warning(text), screen)


def show_caveats(document: LaterScores) -> None:
    """On stderr, what makes a later scoring worth less."""
    if document["unreadable"]:
        say(not_counted(document["unreadable"]))
    times = document.get("test_scored", 1)
    if times > 1:
        if document["kind"] == "data":
            say(
                note(
                    NP_(
                        "{n} of these photos is a test photo of the run: this test split has now been scored {times} "
                        "times; choices based on its score make the score optimistic",
                        "{n} of these photos are test photos of the run: this test split has now been scored {times} "
                        "times; choices based on its score make the score optimistic",
                        n=document["test_photos"],
                        times=times,
                    )
                )
            )
        else:
            say(
                note(
                    NP_(
                        "this test split has now been scored {n} time; choices based on its score make the score "
                        "optimistic",
                        "this test split has now been scored {n} times; choices based on its score make the score "
                        "optimistic",
                        n=times,
                    )
                )
            )
    if document["trained_on"]:
        say(
            warning(
                NP_(
                    "{n} of these photos was trained on, so the score is optimistic",
                    "{n} of these photos were trained on, so the score is optimistic",
                    n=document["trained_on"],
                )
            )
        )
    for copy in document["training_copies"][:SHOWN]:
        say(indented(N_("{path} is {of}", path=copy["path"], of=copy["of"])))
    if more := len(document["training_copies"][SHOWN:]):
        say(indented(NP_("… and {n} more, see --json", "… and {n} more, see --json", n=more)))
    rest = document["without_training_photos"]
    if rest is not None:
        low, high = rest["accuracy_interval"]
        say(
            NP_(
                "without them: accuracy {share:percent} (95 % CI {low:.1f} to {high:.1f} %, {n} photo), macro F1 "
                "{score:rate}",
                "without them: accuracy {share:percent} (95 % CI {low:.1f} to {high:.1f} %, {n} photos), macro F1 "
                "{score:rate}",
                n=rest["photos"],
                share=rest["accuracy"],
                low=100 * low,
                high=100 * high,
                score=rest["macro_f1"],
            )
        )


def _listed(messages: Sequence[Message]) -> Message:
    return Message("{messages}", {"messages": [*messages]})


def _value(value: float | None) -> str:
    """A metric whose scale is not known."""
    return "–" if value is None else number(value, ".4g")


def show_outside(document: OutOfDistributionScores) -> None:
    """Photos from elsewhere against the test photos, on stdout."""
    low, high = document["roc_interval"]
    tell(
        NP_(
            "{n} photo from {data}: AUROC of telling it from the test photos {area:percent} (95 % CI {low:.1f} to "
            "{high:.1f} %)",
            "{n} photos from {data}: AUROC of telling them from the test photos {area:percent} (95 % CI {low:.1f} to "
            "{high:.1f} %)",
            n=document["photos"],
            data=document["data"],
            area=document["roc_area"],
            low=100 * low,
            high=100 * high,
        )
    )
    low, high = document["odd_interval"]
    tell(
        N_(
            "found to be out of distribution: {share:percent} ({low:.1f} to {high:.1f} %)",
            share=document["odd"],
            low=100 * low,
            high=100 * high,
        )
    )
    low, high = document["unsure_interval"]
    tell(
        N_(
            "the model is unsure, including these: {share:percent} ({low:.1f} to {high:.1f} %)",
            share=document["unsure"],
            low=100 * low,
            high=100 * high,
        )
    )


def show_clean(document: CleanDocument) -> None:
    """What `pati clean` found, on stdout: counts, where the lists lie, what to do."""
    counts = document["counts"]
    for why, label in (
        ("two-classes", NC_("photos to review", "duplicates across classes")),
        ("label", NC_("photos to review", "likely label errors")),
        ("odd", NC_("photos to review", "most unlike the training photos")),
    ):
        print(f"{counts[why]:6} {label}")
    checked = {"judged": document["judged"], "n": document["photos"]}
    if document["unjudged"] and not document["folds"]:
        tell(
            NP_(
                "{judged} of {n} label checked, by a model that was not trained on the photo; --folds 3 checks the "
                "training photos too, by cross-validation",
                "{judged} of {n} labels checked, by a model that was not trained on the photo; --folds 3 checks the "
                "training photos too, by cross-validation",
                **checked,
            )
        )
    else:
        tell(
            NP_(
                "{judged} of {n} label checked, by a model that was not trained on the photo",
                "{judged} of {n} labels checked, by models that were not trained on the photo",
                **checked,
            )
        )
    if document["folds"]:
        tell(
            NP_(
                "{n} fold took {seconds:duration}; share of its photos with a prediction that agrees with the label: "
                "{agreed}",
                "{n} folds took {seconds:duration}; shares of their photos with a prediction that agrees with the "
                "label: {agreed}",
                n=len(document["folds"]),
                seconds=sum(row["seconds"] for row in document["folds"]),
                agreed=[percent(row["agreement"]) for row in document["folds"]],
            )
        )
    if document["unlisted"]:
        tell(
            NP_(
                "{n} photo is not listed: its name is not valid text",
                "{n} photos are not listed: their names are not valid text",
                n=document["unlisted"],
            )
        )
    tell_pairs([(N_("table:"), document["table"]), (N_("page:"), document["page"])])
    tell(N_("Decide in the table or on the page (keep, drop, relabel), then: {command}", command=document["command"]))


def show_result(run: Run, metrics: RunDocument) -> None:
    """The end of a training on stdout: scores, where things lie, what to try."""
    show_scores(metrics["test"], metrics.get("balance"), console(stderr=False))
    if folds := metrics.get("folds"):
        show(
            N_(
                "by cross-validation: each photo was predicted by the one of {n} networks that was not trained on it; "
                "the model was then trained on all photos, and the intervals are for it",
                n=len(folds),
            ),
            console(stderr=False),
        )
    pati, words = command.shown(), shlex.join([*plugins.options(), str(run.folder)])
    tell_pairs(
        [
            (N_("report:"), run.report),
            (N_("pictures:"), run.figures / "explanations.png"),
            (N_("model:"), run.model),
            (N_("try:"), N_("{pati} predict {words} PHOTO…", pati=pati, words=words)),
            (None, N_("{pati} explain {words} PHOTO…", pati=pati, words=words)),
        ]
    )


def tell_pairs(pairs: Sequence[tuple[Message | None, object]]) -> None:
    """Labels and what they are of, in two columns."""
    labels = [str(label or "") for label, _ in pairs]
    width = max(9, *map(len, labels))
    for label, (_, value) in zip(labels, pairs, strict=True):
        print(f"{label:{width}} {value}")


def show_comparison(document: Comparison, verdicts: Sequence[Message], screen: Console) -> None:
    """Runs as columns, as many abreast as fit, then what can be said of each pair; `verdicts`: of the pairs."""
    metrics = list(dict.fromkeys(name for row in document["runs"] for name in row["further"]))
    columns = [
        (printable(row["name"]), _comparison_cells(row, metrics, by_class=document["by_class"]))
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
        for line, head in enumerate(heads):
            table.add_row(head, *(Text(cells[line][1]) for _, cells in columns[:abreast]))
        screen.print(table)
        screen.print()
        columns = columns[abreast:]
    for pair, verdict in zip(document["pairs"], verdicts, strict=True):
        _show_pair(pair, verdict, screen, by_class=document["by_class"])


def _show_pair(pair: Pair, verdict: Message, screen: Console, *, by_class: bool) -> None:
    low, high = pair["interval"]
    show(
        N_(
            "{verdict}: {difference:+.1f} percentage points ({low:+.1f} to {high:+.1f})",
            verdict=verdict,
            difference=100 * pair["difference"],
            low=100 * low,
            high=100 * high,
        ),
        screen,
    )
    if "only_first_right" in pair:
        show(
            indented(
                N_(
                    "photos that only one predicts correctly: {first} and {second}",
                    first=pair["only_first_right"],
                    second=pair["only_second_right"],
                )
            ),
            screen,
        )
    if by_class and "macro_f1_interval" in pair:
        low, high = pair["macro_f1_interval"]
        facts = {"difference": pair["macro_f1_difference"], "low": low, "high": high}
        judged = N_("macro F1: a significant difference, {difference:+.3f} ({low:+.3f} to {high:+.3f})", **facts)
        if low <= 0 <= high:
            judged = N_("macro F1: no significant difference, {difference:+.3f} ({low:+.3f} to {high:+.3f})", **facts)
        show(indented(judged), screen)


def _comparison_cells(row: RunRow, metrics: Sequence[str], *, by_class: bool) -> list[tuple[str, str]]:
    """Head and text of each cell; `metrics`: the metrics of all runs, of which this one may lack some."""
    low, high = (number(100 * end, ".1f") for end in row["accuracy_interval"])
    interval = str(indented(NC_("row of a comparison", "95 % CI")))
    accuracy = [
        (str(NC_("row of a comparison", "accuracy %")), percent_number(row["accuracy"])),
        (interval, f"{low}–{high}"),
    ]
    low, high = (number(end, ".3f") for end in row["macro_f1_interval"])
    alike = [
        (str(NC_("row of a comparison", "macro F1")), rate(row["macro_f1"])),
        (interval, f"{low}–{high}"),
        (str(NC_("row of a comparison", "balanced accuracy %")), percent_number(row["balanced_accuracy"])),
    ]
    speed = row["photos_per_second"]
    return [
        (str(NC_("row of a comparison", "model")), row["model"] or ""),
        *(alike + accuracy if by_class else accuracy + alike),
        (str(NC_("row of a comparison", "log loss")), number(row["log_loss"], ".3f")),
        *((name, _value(row["further"].get(name))) for name in metrics),
        (str(NC_("row of a comparison", "photos")), str(row["photos"])),
        (str(NC_("row of a comparison", "scored by")), str(scored_by(row["folds"]))),
        (str(NC_("row of a comparison", "size px")), str(row["size"])),
        (str(NC_("row of a comparison", "parameters")), _thousands(row["parameters"])),
        (str(NC_("row of a comparison", "multiply-adds")), _thousands(row["multiply_adds"])),
        (str(NC_("row of a comparison", "training min")), number(row["training_seconds"] / 60, ".1f")),
        (str(NC_("row of a comparison", "photos/s")), "–" if speed is None else number(speed, ".0f")),
        (str(NC_("row of a comparison", "epochs")), str(row["epochs"])),
        (str(NC_("row of a comparison", "seed")), str(row["seed"])),
    ]


def _thousands(count: float) -> str:
    """A count with three digits: 998, 1.23 M."""
    for unit in ("", " k", " M", " G"):
        if count < 999.5:
            return number(count, ".3g") + unit
        count /= 1000
    return f"{number(count, '.3g')} T"


def show_search(document: SearchDocument) -> None:
    """The end of a search on stdout: the best trial against the baseline, where things lie, what to do."""
    best, default, score = document["best"], document["default"], document["score"]
    if best is None or best["value"] is None:
        return
    pairs: list[tuple[Message | None, object]] = [
        (
            N_("best:"),
            NP_(
                "{score} {value} on {n} validation photo, trial {number}",
                "{score} {value} on {n} validation photos, trial {number}",
                n=document["validation_photos"],
                score=SCORES[score],
                value=scored(score, best["value"]),
                number=best["number"],
            ),
        )
    ]
    if default is not None and default["value"] is not None:
        pairs.append(
            (
                N_("baseline:"),
                N_(
                    "{score} {value}, trial {number}",
                    score=SCORES[score],
                    value=scored(score, default["value"]),
                    number=default["number"],
                ),
            )
        )
    for name, value in best["values"].items():
        if name in best["idle"] or (default is not None and value == default["values"][name]):
            continue
        before = f" ({plain(default['values'][name])})" if default else ""
        pairs.append((None, f"{name} {plain(value)}{before}"))
    pairs += [
        (N_("recipe:"), document["recipe"]),
        (N_("report:"), document["report"]),
        (N_("train it:"), document["command"]),
    ]
    tell_pairs(pairs)


def show_learning_curve(document: LearningCurveDocument) -> None:
    """What `pati learning-curve` measured and predicts, on stdout."""
    table = Table(box=None, pad_edge=False)
    length = N_("time") if document["by_time"] else N_("epochs")
    for head in (N_("photos"), length, N_("accuracy %"), N_("95 % CI")):
        table.add_column(str(head), justify="right")
    for row in document["points"]:
        trained = row["length"] * document["length"]
        low, high = row["interval"]
        table.add_row(
            f"{row['photos']}",
            duration(trained) if document["by_time"] else f"{trained:g}",
            percent_number(row["accuracy"]),
            f"{percent_number(low)}–{percent_number(high)}",
        )
    put(table)
    print()
    for text in learning_curves.findings(document):
        tell(text)
    print()
    tell(learning_curves.setting(document))
    tell(N_("report: {path}", path=document["report"]))
