"""The model file: one safetensors file whose header is JSON. Reading it runs no code from the file.

Everything that the header claims is checked before a tensor is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load as deserialised

from pati import plugins
from pati.data.preprocess import Preprocess
from pati.errors import PatiError, os_reason
from pati.evaluation.calibration import Calibration
from pati.evaluation.out_of_distribution import SIZES, OutOfDistributionDetector
from pati.inference.documents import Facts
from pati.inference.forward import SecondView
from pati.inference.header import FORMAT, KIND, Header, HeaderDocument, read_header
from pati.locale.messages import N_
from pati.models import Net, Options, models, without_memory
from pati.models.counting import memory_of
from pati.recipe import field_named
from pati.system import files
from pati.system.tensors import serialised

MEMORY = 8_000_000_000  # bytes that the layers of a network may take for one photo; several at once take an eighth
_USUAL = 256  # px: a network of its usual width takes far less for photos of this size
_NO_CHECKSUM = "0" * 64  # placeholder in the header while the checksum of the whole file is computed
_TYPES = {torch.float32: "F32", torch.int64: "I64"}  # safetensors' names
_SCOPE = "scope."  # prefix of the out-of-distribution detector's tensors in a model file


@dataclass(frozen=True)
class ModelFile:
    """The contents of a model file. `second`: the second view that logits are averaged with, if any."""

    net: Net
    preprocess: Preprocess
    classes: tuple[str, ...]
    second_view: SecondView
    facts: Facts
    calibration: Calibration | None
    detector: OutOfDistributionDetector | None

    def write(self, path: Path) -> None:
        """Write them as one file, atomically."""
        document: HeaderDocument = {
            "kind": KIND,
            "format": FORMAT,
            "classes": self.classes,
            "preprocess": self.preprocess.to_json(),
            "mirror": self.second_view.mirror,
            "center_crop": self.second_view.crop,
            "calibration": None if self.calibration is None else self.calibration.to_json(),
            "scope": None if self.detector is None else self.detector.sizes(),
            **self.facts,
        }
        known = (
            {} if self.detector is None else {_SCOPE + name: value for name, value in self.detector.tensors().items()}
        )
        data = serialised(self.net.state_dict() | known, {"pati": json.dumps(document), "sha256": _NO_CHECKSUM})
        checksum = hashlib.sha256(data).hexdigest()
        files.write_bytes(path, data.replace(_checksum_field(_NO_CHECKSUM), _checksum_field(checksum), 1))


def read(path: Path) -> ModelFile:
    """Read a model file, or the one in a run folder. Raises `PatiError` for anything else."""
    if path.is_dir():
        if not (path / "model.safetensors").is_file():
            unfinished = (path / "recipe.json").is_file()
            again = plugins.command("train", "--resume", str(path))
            raise PatiError(
                N_("{path} contains no model", path=path),
                N_("the run is not finished; resume it with: {again}", again=again)
                if unfinished
                else N_("expected a model file or the folder of a run"),
            )
        path = path / "model.safetensors"
    if path.suffix.lower() == ".onnx":
        raise PatiError(
            N_("{path} is an exported model, which answers photos and nothing else", path=path),
            N_("give the model that it was exported from, or the folder of the run"),
        )
    header = read_header(path)
    document = header.document
    try:
        architecture, classes = document["model"], tuple(document["classes"])
        if "plugin" in architecture and models.plugin(str(architecture["name"])) is None:
            raise plugins.missing(N_("model"), str(architecture["name"]), architecture["plugin"])
        preprocess = Preprocess.from_json(document["preprocess"])
        if len(classes) < 2 or not all(isinstance(name, str) for name in classes):
            raise PatiError(N_("{path} contains no class names", path=path))
        options = Options(
            width=float(architecture["width"]),
            dropout=float(architecture["dropout"]),
            drop_path=float(architecture.get("drop_path", 0.0)),  # older files have none
            size=preprocess.size,
        )
        net = _empty_net(str(architecture["name"]), len(classes), options)
        if preprocess.size**2 * max(1, options.width) > _USUAL**2:
            net.at_once = _fitting(path, net, preprocess.size)
        crop = float(document.get("center_crop", 1.0))  # older files have none
        second = SecondView(bool(document["mirror"]), crop)
        kept = document.get("calibration")
        calibration = None if kept is None else Calibration.from_json(kept)
        sizes = document.get("scope")
        shapes = {} if sizes is None else OutOfDistributionDetector.shapes(*(int(sizes[name]) for name in SIZES))
    except KeyError as error:
        raise PatiError(
            N_("{path}: the header has no {field!r}", path=path, field=error.args[0]),
            N_("it is not a complete pati model"),
        ) from None
    except (TypeError, ValueError, OverflowError) as error:
        raise PatiError(N_("the header of {path} can't be read: {error}", path=path, error=error)) from None
    expected = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in net.state_dict().items()}
    expected |= {_SCOPE + name: (shape, torch.float32) for name, shape in shapes.items()}
    _check_tensors(path, expected, header)
    tensors = _tensors(path, header.checksum)
    detector = OutOfDistributionDetector(**{name: tensors.pop(_SCOPE + name) for name in shapes}) if shapes else None
    net.load_state_dict(tensors, assign=True)
    taken = ("kind", "format", "classes", "preprocess", "mirror", "center_crop", "calibration", "scope")
    facts = cast(Facts, {key: value for key, value in document.items() if key not in taken})
    return ModelFile(net, preprocess, classes, second, facts, calibration, detector)


def _checksum_field(checksum: str) -> bytes:
    return f'"sha256":"{checksum}"'.encode("ascii", "replace")


def _tensors(path: Path, checksum: str) -> dict[str, torch.Tensor]:
    """The tensors, after verifying the checksum of the whole file."""
    try:
        data = path.read_bytes()
        field = _checksum_field(checksum)
        at = data.find(field)
        digest = hashlib.sha256(data[: max(at, 0)])
        digest.update(_checksum_field(_NO_CHECKSUM))
        digest.update(memoryview(data)[at + len(field) :])
        if at < 0 or _checksum_field(digest.hexdigest()) != field:
            raise PatiError(
                N_("{path} is damaged: its checksum does not match", path=path), N_("copy it again from the original")
            )
        return deserialised(data)
    except OSError as error:
        raise PatiError(N_("can't read the model {path}: {reason}", path=path, reason=os_reason(error))) from None
    except SafetensorError as error:
        raise PatiError(
            N_("{path} is damaged: {error}", path=path, error=error), N_("copy it again from the original")
        ) from None


def _empty_net(name: str, classes: int, options: Options) -> Net:
    """The network without memory for its weights: a small file must not make us allocate gigabytes."""
    widest = field_named("width").metadata["high"]
    rates = (options.dropout, options.drop_path)
    if not (0 < options.width <= widest and all(0 <= rate < 1 for rate in rates) and classes <= 100_000):
        raise ValueError(f"{options}, {classes} classes")
    with without_memory(name):
        return models[name](classes, options)


def _fitting(path: Path, net: Net, size: int) -> int:
    """How many images to predict at once. Raises `PatiError` if one takes more memory than any network should."""
    if next(net.parameters()).device.type != "meta":  # a plugin's, which the user trusts
        return net.at_once
    memory = memory_of(net, size)
    if memory.all > MEMORY:
        raise PatiError(
            N_(
                "{path}: its network takes {needed:.1f} GB of memory for a photo of {size} px, at most {limit:.0f} GB "
                "are allowed",
                path=path,
                size=size,
                needed=memory.all / 1e9,
                limit=MEMORY / 1e9,
            ),
            N_("train a network with a smaller size or width"),
        )
    return max(1, min(net.at_once, int(MEMORY / 8 // max(1, memory.most))))


def _check_tensors(path: Path, expected: dict[str, tuple[tuple[int, ...], torch.dtype]], header: Header) -> None:
    """Check names, shapes, dtypes and the file size against the header, before any tensor is read."""
    table = header.tensors
    missing, extra = sorted(expected.keys() - table.keys()), sorted(table.keys() - expected.keys())
    if missing or extra:
        lacks = N_("{path} has no tensor {name!r}", path=path, name=(missing or [""])[0])
        more = N_("{path} has an unknown tensor {name!r}", path=path, name=(extra or [""])[0])
        raise PatiError(lacks if missing else more, N_("it was written by another version, or is incomplete"))
    for name, (sides, dtype) in expected.items():
        shape, kind = list(sides), _TYPES[dtype]
        entry = table[name] if isinstance(table[name], dict) else {}
        if entry.get("shape") != shape or entry.get("dtype") != kind:
            raise PatiError(
                N_(
                    "{path}: {name} is {got}, expected {expected}",
                    path=path,
                    name=name,
                    got=[str(entry.get("dtype")), str(entry.get("shape"))],
                    expected=[kind, str(shape)],
                ),
                N_("it was written by another version, or is incomplete"),
            )
    size = header.start + sum(math.prod(sides) * dtype.itemsize for sides, dtype in expected.values())
    if path.stat().st_size != size:
        raise PatiError(
            N_("{path} has {got:,} bytes, expected {size:,}", path=path, got=path.stat().st_size, size=size),
            N_("it is incomplete: copy it again"),
        )
