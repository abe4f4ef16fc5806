"""Files of tensors: the same bytes for the same contents, which safetensors alone does not promise."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load

from pati.system.tensors import digest, serialised


def test_any_order_of_the_metadata_gives_the_same_bytes() -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.tensor([1, 2], dtype=torch.int64)}
    metadata = {"pati": '{"ç": "ğ"}', "sha256": "0", "format": "3", "owner": "x"}
    written = {serialised(tensors, dict(order)) for order in itertools.permutations(metadata.items())}
    assert len(written) == 1
    read = load(*written)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


def test_the_metadata_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(serialised({"a": torch.zeros(1)}, {"z": "ş", "a": "1"}))
    with safe_open(tmp_path / "m", "pt") as file:
        assert file.metadata() == {"z": "ş", "a": "1"}


def test_a_digest_is_of_names_types_shapes_and_values() -> None:
    one = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    assert digest(one) == digest(dict(reversed(one.items()))) == digest({name: t.clone() for name, t in one.items()})
    others = (
        {**one, "a": torch.zeros(3, 2)}, {**one, "a": torch.zeros(2, 3).int()}, {**one, "b": torch.zeros(1)},
        {"a": one["a"], "c": one["b"]},
    )  # fmt: skip
    assert len({digest(one), *map(digest, others)}) == 5
