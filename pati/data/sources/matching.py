"""Find the photos that a table's rows mean: ids, names or paths, as written on another machine."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pati.data.decode import is_photo_name
from pati.data.sources import allowed
from pati.data.sources.source import DRAWINGS, plain, split_role
from pati.locale.messages import N_, Message
from pati.system import names
from pati.system.csv_text import Unusable

_MOST_HEADS = 10_000  # pairs of folders that are counted
_NEARLY_ALL = 0.9


def tidy(path: str | None) -> str:
    """A photo's path from a table: forward slashes, no surrounding spaces or quotation marks."""
    text = (path or "").strip().strip("'\"")
    if "\\" in text:
        text = text.replace("\\", "/")
    while text.startswith("./"):
        text = text[2:].lstrip("/")
    return text


def same(text: str) -> str:
    """A path for comparison: without case and Unicode form."""
    return text.lower() if text.isascii() else unicodedata.normalize("NFC", text.casefold())


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if is_photo_name(name) else name


def _id(name: str) -> str:
    """The key by which a row and a photo can belong together: the name without folders and suffix."""
    return same(_stem(name.rpartition("/")[2]))


def _number(name: str) -> str:
    """The same for numbers, which spreadsheets write without zeros: 7 for 0007.jpg and 7.0."""
    match = re.fullmatch(r"0*(\d+)(?:[.,]0+)?", _id(name))
    return match[1] if match else ""


class Photos:
    """Photos by name; `paths` are relative to the folder of the data."""

    def __init__(self, paths: Iterable[str], key: Callable[[str], str] = _id) -> None:
        self._key = key
        self._paths: dict[str, str | list[str]] = {}
        for path in paths:
            name, before = key(path), self._paths.get(key(path))
            if before is None:
                self._paths[name] = path
            elif isinstance(before, list):
                before.append(path)
            else:
                self._paths[name] = [before, path]

    def named(self, row: str) -> Sequence[str]:
        """The photos that a row may mean: those whose names are most like its own."""
        found = self._paths.get(self._key(row))
        if found is None:
            return ()
        if isinstance(found, str):
            return (found,)
        name = row.rpartition("/")[2]
        names = [path.rpartition("/")[2] for path in found]
        for alike in (
            [path for path, one in zip(found, names, strict=True) if one == name],
            [path for path, one in zip(found, names, strict=True) if same(one) == same(name)],
        ):
            if alike:
                return alike
        return found

    def known(self, row: str) -> bool:
        """Whether a row may mean a photo."""
        return bool(row) and self._key(row) in self._paths

    def by_number(self) -> Photos:
        """The photos whose names are numbers, by these."""
        paths = (path for found in self._paths.values() for path in ([found] if isinstance(found, str) else found))
        numbered = Photos((path for path in paths if _number(path)), _number)
        numbered._paths.pop("", None)
        return numbered


def _heads(row: str, path: str) -> tuple[str, str]:
    """The folders of a row and of a photo that are left when those they share, from the end, are taken away."""
    ours, theirs = row.split("/")[:-1], path.split("/")[:-1]
    while ours and theirs and same(ours[-1]) == same(theirs[-1]):
        ours.pop()
        theirs.pop()
    return "/".join(ours), "/".join(theirs)


@dataclass(frozen=True)
class Match:
    """Which photo a row means. `heads`: the folders of all rows, and of all photos, that differ; None: names alone.

    `rows`: the number of rows that mean a photo; `notes`: how they were matched.
    """

    photos: Photos
    heads: tuple[str, str] | None
    rows: int
    notes: tuple[Message, ...] = ()

    def found(self, row: str) -> Sequence[str]:
        """The photos that a row means: one, none, or, if that is not clear, several."""
        named = self.photos.named(row)
        if self.heads is None or not named:
            return named
        return [path for path in named if _heads(row, path) == self.heads]


