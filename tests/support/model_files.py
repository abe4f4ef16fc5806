"""Model files that lie."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


def edited(source: Path, target: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a model file with header document and tensors changed."""
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["pati"])
    tensors = safetensors.torch.load(data)
    change(document, tensors)
    target.write_bytes(safetensors.torch.save(tensors, {"pati": json.dumps(document)}))
    return target


def signed(header: dict[str, Any], tensors: bytes, checksum: str = "") -> bytes:
    """A model file with the checksum that fits it, however it lies; a `checksum` that is none stays."""
    header["__metadata__"]["sha256"] = checksum if "\ud800" in checksum else "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    data = struct.pack("<Q", len(text)) + text + tensors
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


def parts(model: Path) -> tuple[dict[str, Any], bytes]:
    data = model.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]
