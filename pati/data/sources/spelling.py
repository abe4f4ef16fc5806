"""Class names that are spelled in several ways: in another Unicode form, or in upper and lower case."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.locale.messages import N_, Message


def one_spelling(source: Source, columns: Columns) -> Source:
    """Join classes whose names are the same but for their Unicode form, as from a Mac and a PC.

    Names that differ in case are joined or kept as `columns.class_case` says; without it, they raise `PatiError`.
    """
    source = _joined(source, _composed, lambda names: _composed(names[0]), _unicode_joined)
    if columns.class_case == "keep":
        return source
    counts = Counter(item.label for item in source.items)
    if columns.class_case == "join":
        return _joined(source, _caseless, lambda names: max(names, key=lambda name: counts[name]), _case_joined)
    for names in _alike(source.classes, _caseless):
        raise PatiError(
            N_("classes differ only in case: {names}", names=[f"{name} ({counts[name]})" for name in names]),
            N_("--class-case join makes them one class, --class-case keep keeps them apart"),
        )
    return source


def spelled_as(source: Source, classes: Sequence[str], *, caseless: bool) -> Source:
    """The source with the spelling of `classes` where its own differs in the Unicode form only; or in case only."""
    same = _caseless if caseless else _composed
    known = {same(name): name for name in classes}
    items = (replace(item, label=known.get(same(item.label), item.label)) for item in source.items)
    return replace(source, items=tuple(items))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _caseless(name: str) -> str:
    return _composed(_composed(name).casefold())


def _alike(names: Sequence[str], same: Callable[[str], str]) -> list[list[str]]:
    """The names that are the same to `same`, where there are several."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(same(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _joined(
    source: Source, same: Callable[[str], str], chosen: Callable[[list[str]], str], told: Callable[[list[str]], Message]
) -> Source:
    """The source with one spelling, the `chosen` one, for names that are the same to `same`; a note says so."""
    spelling = {name: chosen(names) for names in _alike(source.classes, same) for name in names}
    if not spelling:
        return source
    items = tuple(replace(item, label=spelling.get(item.label, item.label)) for item in source.items)
    return replace(source, items=items, notes=(*source.notes, told(list(dict.fromkeys(spelling.values())))))


def _unicode_joined(names: list[str]) -> Message:
    return N_("classes whose names are written in two Unicode forms are joined: {names}", names=names)


def _case_joined(names: list[str]) -> Message:
    return N_("classes whose names differ in case only are joined: {names}", names=names)
