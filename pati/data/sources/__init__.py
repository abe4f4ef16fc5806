"""From what a user calls DATA to a list of labelled files. Knows nothing of what is inside the files."""
