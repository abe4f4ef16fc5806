"""Evaluate predictions: metrics and their intervals, calibration, and out-of-distribution detection."""
