"""*Train*: photos, their audit, a budget; then the progress of the run, and its report."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from pati import included, models
from pati.app import jobs, parts
from pati.app.jobs import Job, Order
from pati.app.parts import TABS, plain, reason, settings, t
from pati.app.photos import photo_of, readable_root
from pati.app.try_page import INCLUDED
from pati.data.decode import is_photo_name
from pati.data.manifest import Manifest, require_trainable
from pati.data.sources import allowed
from pati.data.sources.builtin_datasets import datasets, downloads, locate
from pati.data.sources.paths import holds_photos_by_name
from pati.data.split import SPLITS
from pati.errors import PatiError
from pati.evaluation import learning_curves
from pati.evaluation.documents import LearningCurveDocument
from pati.evaluation.shortcuts import telling_properties
from pati.events import Advanced, Event
from pati.locale.formats import printable
from pati.locale.messages import N_, NC_, NP_, Message
from pati.recipe import Recipe
from pati.report import figures, labels, pictures
from pati.runs.history import epochs, leads_by_class
from pati.runs.learning_curves import REPORT, found, read
from pati.runs.run import Run, RunStage
from pati.workflows import learning_curve
from pati.workflows.check import check

MINUTES = (1, 2, 5, 10, 30, 60)
DEEPEST = 3  # folders below the root are offered; others can be typed
MOST_OFFERED = 200
_PEN = threading.Lock()  # matplotlib's settings are one for all visitors
MOST_UNFINISHED = 20
SHOWN_ROWS = 100  # of quarantined files
SHOWN_NOTES = 5
SHOWN_GROUPS = 12  # of duplicates

KINDS = {"known": N_("Built-in dataset"), "path": N_("Folder or archive")}
BUDGET = N_("Time budget (minutes)")
MORE, ALL_NETWORKS = N_("More photos, or more time?"), N_("Time for all networks (minutes)")
STATES = {
    "running": NC_("run", "running"),
    "stopped": NC_("run", "stopped"),
    "done": NC_("run", "finished"),
    "failed": NC_("run", "failed"),
}
STAGES = {  # what is being done; the names of `events.Stage`, and two of the page's own
    "begin": N_("Starting"),
    "audit": N_("Reading the photos"),
    "split": N_("Splitting the data"),
    "train": NC_("stage", "Training"),
    "score": N_("Scoring"),
    "report": N_("Writing the report"),
    "look": N_("Checking the labels"),
    "control": N_("Training on shuffled labels"),
    "export": N_("Exporting, and checking that its answers are the same …"),
}
SURVIVES = N_("You can close this page: the work continues in the background, and this page shows it when you return.")


def page() -> None:
    """The page; with `?run=NAME` that run's."""
    st.title(t(N_("Train your own classifier")))
    name = st.query_params.get("run")
    runs = settings().runs
    run = Run(runs / name) if name and runs.is_dir() and name in os.listdir(runs) else None
    if run is not None:
        job = jobs.job(run.folder)
        if job is not None and job.measuring:
            _watch_curve(job)
        else:
            _watch(run)
        return
    about = N_(
        "On your photos, on this machine, from scratch or from an earlier model. Your files are read, never changed."
    )
    st.write(t(about))
    other = jobs.running(settings().runs)
    if other is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            busy = N_(
                "{name} is still running. Only one run can be active at a time, as two would slow each other down.",
                name=other.folder.name,
            )
            st.info(plain(t(busy)))
            if st.button(t(N_("Show progress")), key="watch"):
                if other.cleaning:
                    st.session_state["clean_run"] = other.folder.name
                    st.switch_page(parts.page_named("clean"))
                _open(other.folder)
    _offer_unfinished()
    data = _choose_data()
    if data is None:
        return
    manifest = _audit(data)
    if manifest is not None and _begin(data, manifest, busy=other is not None):
        _offer_curve(data, manifest, busy=other is not None)


def _offer_unfinished() -> None:
    """Runs that can be resumed, or failed."""
    waiting = jobs.unfinished(settings().runs)[:MOST_UNFINISHED]
    if waiting:
        with st.expander(t(N_("Stopped or failed runs: {count}", count=len(waiting)))):
            for job in waiting:
                name = f"{printable(job.folder.name)} · {t(STATES[job.state])}"
                if st.button(plain(name), key=f"open-{job.folder.name}"):
                    _open(job.folder)


