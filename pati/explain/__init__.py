"""Saliency maps, and tests of their validity. Knows networks and tensors only."""
