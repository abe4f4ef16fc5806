"""Limits of Linux control groups (cgroups) on processors and memory, as containers and batch systems set them.

A group is limited by its own settings and by those of all groups above it, in version 1 and version 2 of the interface
(https://docs.kernel.org/admin-guide/cgroup-v2.html). Knows nothing of what the limits are for.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNIFIED = ""  # stands for the controllers of version 2, which share one hierarchy


@dataclass(frozen=True)
class Limits:
    """`cores`: processors' worth of time, and processors; `memory`: bytes. Infinite without a limit."""

    cores: float = math.inf
    memory: float = math.inf


def limits(system: Path = Path("/")) -> Limits:
    """The limits of the groups that this process belongs to. `system`: the root of the file system, for tests."""
    groups = [(controller, group) for controller, folder, top in _groups(system) for group in _upwards(folder, top)]
    cores = (limit for controller, group in groups for limit in _cores(controller, group))
    memory = (limit for controller, group in groups for limit in _memory(controller, group))
    return Limits(min(cores, default=math.inf), min(memory, default=math.inf))


def _groups(system: Path) -> Iterator[tuple[str, Path, Path]]:
    """Each controller, the folder of this process's group, and the topmost visible one above it."""
    own: dict[str, str] = {}  # the group's path by controller
    for line in _lines(system / "proc/self/cgroup"):
        if match := re.fullmatch(r"\d+:([^:]*):(/.*)", line):
            own.update(dict.fromkeys(match[1].split(","), match[2]))
    for line in _lines(system / "proc/self/mountinfo"):
        match = re.fullmatch(r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S+ (\S+)", line)
        if match is None:
            continue
        root, mounted, kind, options = match.groups()
        top = system / _unescaped(mounted).lstrip("/")
        for controller in [UNIFIED] if kind == "cgroup2" else options.split(","):
            if controller in own:
                path = Path(own[controller])
                # In a container, what is mounted may be the group itself, which is then a path of the world outside.
                visible = path.is_relative_to(root) and ".." not in path.parts
                yield controller, top / path.relative_to(root) if visible else top, top


def _upwards(folder: Path, top: Path) -> Iterator[Path]:
    yield folder
    while folder != top:
        folder = folder.parent
        yield folder


def _cores(controller: str, group: Path) -> Iterator[float]:
    if controller == UNIFIED:
        yield _share(*_numbers(group / "cpu.max", 2))
    if controller == "cpu":
        yield _share(*_numbers(group / "cpu.cfs_quota_us"), *_numbers(group / "cpu.cfs_period_us"))
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        yield sum(_count(part) for line in _lines(group / name) for part in line.split(",")) or math.inf


def _memory(controller: str, group: Path) -> Iterator[float]:
    names = {UNIFIED: ("memory.max", "memory.high"), "memory": ("memory.limit_in_bytes",)}
    for name in names.get(controller, ()):
        yield _numbers(group / name)[0] or math.inf


def _share(quota: float, period: float) -> float:
    """Processors' worth of time; a quota of -1 is none."""
    return quota / period if 0 < quota < math.inf and 0 < period < math.inf else math.inf


def _count(processors: str) -> int:
    """Number of processors in a range such as 0-3, or 5."""
    first, _, last = processors.strip().partition("-")
    return int(last or first) - int(first) + 1 if first.isdecimal() else 0


def _numbers(path: Path, count: int = 1) -> list[float]:
    """The numbers in a file; infinite where there is none, as for max."""
    words = " ".join(_lines(path)).split()
    numbers = [float(word) if re.fullmatch(r"-?\d+", word) else math.inf for word in words]
    return [*numbers, *[math.inf] * count][:count]


def _lines(path: Path) -> list[str]:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text().splitlines()
    return []


def _unescaped(path: str) -> str:
    """A path of mountinfo, in which spaces and the like are octal numbers."""
    return re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), path)
