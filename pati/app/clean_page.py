"""*Clean*: photos to review, one at a time; decisions go into a file that training follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from pati.app import jobs, parts
from pati.app.jobs import Order
from pati.app.parts import plain, settings, t
from pati.app.photos import GONE, photo_of, readable_root
from pati.app.train_page import BUDGET, MINUTES, SURVIVES, show_progress
from pati.data.decisions import ACTIONS
from pati.data.manifest import Manifest
from pati.errors import PatiError
from pati.locale.formats import printable
from pati.locale.messages import N_, NP_
from pati.recipe import Recipe
from pati.report import pictures
from pati.runs.run import Run
from pati.workflows import clean

FOLDS = 3
INTRODUCTION = N_(
    "Likely label errors, duplicates across classes, and out-of-distribution photos (unlike the training photos). Your "
    "photos stay unchanged: your decisions go into a list that the next run follows."
)
WHY = {
    "two-classes": N_("Duplicate in another class"),
    "label": N_("Likely label error"),
    "odd": N_("Out of distribution: unlike the training photos"),
}
# Streamlit keeps C and R for itself.
KEYS = {"keep": "k", "drop": "d", "relabel": "n", "later": "l", "undo": "u"}
COPIES = 4  # shown of the same picture


def page() -> None:
    """The page."""
    st.title(t(N_("Photos to review")))
    st.write(t(INTRODUCTION))
    runs = {run.folder.name: run for run in parts.finished(settings().runs)}
    if not runs:
        parts.say_none(settings().runs)
        return
    run = runs[st.selectbox(t(N_("Run")), list(runs), key="clean_run")]
    job = jobs.job(run.folder, cleaning=True)
    if job is not None and job.state == "running":
        _live(run)
        return
    if job is not None and job.state == "failed" and job.error is not None:
        parts.show_error(job.error)
    table = run.folder / "clean" / "decisions.csv"
    if table.exists():
        _decide(run, table)
        with st.expander(t(N_("Create a new list"))):
            _make_list(run)
    else:
        _make_list(run)


# The list -----------------------------------------------------------------------------


def _make_list(run: Run) -> None:
    st.caption(t(N_("The model checks the labels of the photos it was not trained on.")))
    label = N_("Check the training photos too, by {folds}-fold cross-validation", folds=FOLDS)
    folds = st.toggle(t(label), key="clean_folds")
    minutes = st.select_slider(t(BUDGET), MINUTES, value=10, key="clean_minutes") if folds else None
    if not st.button(t(N_("Create the list")), key="clean_list", type="primary"):
        return
    data = run.read_state()["data"]
    order = Order(
        "clean", str(run.folder), data, folds=FOLDS if folds else 0, budget=60.0 * minutes if minutes else None
    )
    try:
        jobs.begin(order, settings().runs)
    except PatiError as error:
        parts.show_error(error)
    else:
        st.rerun()


@st.fragment(run_every=1.0)
def _live(run: Run) -> None:
    job = jobs.job(run.folder, cleaning=True)
    if job is None or job.state != "running":
        st.rerun()
        return
    show_progress(job)
    if st.button(t(N_("Stop and save progress")), key="clean_stop"):
        jobs.stop(run.folder, cleaning=True)
    st.caption(t(SURVIVES))


# Deciding -----------------------------------------------------------------------------


def _decide(run: Run, table: Path) -> None:
    manifest = _manifest(str(run.manifest), run.manifest.stat().st_mtime_ns)
    rows = clean.read_list(table, manifest.classes)
    later: list[str] = st.session_state.setdefault(f"later of {run.folder}", [])
    decided_paths: list[str] = st.session_state.setdefault(f"decided in {run.folder}", [])
    open_ = [row for row in rows if not row.decision]
    decided = len(rows) - len(open_)
    text = NP_("{decided} of {n} photo decided", "{decided} of {n} photos decided", n=len(rows), decided=decided)
    st.progress(decided / max(1, len(rows)), t(text))
    # Those put off come last, in the order in which they were.
    open_.sort(key=lambda row: later.index(row.path) + 1 if row.path in later else 0)
    if open_:
        _ask(table, open_[0], manifest, later, decided_paths)
    else:
        st.success(t(N_("You have decided on every photo in the list.")))
    with st.container(horizontal=True, vertical_alignment="center"):
        undo = st.button(t(N_("Undo the last decision")), key="undo", shortcut=KEYS["undo"], disabled=not decided_paths)
        if decided and st.button(t(N_("Train again with these decisions")), key="clean_train", type="primary"):
            _train(run, table)
    if undo and _written(table, decided_paths[-1], ""):
        decided_paths.pop()
        st.rerun()
    st.caption(t(N_("Shortcuts: K keep, D drop, N new label, L later, U undo")))
    st.caption(plain(t(N_("Your decisions are saved in {path}", path=table))))


@st.cache_resource(max_entries=4, show_spinner=False)
def _manifest(path: str, changed: int) -> Manifest:
    return Manifest.read(Path(path))


def _written(table: Path, path: str, action: str, label: str = "") -> bool:
    """Whether the decision could be saved; shows why not."""
    try:
        clean.decide(table, path, action, label)
    except PatiError as error:
        parts.show_error(error)
        return False
    return True


def _ask(table: Path, row: clean.Listed, manifest: Manifest, later: list[str], decided_paths: list[str]) -> None:
    """One photo, why it is listed, and the choices; `later` and `decided_paths`: photos put off, and decided."""
    entries = {entry.path: entry for entry in manifest.entries}
    entry = entries.get(row.path)
    left, right = st.columns([3, 2], gap="large")
    root = readable_root(manifest)
    with left:
        _show(root, {row.path: ""}, 420)
        st.caption(plain(printable(row.path)))
    with right:
        parts.heading(WHY[row.why], N_("Label: {label}", label=row.label))
        if row.answer and row.answer != row.label:
            st.write(plain(t(N_("Predicted class: {label}", label=row.answer))))
        if row.label_probability is not None:
            st.write(plain(t(N_("Probability of the label: {share:percent}", share=row.label_probability))))
        # Above the copies: pictures come late, and would move the buttons away under a pointer.
        action, label = _choices(row, manifest.classes)
        copies = [other for other in manifest.kept if entry and other.duplicate and other.duplicate == entry.duplicate]
        copies = [other for other in copies if other.path != row.path][:COPIES]
        if copies:
            st.write(t(N_("Its duplicates:")))
            _show(root, {other.path: printable(f"{other.label} · {other.path}") for other in copies}, 160)
    if action == "later":
        later[:] = [path for path in later if path != row.path] + [row.path]
        st.rerun()
    if action and _written(table, row.path, action, label):
        decided_paths.append(row.path)
        st.rerun()


def _show(root: Path | None, photos: dict[str, str], side: int) -> None:
    """Photos by their paths, each with a caption if it has one."""
    for column, (path, caption) in zip(st.columns(len(photos), wrap=False), photos.items(), strict=True):
        data = photo_of(root, path)
        pixels = None if data is None else parts.pixels_of(data)
        with column:
            if pixels is None:
                st.info(t(GONE))
            else:
                parts.picture(pictures.at_most(pixels, 2 * side), printable(path), side)
            if caption:
                st.caption(plain(caption))


def _choices(row: clean.Listed, classes: Sequence[str]) -> tuple[str, str]:
    """What was pressed: keep, drop, relabel or later, with the new label; empty for nothing."""
    others = [name for name in classes if name != row.label]
    suggested = row.new_label if row.new_label in others else others[0]
    label = suggested
    if len(others) > 1:
        label = st.selectbox(
            t(N_("New label")), others, index=others.index(suggested), key=f"new {row.path}", format_func=printable
        )
    words = {
        "keep": N_("Keep"),
        "drop": N_("Drop"),
        "relabel": N_("New label: {label}", label=label),
        "later": N_("Later"),
    }
    with st.container(horizontal=True):
        # A photo's buttons are its own: a key held too long must not decide the next one unseen.
        pressed = [
            action
            for action in (*ACTIONS, "later")
            if st.button(plain(t(words[action])), key=f"decide-{action} {row.path}", shortcut=KEYS[action])
        ]
    action = pressed[0] if pressed else ""
    return action, label if action == "relabel" else ""


def _train(run: Run, table: Path) -> None:
    """Train again as the run was, following the decisions."""
    state = run.read_state()
    recipe = Recipe.read(run.recipe)
    try:
        folder = jobs.train(settings().runs, state["data"], recipe, columns=state["columns"], decisions=table)
    except PatiError as error:
        parts.show_error(error)
        return
    st.switch_page(parts.page_named("train"), query_params={"run": folder.name})
