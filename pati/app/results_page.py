"""*Results*: finished runs, side by side, and the photos behind their scores."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
import torch

from pati.app import gallery, parts
from pati.app.gallery import Tested, tested
from pati.app.parts import number, percent, plain, settings, t
from pati.errors import PatiError
from pati.evaluation.metrics import other_metrics
from pati.inference import export as exports
from pati.locale import formats
from pati.locale.formats import printable
from pati.locale.messages import N_, NP_, Message, as_is
from pati.recipe import Recipe
from pati.report.labels import scored_by
from pati.runs.run import Run
from pati.system.files import sha256_file
from pati.workflows import compare, export

MOST_CELLS = 8  # classes whose confusion matrix is shown as a whole; of more, the most frequent confusions
MOST_PAIRS = 12
# By format: the button that writes the file, what the file is for, and the button that downloads it.
EXPORTS = {
    "onnx": (
        N_("Export to ONNX"),
        N_("A file that answers in other programs, without torch."),
        N_("Download the ONNX model"),
    ),
    "web": (
        N_("Export as a web page"),
        N_("One HTML file that classifies photos in any browser, without a network."),
        N_("Download the web page"),
    ),
}
TRUE, PREDICTED = N_("True class"), N_("Predicted class")
HEAD = (
    N_("Run"), N_("Accuracy"), N_("95 % CI"), N_("Macro F1"), N_("Photos"), N_("Scored by"), N_("Minutes"),
    N_("Model"), N_("Size (px)"),
)  # fmt: skip
CROSS_VALIDATED = N_(
    "The scores and predictions below are those of the cross-validation: each photo was predicted by a network that "
    "was not trained on it. The model was then trained on all photos."
)
GALLERIES = {
    "mistakes": N_("Most confident mistakes"),
    "unsure": N_("Least confident predictions"),
    "cell": N_("Selected cell"),
}


def page() -> None:
    """The page."""
    st.title(t(N_("Results")))
    runs = {run.folder.name: run for run in parts.finished(settings().runs)}
    if not runs:
        parts.say_none(settings().runs)
        return
    runs = _table(runs)
    if not runs:
        return
    left, right = st.columns(2)
    names = list(runs)
    if st.session_state.get("results_run") not in names:
        st.session_state["results_run"] = names[0]
    name = left.selectbox(t(N_("Run")), names, key="results_run")
    others = right.multiselect(
        t(N_("Compare with")),
        [other for other in names if other != name],
        key="results_others",
        placeholder=t(N_("Choose runs")),
    )
    if others:
        _comparison([runs[name], *(runs[other] for other in others)])
    _one(runs[name])


def _table(runs: dict[str, Run]) -> dict[str, Run]:
    """Shows a row for each run, and an error for one whose scores are damaged; returns the others."""
    head = [t(label) for label in HEAD]
    rows, others = {}, {}
    for name, run in runs.items():
        try:
            rows[name], others[name] = _row(run)
        except PatiError as error:
            parts.show_error(error)
    more = list(dict.fromkeys(metric for values in others.values() for metric in values))  # a plugin's, say
    for name, values in others.items():
        shown = (values.get(metric) for metric in more)
        rows[name] += ["–" if value is None else number(value, 4) for value in shown]
    if rows:
        numbers = (1, 2, 3, 4, 6, 8, *range(len(head), len(head) + len(more)))
        parts.table([*head, *more], list(rows.values()), numbers=numbers)
    return {name: runs[name] for name in rows}


def _row(run: Run) -> tuple[list[object], dict[str, float | None]]:
    document, recipe = run.read_metrics(), Recipe.read(run.recipe)
    with run.reading_scores():
        scores = document["test"]
        low, high = (formats.percent_number(share, parts.language()) for share in scores["accuracy_interval"])
        row = [
            run.folder.name,
            percent(scores["accuracy"]),
            f"{low}–{high}",
            number(scores["macro_f1"], 3),
            scores["photos"],
            t(scored_by(len(document.get("folds", [])))),
            number(document["seconds"]["command"] / 60),
            recipe.model,
            recipe.size,
        ]
        return row, other_metrics(scores)


def _comparison(runs: list[Run]) -> None:
    st.subheader(t(N_("Comparison")))
    folders = [run.folder for run in runs]
    try:
        try:
            comparison = compare.compare(folders)
        except PatiError:  # other photos, as after cleaning: an unpaired test is less powerful
            comparison = compare.compare(folders, paired=False)
            st.caption(t(N_("These runs differ in their photos or split, so the comparison is less powerful.")))
    except PatiError as error:
        parts.show_error(error)
        return
    rows = []
    for pair in comparison["pairs"]:
        better = pair["first"] if pair["difference"] > 0 else pair["second"]
        low, high = (number(100 * share) for share in pair["interval"])
        verdict = _verdict(better if pair["p"] < compare.ALPHA else None)
        if comparison["by_class"] and comparison["paired"]:
            gain, (least, most) = pair["macro_f1_difference"], pair["macro_f1_interval"]
            better = pair["first"] if gain > 0 else pair["second"]
            by_f1 = _verdict(None if least <= 0 <= most else better)
            verdict = N_("{verdict}; by macro F1: {by_f1}", verdict=verdict, by_f1=by_f1)
        rows.append(
            [
                t(N_("{first} vs {second}", first=pair["first"], second=pair["second"])),
                f"{number(100 * pair['difference'])} ({low} … {high})",
                number(pair["p"], 3) if pair["p"] >= 0.001 else f"< {number(0.001, 3)}",
                t(verdict),
            ]
        )
    head = (N_("Runs"), N_("Difference (percentage points)"), as_is("p"), N_("Significant?"))
    parts.table([t(label) for label in head], rows, numbers=(2,))


def _verdict(better: str | None) -> Message:
    if better is None:
        return N_("no significant difference")
    return N_("yes: {better} is better", better=better)


def _one(run: Run) -> None:
    predictions = tested(run.folder)
    st.subheader(t(N_("Confusion matrix")))
    if run.read_metrics().get("folds"):
        st.caption(t(CROSS_VALIDATED))
    counts = torch.zeros(len(predictions.classes), len(predictions.classes), dtype=torch.int64)
    counts.index_put_(
        (predictions.labels, predictions.answers),
        torch.ones(len(predictions.labels), dtype=torch.int64),
        accumulate=True,
    )
    if len(predictions.classes) <= MOST_CELLS:
        _matrix(run, predictions, counts)
    else:
        _pairs(run, predictions, counts)
    st.subheader(t(N_("Gallery")))
    cell = _cell(run)
    kinds = [kind for kind in GALLERIES if cell or kind != "cell"]
    wanted = st.session_state.pop("gallery_wanted", None)
    if wanted in kinds:
        st.session_state["gallery"] = wanted
    if st.session_state.get("gallery") not in kinds:
        st.session_state["gallery"] = kinds[0]
    with st.container(horizontal=True, vertical_alignment="center"):
        kind = st.segmented_control(
            t(N_("Gallery")), kinds, key="gallery", required=True, label_visibility="collapsed",
            format_func=lambda kind: t(GALLERIES[kind]),
        )  # fmt: skip
        overlays = st.toggle(t(N_("Show explanation maps")), key="overlays")
    if kind == "cell" and cell:
        true, answer = cell
        text = NP_(
            "{true} predicted as {predicted}: {n} photo",
            "{true} predicted as {predicted}: {n} photos",
            n=int(counts[true, answer]),
            true=predictions.classes[true],
            predicted=predictions.classes[answer],
        )
        st.write(plain(t(text)))
    numbers = _numbers(predictions, kind or kinds[0], cell)
    gallery.show(run, predictions, numbers, overlays=overlays, key=f"{run.folder.name}-{kind}-{cell}")
    st.subheader(t(N_("Report")))
    with st.container(horizontal=True):
        st.download_button(
            t(N_("Download the report")), run.report.read_bytes, file_name=f"{run.folder.name}.html", mime="text/html",
            on_click="ignore",
        )  # fmt: skip
        for to in EXPORTS:
            _export(run, to)
    if st.toggle(t(N_("Show the full report")), key="report_show"):
        parts.report(run)


def _export(run: Run, to: str) -> None:
    """The model as a file for other programs: a button that writes it, then one that downloads it."""
    exported = run.model.with_suffix(exports.formats[to].suffix)
    write, about, download = EXPORTS[to]
    if st.button(t(write), key=f"export-{to}", help=t(about)):
        with st.spinner(t(N_("Exporting, and checking that its answers are the same …"))):
            try:
                export.export(run.folder, to=to)
            except PatiError as error:
                parts.show_error(error)
                return
    if exported.exists() and _is_export_of(to, str(exported), exported.stat().st_mtime_ns, str(run.model)):
        st.download_button(
            t(download), exported.read_bytes, file_name=f"{run.folder.name}{exported.suffix}", on_click="ignore",
            key=f"download-{to}",
        )  # fmt: skip


@st.cache_data(max_entries=100, show_spinner=False)
def _is_export_of(to: str, exported: str, changed: int, model: str) -> bool:
    try:
        return exports.formats[to].read(Path(exported).read_bytes()).document["source"] == sha256_file(Path(model))
    except (PatiError, OSError):
        return False


# The confusion matrix, to be pressed --------------------------------------------------


def _cell(run: Run) -> tuple[int, int] | None:
    """The cell pressed last, if it is of this run."""
    kept = st.session_state.get("cell")
    return (kept[1], kept[2]) if kept and kept[0] == run.folder.name else None


def _press(run: Run, true: int, answer: int) -> None:
    st.session_state["cell"] = (run.folder.name, true, answer)
    st.session_state["gallery_wanted"] = "cell"


def _matrix(run: Run, predictions: Tested, counts: torch.Tensor) -> None:
    st.caption(t(N_("Rows: the true class; columns: the predicted class. Select a number to see its photos.")))
    names = [printable(name) for name in predictions.classes]
    share = counts / counts.sum(1, keepdim=True).clamp_min(1)
    _colour(
        {f"cell-{row}-{column}": float(share[row, column]) for row in range(len(names)) for column in range(len(names))}
    )
    with st.container(key="matrix"):
        for row, name in enumerate([t(PREDICTED), *names], start=-1):
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
                    help=plain(t(N_("{true} predicted as {predicted}", true=name, predicted=names[column]))),
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


def _pairs(run: Run, predictions: Tested, counts: torch.Tensor) -> None:
    """Many classes: the most frequent confusions, and any cell by choice."""
    wrong = counts.clone().fill_diagonal_(0).flatten()
    order = wrong.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    some = [divmod(index, len(predictions.classes)) for index in order if wrong[index]]
    st.caption(t(N_("Most frequent confusions") if some else N_("No confusions: every prediction is correct.")))
    with st.container(horizontal=True):
        for true, answer in some:
            text = f"{predictions.classes[true]} → {predictions.classes[answer]}: {int(counts[true, answer])}"
            st.button(plain(printable(text)), key=f"cell-{true}-{answer}", on_click=_press, args=(run, true, answer))
    left, right, button = st.columns([2, 2, 1], vertical_alignment="bottom")
    numbers = range(len(predictions.classes))
    true, answer = (
        place.selectbox(t(label), numbers, key=key, format_func=lambda index: printable(predictions.classes[index]))
        for place, key, label in ((left, "confusion_true", TRUE), (right, "confusion_answer", PREDICTED))
    )
    button.button(t(N_("Show photos")), key="cell-chosen", on_click=_press, args=(run, true, answer))


def _numbers(predictions: Tested, kind: str, cell: tuple[int, int] | None) -> list[int]:
    """The photos of a gallery, in its order."""
    sureness = predictions.probabilities.max(1).values
    wrong = predictions.answers != predictions.labels
    if kind == "mistakes":
        order = sureness.argsort(descending=True, stable=True)
        return order[wrong[order]].tolist()
    if kind == "unsure":
        return sureness.argsort(stable=True)[:100].tolist()
    assert cell is not None
    order = sureness.argsort(descending=True, stable=True)
    return order[(predictions.labels[order] == cell[0]) & (predictions.answers[order] == cell[1])].tolist()
