"""How the page looks beyond Streamlit's theme, and the labels of Streamlit's own widgets in the visitor's language."""

from __future__ import annotations

import json

import streamlit as st

from pati.app.parts import UPLOAD_MB, t
from pati.locale.messages import N_

# One blue as in the reports; each theme its own shade, for contrast.
THEME = {
    "theme.light.primaryColor": "#0072B2",
    "theme.dark.primaryColor": "#56B4E9",
    "theme.light.linkColor": "#0072B2",
    "theme.dark.linkColor": "#56B4E9",
    "theme.baseRadius": "0.5rem",
}

_STYLE = """
<style>
header[data-testid="stHeader"] { background: none; }
.stMainBlockContainer { padding-top: 1.2rem; padding-bottom: 4rem; max-width: 62rem; }
.stMainBlockContainer h1 { font-size: 2rem; padding: 0; }
.st-key-menu { border-bottom: 1px solid rgba(128, 128, 128, .3); padding-bottom: .6rem; gap: .4rem; }
.st-key-menu > :last-child { margin-left: auto; }
[data-testid="stCaptionContainer"] { color: var(--st-text-color, inherit); opacity: .8; }
.pati-bars { display: grid; gap: .35rem; }
.pati-bar { display: grid; grid-template-columns: minmax(4rem, 30%) 1fr 4.5rem; gap: .7rem; align-items: center; }
.pati-bar span:first-child { overflow-wrap: anywhere; }
.pati-bar b { text-align: right; font-weight: 600; font-variant-numeric: tabular-nums; }
.pati-track { height: .8rem; border-radius: .4rem; background: rgba(128, 128, 128, .22); overflow: hidden; }
.pati-track i { display: block; height: 100%; background: var(--st-primary-color, #0072B2); }
.stMainBlockContainer [data-testid="stImage"] img { max-width: 100%; border-radius: .5rem; }
.pati-scroll { overflow-x: auto; }
.pati-table { border-collapse: collapse; }
.pati-table th, .pati-table td { padding: .3rem .9rem .3rem 0; text-align: left;
  border-bottom: 1px solid rgba(128, 128, 128, .3); }
.pati-table .n { text-align: right; font-variant-numeric: tabular-nums; }
.pati-verdict { font-size: 1.7rem; font-weight: 650; line-height: 1.2; }
.pati-verdict small { display: block; font-size: 1rem; font-weight: 400; opacity: .75; margin-top: .2rem; }
.pati-table td { white-space: nowrap; }
.st-key-matrix { max-width: 34rem; }
.st-key-matrix [data-testid="stColumn"] { min-width: 0; }
[class*="st-key-cell-"] button { min-width: 0; min-height: 3rem; font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) {
  [class*="st-key-grid"] [data-testid="stColumn"] { flex: 1 1 calc(50% - .5rem); min-width: calc(50% - .5rem); }
}
</style>
"""


def apply() -> None:
    """Write the page's style."""
    st.html(_STYLE + _labels())


def _labels() -> str:
    """Streamlit has its widgets' labels in English only: ours cover them."""
    upload = '[data-testid="stFileUploaderDropzone"] button p'
    limit = '[data-testid="stFileUploaderDropzoneInstructions"] span'
    shot = '[data-testid="stCameraInputButton"]'
    labels = {
        upload: N_("Choose photos"),
        limit: N_("or drop them here (up to {size} MB each)", size=UPLOAD_MB),
        shot: N_("Take photo"),
        f'[data-testid="stCameraInput"]:has(img) {shot}': N_("Take another photo"),
    }
    rules = f"{upload}, {limit}, {shot} {{ font-size: 0 !important; }}"
    for place, label in labels.items():
        rules += f" {place}::after {{ content: {json.dumps(t(label), ensure_ascii=False)}; font-size: 1rem; }}"
    return f"<style>{rules}</style>"
