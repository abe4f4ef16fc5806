"""Files of a user's own that add models, augmentations, explainers or metrics.

A plugin is code. It runs when the user names its file, and never because a model, a run or a recipe names one: those
hold its file name only to say what is missing.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import shlex
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from pati.errors import PatiError
from pati.registry import Guard, Plugin, entries_of


@dataclass(frozen=True)
class _Loaded:
    plugin: Plugin
    sha256: str


_loaded: dict[Path, _Loaded] = {}


def load_plugin(path: str | Path) -> None:
    """Run a Python file, so that what it registers can be used by name.

    The same file a second time does nothing; if it was edited, what it registered before is replaced. Raises
    `PatiError` for a missing file, for a name that is taken, and for any error in it, with the line.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise PatiError(f"a plugin is a Python file, got {path}", "for example --plugin my_nets.py")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PatiError(f"can't read the plugin {path}: {error.strerror}") from None
    place, sha256 = path.resolve(), hashlib.sha256(source).hexdigest()
    before = _loaded.get(place)
    if before is not None and before.sha256 == sha256:
        return
    if before is not None:
        before.plugin.remove()
        del _loaded[place]
    if any(other.name == place.name for other in _loaded):
        raise PatiError(f"another plugin named {place.name} is loaded already", "runs know plugins by name: rename one")
    name = _module(place.name, sha256)
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    plugin = Plugin(place.name, cast(Guard, blamed(place.name)))  # also a decorator
    sys.modules[name] = module  # dataclasses and the like look there
    try:
        with blamed(place.name), entries_of(plugin):
            # Not by the loader: it would keep bytecode beside the user's file, and could run an older one.
            exec(compile(source, str(place), "exec"), module.__dict__)
    except PatiError:
        del sys.modules[name]
        raise
    _loaded[place] = _Loaded(plugin, sha256)


def _module(plugin: str, sha256: str) -> str:
    """The name that a plugin's module has while it is loaded."""
    return f"_pati_plugin_{re.sub('[^0-9A-Za-z]', '_', Path(plugin).stem)}_{sha256[:12]}"


@contextlib.contextmanager
def blamed(plugin: str) -> Iterator[None]:
    """Errors inside become `PatiError`s that name the plugin's file, and its line where it is in one."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.walk_tb(error.__traceback__)
        own = _module(plugin, "")  # not by its file's name: torch has files named alike
        lines: list[int | None] = [
            line for frame, line in frames if frame.f_globals.get("__name__", "").startswith(own)
        ]
        if isinstance(error, SyntaxError) and Path(error.filename or "").name == plugin:
            lines.append(error.lineno)
        where = f"the plugin {plugin}, line {lines[-1]}" if lines else f"the plugin {plugin}"
        if isinstance(error, PatiError):
            raise PatiError(f"{where}: {error.message}", error.hint) from error
        what = traceback.format_exception_only(error)[-1].strip()
        hint = "mend the file, or leave --plugin out"
        if isinstance(error, ModuleNotFoundError):
            hint = "a plugin is one file: it can import installed packages, not files beside it"
        raise PatiError(f"{where}: {what}", hint) from error


class PluginState(TypedDict):
    """Content hash of a plugin's file, and kind and name of what it registered."""

    sha256: str
    entries: list[list[str]]


def state() -> dict[str, PluginState]:
    """What a run writes down of the plugins at hand, by their files' names."""
    return {
        place.name: {
            "sha256": loaded.sha256,
            "entries": [[kind.kind, name] for kind, name in loaded.plugin.entries],
        }
        for place, loaded in _loaded.items()
        if loaded.plugin.entries
    }


def require_same(then: dict[str, PluginState]) -> None:
    """Raise `PatiError` unless the plugins are those of a run's `state`: it could not go on with the same bits."""
    now = state()
    for plugin, facts in then.items():
        if plugin not in now:
            kind, name = facts["entries"][0]
            raise missing(f"the {kind} {name!r}", plugin)
        if now[plugin]["sha256"] != facts["sha256"]:
            raise PatiError(
                f"the plugin {plugin} changed since this run began", "put it back as it was, or start a new run"
            )
    for plugin in now.keys() - then.keys():
        raise PatiError(f"this run began without the plugin {plugin}", "leave it out")


def command(*words: str) -> str:
    """A command of pati's that works with the plugins at hand: a verb and what follows it."""
    verb, *rest = words
    return shlex.join(["pati", verb, *options(), *rest])


def options() -> list[str]:
    """The words that name the plugins at hand on a command line; nothing without any."""
    here = Path.cwd()
    named = [str(place.relative_to(here) if place.is_relative_to(here) else place) for place in _loaded]
    return [word for name in named for word in ("--plugin", name)]


def missing(what: str, plugin: object) -> PatiError:
    """The error for something made with a plugin that is not loaded. `plugin` is what a file says: it may be a lie."""
    if not isinstance(plugin, str) or not re.fullmatch(r"\w[\w .-]{0,100}\.py", plugin):
        return PatiError(
            f"{what} comes from a plugin", "name its file with --plugin (only if you trust it: it is code)"
        )
    hint = f"--plugin {shlex.quote(plugin)} (only if you trust it: it is code)"
    return PatiError(f"{what} comes from the plugin {plugin}", hint)
