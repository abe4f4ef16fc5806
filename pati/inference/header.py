"""The header of a model file, which is JSON: read without torch."""

from __future__ import annotations

import json
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

from pati.data.preprocess import PreprocessDocument
from pati.errors import PatiError, os_reason
from pati.evaluation.calibration import CalibrationDocument
from pati.inference.documents import Facts
from pati.locale.messages import N_

FORMAT = 3
READABLE = (2, 3)  # 2: without center_crop
KIND = "pati-model"
_LARGEST_HEADER = 10_000_000


class HeaderDocument(Facts):
    """The JSON document in the header."""

    kind: str
    format: int
    classes: Sequence[str]
    preprocess: PreprocessDocument
    mirror: bool
    center_crop: NotRequired[float]  # older files have none
    calibration: NotRequired[CalibrationDocument | None]  # older files have none
    scope: NotRequired[dict[str, int] | None]


class TensorDocument(TypedDict, total=False):
    """A tensor of the file, as safetensors describes it."""

    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class Header:
    """The start of a model file.

    The JSON document of `write`, the table of tensors, the byte where their data starts, and the checksum of the whole
    file.
    """

    document: HeaderDocument
    tensors: dict[str, TensorDocument]
    start: int
    checksum: str


def read_header(path: Path) -> Header:
    """A model file's header, after the checks that need only the first bytes of the file."""
    foreign = PatiError(
        N_("{path} is not a pati model", path=path), N_("expected a model.safetensors written by `pati train`")
    )
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
        raise PatiError(N_("can't read the model {path}: {reason}", path=path, reason=os_reason(error))) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise foreign from None
    if kind != KIND:
        raise foreign
    if version not in READABLE:
        newer = isinstance(version, int) and version > FORMAT
        raise PatiError(
            N_(
                "{path} has format {version}, this pati reads {format}", path=path, version=repr(version), format=FORMAT
            ),
            N_("update pati") if newer else N_("train it again"),
        )
    return Header(cast(HeaderDocument, document), header, 8 + length, str(metadata.get("sha256")))
