"""Class names that are spelled in several ways: with other characters that look the same, or in another case."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.locale.messages import N_, Message

# Take no room: zero-width space, marks of direction, soft hyphen, byte-order mark.
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u2060\u00ad\ufeff]")


def one_spelling(source: Source, columns: Columns) -> Source:
    """Join classes whose names look the same: in two Unicode forms, as from a Mac and a PC, or with other spaces.

    Names that differ in case are joined or kept as `columns.class_case` says; without it, they raise `PatiError`.
    """
    source = _joined(source, _visible, lambda names: _visible(names[0]), _look_alikes_joined)
    if columns.class_case == "keep":
        return source
    counts = Counter(item.label for item in source.items)

    def commonest(names: list[str]) -> str:
        return max(names, key=lambda name: counts[name])

    for same in _CASELESS:
        if columns.class_case == "join":
            source = _joined(source, same, commonest, _case_joined)
        for names in _alike(source.classes, same):
            raise PatiError(
                N_("classes differ only in case: {names}", names=[f"{name} ({counts[name]})" for name in names]),
                N_("--class-case join makes them one class, --class-case keep keeps them apart"),
            )
    return source


def spelled_as(source: Source, classes: Sequence[str], *, caseless: bool) -> Source:
    """The source with the spelling of `classes` where its own looks the same; or, `caseless`, differs in case only."""
    for same in (_visible, *_CASELESS) if caseless else (_visible,):
        known = {same(name): name for name in classes}
        spelling = {name: known.get(same(name), name) for name in set(source.classes) - set(classes)}
        items = (replace(item, label=spelling.get(item.label, item.label)) for item in source.items)
        source = replace(source, items=tuple(items))
    return source


def _visible(name: str) -> str:
    """The name as it looks: composed, with plain spaces, and without characters that can't be seen."""
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", name)).split())


def _caseless(name: str) -> str:
    return _visible(_visible(name).casefold())


def _turkish_caseless(name: str) -> str:
    """As `_caseless`, where İ is the capital of i, and I that of ı."""
    return _caseless(_visible(name).replace("İ", "i").replace("I", "ı"))


_CASELESS = (_caseless, _turkish_caseless)


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


def _look_alikes_joined(names: list[str]) -> Message:
    return N_(
        "classes whose names look the same but are written with different characters are joined: {names}", names=names
    )


def _case_joined(names: list[str]) -> Message:
    return N_("classes whose names differ in case only are joined: {names}", names=names)
