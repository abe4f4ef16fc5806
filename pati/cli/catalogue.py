"""What `pati list` and the docs show: every registry, and the recipe's fields, as rows."""

from __future__ import annotations

import dataclasses
import importlib

from pati.locale.catalogues import SOURCE
from pati.locale.messages import N_, NC_, Message
from pati.recipe import Recipe
from pati.registry import Listing

# Where each catalogue that `pati list` takes is kept. Imported on use: some require torch.
HOMES = {
    "models": "pati.models",
    "augmentations": "pati.training.augment",
    "metrics": "pati.evaluation.metrics",
    "explainers": "pati.explain.cams",
    "datasets": "pati.data.sources.builtin_datasets",
    "presets": "pati.recipe",
    "formats": "pati.inference.export",
}


def registry(what: str) -> Listing:
    """A catalogue by the name that `pati list` takes."""
    found: Listing = getattr(importlib.import_module(HOMES[what]), what)
    return found


def rows(what: str, language: str = SOURCE) -> list[tuple[str, str]]:
    """Name and one-line summary of each entry of a catalogue; `fields` are the recipe's."""
    if what == "fields":
        return [
            (item.name, f"{Message(item.metadata['help']).shown(language)} [{_default(item)}]")
            for item in dataclasses.fields(Recipe)
        ]
    listed = registry(what)
    rows = []
    for name in listed:
        text = listed.summary(name)
        if what == "presets":  # cost and expected score stand in the docstring's other lines
            text = " ".join(listed.docstring(name).split())
        summary, plugin = Message(text), listed.plugin(name)
        if plugin:
            summary = N_("{summary} (plugin {plugin})", summary=summary, plugin=plugin)
        rows.append((name, summary.shown(language)))
    word = NC_("placeholder", "NAME").shown(language)
    return rows + [
        (name.replace("NAME", word), Message(text).shown(language)) for name, text in listed.families().items()
    ]


def _default(field: dataclasses.Field[object]) -> object:
    """The default as `--set` takes it; what is not set is chosen by pati, but for a column to group by."""
    if field.default is None:
        return "none" if field.name == "group_by" else "auto"
    return field.default
