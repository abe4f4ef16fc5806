"""The script that Streamlit runs: the visitor's language, then the page they are on."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from pati.app import parts, style
from pati.app.parts import TABS, language, settings, t
from pati.errors import PatiError
from pati.locale import catalogues
from pati.locale.messages import N_, NC_
from pati.system import extras

ICON = Path(__file__).parent / "paw.png"
ICONS = {"try": "photo_camera", "train": "model_training", "results": "monitoring", "clean": "cleaning_services"}
COOKIE = "pati_language"


def first_language() -> str:
    """That of the last visit, or that asked for at the start, or the browser's, or English."""
    candidates = (st.context.cookies.get(COOKIE), settings().language, catalogues.known(st.context.locale or ""))
    return next((code for code in candidates if code in catalogues.languages()), catalogues.SOURCE)


def name_of(code: str) -> str:
    """A language's own name."""
    return NC_("name of the language", "English").shown(code)


def remember() -> None:
    """Keep the language for the next visit."""
    cookie = f"{COOKIE}={language()};path=/;max-age=31536000;SameSite=Strict"
    st.html(f"<script>document.cookie = {json.dumps(cookie)}</script>", unsafe_allow_javascript=True)


def shown(name: str) -> Callable[[], None]:
    """The function that shows a tab; for a tab that requires a package that is not installed, one that says so."""
    try:
        with extras.required(t(N_("The tab {name}", name=TABS[name]))):
            page: Callable[[], None] = importlib.import_module(f"pati.app.{name}_page").page
    except PatiError as error:
        missing = error

        def page() -> None:
            st.title(t(TABS[name]))
            st.info(parts.paragraphs(missing))

    return page


def main() -> None:
    """Every run of the script."""
    st.set_page_config(page_title="pati", page_icon=str(ICON), layout="wide")
    st.session_state.setdefault("language", first_language())
    style.apply()
    pages = st.session_state["pages"] = {
        name: st.Page(shown(name), title=t(TABS[name]), icon=f":material/{icon}:", url_path=name, default=name == "try")
        for name, icon in ICONS.items()
    }
    chosen = st.navigation(list(pages.values()), position="hidden")
    # Streamlit's own menu hides behind an arrow on a phone.
    with st.container(key="menu", horizontal=True, vertical_alignment="center"):
        for one in pages.values():
            st.page_link(one)
        st.segmented_control(
            t(N_("Language")),
            catalogues.languages(),
            key="language",
            required=True,
            format_func=name_of,
            label_visibility="collapsed",
        )
    remember()
    chosen.run()


if __name__ == "__main__":  # as Streamlit runs it
    main()
