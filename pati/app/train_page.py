"""*Train*: photos, their audit, a budget; then the training as it goes, and its report."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from pati import models
from pati.app import jobs, parts
from pati.app.gallery import photo_of, readable_root
from pati.app.jobs import Job, Order
from pati.app.parts import percent, plain, reason, say, say_photo, settings, t
from pati.data.decode import is_photo_name
from pati.data.manifest import Manifest, require_trainable
from pati.data.sources.archives import is_archive
from pati.data.sources.known_sets import datasets, downloads, locate
from pati.data.split import SPLITS
from pati.errors import PatiError
from pati.events import Advanced, Event
from pati.recipe import Recipe
from pati.report import figures
from pati.report.words import WORDS as REPORT
from pati.runs.history import epochs, leads_by_class
from pati.runs.run import Run, RunStage
from pati.workflows.check import check

MINUTES = (1, 2, 5, 10, 30, 60)
DEEPEST = 3  # folders below the root are offered; others can be typed
MOST_OFFERED = 200
_PEN = threading.Lock()  # matplotlib's settings are one for all visitors
MOST_UNFINISHED = 20
SHOWN_ROWS = 100  # of files set aside
SHOWN_NOTES = 5
SHOWN_GROUPS = 12  # of duplicates


def page() -> None:
    """The page; with `?run=NAME` that run's."""
    st.title(t("train_title"))
    name = st.query_params.get("run")
    run = Run(settings().runs / name) if name and name in os.listdir(settings().runs) else None
    if run is not None:
        _watch(run)
        return
    st.write(t("train_text"))
    other = jobs.running(settings().runs)
    if other is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.info(plain(t("begin_busy", name=other.folder.name)))
            if st.button(t("watch"), key="watch"):
                if other.cleaning:
                    st.session_state["clean_run"] = other.folder.name
                    st.switch_page(parts.page_named("clean"))
                _open(other.folder)
    _offer_unfinished()
    data = _choose_data()
    if data is None:
        return
    found = _audit(data)
    if found is not None:
        _begin(data, found, busy=other is not None)


def _offer_unfinished() -> None:
    """Trainings that wait to be gone on with, or failed."""
    waiting = jobs.unfinished(settings().runs)[:MOST_UNFINISHED]
    if waiting:
        with st.expander(f"{t('unfinished')}: {len(waiting)}"):
            for found in waiting:
                name = f"{found.folder.name} · {t(f'state_{found.state}')}"
                if st.button(plain(name), key=f"open-{found.folder.name}"):
                    _open(found.folder)


def _open(folder: Path | None) -> None:
    """Go to a training's view, or back."""
    st.query_params.clear()
    if folder is not None:
        st.query_params["run"] = folder.name
    st.rerun()


# Photos -------------------------------------------------------------------------------


def _choose_data() -> str | None:
    kinds = ("known", "path")
    kind = st.segmented_control(
        t("data_kind"),
        kinds,
        key="data_kind",
        default="path",
        required=True,
        format_func=lambda kind: t(f"data_{kind}"),
    )
    if kind == "known":
        # Others would first have to be fetched.
        known = [name for name in datasets if name not in downloads or locate(name) is not None]
        return st.selectbox(t("data_set"), known, key="data_set")
    root = settings().root
    typed = st.selectbox(
        t("data_where"), _offered(root), index=None, key="data_where", accept_new_options=True, placeholder=str(root)
    )
    if not typed:
        return None
    path = (root / str(typed)).resolve()
    if not settings().may_read(path):
        st.error(plain(t("data_outside", path=typed, root=root)))
        return None
    if not path.exists():
        st.error(plain(t("data_gone", path=path)))
        return None
    return str(path)


