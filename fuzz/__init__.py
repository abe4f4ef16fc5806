"""Coverage-guided fuzzing of what reads untrusted bytes; see `fuzz/__main__.py`."""
