"""Inference with a trained network: photos in, classes out. Needs nothing of the training code."""
