"""What the pages share: the visitor's language, models kept in memory, and elements that several pages show."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import re
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from streamlit.navigation.page import StreamlitPage

from pati import plugins
from pati.app.settings import Settings
from pati.data import decode
from pati.data.decode import Unreadable
from pati.errors import PatiError, from_os_error
from pati.included import class_named
from pati.inference.load import load
from pati.inference.predictor import Explanation, Prediction, Predictor
from pati.locale import formats
from pati.locale.messages import N_, NC_, Message, as_is
from pati.report import pictures
from pati.runs.run import Run, RunStage
from pati.system import extras
from pati.system.version import VERSION

UPLOAD_MB = 50  # of one file
SHOWN = 768  # px, the longer side of a photo as it is shown
MODELS = 4  # kept in memory
ERRORS = "app-errors.log"  # in the folder of runs

TABS = {
    "try": NC_("tab", "Try"),
    "train": NC_("tab", "Train"),
    "results": NC_("tab", "Results"),
    "clean": NC_("tab", "Clean"),
}
# Why a photo can't be used; a visitor has no options to set.
REASONS = decode.REASONS | {
    "too-large": N_("the file is larger than this page accepts"),
    "dropped": N_("excluded by your decision"),
}


def settings() -> Settings:
    """What the page was started with."""
    return Settings.from_text(sys.argv[1])


# Words --------------------------------------------------------------------------------


def language() -> str:
    """The visitor's."""
    return str(st.session_state["language"])


def t(message: Message) -> str:
    """A message in the visitor's language. Not escaped: it may hold names of files and classes, see `plain`."""
    return message.shown(language())


def number(value: float, digits: int = 1) -> str:
    """A number with the marks of the visitor's language."""
    return formats.marked(f"{value:,.{digits}f}", language())


def percent(share: float) -> str:
    """A share as a percentage in the visitor's language, where rounding makes nothing perfect."""
    return formats.percent(share, language())


def plain(text: str) -> str:
    """Text that Streamlit would take for its markup, as it is: a file may be called *x*, [y](z) or www.z.com.jpg."""
    text = re.sub(r"(?i)(www(?=\.)|@|:(?=//))", "\\1\u2060", text)  # it makes links of what no backslash can stop
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-.!|~<>:$&" else letter for letter in text)


def reason(code: str) -> Message:
    """Why a photo can't be used; `code`: a key of `REASONS`."""
    return REASONS.get(code, as_is(code))


# Models -------------------------------------------------------------------------------


@st.cache_resource(max_entries=MODELS, show_spinner=False)
def _loaded(path: str, changed: int, size: int) -> Predictor:
    return load(path)


def classifier(path: Path) -> Predictor:
    """The classifier in a file, kept in memory as long as the file is the same."""
    facts = path.stat()
    return _loaded(str(path), facts.st_mtime_ns, facts.st_size)


def finished(runs: Path) -> list[Run]:
    """The finished runs in a folder, the newest first."""
    finished = [
        Run(path.parent) for path in runs.glob("*/metrics.json") if (path.parent / "model.safetensors").exists()
    ]
    done = []
    for run in finished:
        with contextlib.suppress(PatiError, OSError):  # one that is damaged, of another version, or just being deleted
            if run.stage is RunStage.DONE:
                done.append((run.metrics.stat().st_mtime, run))
    return [run for _, run in sorted(done, key=lambda one: one[0], reverse=True)]


# Pictures -----------------------------------------------------------------------------


def overlaid(explanation: Explanation, opacity: float, side: int = SHOWN) -> NDArray[np.uint8]:
    """The photo under its map, at most `side` px long."""
    return pictures.blended(pictures.small(explanation, side), opacity)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """An encoded picture, to be downloaded."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(pixels: NDArray[np.uint8], alt: str, width: int | None = None) -> None:
    """Shows a picture as wide as there is room, but no wider than `width`, or than it is."""
    st.image(pixels, output_format="JPEG", alt=alt, width=width or min(pixels.shape[1], SHOWN))


def pixels_of(place_bytes: bytes) -> NDArray[np.uint8] | None:
    """Decoded for show; None for what can't be."""
    try:
        return decode.decode(place_bytes).pixels
    except Unreadable:
        return None


