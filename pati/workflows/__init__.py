"""The whole commands: check, train, score, compare, clean, tune. Command line, Python and page call these."""
