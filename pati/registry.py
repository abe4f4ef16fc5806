"""Registries, the one extension mechanism: each maps names to functions.

Models, augmentations, explainers, metrics, datasets and presets are all listed in a `Registry`. An entry's summary is
the first paragraph of its docstring, so `pati list` and the docs always agree with the code. An entry that a plugin
adds is stored with the plugin's file name.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import inspect
import pkgutil
import threading
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from pati.errors import PatiError
from pati.locale.messages import N_, Message, either

T = TypeVar("T")  # the type of a registry's functions


class Guard(Protocol):
    """Wraps a plugin's function so that its errors name the plugin."""

    def __call__(self, function: T, /) -> T:
        """Return the wrapped function."""
        ...


class Listing(Protocol):
    """The part of a registry's interface that does not depend on the type of its functions."""

    kind: Message

    def __iter__(self) -> Iterator[str]: ...
    def families(self) -> dict[str, str]: ...  # noqa: D102
    def plugin(self, name: str) -> str | None: ...  # noqa: D102
    def docstring(self, name: str) -> str: ...  # noqa: D102
    def summary(self, name: str) -> str: ...  # noqa: D102
    def remove(self, name: str) -> None: ...  # noqa: D102


class Registry(Generic[T]):
    """A named collection of functions of one type, in order of registration."""

    def __init__(self, kind: Message, package: str | None = None) -> None:
        """`kind` is the singular used in messages; `package` is scanned for entries on first use."""
        self.kind = kind
        self._package = package
        self._loading, self._busy = threading.RLock(), False
        self._entries: dict[str, T] = {}
        self._families: dict[str, Callable[[str], T]] = {}
        self._plugins: dict[str, str] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that registers a function under `name`. Raises `PatiError` if the name is taken."""

        def keep(function: T) -> T:
            # pati's own entries come first, even if a plugin's import is what loads their module.
            plugin = None if function.__module__.startswith("pati.") else _plugin
            if plugin is not None:
                self._load()
            if name in self._entries:
                taken = N_("the {kind} {name!r} already exists", kind=self.kind, name=name)
                if self.plugin(name):
                    taken = N_(
                        "the {kind} {name!r} already exists: it comes from the plugin {plugin}",
                        kind=self.kind,
                        name=name,
                        plugin=self.plugin(name),
                    )
                raise PatiError(taken, N_("choose another name"))
            if not inspect.getdoc(function):
                raise PatiError(
                    N_("the {kind} {name!r} has no docstring", kind=self.kind, name=name),
                    N_("write one: its first paragraph is the summary"),
                )
            self._entries[name] = function if plugin is None else plugin.guard(function)
            if plugin is not None:
                self._plugins[name] = plugin.name
                plugin.entries.append((self, name))
            return function

        return keep

    def register_family(self, prefix: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
        """Decorator that registers a function under `prefix`; it resolves any name `prefix/NAME`.

        For names that another library defines. The function raises `PatiError` for names it does not know.
        """

        def keep(function: Callable[[str], T]) -> Callable[[str], T]:
            if _plugin is not None and not function.__module__.startswith("pati."):
                raise PatiError(
                    N_("a plugin cannot register a family of {kind} names", kind=self.kind),
                    N_("register each name by itself"),
                )
            if prefix in self._families:
                raise PatiError(
                    N_("the {kind} family {prefix!r} already exists", kind=self.kind, prefix=prefix),
                    N_("choose another prefix"),
                )
            if not inspect.getdoc(function):
                raise PatiError(
                    N_("the {kind} family {prefix!r} has no docstring", kind=self.kind, prefix=prefix),
                    N_("write one: its first paragraph is the summary"),
                )
            self._families[prefix] = function
            return function

        return keep

    def families(self) -> dict[str, str]:
        """First paragraph of each family's docstring, keyed by `prefix/NAME`."""
        self._load()
        return {
            f"{prefix}/NAME": _first_paragraph(inspect.getdoc(function) or "")
            for prefix, function in self._families.items()
        }

    def plugin(self, name: str) -> str | None:
        """File name of the plugin that registered `name`; None for pati's own entries and for unknown names."""
        return self._plugins.get(name)

    def remove(self, name: str) -> None:
        """Remove an entry that a plugin registered."""
        del self._entries[name], self._plugins[name]

    def _load(self) -> None:
        if self._package is None:
            return
        with self._loading:  # other threads wait until all entries are registered
            if self._package is None or self._busy:  # a module that is being imported may look up an entry itself
                return
            self._busy = True
            try:
                package = importlib.import_module(self._package)
                for module in pkgutil.iter_modules(package.__path__):
                    importlib.import_module(f"{package.__name__}.{module.name}")
                self._package = None
            finally:
                self._busy = False

    def __getitem__(self, name: str) -> T:
        self._load()
        if name in self._entries:
            return self._entries[name]
        prefix, slash, member = name.partition("/")
        if slash and prefix in self._families:
            return self._families[prefix](member)
        names = [*self._entries, *self.families()]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        raise PatiError(
            N_("there is no {kind} {name!r}", kind=self.kind, name=name),
            N_("did you mean {names}?", names=either(near)) if near else N_("known: {names}", names=names),
        )

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._entries

    def __len__(self) -> int:
        self._load()
        return len(self._entries)

    def docstring(self, name: str) -> str:
        """The entry's docstring."""
        return inspect.getdoc(self[name]) or ""

    def summary(self, name: str) -> str:
        """First paragraph of the entry's docstring, on one line."""
        return _first_paragraph(self.docstring(name))


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


class Plugin:
    """A plugin file and the entries it registered."""

    def __init__(self, name: str, guard: Guard) -> None:
        """`name` is the file name; `guard` wraps each function of the plugin."""
        self.name = name
        self.guard = guard
        self.entries: list[tuple[Listing, str]] = []

    def remove(self) -> None:
        """Remove the plugin's entries from their registries."""
        for registry, name in self.entries:
            registry.remove(name)
        self.entries.clear()


_plugin: Plugin | None = None


@contextlib.contextmanager
def entries_of(plugin: Plugin) -> Iterator[None]:
    """While the context is open, new entries belong to `plugin`; if it exits with an error, they are removed."""
    global _plugin
    before, _plugin = _plugin, plugin
    try:
        yield
    except BaseException:
        plugin.remove()
        raise
    finally:
        _plugin = before
