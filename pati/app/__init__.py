"""The page of `pati app`: try a model, train one, look at results, clean the photos.

Streamlit runs `page.py` from top to bottom for every click; what a visitor has chosen lies in `st.session_state`. A
training run is a process of its own (`jobs.py`, `work.py`) that continues when the page is closed. Everything that is
computed is a call of the library. Each visitor has their own language: messages are shown with `parts.t`.
"""
