"""The commands: check, train, score, compare, clean, tune. Called by the command line, Python API and web app."""