# Predictions --------------------------------------------------------------------------


def bars(answer: Prediction, most: int = 8) -> None:
    """A bar for the probability of each class, the most likely first."""
    ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])[:most]
    rows = "".join(
        f'<div class="pati-bar" role="listitem"><span>{html.escape(t(class_named(name)))}</span>'
        f'<span class="pati-track"><i style="width:{100 * share:.2f}%"></i></span>'
        f"<b>{percent(share)}</b></div>"
        for name, share in ranked
    )
    label = html.escape(t(N_("Calibrated probabilities")))
    st.html(f'<div class="pati-bars" role="list" aria-label="{label}">{rows}</div>')


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = ()) -> None:
    """A plain table of text; `numbers`: its columns that are set to the right."""
    kinds = [' class="n"' if column in numbers else "" for column in range(len(head))]
    top = "".join(f"<th{kind}>{html.escape(str(cell))}</th>" for cell, kind in zip(head, kinds, strict=True))
    lines = "".join(
        "<tr>"
        + "".join(f"<td{kind}>{html.escape(str(cell))}</td>" for cell, kind in zip(row, kinds, strict=True))
        + "</tr>"
        for row in rows
    )
    st.html(f'<div class="pati-scroll"><table class="pati-table"><tr>{top}</tr>{lines}</table></div>')


def heading(head: Message, *small: Message) -> None:
    """A result in large letters, with lines below it."""
    lines = "".join(f"<small>{html.escape(t(line))}</small>" for line in small)
    st.html(f'<div class="pati-verdict">{html.escape(t(head))}{lines}</div>')


def report(run: Run) -> None:
    """The run's report, in the visitor's language."""
    if not run.report.exists():
        again = plugins.command("report", str(run.folder))
        st.warning(plain(t(N_("This run has no report. To write it: {again}", again=again))))
        return
    document(run.report)


def document(path: Path) -> None:
    """A page that pati wrote, in the visitor's language."""
    text = path.read_text(encoding="utf-8")
    first = re.compile(r'<html lang="[\w-]+" data-lang="[\w-]+">')
    text = first.sub(f'<html lang="{language()}" data-lang="{language()}">', text, count=1)
    # As a data URL it has an origin of its own: a report that somebody sent can't reach into the page.
    st.iframe(f"data:text/html;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}", height=900)


def page_named(name: str) -> StreamlitPage:
    """One of the pages, to go to."""
    page: StreamlitPage = st.session_state["pages"][name]
    return page


def say_none(runs: Path) -> None:
    """That no run has finished yet."""
    st.info(plain(t(N_("No finished runs in {runs} yet.", runs=runs))))


def tell_of(error: Exception) -> bool:
    """Shows what went wrong in place of Streamlit's own words; returns that it did.

    A mistake is told as on the command line. Anything else is a fault of pati, whose details go into a file.
    """
    if isinstance(error, ImportError):
        error = extras.explained(error, "pati app") or error
    if isinstance(error, PatiError):
        show_error(error)
    elif isinstance(error, OSError):  # a run that was deleted meanwhile, or that belongs to another user
        show_error(from_os_error(error))
    else:
        log = settings().runs / ERRORS
        hint = N_("details are in {path}", path=log)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} pati {VERSION}\n")
                file.writelines(traceback.format_exception(error))
        except OSError:
            traceback.print_exception(error)  # in the terminal where the page was started
            hint = N_("details are in the terminal where the page was started")
        text = N_("this did not work: {error}", error=": ".join((type(error).__name__, str(error))))
        show_error(PatiError(text, hint))
    return True


def show_error(error: PatiError) -> None:
    """What was wrong, and what to do."""
    st.error(paragraphs(error))


def paragraphs(error: PatiError) -> str:
    """An error's message and hint, as Streamlit takes them."""
    parts = [error.message, *([N_("Hint: {hint}", hint=error.hint)] if error.hint else [])]
    return "\n\n".join(plain(t(part)) for part in parts)
