"""What answers are worth: scores, their intervals, calibration, and what lies outside of what was trained on."""
