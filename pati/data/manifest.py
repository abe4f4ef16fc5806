"""`Manifest`: what was found in the data, one row a file, and in which split each photo is.

Never deletes or moves a user's file. Knows nothing of pixels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pati.data import split
from pati.data.sources.source import natural
from pati.errors import PatiError
from pati.system import files

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One file. `status` is kept, flagged (kept, but odd) or quarantined (not used, see `reason`)."""

    path: str
    label: str
    status: str
    sha256: str = ""
    bytes: int = 0
    width: int = 0
    height: int = 0
    reason: str = ""
    detail: str = ""
    flags: tuple[str, ...] = ()
    group: str | None = None
    duplicate: str | None = None
    split: str | None = None

    @property
    def kept(self) -> bool:
        """Whether the photo is used."""
        return self.status != "quarantined"


class SplitSettings(TypedDict, total=False):
    """How the photos were split; `given`: by the user."""

    seed: int
    validation: float
    test: float
    group_by: str | None
    given: bool


@dataclass(frozen=True)
class Manifest:
    """All files of a source in order of their paths, the class order, and the split's settings."""

    source: str
    root: str
    classes: tuple[str, ...]
    entries: tuple[Entry, ...]
    split: SplitSettings
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> list[Entry]:
        """Entries that are used, in order."""
        return [entry for entry in self.entries if entry.kept]

    def of_split(self, name: str) -> list[Entry]:
        """Kept entries of one split, in order."""
        return [entry for entry in self.entries if entry.kept and entry.split == name]

    def targets(self, entries: Sequence[Entry]) -> list[int]:
        """Class index of each entry."""
        index = {label: number for number, label in enumerate(self.classes)}
        return [index[entry.label] for entry in entries]

    def shares(self) -> dict[str, float]:
        """Share of the kept photos that each split truly got."""
        counts = Counter(entry.split for entry in self.kept)
        return {name: counts[name] / max(1, len(self.kept)) for name in split.SPLITS}

    def hash(self) -> str:
        """Hex digest of what decides a training: content, classes and splits; not where the files lie."""
        digest = hashlib.sha256(json.dumps([FORMAT, self.classes]).encode())
        for entry in self.entries:
            row = (entry.path, entry.sha256, entry.label, entry.status, entry.reason, entry.split)
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    def leaks(self) -> list[list[Entry]]:
        """Duplicates, or photos of one user group, in more than one split: only where the user made the split."""
        members: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.kept:
            if entry.group is not None:
                members[entry.group].append(entry)
        together = [*self.duplicate_groups(), *members.values()]
        return [group for group in together if len({entry.split for entry in group}) > 1]

    def leaked(self, *names: str) -> int:
        """How many photos of these splits have a copy, or another of their user group, among the training photos."""
        groups = [group for group in self.leaks() if any(entry.split == "train" for entry in group)]
        return len({entry.path for group in groups for entry in group if entry.split in names})

    def dependent(self, name: str) -> dict[str, int]:
        """How far photos of a split say the same: the `groups` of the user that they come in, where some hold several,
        and the `copies` of others among them; only what there is."""
        entries = self.of_split(name)
        sizes = Counter(entry.group for entry in entries if entry.group is not None)
        twins = Counter(entry.duplicate for entry in entries if entry.duplicate)
        found = {
            "groups": len(sizes) if sizes.total() > len(sizes) else 0,
            "copies": twins.total() - len(twins),
        }
        return {name: count for name, count in found.items() if count}

    def duplicate_groups(self) -> list[list[Entry]]:
        """Groups of exact and near duplicates, in order of their first photo."""
        groups: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.kept:
            if entry.duplicate:
                groups[entry.duplicate].append(entry)
        return list(groups.values())

    def write(self, path: Path) -> None:
        """One JSON object a line: a header, then one entry each."""
        header = {
            "kind": "pati-manifest",
            "format": FORMAT,
            "hash": self.hash(),
            "source": self.source,
            "root": self.root,
            "classes": self.classes,
            "split": self.split,
            "notes": self.notes,
        }
        # ASCII with escapes: file names need not be valid UTF-8.
        lines = [json.dumps(header), *(_to_line(entry) for entry in self.entries)]
        files.write_text(path, "\n".join(lines) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Inverse of `write`; raises `PatiError` where the file isn't what was written."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            header = json.loads(lines[0])
            if header.get("kind") != "pati-manifest" or header.get("format") != FORMAT:
                raise PatiError(f"{path} is not a manifest of format {FORMAT}")
            entries = tuple(_from_line(line) for line in lines[1:])
            manifest = cls(
                header["source"],
                header["root"],
                tuple(header["classes"]),
                entries,
                header["split"],
                tuple(header["notes"]),
            )
            unchanged = manifest.hash() == header["hash"]
        except OSError as error:
            raise PatiError(f"can't read the manifest {path}: {error.strerror}") from None
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise PatiError(f"the manifest {path} is broken: {error!r}", "make it anew with `pati check`") from None
        if not unchanged:
            raise PatiError(f"the manifest {path} was changed by hand: its hash does not fit", "make it anew")
        return manifest


def is_manifest(path: Path) -> bool:
    """Whether a file begins as `Manifest.write` begins it."""
    try:
        with path.open("rb") as file:
            return file.read(64).startswith(b'{"kind": "pati-manifest"')
    except OSError:
        return False


_DEFAULTS = {item.name: item.default for item in dataclasses.fields(Entry)}


def _to_line(entry: Entry) -> str:
    # Not `asdict`: it copies deeply, and a hundred thousand photos wait for it.
    values = ((name, getattr(entry, name), default) for name, default in _DEFAULTS.items())
    return json.dumps({name: value for name, value, default in values if value != default})


def _from_line(line: str) -> Entry:
    values = json.loads(line)
    return Entry(**(values | {"flags": tuple(values.get("flags", ()))}))


def join(entries: Sequence[Entry], near: Iterable[tuple[int, int]]) -> list[Entry]:
    """Entries with `duplicate` set: exact copies (equal sha256) and the near pairs given by index.

    A group is named after its smallest sha256, so that the name doesn't depend on paths.
    """
    parent = list(range(len(entries)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        if entry.kept:
            parent[root(index)] = root(first.setdefault(entry.sha256, index))
    for i, j in near:
        parent[root(i)] = root(j)
    members: dict[int, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        if entry.kept:
            members[root(index)].append(index)
    result = list(entries)
    for group in members.values():
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


def with_split(entries: Sequence[Entry], *, seed: int, validation: float, test: float, given: bool) -> list[Entry]:
    """Entries with `split` set; `given` keeps the user's own and cuts what is missing from their train."""
    present = {entry.split for entry in entries if entry.kept} if given else set()
    open_entries = [entry for entry in entries if entry.kept and (not given or entry.split in (None, "train"))]
    found = units(open_entries)
    wanted = {"validation": validation, "test": test}
    shares = {name: 0.0 if name in present else share for name, share in wanted.items()}
    if given and all(share == 0 for share in shares.values()):
        return [dataclasses.replace(entry, split=entry.split or "train") for entry in entries]
    drawn = split.assign([unit for unit, _ in found], seed=seed, **shares)
    if given:
        # Coverage may have moved units into a split that the user made: those stay in train.
        drawn = {name: "train" if where in present else where for name, where in drawn.items()}
    place = {entry.path: drawn[unit.identity] for unit, members in found for entry in members}
    return [dataclasses.replace(entry, split=place.get(entry.path, entry.split)) for entry in entries]


def units(entries: Sequence[Entry]) -> list[tuple[split.Unit, list[Entry]]]:
    """Photos that must stay together, and the entries of each: duplicate groups joined with user groups."""
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
    found = []
    for top, group in members.items():
        counts = Counter(entry.label for entry in group)
        found.append((split.Unit(min(names[top]), tuple(sorted(counts.items()))), group))
    return found


def class_order(entries: Iterable[Entry]) -> tuple[str, ...]:
    """Class names of the kept entries in natural order."""
    return tuple(sorted({entry.label for entry in entries if entry.kept}, key=natural))


def require_trainable(manifest: Manifest) -> None:
    """Raise `PatiError` where no classifier can be trained or honestly tested."""
    counts = Counter(entry.label for entry in manifest.kept)
    if not manifest.entries:
        raise PatiError(f"no photo found in {manifest.root}", "expected one folder a class with photos in it, or a CSV")
    if not counts:
        reasons = Counter(entry.reason for entry in manifest.entries).most_common(3)
        seen = ", ".join(f"{count} {reason}" for reason, count in reasons)
        raise PatiError(f"none of the {len(manifest.entries)} files in {manifest.root} is a usable photo ({seen})")
    lowered: dict[str, str] = {}
    for label in sorted({entry.label for entry in manifest.entries}):
        other = lowered.setdefault(label.casefold(), label)
        if other != label:
            raise PatiError(
                f"two classes differ only in case: {other!r} and {label!r}",
                "on many systems they are one folder: merge them, or rename one",
            )
    unnameable = [label for label in counts if not files.is_text(label)]
    if unnameable:
        raise PatiError(
            f"the name of a class is not valid text: {unnameable[0]!a}",
            "rename the folder; archives made on other systems often carry names in another encoding",
        )
    if len(counts) == 1:
        raise PatiError(
            f"only one class, {next(iter(counts))!r}, in {manifest.root}: there is nothing to tell apart",
            "expected at least two folders, one a class",
        )
    small = [label for label, count in counts.items() if count < 3]
    emptied = sorted({entry.label for entry in manifest.entries} - set(counts))
    if small or emptied:
        told = ", ".join(f"{label!r} ({counts[label]})" for label in [*small, *emptied][:5])
        raise PatiError(
            f"every class needs at least 3 usable photos; these have fewer: {told}", "add photos, or take the class out"
        )
    for name in split.SPLITS:
        have = {entry.label for entry in manifest.of_split(name)}
        if not have:
            raise PatiError(
                f"no photo fell into {name}: too few units (duplicates and groups stay together)",
                "add photos, or group by something finer",
            )
        missing = sorted(set(counts) - have)
        if name == "train" and missing:
            raise PatiError(f"no training photo of {', '.join(missing[:5])}", "every class must appear in train")
