"""What codes and columns are called in the terminal; programs read the codes."""

from __future__ import annotations

from pati.locale.messages import NC_

# Why a file is quarantined; `decode.REASONS` says what to do about it.
REASONS = {
    "empty": NC_("reason", "empty"),
    "system-file": NC_("reason", "system file"),
    "not-a-file": NC_("reason", "not a file"),
    "unreadable": NC_("reason", "unreadable"),
    "too-large": NC_("reason", "too large"),
    "unsupported": NC_("reason", "unsupported format"),
    "truncated": NC_("reason", "truncated"),
    "damaged": NC_("reason", "damaged"),
    "not-judged": NC_("reason", "could not be judged"),
    "dropped": NC_("reason", "excluded"),
}

# What is unusual about a file that is used all the same; `decode.FLAGS` says more.
FLAGS = {
    "corrupt-data": NC_("flag", "corrupt data"),
    "trailing-bytes": NC_("flag", "trailing bytes"),
    "no-end": NC_("flag", "no end marker"),
    "zero-tail": NC_("flag", "zeros at the end"),
    "animated": NC_("flag", "animated"),
    "video": NC_("flag", "motion photo"),
    "scaled": NC_("flag", "values scaled"),
    "profile-ignored": NC_("flag", "colour profile ignored"),
    "hdr": NC_("flag", "HDR"),
    "tiny": NC_("flag", "tiny"),
    "narrow": NC_("flag", "narrow"),
    "solid": NC_("flag", "single colour"),
    "duplicate": NC_("flag", "duplicate"),
    "in-two-classes": NC_("flag", "in two classes"),
    "look-alike": NC_("flag", "look-alike"),
    "relabelled": NC_("flag", "relabelled"),
    "confirmed": NC_("flag", "confirmed"),
}

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
