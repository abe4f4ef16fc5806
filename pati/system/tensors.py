"""Tensors as bytes and as a hash: the same for the same contents, in any process."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping

import torch
from safetensors.torch import save

_ALIGNMENT = 8  # bytes, of where the tensors begin


def serialised(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """The bytes of a safetensors file, with the keys of the metadata in alphabetical order.

    safetensors itself writes them in an order that differs from process to process, and with it the file's hash.
    """
    data = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, dict(metadata))
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, memoryview(data)[8 + length :]])


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of named tensors, such as a network's weights: of names, types, shapes and values."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        total.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