@st.cache_data(max_entries=8, ttl=30, show_spinner=False)
def _offered(root: Path) -> list[str]:
    """Folders that hold folders of photos, and archives, below the root: relative paths."""
    found: list[str] = []
    for folder, inner, names in os.walk(root):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        inner[:] = sorted(name for name in inner if not name.startswith(".")) if depth < DEEPEST else []
        if sum(_holds_photos(here / name) for name in inner[:50]) > 1:
            found.append(str(here.relative_to(root)))
        found += [str((here / name).relative_to(root)) for name in sorted(names) if is_archive(here / name)]
        if len(found) > MOST_OFFERED:
            break
    return found[:MOST_OFFERED]


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
    if st.button(t("audit"), key="audit", type="secondary" if fresh else "primary"):
        bar = st.progress(0.0)

        def listen(event: Event) -> None:
            if isinstance(event, Advanced) and event.total:
                bar.progress(event.done / event.total, t("auditing", done=event.done, total=event.total))

        try:
            kept = st.session_state["audited"] = (data, check(data, Recipe(), listen=listen))
        except PatiError as error:
            parts.show_error(error)
            return None
        finally:
            bar.empty()
    elif kept is None or not fresh:
        return None
    _show_audit(kept[1])
    return kept[1]


def _show_audit(found: Manifest) -> None:
    aside = [entry for entry in found.entries if not entry.kept]
    groups = found.duplicate_groups()
    crossing = [group for group in groups if len({entry.label for entry in group}) > 1]
    counted: dict[str, Sequence[object]] = {
        "kept": found.kept,
        "quarantined": aside,
        "duplicates": groups,
        "crossing": crossing,
    }
    with st.container(key="grid-audit"):
        for column, (key, ones) in zip(st.columns(4), counted.items(), strict=True):
            column.metric(t(f"audit_{key}"), parts.number(len(ones), 0))
    for note in found.notes[:SHOWN_NOTES]:
        st.caption(plain(say(note)))
    if len(found.notes) > SHOWN_NOTES:
        st.caption(t("audit_more", count=len(found.notes) - SHOWN_NOTES))
    with st.expander(t("audit_classes"), expanded=len(found.classes) <= 20):
        counts = Counter((entry.label, entry.split) for entry in found.kept)
        rows = [[say_photo(name), *(counts[name, split] for split in SPLITS)] for name in found.classes]
        parts.table([t("audit_class"), *(t(f"split_{split}") for split in SPLITS)], rows, numbers=(1, 2, 3))
    if aside:
        with st.expander(f"{t('audit_why')}: {len(aside)}"):
            shown = [[say_photo(entry.path), reason(entry.reason)] for entry in aside[:SHOWN_ROWS]]
            parts.table([t("audit_file"), t("audit_reason")], shown)
            if len(aside) > SHOWN_ROWS:
                st.caption(t("audit_more", count=len(aside) - SHOWN_ROWS))
    if crossing:
        with st.expander(f"{t('audit_suspicious')}: {len(crossing)}", expanded=True):
            st.caption(t("audit_suspicious_text"))
            root = readable_root(found, settings())
            for group in crossing[:SHOWN_GROUPS]:
                for column, entry in zip(st.columns(4, wrap=False), group, strict=False):
                    data = photo_of(root, entry.path)
                    pixels = None if data is None else parts.pixels_of(data)
                    with column:
                        if pixels is not None:
                            st.image(figures.thumbnail(figures.at_most(pixels, 320), 160), alt=say_photo(entry.path))
                        st.caption(plain(f"{say_photo(entry.label)} · {say_photo(entry.path)}"))
            if len(crossing) > SHOWN_GROUPS:
                st.caption(t("audit_more", count=len(crossing) - SHOWN_GROUPS))


def _begin(data: str, found: Manifest, *, busy: bool) -> None:
    try:
        require_trainable(found)
    except PatiError as error:
        parts.show_error(PatiError(t("audit_unfit", error=say(error.message)), error.hint))
        return
    st.subheader(t("choices"))
    left, right = st.columns(2)
    minutes = left.select_slider(t("budget"), MINUTES, value=2, key="minutes", help=t("budget_text"))
    names = [None, *models.models]
    model = right.selectbox(
        t("train_model"), names, key="train_model", format_func=lambda name: name or t("train_model_auto")
    )
    if st.button(t("begin"), key="begin", type="primary", disabled=busy):
        try:
            folder = jobs.train(settings().runs, data, Recipe(budget=60.0 * minutes, model=model))
        except PatiError as error:
            parts.show_error(error)
        else:
            _open(folder)


