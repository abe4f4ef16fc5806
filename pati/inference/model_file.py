"""The model file: one safetensors file whose header is JSON. Reading it runs no code from the file.

Everything that a header claims is checked before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialised
from safetensors.torch import save as serialised

from pati import plugins
from pati.data.preprocess import Preprocess, PreprocessDocument
from pati.errors import PatiError
from pati.evaluation.calibration import Calibration, CalibrationDocument
from pati.evaluation.out_of_distribution import SIZES, Scope
from pati.models import Net, Options, models, without_memory
from pati.recipe import RecipeDocument, field_named
from pati.system import files

FORMAT = 2
KIND = "pati-model"
_LARGEST_HEADER = 10_000_000
_NO_CHECKSUM = "0" * 64  # stands in the header while the checksum of the whole file is taken
_TYPES = {torch.float32: "F32", torch.int64: "I64"}  # as safetensors names them
_SCOPE = "scope."  # before the names of its tensors in a model file


class Architecture(TypedDict):
    """The net that a model file holds the weights of; `plugin`: the file that registers it."""

    name: str
    width: float
    dropout: float
    drop_path: NotRequired[float]
    plugin: NotRequired[str]


class ModelScores(TypedDict, total=False):
    """Of the test photos; beside these, each other registered metric under its name."""

    accuracy: float
    accuracy_interval: list[float]
    photos: int


class Facts(TypedDict, total=False):
    """What a model file says of its making, `manifest`: by its hash."""

    model: Architecture
    recipe: RecipeDocument
    metrics: ModelScores
    manifest: str
    versions: dict[str, str]


class _Document(Facts):
    """The JSON in the header."""

    kind: str
    format: int
    classes: Sequence[str]
    preprocess: PreprocessDocument
    mirror: bool
    calibration: NotRequired[CalibrationDocument | None]  # older files have none
    scope: NotRequired[dict[str, int] | None]


class _Tensor(TypedDict, total=False):
    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class _Header:
    """What a model file begins with: the JSON of `write`, the table of its tensors, which start at a byte, and the
    checksum over the whole."""

    document: _Document
    tensors: dict[str, _Tensor]
    start: int
    checksum: str


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds. `mirror`: answers are averages over the mirror image."""

    net: Net
    preprocess: Preprocess
    classes: tuple[str, ...]
    mirror: bool
    facts: Facts
    calibration: Calibration | None
    scope: Scope | None

    def write(self, path: Path) -> None:
        """As one file, atomically."""
        document: _Document = {
            "kind": KIND,
            "format": FORMAT,
            "classes": self.classes,
            "preprocess": self.preprocess.to_json(),
            "mirror": self.mirror,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "scope": None if self.scope is None else self.scope.sizes(),
            **self.facts,
        }
        known = {} if self.scope is None else {_SCOPE + name: value for name, value in self.scope.tensors().items()}
        tensors = {name: value.cpu().contiguous() for name, value in (self.net.state_dict() | known).items()}
        data = serialised(tensors, {"pati": json.dumps(document), "sha256": _NO_CHECKSUM})
        checksum = hashlib.sha256(data).hexdigest()
        files.write_bytes(path, data.replace(_checksum_field(_NO_CHECKSUM), _checksum_field(checksum), 1))


def read(path: Path) -> ModelFile:
    """A model file, or the one in a run's folder. Raises `PatiError` for anything else."""
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            unfinished = (path / "recipe.json").is_file()
            again = plugins.command("train", "--resume", str(path))
            raise PatiError(
                f"{path} holds no model",
                f"the run is not finished: {again}" if unfinished else "expected a model file or a run's folder",
            )
        path = path / "model.safetensors"
    header = _header(path)
    document = header.document
    try:
        architecture, classes = document["model"], tuple(document["classes"])
        if "plugin" in architecture and models.plugin(str(architecture["name"])) is None:
            raise plugins.missing(f"the model {str(architecture['name'])!r}", architecture["plugin"])
        preprocess = Preprocess.from_json(document["preprocess"])
        if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
            raise PatiError(f"{path} names no classes")
        options = Options(
            width=float(architecture["width"]),
            dropout=float(architecture["dropout"]),
            drop_path=float(architecture.get("drop_path", 0.0)),  # older files have none
            size=preprocess.size,
        )
        net = _empty_net(str(architecture["name"]), len(classes), options)
        mirror = bool(document["mirror"])
        kept = document.get("calibration")
        calibration = None if kept is None else Calibration.from_json(kept)
        sizes = document.get("scope")
        shapes = {} if sizes is None else Scope.shapes(*(int(sizes[name]) for name in SIZES))
    except KeyError as error:
        raise PatiError(f"{path} lacks {error.args[0]!r} in its header", "it is not a whole pati model") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise PatiError(f"the header of {path} can't be read: {error}") from None
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in net.state_dict().items()}
    expected |= {_SCOPE + name: (shape, torch.float32) for name, shape in shapes.items()}
    _check_tensors(path, expected, header)
    tensors = _tensors(path, header.checksum)
    scope = Scope(**{name: tensors.pop(_SCOPE + name) for name in shapes}) if shapes else None
    net.load_state_dict(tensors, assign=True)
    taken = ("kind", "format", "classes", "preprocess", "mirror", "calibration", "scope")
    facts = cast(Facts, {key: value for key, value in document.items() if key not in taken})
    return ModelFile(net, preprocess, classes, mirror, facts, calibration, scope)