def _open(folder: Path | None) -> None:
    """Go to the view of a run, or back."""
    st.query_params.clear()
    if folder is not None:
        st.query_params["run"] = folder.name
    st.rerun()


# Photos -------------------------------------------------------------------------------


def _choose_data() -> str | None:
    kind = st.segmented_control(
        t(N_("Data")),
        list(KINDS),
        key="data_kind",
        default="path",
        required=True,
        format_func=lambda kind: t(KINDS[kind]),
    )
    if kind == "known":
        # Others would have to be downloaded first.
        known = [name for name in datasets if name not in downloads or locate(name) is not None]
        return st.selectbox(t(N_("Dataset")), known, key="data_set")
    root = settings().root
    typed = st.selectbox(
        t(N_("Folder with one folder per class, an archive of it, a CSV, or Parquet files")),
        _offered(root),
        index=None,
        key="data_where",
        accept_new_options=True,
        placeholder=str(root),
    )
    if not typed:
        return None
    if "\0" in typed:
        st.error(plain(t(N_("{path} is not the name of a file or folder", path=typed))))
        return None
    path = (root / str(typed)).resolve()
    if not allowed.may_read(path):
        outside = N_(
            "{path} is outside {root}, the only folder this page may read. To change this, start the page with --root.",
            path=typed,
            root=root,
        )
        st.error(plain(t(outside)))
        return None
    if not os.path.exists(path):  # also of a name that is too long
        st.error(plain(t(N_("{path} does not exist", path=path))))
        return None
    return str(path)


@st.cache_data(max_entries=8, ttl=30, show_spinner=False)
def _offered(root: Path) -> list[str]:
    """Folders that hold folders of photos, and archives, below the root: relative paths."""
    options: list[str] = []
    for folder, inner, names in os.walk(root):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        inner[:] = sorted(name for name in inner if not name.startswith(".")) if depth < DEEPEST else []
        if sum(_holds_photos(here / name) for name in inner[:50]) > 1:
            options.append(str(here.relative_to(root)))
        options += [str((here / name).relative_to(root)) for name in sorted(names) if holds_photos_by_name(here / name)]
        if len(options) > MOST_OFFERED:
            break
    return options[:MOST_OFFERED]


