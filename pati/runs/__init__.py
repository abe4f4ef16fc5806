"""The folder of one run: what it keeps, its checkpoints, and the answers it gave."""
