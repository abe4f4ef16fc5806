"""Labels that pages and figures choose by a name that stands in a document."""

from __future__ import annotations

from pati.locale.messages import N_, NC_, Message

SCORES = {"accuracy": N_("Accuracy"), "macro_f1": N_("Macro F1")}

SPLITS = {
    "train": NC_("split", "Train"),
    "validation": NC_("split", "Validation"),
    "test": NC_("split", "Test"),
}


def scored_by(folds: int) -> Message:
    """Where a run's scores come from: its test split, or so many folds of a cross-validation."""
    if not folds:
        return NC_("scored by", "test split")
    return N_("{folds}-fold cross-validation", folds=folds)


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
    "changed": NC_("reason", "changed"),
    "dropped": NC_("reason", "excluded"),
    "set-aside": NC_("reason", "set aside"),
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

# The values of the recipe field `balance`, once auto has been resolved.
BALANCE = {
    "none": NC_("class balancing", "not used"),
    "sampling": NC_("class balancing", "oversampling"),
    "weights": NC_("class balancing", "class weights in the loss"),
    "effective": NC_("class balancing", "weights by the effective number of samples"),
    "focal": NC_("class balancing", "focal loss"),
    "logits": NC_("class balancing", "logit adjustment"),
    "augment": NC_("class balancing", "oversampling with stronger augmentation"),
}

SLICES = {
    "size": N_("Size (side in px)"),
    "aspect": N_("Aspect ratio (width / height)"),
    "brightness": N_("Brightness (0 to 1)"),
    "sharpness": N_("Sharpness"),
}

CORRUPTIONS = {
    "blur": NC_("corruption", "blur"),
    "noise": NC_("corruption", "noise"),
    "jpeg": NC_("corruption", "JPEG"),
    "brightness": NC_("corruption", "brightness"),
    "contrast": NC_("corruption", "contrast"),
    "rotation": NC_("corruption", "rotation"),
    "occlusion": NC_("corruption", "occlusion"),
}

# Groups of explained photos; see `pages.GROUPS`.
EXAMPLES = {
    "surest_mistakes": N_("Most confident mistakes"),
    "least_sure": N_("Least confident predictions"),
    "others": N_("Other correct predictions"),
}

DEPENDS: dict[bool | None, Message] = {
    True: N_(
        "The maps change when the network's parameters are randomised (parameter randomisation test): they depend on "
        "what the network has learnt, not on the photo alone."
    ),
    False: N_(
        "The maps stay similar when the network's parameters are randomised (parameter randomisation test): do not "
        "rely on them, as an untrained network would give similar ones."
    ),
    None: N_(
        "It cannot be determined whether the maps change when the network's parameters are randomised (parameter "
        "randomisation test)."
    ),
}

# By which measures the maps are better, worse, or neither: see `explain.checks.verdict`.
BEYOND = {
    "better": N_("By every measure, the maps show better than a centred Gaussian what the prediction is based on."),
    "partly": N_(
        "By some measures, the maps show better than a centred Gaussian what the prediction is based on; by the others "
        "there is no significant difference."
    ),
    "mixed": N_("By some measures the maps are better than a centred Gaussian, by others they are worse."),
    "worse": N_(
        "By no measure are the maps better than a centred Gaussian, and by some they are worse: do not rely on them."
    ),
    "open": N_("There is no significant difference between the maps and a centred Gaussian: do not rely on the maps."),
}

BASELINES = {"centre": N_("Centred Gaussian"), "edges": N_("Edges (Sobel)"), "random": N_("Random map")}

BETTER: dict[bool | None, Message] = {
    True: N_("the maps are better"),
    False: N_("the maps are worse"),
    None: N_("not significant"),
}

MEASURES = {
    "insertion": N_("Insertion (higher is better)"),
    "deletion": N_("Deletion (lower is better)"),
    "road": N_("ROAD (higher is better)"),
}

TRIALS = {
    "complete": NC_("trial", "finished"),
    "pruned": NC_("trial", "pruned"),
    "diverged": NC_("trial", "diverged"),
    "failed": NC_("trial", "failed"),
    "stopped": NC_("trial", "stopped, then retried"),
    "running": NC_("trial", "running"),
}

# Why photos are to be reviewed: head, and text below it.
REVIEW = {
    "two-classes": (
        N_("Duplicates across classes"),
        N_("Exact or near duplicates with different labels: at least one label of each group is wrong."),
    ),
    "label": (
        N_("Likely label errors"),
        N_(
            "The model confidently predicts another class (confident learning); the most likely errors come first. "
            "Some are mistakes of the model."
        ),
    ),
    "odd": (
        N_("Most unlike the training photos"),
        N_(
            "Their features are the farthest from those of the model's training photos. They may well be labelled "
            "correctly."
        ),
    ),
}
