"""What tests of explanations came to, as tables and in words."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.table import Table

from pati.evaluation.documents import CheckedExplanations, Interval, Likeness, Located, Mean
from pati.system.rounding import hundredths, percent

_MAPS: dict[Literal["centre", "edges", "random"], str] = {
    "centre": "a blob in the middle",
    "edges": "edges",
    "random": "noise",
}
_EVEN = "a map even all over"


def show_checked(document: CheckedExplanations, screen: Console) -> None:
    """Checks of explanations: what was measured, and what it says in words."""
    forgotten, method, photos = document["forgotten"], document["method"], document["photos"]
    told = _told(
        document["depends"],
        "the maps change when the net forgets what it has learnt",
        "FAILED: the maps stay alike when the net forgets what it has learnt",
        "whether the maps change when the net forgets can't be told",
    )
    screen.print(f"{method} on {photos} photos: {told} ({_likeness(forgotten['all'])})", soft_wrap=True)
    screen.print(f"when its head alone forgets: {_likeness(forgotten['head'])}", soft_wrap=True)
    if document["even"]:
        screen.print(f"of {document['even']} photos the map is even all over: it points nowhere", soft_wrap=True)
    screen.print(f"the photo moved by 4 %: {_likeness(document['steadiness'])}", soft_wrap=True)
    control = document.get("shuffled_labels")
    if control:
        told = _told(
            control["depends"],
            "the maps of a net trained on shuffled labels are others",
            "FAILED: the maps of a net trained on shuffled labels are alike",
            "whether the maps of a net trained on shuffled labels are others can't be told",
        )
        learnt = f"{control['epochs']} epochs, {percent(control['train_accuracy'])} of these labels"
        screen.print(f"{told} ({_likeness(control['likeness'])}; one net, {learnt})", soft_wrap=True)
    table = Table("", method, *_MAPS.values(), box=None, pad_edge=False)
    for name, row in document["measures"].items():
        good = "high" if row["high_is_good"] else "low"
        means = (row["method"], *(row[other] for other in _MAPS))
        table.add_row(f"{name} ({good} is good)", *(f"{mean['mean']:.3f}" for mean in means))
    screen.print(table)
    for name, row in document["measures"].items():
        for other, words in _MAPS.items():
            gain = row["against"][other]
            verdict = _told(gain["better"], "better than", "WORSE than", "no difference can be told to")
            screen.print(f"{name}: {verdict} {words} ({_spread(gain['mean'], gain['interval'])})", soft_wrap=True)
    failed = False in (document["depends"], (control or document)["depends"])
    screen.print(
        "In short: don't go by these maps: they would be alike if the net had learnt nothing."
        if failed
        else _beyond_centre(document["beyond_centre"]),
        soft_wrap=True,
    )
    _left_out(screen, document["unreadable"])


def _told(found: bool | None, yes: str, no: str, unknown: str) -> str:
    return unknown if found is None else yes if found else no


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


def show_located(document: Located, screen: Console) -> None:
    """Maps against boxes: each measure with its interval, and how far above an even map and a blob in the middle."""
    screen.print(f"{document['photos']} photos; the boxes hold {_percents(document['area'])} of the area")
    table = Table("", "peak in it %", "energy in it %", "overlap (IoU) %", box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
        column.justify = "right" if column.header else "left"
    known = {"even": _EVEN} | {str(name): words for name, words in _MAPS.items()}
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
                told.append(f"{measure} {verdict} ({_spread(gain['mean'], gain['interval'], sign=True)})")
            screen.print(f"{name} against {known[other]}: {', '.join(told)}", soft_wrap=True)
    _left_out(screen, document["unreadable"], document["beyond"])


def _likeness(row: Likeness) -> str:
    """The rank correlation of two maps of the same photos, in words."""
    if row["mean"] is None:
        return f"{row['photos']} photos have maps that can be compared; at least 8 are needed"
    ends = [end for end in row["interval"] if end is not None]
    if not ends:
        return f"likeness of the maps {row['mean']:.3f}, by one net alone"
    return f"likeness of the maps {_spread(row['mean'], ends)}"


def _spread(mean: float, interval: Interval, *, sign: bool = False) -> str:
    low, high = interval
    form = "+.3f" if sign else ".3f"
    return f"{mean:{form}}, {low:{form}} to {high:{form}}"


def _percents(row: Mean) -> str:
    low, high = (100 * end for end in row["interval"])
    return f"{percent(row['mean'])} ({low:.1f} to {high:.1f} %)"


def _left_out(screen: Console, unreadable: int, beyond: int = 0) -> None:
    if unreadable:
        screen.print(f"note: {unreadable} files could not be read and are not counted")
    if beyond:
        screen.print(
            f"note: {beyond} boxes lie beyond what the net sees of the cropped photo and are not counted",
            soft_wrap=True,
        )
