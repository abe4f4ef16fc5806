"""Name -> function: the one extension mechanism.

Models, augmentations, explainers, metrics, datasets and presets are all listed in a
`Registry`. An entry's summary is the first paragraph of its docstring, so `pati list` and
the docs never say something else than the code. Entries that a user's file adds are
remembered with that file's name.
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

T = TypeVar("T")  # the type of a registry's functions


class Guard(Protocol):
    """Wraps a plugin's function, so that its errors name the plugin."""

    def __call__(self, function: T, /) -> T:
        """The function, wrapped."""
        ...


class Listing(Protocol):
    """What can be told of a registry, whatever kind of functions it holds."""

    kind: str

    def __iter__(self) -> Iterator[str]: ...
    def families(self) -> dict[str, str]: ...  # noqa: D102
    def plugin(self, name: str) -> str | None: ...  # noqa: D102
    def docstring(self, name: str) -> str: ...  # noqa: D102
    def summary(self, name: str) -> str: ...  # noqa: D102
    def remove(self, name: str) -> None: ...  # noqa: D102


class Registry(Generic[T]):
    """A named collection of functions of one kind, in order of registration."""

    def __init__(self, kind: str, package: str | None = None) -> None:
        """`kind` is the singular used in messages; `package` is scanned for entries on first use."""
        self.kind = kind
        self._package = package
        self._loading, self._busy = threading.RLock(), False
        self._entries: dict[str, T] = {}
        self._families: dict[str, Callable[[str], T]] = {}
        self._plugins: dict[str, str] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files a function under `name`. Raises `PatiError` if the name is taken."""

        def keep(function: T) -> T:
            # What is pati's own comes first, also where a plugin's import is the first to bring it in.
            plugin = None if function.__module__.startswith("pati.") else _plugin
            if plugin is not None:
                self._load()
            if name in self._entries:
                whose = f" by the plugin {self.plugin(name)}" if self.plugin(name) else ""
                raise PatiError(f"the {self.kind} {name!r} is taken already{whose}", "choose another name")
            if not inspect.getdoc(function):
                raise PatiError(f"the {self.kind} {name!r} has no docstring", "its first paragraph is the summary")
            self._entries[name] = function if plugin is None else plugin.guard(function)
            if plugin is not None:
                self._plugins[name] = plugin.name
                plugin.entries.append((self, name))
            return function

        return keep

    def register_family(self, prefix: str) -> Callable[[Callable[[str], T]], Callable[[str], T]]:
        """Decorator that files a function under `prefix`: it makes the entry `prefix/NAME` of any NAME asked for.

        For names that another library decides on; the function raises `PatiError` for those it does not have.
        """

        def keep(function: Callable[[str], T]) -> Callable[[str], T]:
            if _plugin is not None and not function.__module__.startswith("pati."):
                raise PatiError(f"a plugin has no {self.kind} families", "register each name by itself")
            if prefix in self._families:
                raise PatiError(f"the {self.kind} family {prefix!r} is taken already", "choose another prefix")
            if not inspect.getdoc(function):
                raise PatiError(f"the {self.kind} family {prefix!r} has no docstring", "it begins with its summary")
            self._families[prefix] = function
            return function

        return keep

    def families(self) -> dict[str, str]:
        """First paragraph of each family's docstring, by `prefix/NAME`."""
        self._load()
        return {
            f"{prefix}/NAME": _first_paragraph(inspect.getdoc(function) or "")
            for prefix, function in self._families.items()
        }

    def plugin(self, name: str) -> str | None:
        """File name of the plugin that the entry `name` comes from; None for pati's own and unknown ones."""
        return self._plugins.get(name)

    def remove(self, name: str) -> None:
        """Take a plugin's entry out again."""
        del self._entries[name], self._plugins[name]

    def _load(self) -> None:
        if self._package is None:
            return
        with self._loading:  # another thread waits until all entries are there
            if self._package is None or self._busy:  # a module that is being imported may ask for an entry itself
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
        known = ", ".join(names)
        raise PatiError(
            f"there is no {self.kind} {name!r}",
            f"did you mean {' or '.join(near)}?" if near else f"known: {known}",
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
    """A plugin file and what it has registered."""

    def __init__(self, name: str, guard: Guard) -> None:
        """`name` is the file's; `guard` wraps each of its functions."""
        self.name = name
        self.guard = guard
        self.entries: list[tuple[Listing, str]] = []

    def remove(self) -> None:
        """Take the entries out of their registries again."""
        for registry, name in self.entries:
            registry.remove(name)
        self.entries.clear()


_plugin: Plugin | None = None


@contextlib.contextmanager
def entries_of(plugin: Plugin) -> Iterator[None]:
    """While this is open, new entries are the plugin's; an error takes them out again."""
    global _plugin
    before, _plugin = _plugin, plugin
    try:
        yield
    except BaseException:
        plugin.remove()
        raise
    finally:
        _plugin = before