# The training as it goes --------------------------------------------------------------


def _watch(run: Run) -> None:
    st.subheader(plain(run.folder.name))
    found = jobs.job(run.folder)
    state = "done" if run.state.exists() and run.stage is RunStage.DONE else found.state if found else "stopped"
    if state == "running":
        _live(run)
        return
    if state == "done":
        _result(run)
    else:
        if state == "failed" and found is not None:
            st.error(plain(t("failed_text", error=say(found.progress.get("error", "")))))
            if found.progress.get("hint"):
                st.caption(plain(t("hint", hint=say(found.progress["hint"]))))
        else:
            st.warning(t("stopped_text" if run.recipe.exists() else "stopped_early"))
        _curves(run)
        if run.recipe.exists() and st.button(t("resume"), key="resume", type="primary"):
            st.session_state.pop("stopping", None)
            try:
                jobs.begin(Order("resume", str(run.folder)), settings().runs)
            except PatiError as error:
                parts.show_error(error)
            else:
                st.rerun()
    if st.button(t("run_new"), key="run_new"):
        _open(None)


@st.fragment(run_every=1.0)
def _live(run: Run) -> None:
    """The newest word of the process, again every second."""
    found = jobs.job(run.folder)
    if found is None or found.state != "running":
        st.rerun()
        return
    show_progress(found)
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button(t("stop"), key="stop"):
            jobs.stop(run.folder)
            st.session_state["stopping"] = run.folder.name
        if st.session_state.get("stopping") == run.folder.name:
            st.caption(t("stopping"))
    _curves(run)
    st.caption(t("survives"))


def show_progress(found: Job) -> None:
    """What a process is doing, and how far it is."""
    progress = found.progress
    total = progress.get("total")
    share = progress["done"] / total if total else 0.0
    words = [t(f"stage_{progress.get('stage', 'begin')}")]
    if "folds" in progress:
        words.append(t("fold", number=progress["fold"], folds=progress["folds"]))
    if progress.get("stage") == "train" and "left" in progress:
        words += [t("epoch_now", epoch=progress["epoch"]), t("left", time=clock(progress["left"]))]
    st.progress(min(1.0, share), " · ".join(words))
    for note in progress.get("notes", [])[-3:]:
        st.caption(plain(say(note)))


def clock(seconds: float) -> str:
    """Minutes and seconds, as 1:05."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _curves(run: Run) -> None:
    done = epochs(run)
    if not done:
        st.caption(t("no_curve"))
        return
    by_class = leads_by_class(run)
    with st.container(key="curves"):
        begun = run.recipe.stat().st_mtime_ns
        st.image(_drawn(str(run.folder), begun, len(done), parts.language(), by_class=by_class), alt=t("curves"))


@st.cache_data(max_entries=50, show_spinner=False)
def _drawn(folder: str, begun: int, count: int, language: str, *, by_class: bool) -> str:
    """The curves as SVG: drawn again only when there is another epoch, as drawing takes time from the training."""
    with _PEN:
        drawn = figures.curves(epochs(Run(Path(folder)))[:count], REPORT[language], by_class=by_class)
    return drawn.replace("<defs>", f"<style>{figures.DARK_STYLE}</style><defs>", 1)


def _result(run: Run) -> None:
    document = run.read_metrics()
    with run.reading_scores():
        scores = document["test"]
        low, high = (percent(share) for share in scores["accuracy_interval"])
        values = {"accuracy": percent(scores["accuracy"]), "photos": scores["photos"], "low": low, "high": high}
    st.success(t("result_ready", **values))
    with st.container(horizontal=True):
        if st.button(t("try_it"), key="try_it", type="primary"):
            st.session_state["try_model"] = str(run.model)
            st.switch_page(parts.page_named("try"))
        st.download_button(
            t("report_download"),
            run.report.read_bytes,
            file_name=f"{run.folder.name}.html",
            mime="text/html",
            on_click="ignore",
        )
    parts.report(run)
