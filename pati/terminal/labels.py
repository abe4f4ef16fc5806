"""What codes and columns are called in the terminal; programs read the codes."""

from __future__ import annotations

from pati.locale.messages import NC_

SPLITS = {
    "train": NC_("column of splits", "train"),
    "validation": NC_("column of splits", "validation"),
    "test": NC_("column of splits", "test"),
}

SCORES = {"accuracy": NC_("score", "accuracy"), "macro_f1": NC_("score", "macro F1")}

MAPS = {
    "centre": NC_("baseline map", "centred Gaussian"),
    "edges": NC_("baseline map", "edges"),
    "random": NC_("baseline map", "random map"),
    "even": NC_("baseline map", "uniform map"),
}

MEASURES = {
    "insertion": NC_("measure", "insertion"),
    "deletion": NC_("measure", "deletion"),
    "road": NC_("measure", "ROAD"),
    "pointing": NC_("measure", "pointing game"),
    "energy": NC_("measure", "energy"),
    "overlap": NC_("measure", "overlap (IoU)"),
}
