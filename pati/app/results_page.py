"""*Results*: finished trainings, side by side, and the photos behind their figures."""

from __future__ import annotations

import streamlit as st
import torch

from pati.app import gallery, parts
from pati.app.gallery import Tested, tested
from pati.app.parts import number, percent, percent_sign, plain, say_photo, settings, t
from pati.errors import PatiError
from pati.evaluation.metrics import further
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.workflows import compare

MOST_CELLS = 8  # classes whose confusion matrix is shown as a whole; of more, the most frequent confusions
MOST_PAIRS = 12
GALLERIES = ("mistakes", "unsure", "cell")


def page() -> None:
    """The page."""
    st.title(t("results_title"))
    runs = {run.folder.name: run for run in parts.finished(settings().runs)}
    if not runs:
        st.info(plain(t("results_none", runs=settings().runs)))
        return
    runs = _table(runs)
    if not runs:
        return
    left, right = st.columns(2)
    names = list(runs)
    if st.session_state.get("results_run") not in names:
        st.session_state["results_run"] = names[0]
    name = left.selectbox(t("run"), names, key="results_run")
    others = right.multiselect(
        t("compare"), [other for other in names if other != name], key="results_others", placeholder=t("ui_pick")
    )
    if others:
        _comparison([runs[name], *(runs[other] for other in others)])
    _one(runs[name])


def _table(runs: dict[str, Run]) -> dict[str, Run]:
    """Shows a row for each run, and an error for one whose scores are damaged; returns the others."""
    head = [t(key) for key in ("run", "test_accuracy", "interval", "macro_f1", "photos", "minutes", "net", "size")]
    rows, others = {}, {}
    for name, run in runs.items():
        try:
            rows[name], others[name] = _row(run)
        except PatiError as error:
            parts.show_error(error)
    more = list(dict.fromkeys(metric for values in others.values() for metric in values))  # a plugin's, say
    for name, values in others.items():
        found = (values.get(metric) for metric in more)
        rows[name] += ["–" if value is None else number(value, 4) for value in found]
    if rows:
        numbers = (1, 2, 3, 4, 5, 7, *range(len(head), len(head) + len(more)))
        parts.table([*head, *more], list(rows.values()), numbers=numbers)
    return {name: runs[name] for name in rows}


def _row(run: Run) -> tuple[list[object], dict[str, float | None]]:
    document, recipe = run.read_metrics(), Recipe.read(run.recipe)
    with run.reading_scores():
        scores = document["test"]
        low, high = (percent(share) for share in scores["accuracy_interval"])
        row = [
            run.folder.name,
            percent_sign(scores["accuracy"]),
            f"{low}–{high}",
            number(scores["macro_f1"], 3),
            scores["photos"],
            number(document["seconds"]["command"] / 60),
            recipe.model,
            recipe.size,
        ]
        return row, further(scores)


def _comparison(runs: list[Run]) -> None:
    st.subheader(t("compare_title"))
    folders = [run.folder for run in runs]
    try:
        try:
            found = compare.compare(folders)
        except PatiError:  # other photos, as after cleaning: they can still be compared, less surely
            found = compare.compare(folders, paired=False)
            st.caption(t("compare_unpaired"))
    except PatiError as error:
        parts.show_error(error)
        return
    rows = []
    for pair in found["pairs"]:
        better = pair["first"] if pair["difference"] > 0 else pair["second"]
        low, high = (number(100 * share) for share in pair["interval"])
        verdict = t("verdict_yes", better=better) if pair["p"] < compare.ALPHA else t("verdict_no")
        if found["by_class"] and found["paired"]:
            gain, (least, most) = pair["macro_f1_difference"], pair["macro_f1_interval"]
            better = pair["first"] if gain > 0 else pair["second"]
            by_f1 = t("verdict_no") if least <= 0 <= most else t("verdict_yes", better=better)
            verdict += f"; {t('compare_by_f1', verdict=by_f1)}"
        rows.append(
            [
                t("compare_pair", first=pair["first"], second=pair["second"]),
                f"{number(100 * pair['difference'])} ({low} … {high})",
                number(pair["p"], 3) if pair["p"] >= 0.001 else f"< {number(0.001, 3)}",
                verdict,
            ]
        )
    parts.table([t("run"), t("compare_difference"), "p", t("compare_verdict")], rows, numbers=(2,))


