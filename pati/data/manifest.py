"""`Manifest`: the result of the audit, one row per file, with the split of each photo.

Never deletes or moves a user's file. Knows nothing of pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from pati.data import split
from pati.data.formats import is_no_photo_name
from pati.data.properties import UNKNOWN, Properties
from pati.data.sources.source import natural
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message
from pati.system import files

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One file. `status` is kept, flagged (kept, but unusual) or quarantined (not used, see `reason`).

    `duplicate`: the group of exact and near duplicates that it must stay with; `alike`: a group of photos that look
    alike, but need not stay together (see `SplitSettings.near_duplicates`). `fold`: the fold of a cross-validation in
    which it is held out, from 0.
    """

    path: str
    label: str
    status: str
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    reason: str = ""
    detail: Message | None = None
    flags: tuple[str, ...] = ()
    group: str | None = None
    duplicate: str | None = None
    alike: str | None = None
    split: str | None = None
    fold: int | None = None
    properties: Properties = UNKNOWN

    @property
    def kept(self) -> bool:
        """Whether the photo is used."""
        return self.status != "quarantined"


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
    entries: tuple[Entry, ...]
    split: SplitSettings
    notes: tuple[Message, ...] = ()
    shortcuts: tuple[Shortcut, ...] | None = None

    @property
    def kept(self) -> list[Entry]:
        """Entries that are used, in order."""
        return [entry for entry in self.entries if entry.kept]

    def of_split(self, name: str) -> list[Entry]:
        """Kept entries of one split, in order."""
        return [entry for entry in self.entries if entry.kept and entry.split == name]

    @property
    def folds(self) -> int:
        """Number of cross-validation folds; 0 if there is a test split."""
        return self.split.get("folds", 0)

    def scored(self) -> list[Entry]:
        """Kept entries whose predictions give the scores: the test split, or all that are held out in a fold."""
        return [entry for entry in self.kept if entry.fold is not None] if self.folds else self.of_split("test")

    def of_fold(self, fold: int) -> list[Entry]:
        """Kept entries that are held out in a fold, numbered from 0."""
        return [entry for entry in self.kept if entry.fold == fold]

    def calibrating(self) -> list[Entry]:
        """Kept entries whose predictions calibrate the model: the validation split, or those held out in a fold."""
        return self.scored() if self.folds else self.of_split("validation")

    def probing(self) -> list[Entry]:
        """Kept entries for measurements on photos not trained on: the validation split, or the first fold's."""
        return self.of_split("validation") or self.of_fold(0)

    def targets(self, entries: Sequence[Entry]) -> list[int]:
        """Class index of each entry."""
        index = {label: number for number, label in enumerate(self.classes)}
        return [index[entry.label] for entry in entries]

    def shares(self) -> dict[str, float]:
        """Actual fraction of the kept photos in each split."""
        counts = Counter(entry.split for entry in self.kept)
        return {name: counts[name] / max(1, len(self.kept)) for name in split.SPLITS}

    def hash(self) -> str:
        """Hex digest of what determines training: content, classes and splits, but not the location of the files."""
        digest = hashlib.sha256(json.dumps([FORMAT, self.classes]).encode())
        for entry in self.entries:
            row = (entry.path, entry.sha256, entry.label, entry.status, entry.reason, entry.split)
            digest.update(json.dumps(row if entry.fold is None else (*row, entry.fold)).encode())
        return digest.hexdigest()

    def leaks(self) -> list[list[Entry]]:
        """Groups of duplicates, or of the user's `group` column, that span several splits.

        Possible only where the user provided the split.
        """
        together = [*self.duplicate_groups(), *_grouped(self.kept, lambda entry: entry.group)]
        return [group for group in together if len({entry.split for entry in group}) > 1]

    def leaked(self, *names: str) -> int:
        """Number of photos in these splits that share a duplicate or user group with a training photo."""
        groups = [group for group in self.leaks() if any(entry.split == "train" for entry in group)]
        return len({entry.path for group in groups for entry in group if entry.split in names})

    def dependent(self) -> dict[str, int]:
        """Why the photos that are scored are not independent, see the function `dependent`."""
        return dependent(self.scored())

    def duplicate_groups(self) -> list[list[Entry]]:
        """Groups of exact and near duplicates, in order of their first photo."""
        return _grouped(self.kept, lambda entry: entry.duplicate)

    def alike(self) -> list[list[Entry]]:
        """Groups of photos that look alike but need not stay together, in order of their first photo."""
        return _grouped(self.kept, lambda entry: entry.alike)

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
        lines = [json.dumps(header), *(_to_line(entry) for entry in self.entries)]
        files.write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Inverse of `write`; raises `PatiError` if the file is damaged or was edited."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            header = json.loads(lines[0])
            if header.get("kind") != "pati-manifest" or header.get("format") != FORMAT:
                raise PatiError(N_("{path} is not a manifest of format {format}", path=path, format=FORMAT))
            entries = tuple(_from_line(line) for line in lines[1:])
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


