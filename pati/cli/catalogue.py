"""What `pati list` and the docs show: every registry, and the recipe's fields, as rows."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from pati.locale.catalogues import SOURCE
from pati.locale.messages import N_, NC_, Message
from pati.recipe import Recipe
from pati.registry import Listing, Registry
from pati.system import extras

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

# Those that require torch, and are listed without it all the same: what they are called, and what works without.
READABLE = {
    "explainers": (N_("explainer"), N_("without torch, there is grad-cam only, for exported models")),
    "formats": (N_("export format"), N_("pati export requires torch, which is not installed")),
}


def registry(what: str) -> Listing:
    """A catalogue by the name that `pati list` takes."""
    if limits(what) is not None:
        return _read(what)
    found: Listing = getattr(importlib.import_module(HOMES[what]), what)
    return found


def limits(what: str) -> Message | None:
    """What the user of this catalogue should know where torch is missing."""
    return READABLE[what][1] if what in READABLE and not extras.installed("torch") else None


def _read(what: str) -> Listing:
    """Names and docstrings from the source of a catalogue's home, which is not imported."""
    kind, _ = READABLE[what]
    listed: Registry[Callable[[], None]] = Registry(kind)
    home = importlib.util.find_spec(HOMES[what])
    assert home is not None
    assert home.origin is not None
    origin = Path(home.origin)
    sources = [origin] if home.submodule_search_locations is None else sorted(origin.parent.glob("*.py"))
    for path in sources:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                for decorator in node.decorator_list:
                    match decorator:
                        case ast.Call(ast.Attribute(ast.Name(named), "register"), [ast.Constant(str(name))]):
                            if named == what:
                                listed.register(name)(_documented(ast.get_docstring(node)))
    return listed


def _documented(text: str | None) -> Callable[[], None]:
    def entry() -> None:
        raise NotImplementedError

    entry.__doc__ = text
    return entry


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