def _one(run: Run) -> None:
    found = tested(run.folder, settings())
    st.subheader(t("confusion"))
    counts = torch.zeros(len(found.classes), len(found.classes), dtype=torch.int64)
    counts.index_put_((found.labels, found.answers), torch.ones(len(found.labels), dtype=torch.int64), accumulate=True)
    if len(found.classes) <= MOST_CELLS:
        _matrix(run, found, counts)
    else:
        _pairs(run, found, counts)
    st.subheader(t("gallery"))
    cell = _cell(run)
    kinds = GALLERIES if cell else GALLERIES[:2]
    wanted = st.session_state.pop("gallery_wanted", None)
    if wanted in kinds:
        st.session_state["gallery"] = wanted
    if st.session_state.get("gallery") not in kinds:
        st.session_state["gallery"] = kinds[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        kind = st.segmented_control(
            t("gallery"), kinds, key="gallery", required=True, label_visibility="collapsed",
            format_func=lambda kind: t(f"gallery_{kind}"),
        )  # fmt: skip
        overlays = st.toggle(t("overlays"), key="overlays")
    if kind == "cell" and cell:
        true, answer = cell
        names = {"true": say_photo(found.classes[true]), "answer": say_photo(found.classes[answer])}
        st.write(plain(t("cell", count=int(counts[true, answer]), **names)))
    numbers = _numbers(found, kind or kinds[0], cell)
    gallery.show(run, found, numbers, overlays=overlays, key=f"{run.folder.name}-{kind}-{cell}")
    st.subheader(t("report"))
    with st.container(horizontal=True):
        st.download_button(
            t("report_download"), run.report.read_bytes, file_name=f"{run.folder.name}.html", mime="text/html",
            on_click="ignore",
        )  # fmt: skip
    if st.toggle(t("report_show"), key="report_show"):
        parts.report(run)


# The confusion matrix, to be pressed --------------------------------------------------


def _cell(run: Run) -> tuple[int, int] | None:
    """The cell pressed last, if it is of this run."""
    kept = st.session_state.get("cell")
    return (kept[1], kept[2]) if kept and kept[0] == run.folder.name else None


def _press(run: Run, true: int, answer: int) -> None:
    st.session_state["cell"] = (run.folder.name, true, answer)
    st.session_state["gallery_wanted"] = "cell"


def _matrix(run: Run, found: Tested, counts: torch.Tensor) -> None:
    st.caption(t("confusion_text"))
    names = [say_photo(name) for name in found.classes]
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    _colour(
        {f"cell-{row}-{column}": float(share[row, column]) for row in range(len(names)) for column in range(len(names))}
    )
    with st.container(key="matrix"):
        for row, name in enumerate([t("confusion_answer"), *names], start=-1):
            head, *cells = st.columns([1.6] + [1] * len(names), wrap=False, vertical_alignment="center", gap="small")
            if row < 0:
                for cell, column_name in zip(cells, names, strict=True):
                    cell.caption(plain(column_name))
                continue
            head.caption(plain(name))
            for column, cell in enumerate(cells):
                cell.button(
                    str(int(counts[row, column])),
                    key=f"cell-{row}-{column}",
                    help=plain(t("cell_help", true=name, answer=names[column])),
                    on_click=_press,
                    args=(run, row, column),
                    width="stretch",
                )


def _colour(shares: dict[str, float]) -> None:
    """Each cell as blue as its share of the row."""
    # Weak enough for either theme's ink.
    rules = "".join(
        f".st-key-{key} button {{ background: rgba(0, 114, 178, {0.55 * share:.2f}); }}"
        for key, share in shares.items()
    )
    st.html(f"<style>{rules}</style>")


def _pairs(run: Run, found: Tested, counts: torch.Tensor) -> None:
    """Many classes: the most frequent confusions, and any cell by choice."""
    wrong = counts.clone().fill_diagonal_(0).flatten()
    order = wrong.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    some = [divmod(index, len(found.classes)) for index in order if wrong[index]]
    st.caption(t("confusion_pairs") if some else t("confusion_none"))
    with st.container(horizontal=True):
        for true, answer in some:
            text = f"{say_photo(found.classes[true])} → {say_photo(found.classes[answer])}: {int(counts[true, answer])}"
            st.button(plain(text), key=f"cell-{true}-{answer}", on_click=_press, args=(run, true, answer))
    left, right, button = st.columns([2, 2, 1], vertical_alignment="bottom")
    numbers = range(len(found.classes))
    true, answer = (
        place.selectbox(t(key), numbers, key=key, format_func=lambda index: say_photo(found.classes[index]))
        for place, key in ((left, "confusion_true"), (right, "confusion_answer"))
    )
    button.button(t("ui_pick"), key="cell-chosen", on_click=_press, args=(run, true, answer))


def _numbers(found: Tested, kind: str, cell: tuple[int, int] | None) -> list[int]:
    """The photos of a gallery, in its order."""
    sureness = found.probabilities.max(1).values
    wrong = found.answers != found.labels
    if kind == "mistakes":
        order = sureness.argsort(descending=True, stable=True)
        return order[wrong[order]].tolist()
    if kind == "unsure":
        return sureness.argsort(stable=True)[:100].tolist()
    assert cell is not None
    order = sureness.argsort(descending=True, stable=True)
    return order[(found.labels[order] == cell[0]) & (found.answers[order] == cell[1])].tolist()
