"""Plugins: Python files written by the user that add models, augmentations, explainers or metrics.

A plugin is code. It is executed when the user names its file, and never because a model, a run or a recipe names it:
those store only the file name, to say which plugin is missing.
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

from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message
from pati.registry import Guard, Plugin, entries_of
from pati.system import command as called


@dataclass(frozen=True)
class _Loaded:
    plugin: Plugin
    sha256: str


_loaded: dict[Path, _Loaded] = {}


def load_plugin(path: str | Path) -> None:
    """Execute a Python file, so that the entries it registers can be used by name.

    Loading the same file again does nothing; if it has been edited, its earlier entries are replaced. Raises
    `PatiError` for a missing file, for a name that is already taken, and for any error in the file, with the line.
    """
    path = Path(path)
    if path.suffix != ".py":
        raise PatiError(
            N_("a plugin is a Python file, got {path}", path=path), N_("for example: --plugin my_models.py")
        )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PatiError(N_("can't read the plugin {path}: {reason}", path=path, reason=os_reason(error))) from None
    place, sha256 = path.resolve(), hashlib.sha256(source).hexdigest()
    before = _loaded.get(place)
    if before is not None and before.sha256 == sha256:
        return
    if before is not None:
        before.plugin.remove()
        del _loaded[place]
    if any(other.name == place.name for other in _loaded):
        raise PatiError(
            N_("another plugin named {name} is already loaded", name=place.name),
            N_("runs identify plugins by name: rename one of them"),
        )
    name = _module(place.name, sha256)
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    plugin = Plugin(place.name, cast(Guard, blamed(place.name)))  # a context manager is also a decorator
    sys.modules[name] = module  # dataclasses look the module up here
    try:
        with blamed(place.name), entries_of(plugin):
            # Not with the import loader: it would write bytecode next to the user's file, and could run a stale one.
            exec(compile(source, str(place), "exec"), module.__dict__)
    except PatiError:
        del sys.modules[name]
        raise
    _loaded[place] = _Loaded(plugin, sha256)


def _module(plugin: str, sha256: str) -> str:
    """The name of a plugin's module in `sys.modules`."""
    return f"_pati_plugin_{re.sub('[^0-9A-Za-z]', '_', Path(plugin).stem)}_{sha256[:12]}"


@contextlib.contextmanager
def blamed(plugin: str) -> Iterator[None]:
    """Turn errors into `PatiError`s that name the plugin's file, and the line if the error was raised in it."""
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.walk_tb(error.__traceback__)
        own = _module(plugin, "")  # by module, not by file name: torch may have files of the same name
        lines: list[int | None] = [
            line for frame, line in frames if frame.f_globals.get("__name__", "").startswith(own)
        ]
        if isinstance(error, SyntaxError) and Path(error.filename or "").name == plugin:
            lines.append(error.lineno)
        where = N_("the plugin {plugin}", plugin=plugin)
        if lines:
            where = N_("the plugin {plugin}, line {line}", plugin=plugin, line=lines[-1])
        if isinstance(error, PatiError):
            raise PatiError(N_("{where}: {error}", where=where, error=error.message), error.hint) from error
        what = traceback.format_exception_only(error)[-1].strip()
        hint = N_("fix the file, or omit --plugin")
        if isinstance(error, ModuleNotFoundError):
            hint = N_("a plugin is a single file: it can import installed packages, but not files beside it")
        raise PatiError(N_("{where}: {what}", where=where, what=what), hint) from error


class PluginState(TypedDict):
    """Content hash of a plugin's file, and kind and name of each entry it registered."""

    sha256: str
    entries: list[list[str]]


def state() -> dict[str, PluginState]:
    """The loaded plugins that have entries, by file name, as a run stores them."""
    return {
        place.name: {
            "sha256": loaded.sha256,
            "entries": [[kind.kind.text, name] for kind, name in loaded.plugin.entries],
        }
        for place, loaded in _loaded.items()
        if loaded.plugin.entries
    }


def require_same(then: dict[str, PluginState]) -> None:
    """Raise `PatiError` unless the loaded plugins are those in `then`: otherwise a resumed run would not be exact."""
    now = state()
    for plugin, facts in then.items():
        if plugin not in now:
            kind, name = facts["entries"][0]
            raise missing(Message(kind), name, plugin)
        if now[plugin]["sha256"] != facts["sha256"]:
            raise PatiError(
                N_("the plugin {plugin} has changed since this run was started", plugin=plugin),
                N_("restore it, or start a new run"),
            )
    for plugin in now.keys() - then.keys():
        raise PatiError(N_("this run was started without the plugin {plugin}", plugin=plugin), N_("omit it"))


def command(*words: str) -> str:
    """A pati command line that loads the same plugins as this process; `words`: the command and its arguments."""
    verb, *rest = words
    return f"{called.shown()} {shlex.join([verb, *options(), *rest])}"


def options() -> list[str]:
    """Command-line options that load the current plugins; empty without plugins."""
    here = Path.cwd()
    named = [str(place.relative_to(here) if place.is_relative_to(here) else place) for place in _loaded]
    return [word for name in named for word in ("--plugin", name)]


def missing(kind: Message, name: str, plugin: object) -> PatiError:
    """The error for an entry whose plugin is not loaded. `plugin` comes from a file, so it is not trusted."""
    if not isinstance(plugin, str) or not re.fullmatch(r"\w[\w .-]{0,100}\.py", plugin):
        return PatiError(
            N_("the {kind} {name!r} comes from a plugin", kind=kind, name=name),
            N_("pass its file with --plugin (only if you trust it: it is executed)"),
        )
    return PatiError(
        N_("the {kind} {name!r} comes from the plugin {plugin}", kind=kind, name=name, plugin=plugin),
        N_("use --plugin {file} (only if you trust it: it is executed)", file=shlex.quote(plugin)),
    )