def _header(path: Path) -> _Header:
    """A model file's header, after the checks that need no more than the file's first bytes."""
    foreign = PatiError(f"{path} is not a pati model", "expected a model.safetensors made by `pati train`")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise foreign
        with path.open("rb") as file:
            head = file.read(8)
            if len(head) < 8:
                raise foreign
            (length,) = struct.unpack("<Q", head)
            if length > _LARGEST_HEADER:
                raise foreign
            header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        document = json.loads(metadata["pati"])
        kind, version = document["kind"], document["format"]
    except OSError as error:
        raise PatiError(f"can't read the model {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise foreign from None
    if kind != KIND:
        raise foreign
    if version != FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise PatiError(
            f"{path} has format {version!r}, this pati reads {FORMAT}", "update pati" if newer else "train it again"
        )
    return _Header(cast(_Document, document), header, 8 + length, str(metadata.get("sha256")))


def _checksum_field(checksum: str) -> bytes:
    return f'"sha256":"{checksum}"'.encode("ascii", "replace")


def _tensors(path: Path, checksum: str) -> dict[str, torch.Tensor]:
    """The tensors, after the checksum over the whole file has been found right."""
    try:
        data = path.read_bytes()
        field = _checksum_field(checksum)
        at = data.find(field)
        digest = hashlib.sha256(data[: max(at, 0)])
        digest.update(_checksum_field(_NO_CHECKSUM))
        digest.update(memoryview(data)[at + len(field) :])
        if at < 0 or _checksum_field(digest.hexdigest()) != field:
            raise PatiError(f"{path} is damaged: its checksum does not fit", "copy it again from where it came")
        return deserialised(data)
    except OSError as error:
        raise PatiError(f"can't read the model {path}: {error.strerror}") from None
    except SafetensorError as error:
        raise PatiError(f"{path} is damaged: {error}", "copy it again from where it came") from None


def _empty_net(name: str, classes: int, options: Options) -> Net:
    """The net without memory for its weights: a small file must not claim gigabytes."""
    widest = field_named("width").metadata["high"]
    rates = (options.dropout, options.drop_path)
    if not (0 < options.width <= widest and all(0 <= rate < 1 for rate in rates) and classes <= 100_000):
        raise ValueError(f"{options}, {classes} classes")
    with without_memory(name):
        return models[name](classes, options)


def _check_tensors(path: Path, expected: dict[str, tuple[tuple[int, ...], torch.dtype]], header: _Header) -> None:
    """Names, shapes, types and the file's size, by the header alone: no tensor is read for a file that lies."""
    table = header.tensors
    missing, extra = sorted(expected.keys() - table.keys()), sorted(table.keys() - expected.keys())
    if missing or extra:
        told = f"{path} lacks {missing[0]!r}" if missing else f"{path} has an unknown tensor {extra[0]!r}"
        raise PatiError(told, "it was made by another version, or is not whole")
    for name, (sides, dtype) in expected.items():
        shape, kind = list(sides), _TYPES[dtype]
        found = table[name] if isinstance(table[name], dict) else {}
        if found.get("shape") != shape or found.get("dtype") != kind:
            raise PatiError(
                f"{path}: {name} is {found.get('dtype')} {found.get('shape')}, expected {kind} {shape}",
                "it was made by another version, or is not whole",
            )
    size = header.start + sum(math.prod(sides) * dtype.itemsize for sides, dtype in expected.values())
    if path.stat().st_size != size:
        raise PatiError(
            f"{path} has {path.stat().st_size:,} bytes, expected {size:,}", "it is not whole: copy it again"
        )
