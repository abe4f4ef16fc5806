"""The script that Streamlit runs: the visitor's language, then the page they are on."""

from __future__ import annotations

import json
from pathlib import Path

import streamlit as st

from pati.app import clean_page, results_page, style, train_page, try_page
from pati.app.parts import TABS, language, settings, t
from pati.locale import catalogues
from pati.locale.messages import N_, NC_

ICON = Path(__file__).parent / "paw.png"
PAGES = (
    ("try", try_page.page, "photo_camera"),
    ("train", train_page.page, "model_training"),
    ("results", results_page.page, "monitoring"),
    ("clean", clean_page.page, "cleaning_services"),
)
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


def main() -> None:
    """Every run of the script."""
    st.set_page_config(page_title="pati", page_icon=str(ICON), layout="wide")
    st.session_state.setdefault("language", first_language())
    style.apply()
    pages = st.session_state["pages"] = {
        name: st.Page(show, title=t(TABS[name]), icon=f":material/{icon}:", url_path=name, default=name == "try")
        for name, show, icon in PAGES
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
