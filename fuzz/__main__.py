"""`python -m fuzz TARGET RUNS`: feed RUNS mutated inputs to a target; a crash, hang or foreign exception stops it.

    decode   bytes of photos, from every kind of bad file and every format
    model    model files: their header, signed with a fitting checksum so that the checks behind it are reached

Uses atheris (libFuzzer for Python). Inputs that are found to reach new code are kept in the
corpus folder for the next time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

CORPUS = Path(".fuzz")

with atheris.instrument_imports(include=["PIL", "pati"]):
    from pati import decode
    from pati.classifier import Classifier
    from pati.errors import PatiError

LIMITS = decode.Limits(bytes=1_000_000, pixels=1_000_000)


def decode_one(data: bytes) -> None:
    """A photo or `Unreadable`, and nothing else."""
    try:
        found = decode.decode(data, LIMITS)
    except decode.Unreadable as error:
        assert error.reason in decode.REASONS
        return
    assert found.pixels.ndim == 3
    assert found.pixels.shape[2] == 3
    assert found.pixels.dtype == "uint8"
    assert found.pixels.size <= 3 * LIMITS.pixels
    assert set(found.flags) <= set(decode.FLAGS)


def decode_seeds(folder: Path) -> None:
    from tests.bad_files import FILES, KINDS

    for name, kind in KINDS.items():
        here = folder / "work" / "data" / name
        here.mkdir(parents=True)
        for number in range(FILES):
            path = kind.write(here, number)
            if path.is_file() and path.stat().st_size < 100_000:
                (folder / f"{name}-{number}").write_bytes(path.read_bytes())


class ModelFile:
    """Turns bytes into a model file: a header, signed, before the tensors of a sound model."""

    def __init__(self) -> None:
        from pati import models
        from pati.preprocess import Preprocess
        from pati.recipe import Recipe

        self.path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "m.safetensors"
        net = models.build("scratch", 3, width=0.25, dropout=0.0, seed=0)
        facts = {"model": {"name": "scratch", "width": 0.25, "dropout": 0.0}, "recipe": Recipe().to_json()}
        Classifier(net, Preprocess(size=32), ["a", "b", "c"], mirror=True, facts=facts).save(self.path)
        data = self.path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        self.header, self.tensors = data[8 : 8 + length], data[8 + length :]

    def load_one(self, header: bytes) -> None:
        """A classifier or `PatiError`, and nothing else."""
        data = struct.pack("<Q", len(header)) + header + self.tensors
        start = data.find(b'"sha256":"') + 10
        if start > 10 and len(data) > start + 64:
            blank = data[:start] + b"0" * 64 + data[start + 64 :]
            data = data[:start] + hashlib.sha256(blank).hexdigest().encode() + data[start + 64 :]
        self.path.write_bytes(data)
        with contextlib.suppress(PatiError):
            assert len(Classifier.load(self.path).classes) > 1


def model_seeds(folder: Path, header: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "whole").write_bytes(header)
    document = json.loads(header)
    for name in list(document):
        (folder / f"without-{name}").write_bytes(json.dumps({k: v for k, v in document.items() if k != name}).encode())
    for number, text in enumerate((b"{}", b"[]", b'{"__metadata__": {"pati": "{}"}}', b"[" * 2000)):
        (folder / f"short-{number}").write_bytes(text)


def main() -> None:
    target, runs = sys.argv[1], sys.argv[2]
    corpus, seeds = CORPUS / target, Path(tempfile.mkdtemp()) / "seeds"
    corpus.mkdir(parents=True, exist_ok=True)
    one: Callable[[bytes], None]
    if target == "decode":
        decode_seeds(seeds)
        one, largest = decode_one, 100_000
    else:
        file = ModelFile()
        model_seeds(seeds, file.header)
        one, largest = file.load_one, 20_000
    options = [f"-runs={runs}", f"-max_len={largest}", "-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus}/../", str(corpus), str(seeds)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
