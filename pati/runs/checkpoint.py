"""A run's exact state on disk: tensors and JSON in one safetensors file, written whole.

Each file carries its own checksum, checked before anything in it is used, and its run's
identity; one that does not fit is passed over for the one before it. Knows nothing of what
the tensors and the JSON mean.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load
from safetensors.torch import save as serialised

from pati.system import files

FORMAT = 3
KEEP = 2


def save(folder: Path, number: int, tensors: dict[str, torch.Tensor], facts: str, *, owner: str) -> Path:
    """Write checkpoint `number` of `owner`, with `facts` as JSON, then remove all but the newest ones up to it.

    Later ones can only be those that `newest` has passed over; unfinished ones are of a process that was
    killed, as a run is one process's alone.
    """
    metadata = {"facts": facts, "format": str(FORMAT), "owner": owner}
    data = serialised({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    path = folder / f"step-{number:09d}.safetensors"
    files.write_bytes(path, data + hashlib.sha256(data).digest())
    kept = sorted(other for other in folder.glob("step-*.safetensors") if other.name <= path.name)[-KEEP:]
    for other in folder.iterdir():
        if other not in kept and (other.name.startswith("step-") or files.is_unfinished(other)):
            with contextlib.suppress(OSError):  # gone already, or no file at all
                other.unlink()
    return path


class _Unusable(Exception):
    """Why a checkpoint is passed over."""


class Newest(NamedTuple):
    """The newest sound checkpoint, if there is one, and what was wrong with later ones."""

    tensors: dict[str, torch.Tensor]
    facts: str | None
    passed_over: list[str]


def newest(folder: Path, *, owner: str) -> Newest:
    """The newest sound checkpoint of `owner`."""
    passed_over: list[str] = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            return Newest(*_read(path, owner), passed_over)
        except _Unusable as error:
            passed_over.append(f"{path.name} {error}")
    return Newest({}, None, passed_over)


def _read(path: Path, owner: str) -> tuple[dict[str, torch.Tensor], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _Unusable(f"can't be read ({error.strerror})") from None
    data, checksum = data[:-32], data[-32:]
    if hashlib.sha256(data).digest() != checksum:
        raise _Unusable("is damaged")
    # What follows was written by a pati, whole: only which one is open.
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if metadata.get("format") != str(FORMAT):
        raise _Unusable("was made by another version of pati")
    if metadata["owner"] != owner:
        raise _Unusable("belongs to another run")
    return load(data), metadata["facts"]
