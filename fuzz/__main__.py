"""`python -m fuzz TARGET RUNS`: feed RUNS mutated inputs to a target; a crash, hang or foreign exception stops it.

    decode   bytes of photos, from every kind of bad file and every format
    model    model files: their header, mutated as bytes (inputs that begin with B) or edited as JSON (all others),
             signed with a fitting checksum so that the checks behind it are reached

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
from typing import Any

import atheris

CORPUS = Path(".fuzz")
LARGEST = 30_000  # bytes of a photo

with atheris.instrument_imports(include=["PIL", "pati"]):
    from pati.data import decode
    from pati.errors import PatiError
    from pati.inference.classifier import Classifier

LIMITS = decode.Limits(bytes=1_000_000, pixels=200_000)  # small, so that a second sees hundreds of inputs


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
    from tests.support.bad_files import FILES, KINDS

    for name, kind in KINDS.items():
        here = folder / "work" / "data" / name
        here.mkdir(parents=True)
        for number in range(FILES):
            path = kind.write(here, number)
            if path.is_file() and path.stat().st_size < LARGEST:
                (folder / f"{name}-{number}").write_bytes(path.read_bytes())


class ModelFile:
    """Turns an input into a model file: a header, signed, before the tensors of a sound model."""

    def __init__(self) -> None:
        from pati import models
        from pati.data.preprocess import Preprocess
        from pati.recipe import Recipe

        self.path = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)) / "m.safetensors"
        net = models.build("scratch", 3, models.Options(width=0.25))
        facts = {"model": {"name": "scratch", "width": 0.25, "dropout": 0.0}, "recipe": Recipe().to_json()}
        Classifier(net, Preprocess(size=32), ["a", "b", "c"], mirror=True, facts=facts).save(self.path)
        data = self.path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        self.header, self.tensors = data[8 : 8 + length], data[8 + length :]

    def load_one(self, data: bytes) -> None:
        """A classifier or `PatiError`, and nothing else."""
        header = data[1:] if data[:1] == b"B" else self.edited(atheris.FuzzedDataProvider(data))
        data = struct.pack("<Q", len(header)) + header + self.tensors
        start = data.find(b'"sha256":"') + 10
        if start > 10 and len(data) > start + 64:
            blank = data[:start] + b"0" * 64 + data[start + 64 :]
            data = data[:start] + hashlib.sha256(blank).hexdigest().encode() + data[start + 64 :]
        self.path.write_bytes(data)
        with contextlib.suppress(PatiError):
            assert len(Classifier.load(self.path).classes) > 1

    def edited(self, chance: atheris.FuzzedDataProvider) -> bytes:
        """The sound header with one to four places in its JSON, or in the JSON inside it, changed or cut out."""
        document = json.loads(self.header)
        inner = {name: json.loads(text) for name, text in document["__metadata__"].items() if text[:1] in "{["}
        document["__metadata__"] |= inner
        facts = inner["pati"]  # as often as all the tensors together
        for _ in range(chance.ConsumeIntInRange(1, 4)):
            edit(chance.PickValueInList([document, facts]), chance)
        if isinstance(metadata := document.get("__metadata__"), dict):
            metadata |= {name: json.dumps(metadata[name]) for name in inner if name in metadata}
        return json.dumps(document, separators=(",", ":")).encode("utf-8", "surrogatepass")


def edit(document: Any, chance: atheris.FuzzedDataProvider) -> None:
    """Change, cut out or add one value somewhere inside a JSON document."""
    here = document
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = chance.PickValueInList(keys)
        below = isinstance(here[key], dict | list) and len(here[key])
        if not below or chance.ConsumeIntInRange(0, 7) == 0:
            break
        here = here[key]
    match chance.ConsumeIntInRange(0, 5):
        case 0:
            del here[key]
        case 1 if isinstance(here, list):
            here.append(here[key])
        case 1:
            here[chance.ConsumeUnicode(8)] = here[key]
        case 2 if isinstance(here[key], int | float):
            here[key] = here[key] * chance.PickValueInList([-1, 0, 2, 10**9, 0.5]) + chance.ConsumeIntInRange(-2, 2)
        case _:
            text = chance.ConsumeUnicode(chance.ConsumeIntInRange(0, 20))
            number, fraction = chance.ConsumeInt(9), chance.ConsumeFloat()
            here[key] = chance.PickValueInList([text, number, fraction, None, True, [], {}, [number], {text: number}])


def model_seeds(folder: Path, header: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "whole").write_bytes(b"B" + header)
    for number in range(8):
        (folder / f"edits-{number}").write_bytes(bytes((number * 37 + at * 101) % 256 for at in range(64)))
    for number, text in enumerate((b"{}", b"[]", b'{"__metadata__": {"pati": "{}"}}', b"[" * 2000)):
        (folder / f"short-{number}").write_bytes(b"B" + text)


def main() -> None:
    target, runs = sys.argv[1], sys.argv[2]
    corpus, seeds = CORPUS / target, Path(tempfile.mkdtemp()) / "seeds"
    corpus.mkdir(parents=True, exist_ok=True)
    one: Callable[[bytes], None]
    if target == "decode":
        decode_seeds(seeds)
        one, largest = decode_one, LARGEST
    else:
        file = ModelFile()
        model_seeds(seeds, file.header)
        one, largest = file.load_one, 5_000
    # Long inputs from the start, and kept long: an edit reads its chances from them.
    shape = ["-len_control=0", "-reduce_inputs=0"] if target == "model" else []
    bounds = [f"-runs={runs}", f"-max_len={largest}", "-timeout=10", "-rss_limit_mb=2048"]
    where = [f"-artifact_prefix={corpus}/../", str(corpus), str(seeds)]
    atheris.Setup([sys.argv[0], *shape, *bounds, "-print_final_stats=1", *where], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
