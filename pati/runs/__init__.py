"""The run folder: its files, checkpoints and predictions."""
