"""Checkpoints: the exact state of a run as tensors and JSON in one safetensors file, written atomically.

Each file contains its own checksum, verified before anything in it is used, and the identity of its run. An invalid one
is skipped in favour of the one before. Knows nothing of the meaning of the tensors and the JSON.
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

from pati.errors import os_reason
from pati.locale.messages import N_, Message
from pati.system import files
from pati.system.tensors import serialised

FORMAT = 3
KEEP = 2


def save(folder: Path, number: int, tensors: dict[str, torch.Tensor], facts: str, *, owner: str) -> Path:
    """Write checkpoint `number` of `owner`, with `facts` as JSON, and remove all but the `KEEP` newest ones up to it.

    Later checkpoints can only be those that `newest` skipped. Unfinished files can only come from a killed process, as
    only one process works on a run.
    """
    metadata = {"facts": facts, "format": str(FORMAT), "owner": owner}
    data = serialised(tensors, metadata)
    path = folder / f"step-{number:09d}.safetensors"
    files.write_bytes(path, data + hashlib.sha256(data).digest())
    kept = sorted(other for other in folder.glob("step-*.safetensors") if other.name <= path.name)[-KEEP:]
    for other in folder.iterdir():
        if other not in kept and (other.name.startswith("step-") or files.is_unfinished(other)):
            with contextlib.suppress(OSError):  # already removed, or not a file
                other.unlink()
    return path


class _Unusable(Exception):
    """Raised with the reason why a checkpoint is skipped."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


class Newest(NamedTuple):
    """The newest valid checkpoint, if there is one, and the reasons why later ones were skipped."""

    tensors: dict[str, torch.Tensor]
    facts: str | None
    skipped: list[Message]


def newest(folder: Path, *, owner: str) -> Newest:
    """The newest valid checkpoint of `owner`."""
    skipped: list[Message] = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            return Newest(*_read(path, owner), skipped)
        except _Unusable as error:
            skipped.append(error.message)
    return Newest({}, None, skipped)


def _read(path: Path, owner: str) -> tuple[dict[str, torch.Tensor], str]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _Unusable(
            N_("can't read the checkpoint {name}: {reason}", name=path.name, reason=os_reason(error))
        ) from None
    data, checksum = data[:-32], data[-32:]
    if hashlib.sha256(data).digest() != checksum:
        raise _Unusable(N_("the checkpoint {name} is damaged", name=path.name))
    # The checksum matches, so pati wrote this file; only its version and the run are unknown.
    (length,) = struct.unpack("<Q", data[:8])
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    if metadata.get("format") != str(FORMAT):
        raise _Unusable(N_("the checkpoint {name} was written by another version of pati", name=path.name))
    if metadata["owner"] != owner:
        raise _Unusable(N_("the checkpoint {name} belongs to another run", name=path.name))
    return load(data), metadata["facts"]