def _holds_photos(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(is_photo_name(entry.name) for entry, _ in zip(entries, range(50), strict=False))
    except OSError:
        return False


# The audit ----------------------------------------------------------------------------


def _audit(data: str) -> Manifest | None:
    """The audit of the data: made when asked for, kept until other data is chosen."""
    kept: tuple[str, Manifest] | None = st.session_state.get("audited")
    fresh = kept is not None and kept[0] == data
    if st.button(t(N_("Check the photos")), key="audit", type="secondary" if fresh else "primary"):
        bar = st.progress(0.0)

        def listen(event: Event) -> None:
            if isinstance(event, Advanced) and event.total:
                text = NP_("Reading {done} of {n} file", "Reading {done} of {n} files", n=event.total, done=event.done)
                bar.progress(event.done / event.total, t(text))

        try:
            kept = st.session_state["audited"] = (
                data,
                check(data, Recipe(), listen=listen),
            )
        except PatiError as error:
            parts.show_error(error)
            return None
        finally:
            bar.empty()
    elif kept is None or not fresh:
        return None
    _show_audit(kept[1])
    return kept[1]


def _show_audit(manifest: Manifest) -> None:
    aside = [entry for entry in manifest.entries if not entry.kept]
    groups = manifest.duplicate_groups()
    crossing = [group for group in groups if len({entry.label for entry in group}) > 1]
    counted = (
        (N_("Photos kept"), len(manifest.kept)),
        (N_("Files quarantined"), len(aside)),
        (N_("Groups of duplicates"), len(groups)),
        (N_("Groups across classes"), len(crossing)),
    )
    with st.container(key="grid-audit"):
        for column, (label, count) in zip(st.columns(4), counted, strict=True):
            column.metric(t(label), parts.number(count, 0))
    if manifest.shortcuts:
        telling = telling_properties(manifest.shortcuts)
        if manifest.shortcuts[0].strong:
            st.warning(plain(t(N_("Warning: {text}.", text=telling))))
        else:
            st.caption(plain(t(N_("Note: {text}.", text=telling))))
    for note in manifest.notes[:SHOWN_NOTES]:
        st.caption(plain(t(note)))
    _more(manifest.notes, SHOWN_NOTES)
    with st.expander(t(N_("Classes and splits")), expanded=len(manifest.classes) <= 20):
        counts = Counter((entry.label, entry.split) for entry in manifest.kept)
        rows = [[printable(name), *(counts[name, split] for split in SPLITS)] for name in manifest.classes]
        head = (N_("Class"), *(labels.SPLITS[split] for split in SPLITS))
        parts.table([t(label) for label in head], rows, numbers=(1, 2, 3))
    if aside:
        with st.expander(t(N_("Quarantined files: {count}", count=len(aside)))):
            shown = [[printable(entry.path), t(reason(entry.reason))] for entry in aside[:SHOWN_ROWS]]
            parts.table([t(N_("File")), t(N_("Reason"))], shown)
            _more(aside, SHOWN_ROWS)
    if crossing:
        with st.expander(t(N_("Duplicates across classes: {count}", count=len(crossing))), expanded=True):
            text = N_(
                "At least one label in each group is wrong. After training, the {tab} page helps you decide.",
                tab=TABS["clean"],
            )
            st.caption(t(text))
            root = readable_root(manifest)
            for group in crossing[:SHOWN_GROUPS]:
                for column, entry in zip(st.columns(4, wrap=False), group, strict=False):
                    data = photo_of(root, entry.path)
                    pixels = None if data is None else parts.pixels_of(data)
                    with column:
                        if pixels is not None:
                            st.image(pictures.thumbnail(pictures.at_most(pixels, 320), 160), alt=printable(entry.path))
                        st.caption(plain(printable(f"{entry.label} · {entry.path}")))
            _more(crossing, SHOWN_GROUPS)


def _more(ones: Sequence[object], shown: int) -> None:
    """How many are not shown, if any."""
    if len(ones) > shown:
        st.caption(t(N_("and {count} more", count=len(ones) - shown)))


def _begin(data: str, manifest: Manifest, *, busy: bool) -> bool:
    """Offers to train on the data; whether that is possible."""
    try:
        require_trainable(manifest)
    except PatiError as error:
        parts.show_error(PatiError(N_("Cannot train on these photos: {error}", error=error.message), error.hint))
        return False
    st.subheader(t(N_("Options")))
    start = _choose_start()
    left, right = st.columns(2)
    covers = N_("Covers everything: reading the photos, training, scoring and the report.")
    minutes = left.select_slider(t(BUDGET), MINUTES, value=2, key="minutes", help=t(covers))
    model = None
    if start is None:
        model = right.selectbox(
            t(N_("Network")),
            [None, *models.models],
            key="train_model",
            format_func=lambda name: name or t(N_("automatic, to fit the budget")),
        )
    else:
        right.text_input(t(N_("Network")), t(N_("that of the earlier model")), disabled=True)
    folds = None
    if start is None:
        folds = left.selectbox(
            t(N_("Score")),
            [None, 0, 3, 5, 10],
            key="folds",
            format_func=lambda count: t(_scoring(count, manifest)),
            help=t(
                N_(
                    "In cross-validation, each photo is predicted by a network that was not trained on it; the final "
                    "model is then trained on all photos. A score from a few test photos is unreliable."
                )
            ),
        )
    if st.button(t(N_("Start training")), key="begin", type="primary", disabled=busy):
        try:
            recipe = Recipe(budget=60.0 * minutes, model=model, folds=folds)
            folder = jobs.train(settings().runs, data, recipe, start=start)
        except PatiError as error:
            parts.show_error(error)
        else:
            _open(folder)
    return True


def _offer_curve(data: str, manifest: Manifest, *, busy: bool) -> None:
    """What is known of the learning curve of the data, and a way to measure it."""
    st.subheader(t(MORE))
    about = N_(
        "Trains networks on an eighth, a quarter, half and all of the photos, and predicts the accuracy for more "
        "photos and for more time."
    )
    st.caption(t(about))
    known = found(settings().runs, manifest.hash())
    if known is not None:
        _findings(known)
        if st.button(t(N_("Show the learning curve")), key="curve_show"):
            _open(Path(known["folder"]))
    minutes = st.select_slider(t(ALL_NETWORKS), MINUTES, value=10, key="curve_minutes")
    if st.button(t(N_("Measure the learning curve")), key="curve_begin", disabled=busy):
        try:
            folder = jobs.learning_curve(settings().runs, data, Recipe(budget=60.0 * minutes))
        except PatiError as error:
            parts.show_error(error)
        else:
            _open(folder)


def _scoring(folds: int | None, manifest: Manifest) -> Message:
    """An option of how to score; None: as the data suggests."""
    if folds is None:
        chosen = _scoring(manifest.folds, manifest)
        if manifest.folds:
            return N_("automatic: {chosen}, if there is enough time", chosen=chosen)
        return N_("automatic: {chosen}", chosen=chosen)
    return labels.scored_by(folds) if folds else N_("on a test split")


def _choose_start() -> Path | None:
    """The earlier model to start from, if any."""
    names = {included.model(): t(INCLUDED)}
    names |= {run.folder: printable(run.folder.name) for run in parts.finished(settings().runs)}
    about = N_(
        "An earlier model to continue from with these photos; classes may be added or removed. Photos that one of your "
        "runs was trained on are never scored; those of the included model are not known."
    )
    return st.selectbox(
        t(N_("Start from")),
        [None, *names],
        key="train_start",
        format_func=lambda model: t(N_("nothing: from scratch")) if model is None else names[model],
        help=t(about),
    )


# The run as it goes -------------------------------------------------------------------


def _watch(run: Run) -> None:
    st.subheader(plain(run.folder.name))
    job = jobs.job(run.folder)
    state = "done" if run.state.exists() and run.stage is RunStage.DONE else job.state if job else "stopped"
    if state == "running":
        _live(run)
        return
    if state == "done":
        _result(run)
    else:
        if state == "failed" and job is not None and job.error is not None:
            parts.show_error(PatiError(N_("The run failed: {error}", error=job.error.message), job.error.hint))
        elif run.recipe.exists():
            st.warning(t(N_("Stopped. The state of the run is saved, so you can resume it.")))
        else:
            st.warning(t(N_("Stopped before training started.")))
        _curves(run)
        if run.recipe.exists() and st.button(t(N_("Resume")), key="resume", type="primary"):
            st.session_state.pop("stopping", None)
            try:
                jobs.begin(Order("resume", str(run.folder)), settings().runs)
            except PatiError as error:
                parts.show_error(error)
            else:
                st.rerun()
    if st.button(t(N_("Train another model")), key="run_new"):
        _open(None)


def _watch_curve(job: Job) -> None:
    """The progress of a learning curve, or its result."""
    st.subheader(plain(job.folder.name))
    if job.state == "running":
        _live_curve(job.folder)
        return
    document, kept = read(job.folder), learning_curve.Settings.read(job.folder)
    if document is not None:
        _findings(document)
        parts.document(job.folder / REPORT)
    elif job.state == "failed" and job.error is not None:
        parts.show_error(job.error)
    elif kept is None:
        st.warning(t(N_("Stopped before training started.")))
    else:
        st.warning(t(N_("Stopped. The trained networks are saved, so you can resume it.")))
    if document is None and kept is not None and st.button(t(N_("Resume")), key="curve_resume", type="primary"):
        order = Order(
            jobs.LEARNING_CURVE, str(job.folder), kept.data, recipe=kept.given.to_json(),
            columns=kept.columns.document(),
        )  # fmt: skip
        try:
            jobs.begin(order, settings().runs)
        except PatiError as error:
            parts.show_error(error)
        else:
            st.rerun()
    if st.button(t(N_("Train another model")), key="run_new"):
        _open(None)


@st.fragment(run_every=1.0)
def _live_curve(folder: Path) -> None:
    job = jobs.job(folder)
    if job is None or job.state != "running":
        st.rerun()
        return
    show_progress(job)
    if st.button(t(N_("Stop and save progress")), key="curve_stop"):
        jobs.stop(folder)
    st.caption(t(SURVIVES))


def _findings(document: LearningCurveDocument) -> None:
    """What a learning curve says."""
    st.markdown("\n".join(f"- {plain(t(text))}" for text in learning_curves.findings(document)))
    st.caption(plain(t(learning_curves.setting(document))))


@st.fragment(run_every=1.0)
def _live(run: Run) -> None:
    """The progress of the process, again every second."""
    job = jobs.job(run.folder)
    if job is None or job.state != "running":
        st.rerun()
        return
    show_progress(job)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(t(N_("Stop and save progress")), key="stop"):
            jobs.stop(run.folder)
            st.session_state["stopping"] = run.folder.name
        if st.session_state.get("stopping") == run.folder.name:
            st.caption(t(N_("Stopping after the current step.")))
    _curves(run)
    st.caption(t(SURVIVES))


def show_progress(job: Job) -> None:
    """What a process is doing, and its progress."""
    progress = job.progress
    total = progress.get("total")
    share = progress["done"] / total if total else 0.0
    text = [STAGES[progress.get("stage", "begin")]]
    if progress.get("fold"):
        text.append(N_("fold {number} of {folds}", number=progress["fold"], folds=progress["folds"]))
    if "network" in progress:
        text.append(N_("network {number} of {networks}", number=progress["network"], networks=progress["networks"]))
    elif progress.get("stage") == "train" and "left" in progress:
        text += [N_("epoch {epoch}", epoch=progress["epoch"]), N_("{time} left", time=clock(progress["left"]))]
    st.progress(min(1.0, share), " · ".join(map(t, text)))
    for note in job.notes[-3:]:
        st.caption(plain(t(note)))


def clock(seconds: float) -> str:
    """Minutes and seconds, as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _curves(run: Run) -> None:
    done = epochs(run)
    if not done:
        st.caption(t(N_("The curves appear after the first epoch.")))
        return
    by_class = leads_by_class(run)
    with st.container(key="curves"):
        begun = run.recipe.stat().st_mtime_ns
        drawn = _drawn(str(run.folder), begun, len(done), parts.language(), by_class=by_class)
        st.image(drawn, alt=t(N_("Loss, accuracy, learning rate and photos/s after each epoch")))


@st.cache_data(max_entries=50, show_spinner=False)
def _drawn(folder: str, begun: int, count: int, language: str, *, by_class: bool) -> str:
    """The curves as SVG: drawn again only when there is another epoch, as drawing takes time from the training."""
    with _PEN:
        drawn = figures.curves(epochs(Run(Path(folder)))[:count], language, by_class=by_class)
    return drawn.replace("<defs>", f"<style>{figures.DARK_STYLE}</style><defs>", 1)


def _result(run: Run) -> None:
    document = run.read_metrics()
    with run.reading_scores():
        scores = document["test"]
        low, high = scores["accuracy_interval"]
        text = NP_(
            "Done: accuracy in cross-validation {accuracy:percent} on {n} photo (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            "Done: accuracy in cross-validation {accuracy:percent} on {n} photos (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            n=scores["photos"], accuracy=scores["accuracy"], low=low, high=high,
        ) if document.get("folds") else NP_(
            "Done: accuracy {accuracy:percent} on {n} test photo (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            "Done: accuracy {accuracy:percent} on {n} test photos (95 % CI "
            "{low:percent_number}–{high:percent_number} %).",
            n=scores["photos"], accuracy=scores["accuracy"], low=low, high=high,
        )  # fmt: skip
    st.success(plain(t(text)))
    with st.container(horizontal=True):
        if st.button(t(N_("Try the model")), key="try_it", type="primary"):
            st.session_state["try_model"] = str(run.model)
            st.switch_page(parts.page_named("try"))
        st.download_button(
            t(N_("Download the report")),
            run.report.read_bytes,
            file_name=f"{run.folder.name}.html",
            mime="text/html",
            on_click="ignore",
        )
    parts.report(run)
