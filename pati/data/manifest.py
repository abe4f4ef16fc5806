"""`Manifest`: the result of the audit, one row per file, with the split of each photo.

Never deletes or moves a user's file. Knows nothing of pixels.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from pati.data import split
from pati.data.columns import Codes, Numbers, Texts
from pati.data.entries import QUARANTINED, Entries, Entry
from pati.data.formats import is_no_photo_name
from pati.data.properties import Properties
from pati.data.sources.source import natural
from pati.data.split import Units
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message
from pati.system import files

FORMAT = 1


@dataclass(frozen=True)
class Shortcut:
    """A property of the files that tells the classes without a look at the photos: see `evaluation.shortcuts`.

    `name`: format, dimensions, quality, mode, camera, border or brightness. `accuracy`: the balanced accuracy of a
    prediction from it alone, in cross-validation, with its 95 % interval `low`..`high`. `chance`: that of a guess.
    """

    name: str
    accuracy: float
    low: float
    high: float
    chance: float

    @property
    def strong(self) -> bool:
        """Whether it takes away at least a tenth of the mistakes of a guess."""
        return self.low - self.chance >= 0.1 * (1 - self.chance)


class SplitSettings(TypedDict, total=False):
    """How the photos were split; `given`: the user provided the split; `near_duplicates`, `folds`: see the recipe."""

    seed: int
    validation: float
    test: float
    group_by: str | None
    near_duplicates: str | None
    folds: int
    given: bool


@dataclass(frozen=True)
class Manifest:
    """All files of a source in order of path, the class order, and the split settings.

    `shortcuts`: the properties of the files that tell the classes; None if that was not tested.
    """

    source: str
    root: str
    classes: tuple[str, ...]
    entries: Entries
    split: SplitSettings
    notes: tuple[Message, ...] = ()
    shortcuts: tuple[Shortcut, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", Entries.of(self.entries))  # of a list of them, too

    @property
    def kept(self) -> Entries:
        """Entries that are used, in order."""
        return self.entries.kept

    def of_split(self, name: str) -> Entries:
        """Kept entries of one split, in order."""
        return self.entries.take(self.entries.is_kept & self.entries.split.equal(name))

    @property
    def folds(self) -> int:
        """Number of cross-validation folds; 0 if there is a test split."""
        return self.split.get("folds", 0)

    def scored(self) -> Entries:
        """Kept entries whose predictions give the scores: the test split, or all that are held out in a fold."""
        return self.kept.take(~self.kept.fold.equal(None)) if self.folds else self.of_split("test")

    def of_fold(self, fold: int) -> Entries:
        """Kept entries that are held out in a fold, numbered from 0."""
        return self.kept.take(self.kept.fold.equal(fold))

    def calibrating(self) -> Entries:
        """Kept entries whose predictions calibrate the model: the validation split, or those held out in a fold."""
        return self.scored() if self.folds else self.of_split("validation")

    def probing(self) -> Entries:
        """Kept entries for measurements on photos not trained on: the validation split, or the first fold's."""
        return self.of_split("validation") or self.of_fold(0)

    def targets(self, entries: Sequence[Entry]) -> NDArray[np.int64]:
        """Class index of each entry, `(N,)`."""
        labels, index = Entries.of(entries).label, {label: number for number, label in enumerate(self.classes)}
        present = set(labels.codes.tolist())
        numbers = [index[label] if code in present else -1 for code, label in enumerate(labels.values)]
        return np.array(numbers, np.int64)[labels.codes]

    def shares(self) -> dict[str, float]:
        """Actual fraction of the kept photos in each split."""
        counts = self.kept.split.counts()
        return {name: counts.get(name, 0) / max(1, len(self.kept)) for name in split.SPLITS}

    def hash(self) -> str:
        """Hex digest of what determines training: content, classes and splits, but not the location of the files."""
        return self._hash

    @functools.cached_property
    def _hash(self) -> str:
        digest = hashlib.sha256(json.dumps([FORMAT, self.classes]).encode())
        for entry in self.entries:
            row = (entry.path, entry.sha256, entry.label, entry.status, entry.reason, entry.split)
            digest.update(json.dumps(row if entry.fold is None else (*row, entry.fold)).encode())
        return digest.hexdigest()

    def leaks(self) -> list[list[Entry]]:
        """Groups of duplicates, or of the user's `group` column, that span several splits.

        Possible only where the user provided the split.
        """
        kept, splits = self.kept, self.kept.split.codes
        return [*_grouped(kept, kept.duplicate, across=splits), *_grouped(kept, kept.group, across=splits)]

    def leaked(self, *names: str) -> int:
        """Number of photos in these splits that share a duplicate or user group with a training photo."""
        groups = [group for group in self.leaks() if any(entry.split == "train" for entry in group)]
        return len({entry.path for group in groups for entry in group if entry.split in names})

    def dependent(self) -> dict[str, int]:
        """Why the photos that are scored are not independent, see the function `dependent`."""
        return dependent(self.scored())

    def duplicate_groups(self) -> list[list[Entry]]:
        """Groups of exact and near duplicates, in order of their first photo."""
        return _grouped(self.kept, self.kept.duplicate)

    def alike(self) -> list[list[Entry]]:
        """Groups of photos that look alike but need not stay together, in order of their first photo."""
        return _grouped(self.kept, self.kept.alike)

    def write(self, path: Path) -> None:
        """Write one JSON object per line: a header, then one line per entry."""
        header = {
            "kind": "pati-manifest",
            "format": FORMAT,
            "hash": self.hash(),
            "source": self.source,
            "root": self.root,
            "classes": self.classes,
            "split": self.split,
            "notes": [note.to_json() for note in self.notes],
            "shortcuts": None if self.shortcuts is None else [dataclasses.asdict(found) for found in self.shortcuts],
        }
        # Escaped ASCII: file names need not be valid UTF-8.
        with files.atomic(path) as file:
            file.write(json.dumps(header).encode() + b"\n")
            for entry in self.entries:
                file.write(_to_line(entry).encode() + b"\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Inverse of `write`; raises `PatiError` if the file is damaged or was edited."""
        try:
            with path.open(encoding="utf-8") as lines:
                header = json.loads(lines.readline())
                if header.get("kind") != "pati-manifest" or header.get("format") != FORMAT:
                    raise PatiError(N_("{path} is not a manifest of format {format}", path=path, format=FORMAT))
                entries = Entries.of(map(_from_line, lines))
            shortcuts = header.get("shortcuts")
            manifest = cls(
                header["source"],
                header["root"],
                tuple(header["classes"]),
                entries,
                header["split"],
                tuple(map(Message.from_json, header["notes"])),
                None if shortcuts is None else tuple(Shortcut(**found) for found in shortcuts),
            )
            unchanged = manifest.hash() == header["hash"]
        except OSError as error:
            raise PatiError(
                N_("can't read the manifest {path}: {reason}", path=path, reason=os_reason(error))
            ) from None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise PatiError(
                N_("the manifest {path} is damaged: {error}", path=path, error=repr(error)),
                N_("create it again with `pati check`"),
            ) from None
        if not unchanged:
            raise PatiError(
                N_("the manifest {path} was edited: its hash does not match", path=path),
                N_("create it again with `pati check`"),
            )
        return manifest


def _grouped(
    entries: Entries, names: Codes[str | None], *, across: NDArray[np.int32] | None = None
) -> list[list[Entry]]:
    """The entries with the same name, in order of the first one; those without a name are left out.

    `across` `(N,)`: only groups with several of these numbers.
    """
    named = np.flatnonzero(~names.equal(None))
    if across is not None:
        pairs = np.unique(np.stack([names.codes[named], across[named]]), axis=1)
        several, counts = np.unique(pairs[0], return_counts=True)
        named = named[np.isin(names.codes[named], several[counts > 1])]
    groups: dict[int, list[Entry]] = defaultdict(list)
    for code, entry in zip(names.codes[named].tolist(), entries.take(named), strict=True):
        groups[code].append(entry)
    return list(groups.values())


def is_manifest(path: Path) -> bool:
    """Whether the file starts like one written by `Manifest.write`."""
    try:
        with path.open("rb") as file:
            return file.read(64).startswith(b'{"kind": "pati-manifest"')
    except OSError:
        return False


_DEFAULTS = {item.name: item.default for item in dataclasses.fields(Entry)}


def _to_line(entry: Entry) -> str:
    # Not `asdict`: it makes deep copies, which is slow for a hundred thousand photos.
    values = ((name, getattr(entry, name), default) for name, default in _DEFAULTS.items())
    return json.dumps({name: value for name, value, default in values if value != default}, default=Message.to_json)


def _from_line(line: str) -> Entry:
    values = json.loads(line)
    detail = values.pop("detail", None)
    typed = {
        "flags": tuple(values.get("flags", ())),
        "detail": Message.from_json(detail) if detail else None,
        "properties": Properties(*values.get("properties", ())),
    }
    return Entry(**(values | typed))


def components(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Groups of two or more numbers that `pairs` connect, directly or through others, each in order."""
    parent: dict[int, int] = {}

    def root(index: int) -> int:
        while (above := parent.setdefault(index, index)) != index:
            parent[index] = index = parent[above]
        return index

    for i, j in pairs:
        parent[root(i)] = root(j)
    members: dict[int, list[int]] = defaultdict(list)
    for index in sorted(parent):
        members[root(index)].append(index)
    return [group for group in members.values() if len(group) > 1]


def join(entries: Sequence[Entry], near: Iterable[tuple[int, int]]) -> Entries:
    """Entries with `duplicate` set: exact copies (equal sha256) and the `near` pairs of indices.

    A group is named after its smallest sha256, so that the name doesn't depend on paths.
    """
    rows = Entries.of(entries)
    changed: dict[int, Entry] = {}
    for connected in components([*_exact(rows), *near]):
        group = {index: entry for index in connected if (entry := rows[index]).kept}
        if len(group) > 1:
            name = min(entry.sha256 for entry in group.values())[:16]
            labels = {entry.label for entry in group.values()}
            flags = ["duplicate"] + ["in-two-classes"] * (len(labels) > 1)
            for index, entry in group.items():
                changed[index] = dataclasses.replace(
                    entry, duplicate=name, status="flagged", flags=(*entry.flags, *flags)
                )
    return rows.with_rows(np.array(list(changed), np.int64), changed.values())


def _exact(rows: Entries) -> list[tuple[int, int]]:
    """Pairs of kept entries with the same content, which connect all of them."""
    kept = np.flatnonzero(rows.is_kept)
    digests = rows.digest[kept]
    order = np.argsort(digests, kind="stable")
    same = np.flatnonzero(digests[order[1:]] == digests[order[:-1]])
    return list(zip(kept[order[same + 1]].tolist(), kept[order[same]].tolist(), strict=True))


def with_split(
    entries: Sequence[Entry],
    *,
    seed: int,
    validation: float,
    test: float,
    given: bool,
    known: Mapping[str, str] = MappingProxyType({}),
) -> Entries:
    """Entries with `split` set.

    With `given`, the user's splits are kept, and missing ones are drawn from the user's training set. A share of 0: no
    photos are drawn for that split.

    `known`: the splits, by SHA-256, of photos that the start of this training has seen. There they stay, and whatever
    must stay together with them. A test photo that must stay together with a training photo is set aside: it can
    neither be learnt nor scored.
    """
    rows = _set_aside(Entries.of(entries), known, given=given)
    present = set(rows.kept.split.counts()) if given else set()
    open_ = _open(rows, given=given)
    grouped, number = units(rows.take(open_))
    wanted = {"validation": validation, "test": test}
    shares = {name: 0.0 if name in present else share for name, share in wanted.items()}
    if all(share == 0 for share in shares.values()):
        without = np.flatnonzero(rows.split.equal(None, ""))
        return rows.with_splits(without, Codes.all("train", len(without)))
    fixed: dict[int, str] = {}
    for unit, digest in zip(number.tolist(), rows.digest[open_].tolist(), strict=True) if known else ():
        if (before := known.get(digest.decode())) is not None:
            fixed[unit] = min(before, fixed.get(unit, before), key=STRONGEST.index)
    drawn = split.assign(grouped, seed=seed, fixed=fixed, **shares)
    # The rule that every class appears in every split may have moved units into the user's splits, or into one with a
    # share of 0: undo that.
    for name, share in shares.items():
        if share == 0:
            drawn[drawn == split.SPLITS.index(name)] = split.SPLITS.index("train")
    return rows.with_splits(open_, Codes(split.SPLITS, drawn[number].astype(np.int32)))


STRONGEST = ("train", "test", "validation")  # which split photos of several that must stay together go to


def _open(rows: Entries, *, given: bool) -> Numbers:
    """The rows whose split is drawn."""
    return np.flatnonzero(rows.is_kept & (rows.split.equal(None, "train") if given else True))


def _set_aside(rows: Entries, known: Mapping[str, str], *, given: bool) -> Entries:
    """Entries without the known test photos that must stay together with known training photos."""
    if not known:
        return rows
    open_ = _open(rows, given=given)
    _, number = units(rows.take(open_))
    before = Codes.of(known.get(digest.decode()) for digest in rows.digest[open_].tolist())
    aside = open_[np.isin(number, number[before.equal("train")]) & before.equal("test")]
    left_out = (dataclasses.replace(entry, status=QUARANTINED, reason="set-aside") for entry in rows.take(aside))
    return rows.with_rows(aside, left_out)


def with_folds(entries: Sequence[Entry], folds: int, *, seed: int) -> Entries:
    """Entries with `fold` set on those of the training split; units stay together, and classes are spread evenly.

    A unit that has all training photos of a class is in no fold, as no network could learn that class without it.
    """
    rows = Entries.of(entries)
    training = np.flatnonzero(rows.is_kept & rows.split.equal("train"))
    grouped, number = units(rows.take(training))
    usual = np.ones(len(grouped), bool)
    usual[grouped.unit[grouped.holding[grouped.label] < 2]] = False
    dealt = np.full(len(grouped), folds)
    dealt[usual] = split.assign_folds(grouped.take(usual), folds, seed=seed)
    values: Codes[int | None] = Codes((*range(folds), None), dealt[number].astype(np.int32))
    cleared = rows.with_folds(np.arange(len(rows)), Codes.all(None, len(rows)))
    return cleared.with_folds(training, values)


def folds_for(entries: Sequence[Entry], *, test: float, given: bool, most: int | None) -> int:
    """The default number of cross-validation folds for these photos; 0 if their test split is large enough, or given.

    `test`: share of the test split; `most`: see `split.folds_for`.
    """
    rows = Entries.of(entries)
    if given and "test" in rows.kept.split.counts():
        return 0
    grouped, _ = units(rows.take(_open(rows, given=given)))
    return split.folds_for(len(grouped), test=test, most=most)


def units(entries: Sequence[Entry]) -> tuple[Units, Numbers]:
    """The units of photos that must stay together, and the number of each entry's unit, `(N,)`.

    Duplicate groups merged with user groups; in order of their first photo.
    """
    rows = Entries.of(entries)
    duplicate, group = rows.duplicate, rows.group
    copied, grouped = ~duplicate.equal(None, ""), ~group.equal(None)
    # Nodes: groups of duplicates, then the other photos by content, then the user's groups.
    contents, content = np.unique(rows.digest[~copied], return_inverse=True)
    node = duplicate.codes.astype(np.int64)
    node[~copied] = len(duplicate.values) + content
    groups = len(duplicate.values) + len(contents) + group.codes[grouped].astype(np.int64)
    top = _connected(len(duplicate.values) + len(contents) + len(group.values), node[grouped], groups)[node]
    _, first, number = np.unique(top, return_index=True, return_inverse=True)
    order = np.argsort(first)
    renamed = np.empty_like(order)
    renamed[order] = np.arange(len(order))
    number = renamed[number]

    # A unit is named after its groups of duplicates, else its user groups, else its only content.
    names: dict[int, str] = {}
    for kind, chosen, column in (("copy:", copied & ~grouped, duplicate), ("group:", grouped, group)):
        least: dict[int, str] = {}
        for code, of in np.unique(np.stack([column.codes[chosen], number[chosen]]), axis=1).T.tolist():
            name = f"{kind}{column.values[code]}"
            least[of] = min(name, least.get(of, name))
        names = least | names
    digests = rows.digest[first[order]]
    identity = Texts.of(names.get(of) or f"photo:{digests[of].decode()}" for of in range(len(order)))

    label = rows.label
    pairs, count = np.unique(number * len(label.values) + label.codes, return_counts=True)
    unit, classes = np.divmod(pairs, max(1, len(label.values)))
    return Units(identity, label.values, unit, classes, count.astype(np.int64)), number


def _connected(count: int, first: Numbers, second: Numbers) -> Numbers:
    """The smallest number that each of `count` numbers is connected with, by the pairs of `first` and `second`."""
    root = np.arange(count)
    while len(first):
        one, other = root[first], root[second]
        if (one == other).all():
            break
        least = np.minimum(one, other)
        np.minimum.at(root, one, least)
        np.minimum.at(root, other, least)
        while (root[root] != root).any():
            root = root[root]
    return root


def dependent(entries: Sequence[Entry]) -> dict[str, int]:
    """Why photos are not independent, as counts.

    `groups`: number of user groups, if some have several photos. `copies`: number of photos that duplicate another one.
    Zero counts are left out.
    """
    rows = Entries.of(entries)
    grouped, copied = rows.group.codes[~rows.group.equal(None)], rows.duplicate.codes[~rows.duplicate.equal(None, "")]
    sizes, twins = len(np.unique(grouped)), len(np.unique(copied))
    counts = {"groups": sizes if len(grouped) > sizes else 0, "copies": len(copied) - twins}
    return {name: count for name, count in counts.items() if count}


def class_order(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Class names of the kept entries in natural order."""
    return tuple(sorted(Entries.of(entries).kept.label.counts(), key=natural))


def require_trainable(manifest: Manifest) -> None:
    """Raise `PatiError` if a classifier can't be trained, or can't be tested reliably."""
    counts = manifest.kept.label.counts()
    if not manifest.entries:
        raise PatiError(
            N_("no photos found in {root}", root=manifest.root),
            N_("expected one folder of photos per class, or a CSV"),
        )
    if not counts:
        most = Counter(manifest.entries.reason.counts()).most_common(3)
        seen = ", ".join(f"{count} {reason}" for reason, count in most)
        raise PatiError(
            N_(
                "none of the {n} files in {root} is a usable photo ({reasons})",
                n=len(manifest.entries),
                root=manifest.root,
                reasons=seen,
            ),
            next((entry.detail for entry in manifest.entries if entry.reason == most[0][0] and entry.detail), None),
        )
    unnameable = [label for label in counts if not files.is_text(label)]
    if unnameable:
        raise PatiError(
            N_("a class name is not valid text: {name}", name=ascii(unnameable[0])),
            N_("rename the folder; archives from other systems often use another encoding for names"),
        )
    if len(counts) == 1:
        raise PatiError(
            N_(
                "found only one class, {label!r}, in {root}",
                label=next(iter(counts)),
                root=manifest.root,
            ),
            N_("expected at least two folders, one per class"),
        )
    small = [label for label, count in counts.items() if count < 3]
    # Classes of notes or code only are none.
    unused = manifest.entries.quarantined
    emptied = sorted({entry.label for entry in unused if not is_no_photo_name(entry.path)} - set(counts))
    if small or emptied:
        too_few = ", ".join(f"{label!r} ({counts.get(label, 0)})" for label in [*small, *emptied][:5])
        raise PatiError(
            N_("every class needs at least 3 usable photos; too few in: {classes}", classes=too_few),
            N_("add photos, or remove the class"),
        )
    for name in ("train",) if manifest.folds else split.SPLITS:
        have = set(manifest.of_split(name).label.counts())
        if not have:
            raise PatiError(
                N_(
                    "the {name} split is empty: there are too few groups of photos (duplicates, and photos with the "
                    "same --group-by value, stay together)",
                    name=name,
                ),
                N_(
                    "add photos, use smaller groups, or see --near-duplicates; with --from, photos that the earlier "
                    "model was trained on cannot be test photos"
                ),
            )
        missing = sorted(set(counts) - have)
        if name == "train" and missing:
            raise PatiError(
                N_("no training photos of {classes}", classes=missing[:5]),
                N_("every class must appear in the train split"),
            )
    if manifest.folds and len(manifest.scored().fold.counts()) < 2:
        raise PatiError(
            N_(
                "cross-validation is impossible: there are too few groups of photos (duplicates, and photos with the "
                "same --group-by value, stay together)"
            ),
            N_("add photos, use smaller groups, or see --near-duplicates"),
        )