def _grouped(entries: Iterable[Entry], name: Callable[[Entry], str | None]) -> list[list[Entry]]:
    """The entries with the same name, in order of the first one; those without a name are left out."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if (group := name(entry)) is not None:
            groups[group].append(entry)
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


def join(entries: Sequence[Entry], near: Iterable[tuple[int, int]]) -> list[Entry]:
    """Entries with `duplicate` set: exact copies (equal sha256) and the `near` pairs of indices.

    A group is named after its smallest sha256, so that the name doesn't depend on paths.
    """
    first: dict[str, int] = {}
    same = ((index, first.setdefault(entry.sha256, index)) for index, entry in enumerate(entries) if entry.kept)
    exact = [(index, other) for index, other in same if index != other]
    result = list(entries)
    for connected in components([*exact, *near]):
        group = [index for index in connected if entries[index].kept]
        if len(group) > 1:
            name = min(entries[index].sha256 for index in group)[:16]
            labels = {entries[index].label for index in group}
            for index in group:
                flags = ["duplicate"] + ["in-two-classes"] * (len(labels) > 1)
                entry = entries[index]
                result[index] = dataclasses.replace(
                    entry, duplicate=name, status="flagged", flags=(*entry.flags, *flags)
                )
    return result


def with_split(
    entries: Sequence[Entry],
    *,
    seed: int,
    validation: float,
    test: float,
    given: bool,
    known: Mapping[str, str] = MappingProxyType({}),
) -> list[Entry]:
    """Entries with `split` set.

    With `given`, the user's splits are kept, and missing ones are drawn from the user's training set. A share of 0: no
    photos are drawn for that split.

    `known`: the splits, by SHA-256, of photos that the start of this training has seen. There they stay, and whatever
    must stay together with them. A test photo that must stay together with a training photo is set aside: it can
    neither be learnt nor scored.
    """
    entries = _set_aside(entries, known, given=given)
    present = {entry.split for entry in entries if entry.kept} if given else set()
    grouped = units(_open(entries, given=given))
    wanted = {"validation": validation, "test": test}
    shares = {name: 0.0 if name in present else share for name, share in wanted.items()}
    if all(share == 0 for share in shares.values()):
        return [dataclasses.replace(entry, split=entry.split or "train") for entry in entries]
    seen = {
        unit.identity: {known[entry.sha256] for entry in members if entry.sha256 in known} for unit, members in grouped
    }
    fixed = {name: next(where for where in STRONGEST if where in splits) for name, splits in seen.items() if splits}
    drawn = split.assign([unit for unit, _ in grouped], seed=seed, fixed=fixed, **shares)
    # The rule that every class appears in every split may have moved units into the user's splits, or into one with a
    # share of 0: undo that.
    drawn = {name: where if shares.get(where, 1) > 0 else "train" for name, where in drawn.items()}
    place = {entry.path: drawn[unit.identity] for unit, members in grouped for entry in members}
    return [dataclasses.replace(entry, split=place.get(entry.path, entry.split)) for entry in entries]


STRONGEST = ("train", "test", "validation")  # which split photos of several that must stay together go to


def _open(entries: Sequence[Entry], *, given: bool) -> list[Entry]:
    """The entries whose split is drawn."""
    return [entry for entry in entries if entry.kept and (not given or entry.split in (None, "train"))]


def _set_aside(entries: Sequence[Entry], known: Mapping[str, str], *, given: bool) -> list[Entry]:
    """Entries without the known test photos that must stay together with known training photos."""
    aside = set()
    for _, members in units(_open(entries, given=given)) if known else ():
        splits = [known.get(entry.sha256) for entry in members]
        if "train" in splits:
            aside |= {entry.path for entry, name in zip(members, splits, strict=True) if name == "test"}
    return [
        dataclasses.replace(entry, status="quarantined", reason="set-aside") if entry.path in aside else entry
        for entry in entries
    ]


def with_folds(entries: Sequence[Entry], folds: int, *, seed: int) -> list[Entry]:
    """Entries with `fold` set on those of the training split; units stay together, and classes are spread evenly.

    A unit that has all training photos of a class is in no fold, as no network could learn that class without it.
    """
    grouped = units([entry for entry in entries if entry.kept and entry.split == "train"])
    having = Counter(label for unit, _ in grouped for label, _ in unit.labels)
    usual = [unit for unit, _ in grouped if all(having[label] > 1 for label, _ in unit.labels)]
    dealt = split.assign_folds(usual, folds, seed=seed)
    place = {entry.path: dealt.get(unit.identity) for unit, members in grouped for entry in members}
    return [dataclasses.replace(entry, fold=place.get(entry.path)) for entry in entries]


def folds_for(entries: Sequence[Entry], *, test: float, given: bool, most: int | None) -> int:
    """The default number of cross-validation folds for these photos; 0 if their test split is large enough, or given.

    `test`: share of the test split; `most`: see `split.folds_for`.
    """
    if given and any(entry.kept and entry.split == "test" for entry in entries):
        return 0
    return split.folds_for(len(units(_open(entries, given=given))), test=test, most=most)


def units(entries: Sequence[Entry]) -> list[tuple[split.Unit, list[Entry]]]:
    """The units of photos that must stay together, each with its entries: duplicate groups merged with user groups."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    def key(entry: Entry) -> str:
        return f"copy:{entry.duplicate}" if entry.duplicate else f"photo:{entry.sha256}"

    for entry in entries:
        mine = root(key(entry))
        if entry.group is not None:
            parent[mine] = root(f"group:{entry.group}")
    members: dict[str, list[Entry]] = defaultdict(list)
    names: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        top = root(key(entry))
        members[top].append(entry)
        names[top].add(f"group:{entry.group}" if entry.group is not None else key(entry))
    leaks = []
    for top, group in members.items():
        counts = Counter(entry.label for entry in group)
        leaks.append((split.Unit(min(names[top]), tuple(sorted(counts.items()))), group))
    return leaks


