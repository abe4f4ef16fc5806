"""What `pati list` and the docs show: every registry, and the recipe's fields, as rows."""

from __future__ import annotations

import dataclasses

from pati.locale.catalogues import SOURCE
from pati.locale.messages import N_, Message
from pati.recipe import Recipe, presets
from pati.registry import Listing


def registries() -> dict[str, Listing]:
    """Every catalogue by the name that `pati list` takes."""
    from pati.data.sources.builtin_datasets import datasets
    from pati.evaluation.metrics import metrics
    from pati.explain.cams import explainers
    from pati.inference.export import formats
    from pati.models import models
    from pati.training.augment import augmentations

    return {
        "models": models,
        "augmentations": augmentations,
        "metrics": metrics,
        "explainers": explainers,
        "datasets": datasets,
        "presets": presets,
        "formats": formats,
    }


def rows(what: str, language: str = SOURCE) -> list[tuple[str, str]]:
    """Name and one-line summary of each entry of a catalogue; `fields` are the recipe's."""
    if what == "fields":
        return [
            (item.name, f"{Message(item.metadata['help']).shown(language)} [{item.default}]")
            for item in dataclasses.fields(Recipe)
        ]
    registry = registries()[what]
    rows = []
    for name in registry:
        text = registry.summary(name)
        if what == "presets":  # cost and expected score stand in the docstring's other lines
            text = " ".join(registry.docstring(name).split())
        summary, plugin = Message(text), registry.plugin(name)
        if plugin:
            summary = N_("{summary} (plugin {plugin})", summary=summary, plugin=plugin)
        rows.append((name, summary.shown(language)))
    return rows + [(name, Message(text).shown(language)) for name, text in registry.families().items()]