def match(photos: Photos, rows: Callable[[], Iterable[str]], table: str) -> Match:
    """How the rows of `table` mean photos: one rule for all rows, the strictest that fits nearly all.

    Rows may be written relative to the folder of the data; relative to another folder, or with other folders above,
    the same for all; or with names only. Raises `Unusable` if they fit photos in several folders alike.
    """
    heads: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], tuple[str, str]] = {}
    respelled: tuple[Message, ...] = ()
    named = single = 0
    for row in rows():
        candidates = photos.named(row)
        if not candidates:
            continue
        named += 1
        single += len(candidates) == 1
        respelled = respelled or _respelled(row, candidates[0], table)
        for pair, path in {_heads(row, path): path for path in candidates}.items():
            if pair in heads or len(heads) < _MOST_HEADS:
                heads[pair] += 1
                examples.setdefault(pair, (row, path))
    if not named:
        if photos._key is _number:
            return Match(photos, None, 0)
        found = match(photos.by_number(), rows, table)
        if found.rows:
            row, path = next((row, found.found(row)[0]) for row in rows() if found.found(row))
            note = N_("rows of {table} are matched by number: {row} is {path}", table=table, row=row, path=path)
            found = Match(found.photos, found.heads, found.rows, (*found.notes, note))
        return found
    if heads["", ""] >= named / 2:
        return Match(photos, ("", ""), heads["", ""], respelled)
    most = max(heads.values())
    if most >= _NEARLY_ALL * named:
        best = _best([pair for pair, count in heads.items() if count >= _NEARLY_ALL * most], table)
        row, path = examples[best]
        if single == named or "/" in row[len(best[0]) :].lstrip("/") or _is_part(best, heads, table):
            return Match(photos, best, heads[best], respelled or _told(row, path, table))
    row, path = next(iter(examples.values()))
    if not single:
        raise Unusable(
            N_("its rows fit several photos, for example {row}: {path}", row=row, path=photos.named(row)[:3])
        )
    return Match(photos, None, single, respelled or _told(row, path, table))


def _best(pairs: Sequence[tuple[str, str]], table: str) -> tuple[str, str]:
    """Of the folders that fit a table, those that share the most with its rows, or have its name's split.

    Raises `Unusable` if there are several.
    """
    fewest = min(pair[0].count("/") + bool(pair[0]) for pair in pairs)
    best = [pair for pair in pairs if pair[0].count("/") + bool(pair[0]) == fewest]
    best = [pair for pair in best if plain(pair[1].rpartition("/")[2]) not in DRAWINGS] or best
    if len(best) > 1:
        best = [pair for pair in best if _role(pair) and _role(pair) == _role_of_table(table)] or best
    if len(best) > 1:
        raise Unusable(
            N_("its rows fit photos in {folders}", folders=sorted(pair[1] or "." for pair in best)),
            N_("give one of these folders as DATA, and the table with --table"),
        )
    return best[0]


def _is_part(best: tuple[str, str], pairs: Iterable[tuple[str, str]], table: str) -> bool:
    """Whether names that occur in several folders mean those in this one: the table's split, or the training split."""
    others = [pair for pair in pairs if pair != best and plain(pair[1].rpartition("/")[2]) not in DRAWINGS]
    roles = {_role(pair) for pair in others}
    if not others:
        return True
    return _role(best) is not None and (
        _role(best) == _role_of_table(table) or (_role(best) == "train" and not roles & {None, "train"})
    )


def _role(pair: tuple[str, str]) -> str | None:
    return split_role(pair[1].rpartition("/")[2])


def _role_of_table(table: str) -> str | None:
    return split_role(table.rpartition("/")[2].rpartition(".")[0])


def _told(row: str, path: str, table: str) -> tuple[Message, ...]:
    """A note, unless the rows are names without folders."""
    return () if "/" not in row else (_by_name(row, path, table),)


def _respelled(row: str, path: str, table: str) -> tuple[Message, ...]:
    """A note if the photo has another suffix than the row."""
    name = row.rpartition("/")[2]
    if not is_photo_name(name) or same(name) == same(path.rpartition("/")[2]):
        return ()
    return (_by_name(row, path, table),)


def _by_name(row: str, path: str, table: str) -> Message:
    return N_("paths in {table} are matched by name: {row} is {path}", table=table, row=row, path=path)


class Disk:
    """The files that a table's paths lead to, starting from the folder of the table, as far as they may be read."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._folders: dict[str, dict[str, str]] = {}

    def found(self, row: str) -> Sequence[str]:
        """The path of a row, if there is such a file: as written, but for the Unicode form of its name.

        On systems that ignore it, the case may differ too.
        """
        *above, name = row.rpartition("/")
        folder = "".join(above)
        if folder not in self._folders:
            self._folders[folder] = self._listed(folder)
        listed = self._folders[folder]
        found = listed.get(name) or listed.get(unicodedata.normalize("NFC", name))
        if found is None and os.path.isfile(self._base / folder / name):
            found = listed.get(names.same_file(name))
        return [] if found is None else [folder + found]

    def known(self, row: str) -> bool:
        """Whether there is such a file."""
        return bool(row and self.found(row))

    def _listed(self, folder: str) -> dict[str, str]:
        """The files of a folder, by name, by the name's NFC form, and without its case."""
        try:
            with os.scandir(self._base / folder) as entries:
                files = [entry.name for entry in entries if not entry.is_dir() and allowed.may_read(entry.path)]
        except (OSError, ValueError):
            return {}
        keys = names.same_file, partial(unicodedata.normalize, "NFC"), str
        return {key(name): name for key in keys for name in files}
