"""A run's exact state on disk: tensors and JSON in one safetensors file, written whole.

Each file carries its own checksum; a file that does not fit it is passed over for the one
before it. Knows nothing of what the tensors mean.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from safetensors.torch import save as serialised

from pati import files

KEEP = 2


def save(folder: Path, number: int, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> Path:
    """Write checkpoint `number`, then remove all but the newest ones."""
    metadata = {"facts": json.dumps(facts)}
    data = serialised({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    path = folder / f"step-{number:09d}.safetensors"
    files.write_bytes(path, data + hashlib.sha256(data).digest())
    for old in sorted(folder.glob("step-*.safetensors"))[:-KEEP]:
        old.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None, list[str]]:
    """Tensors and facts (None without any) of the newest sound checkpoint; names of damaged ones passed over."""
    damaged: list[str] = []
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        data = path.read_bytes()
        data, checksum = data[:-32], data[-32:]
        if hashlib.sha256(data).digest() != checksum:
            damaged.append(path.name)
            continue
        tensors = load(data)
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        return tensors, json.loads(header["__metadata__"]["facts"]), damaged
    return {}, None, damaged
