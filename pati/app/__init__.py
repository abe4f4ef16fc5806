"""The page of `pati app`: try a model, train one, look at results, clean the photos.

Streamlit runs `page.py` from top to bottom for every click; what a visitor has chosen lies in `st.session_state`. A
training is a process of its own (`jobs.py`, `work.py`), which no closed page ends. Everything that is computed is a
call of the library: the page only asks and shows.
"""