def dependent(entries: Iterable[Entry]) -> dict[str, int]:
    """Why photos are not independent, as counts.

    `groups`: number of user groups, if some have several photos. `copies`: number of photos that duplicate another one.
    Zero counts are left out.
    """
    sizes, twins = Counter[str](), Counter[str]()
    for entry in entries:
        sizes.update([entry.group] if entry.group is not None else [])
        twins.update([entry.duplicate] if entry.duplicate else [])
    counts = {
        "groups": len(sizes) if sizes.total() > len(sizes) else 0,
        "copies": twins.total() - len(twins),
    }
    return {name: count for name, count in counts.items() if count}


def class_order(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Class names of the kept entries in natural order."""
    return tuple(sorted({entry.label for entry in entries if entry.kept}, key=natural))


def require_trainable(manifest: Manifest) -> None:
    """Raise `PatiError` if a classifier can't be trained, or can't be tested reliably."""
    counts = Counter(entry.label for entry in manifest.kept)
    if not manifest.entries:
        raise PatiError(
            N_("no photos found in {root}", root=manifest.root),
            N_("expected one folder of photos per class, or a CSV"),
        )
    if not counts:
        most = Counter(entry.reason for entry in manifest.entries).most_common(3)
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
    named = {entry.label for entry in manifest.entries if not is_no_photo_name(entry.path)}  # not by notes or code
    emptied = sorted(named - set(counts))
    if small or emptied:
        too_few = ", ".join(f"{label!r} ({counts[label]})" for label in [*small, *emptied][:5])
        raise PatiError(
            N_("every class needs at least 3 usable photos; too few in: {classes}", classes=too_few),
            N_("add photos, or remove the class"),
        )
    for name in ("train",) if manifest.folds else split.SPLITS:
        have = {entry.label for entry in manifest.of_split(name)}
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
    if manifest.folds and len({entry.fold for entry in manifest.scored()}) < 2:
        raise PatiError(
            N_(
                "cross-validation is impossible: there are too few groups of photos (duplicates, and photos with the "
                "same --group-by value, stay together)"
            ),
            N_("add photos, use smaller groups, or see --near-duplicates"),
        )
