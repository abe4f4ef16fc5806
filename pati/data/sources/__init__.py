"""From the user's DATA argument to a list of labelled files. Knows nothing of file contents."""
