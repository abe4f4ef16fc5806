"""What tests of explanations came to, as tables and in words."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.table import Table

from pati.evaluation.documents import CheckedExplanations, Interval, LocalisationMean, LocalisationResult, MapSimilarity
from pati.locale.messages import N_, NC_, NP_, Message
from pati.terminal.console import note, number, percent_number, show
from pati.terminal.labels import MAPS, MEASURES

_BASELINES: tuple[Literal["centre", "edges", "random"], ...] = ("centre", "edges", "random")


def show_checked(document: CheckedExplanations, screen: Console) -> None:
    """Checks of explanations: what was measured, and what it says in words."""
    forgotten, method, photos = document["forgotten"], document["method"], document["photos"]
    show(NP_("{method}, {n} photo:", "{method}, {n} photos:", n=photos, method=method), screen)
    show(_randomised(document["depends"], _similarity(forgotten["all"])), screen)
    show(N_("only the head randomised: {similarity}", similarity=_similarity(forgotten["head"])), screen)
    if document["even"]:
        show(
            NP_(
                "for {n} photo the map is uniform: it does not highlight any region",
                "for {n} photos the map is uniform: it does not highlight any region",
                n=document["even"],
            ),
            screen,
        )
    show(N_("the photo shifted by 4 %: {similarity}", similarity=_similarity(document["steadiness"])), screen)
    control = document.get("shuffled_labels")
    if control:
        show(_shuffled(control["depends"], _similarity(control["likeness"])), screen)
        show(
            NP_(
                "that network: {n} epoch, {share:percent} of the shuffled labels learnt",
                "that network: {n} epochs, {share:percent} of the shuffled labels learnt",
                n=control["epochs"],
                share=control["train_accuracy"],
            ),
            screen,
        )
    table = Table("", method, *(str(MAPS[name]) for name in _BASELINES), box=None, pad_edge=False)
    for name, row in document["measures"].items():
        head = N_("{measure} (lower is better)", measure=MEASURES[name])
        if row["high_is_good"]:
            head = N_("{measure} (higher is better)", measure=MEASURES[name])
        means = (row["method"], *(row[other] for other in _BASELINES))
        table.add_row(str(head), *(number(mean["mean"], ".3f") for mean in means))
    screen.print(table)
    for name, row in document["measures"].items():
        for other in _BASELINES:
            gain = row["against"][other]
            show(
                _compared(gain["better"], MEASURES[name], MAPS[other], _spread(gain["mean"], gain["interval"])), screen
            )
    if False in (document["depends"], (control or document)["depends"]):
        show(
            N_("In short: do not rely on these maps: they would be similar if the network had learnt nothing."), screen
        )
    else:
        show(_beyond_centre(document["beyond_centre"]), screen)
    _left_out(screen, document["unreadable"])


def _randomised(depends: bool | None, similarity: Message) -> Message:
    if depends is None:
        return N_(
            "it cannot be determined whether the maps change when the network's parameters are randomised "
            "({similarity})",
            similarity=similarity,
        )
    if depends:
        return N_("the maps change when the network's parameters are randomised ({similarity})", similarity=similarity)
    return N_(
        "FAILED: the maps stay similar when the network's parameters are randomised ({similarity})",
        similarity=similarity,
    )


def _shuffled(depends: bool | None, similarity: Message) -> Message:
    if depends is None:
        return N_(
            "it cannot be determined whether the maps of a network trained on shuffled labels differ ({similarity})",
            similarity=similarity,
        )
    if depends:
        return N_("the maps of a network trained on shuffled labels differ ({similarity})", similarity=similarity)
    return N_(
        "FAILED: the maps of a network trained on shuffled labels are similar ({similarity})", similarity=similarity
    )


def _compared(better: bool | None, measure: Message, other: Message, spread: Message) -> Message:
    facts = {"measure": measure, "other": other, "spread": spread}
    if better is None:
        return N_("{measure}: no significant difference to the {other} ({spread})", **facts)
    if better:
        return N_("{measure}: better than the {other} ({spread})", **facts)
    return N_("{measure}: WORSE than the {other} ({spread})", **facts)


def _beyond_centre(verdicts: dict[str, list[str]]) -> Message:
    """Whether maps say more of what the prediction is based on than a centred Gaussian, in a sentence."""
    better, worse, open_ = ([MEASURES[name] for name in verdicts[verdict]] for verdict in ("better", "worse", "open"))
    if better and worse:
        return N_(
            "In short: better than a centred Gaussian on {better}, but WORSE on {worse}.", better=better, worse=worse
        )
    if better and open_:
        return N_(
            "In short: better than a centred Gaussian on {better}; no significant difference on {open}.",
            better=better,
            open=open_,
        )
    if better:
        return N_("In short: the maps are better than a centred Gaussian on every measure.")
    if worse:
        return N_("In short: WORSE than a centred Gaussian on {worse}; better on no measure.", worse=worse)
    return N_("In short: there is no significant difference between the maps and a centred Gaussian.")


def show_located(document: LocalisationResult, screen: Console) -> None:
    """Maps against boxes: each measure with its interval, and how far above a uniform map and a centred Gaussian."""
    low, high = document["area"]["interval"]
    show(
        NP_(
            "{n} photo; the boxes cover {share:percent} of the area (95 % CI {low:.1f} to {high:.1f} %)",
            "{n} photos; the boxes cover {share:percent} of the area (95 % CI {low:.1f} to {high:.1f} %)",
            n=document["photos"],
            share=document["area"]["mean"],
            low=100 * low,
            high=100 * high,
        ),
        screen,
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for head in (
        NC_("column of boxes", "pointing game %"),
        NC_("column of boxes", "energy in box %"),
        NC_("column of boxes", "overlap (IoU) %"),
    ):
        table.add_column(str(head), no_wrap=True, justify="right")
    for name, row in document["methods"].items():
        cells = []
        for measure in ("pointing", "energy", "overlap"):
            low, high = (100 * end for end in row[measure]["interval"])
            cells.append(f"{percent_number(row[measure]['mean'])} ({number(low, '.1f')}–{number(high, '.1f')})")
        table.add_row(str(MAPS.get(name, name)), *cells)
    screen.print(table)
    for name, row in document["methods"].items():
        if name in MAPS:
            continue
        for other in ("even", "centre"):
            gains = [_gain(measure, row[measure], other) for measure in ("pointing", "energy", "overlap")]
            show(N_("{method} against the {other}: {gains}", method=name, other=MAPS[other], gains=gains), screen)
    _left_out(screen, document["unreadable"], document["beyond"])


def _gain(measure: str, row: LocalisationMean, other: str) -> Message:
    gain = row["against"][other]
    low, high = gain["interval"]
    facts = {"measure": MEASURES[measure], "spread": _spread(gain["mean"], gain["interval"], sign=True)}
    if low > 0:
        return N_("{measure} higher ({spread})", **facts)
    if high < 0:
        return N_("{measure} lower ({spread})", **facts)
    return N_("{measure} not significantly different ({spread})", **facts)


def _similarity(row: MapSimilarity) -> Message:
    """The rank correlation of two maps of the same photos, in words."""
    if row["mean"] is None:
        return NP_(
            "the maps of {n} photo can be compared; at least 8 are needed",
            "the maps of {n} photos can be compared; at least 8 are needed",
            n=row["photos"],
        )
    ends = [end for end in row["interval"] if end is not None]
    if not ends:
        return N_("similarity {mean:.3f}, of a single network", mean=row["mean"])
    return N_("similarity {spread}", spread=_spread(row["mean"], ends))


def _spread(mean: float, interval: Interval, *, sign: bool = False) -> Message:
    low, high = interval
    if sign:
        return N_("{mean:+.3f}, {low:+.3f} to {high:+.3f}", mean=mean, low=low, high=high)
    return N_("{mean:.3f}, {low:.3f} to {high:.3f}", mean=mean, low=low, high=high)


def _left_out(screen: Console, unreadable: int, beyond: int = 0) -> None:
    if unreadable:
        show(not_counted(unreadable), screen)
    if beyond:
        show(
            note(
                NP_(
                    "{n} box lies outside the cropped part of the photo that the network sees and is not counted",
                    "{n} boxes lie outside the cropped part of the photo that the network sees and are not counted",
                    n=beyond,
                )
            ),
            screen,
        )


def not_counted(unreadable: int) -> Message:
    """That some files were left out."""
    return note(
        NP_(
            "{n} file could not be read and is not counted",
            "{n} files could not be read and are not counted",
            n=unreadable,
        )
    )
