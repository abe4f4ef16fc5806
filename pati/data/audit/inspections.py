"""`Inspections`: the inspection results of many files, by column."""

from __future__ import annotations

import builtins
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from pati.data.audit.worker import NO_THUMB, THUMB, Inspection
from pati.data.columns import Codes, CodesWriter, Numbers, Table
from pati.data.mapped import Mapped
from pati.data.properties import Properties
from pati.locale.messages import Message

_BLOCK = 4096  # thumbnails that are written at once


@dataclass(frozen=True, eq=False)
class Inspections(Table[Inspection]):
    """The fields of N inspection results, see `Inspection`: about 70 bytes each, and the thumbnails.

    `digest` `S64 (N,)`: SHA-256 in hexadecimal. `thumbs` `uint8 (T, 32, 32, 3)`: of the files that are photos;
    `thumb` `(N,)`: the row of each, or -1.
    """

    digest: NDArray[np.bytes_]
    bytes: NDArray[np.int64]
    width: NDArray[np.int32]
    height: NDArray[np.int32]
    reason: Codes[str]
    detail: Codes[Message | None]
    flags: Codes[tuple[str, ...]]
    properties: Codes[Properties]
    row: Numbers
    lasting: NDArray[np.bool_]
    thumb: NDArray[np.int32]
    thumbs: Mapped

    @classmethod
    def of(cls, results: Iterable[Inspection], thumbs: NDArray[np.uint8] | None = None) -> Inspections:
        """These results, in their order; `thumbs`: those of the photos among them, if they are stored elsewhere."""
        if isinstance(results, Inspections):
            return results
        digests, lasting, pictures = list[bytes](), list[bool](), list[NDArray[np.uint8]]()
        numbers = (array("q"), array("i"), array("i"), array("q"))
        reasons, details = CodesWriter[str](), CodesWriter[Message | None]()
        flags, properties = CodesWriter[tuple[str, ...]](), CodesWriter[Properties]()
        for result in results:
            digests.append(result.sha256.encode())
            for column, number in zip(numbers, (result.bytes, result.width, result.height, result.row), strict=True):
                column.append(number)
            reasons.add(result.reason)
            details.add(result.detail)
            flags.add(result.flags)
            properties.add(result.properties)
            lasting.append(result.lasting)
            if thumbs is None and not result.reason:
                pictures.append(result.thumb)
        reason = reasons.column()
        if thumbs is None:
            thumbs = np.stack(pictures) if pictures else np.empty((0, THUMB, THUMB, 3), np.uint8)
        photo = reason.equal("")
        return cls(
            np.array(digests, "S64"), np.array(numbers[0], np.int64), np.array(numbers[1], np.int32),
            np.array(numbers[2], np.int32), reason, details.column(), flags.column(), properties.column(),
            np.array(numbers[3], np.int64), np.array(lasting, bool),
            np.where(photo, np.cumsum(photo) - 1, -1).astype(np.int32), Mapped([thumbs]),
        )  # fmt: skip

    @classmethod
    def joined(cls, parts: Sequence[Inspections]) -> Inspections:
        """The results of all parts, one after the other; rows are those of each part."""
        if len(parts) == 1:
            return parts[0]
        starts = np.cumsum([0, *(len(part.thumbs) for part in parts)])
        thumb = [np.where(part.thumb < 0, -1, part.thumb + start) for part, start in zip(parts, starts, strict=False)]
        return cls(
            np.concatenate([part.digest for part in parts]),
            np.concatenate([part.bytes for part in parts]),
            np.concatenate([part.width for part in parts]),
            np.concatenate([part.height for part in parts]),
            Codes.joined([part.reason for part in parts]),
            Codes.joined([part.detail for part in parts]),
            Codes.joined([part.flags for part in parts]),
            Codes.joined([part.properties for part in parts]),
            np.concatenate([part.row for part in parts]),
            np.concatenate([part.lasting for part in parts]),
            np.concatenate(thumb).astype(np.int32),
            Mapped([one for part in parts for one in part.thumbs.parts]),
        )

    def take(self, rows: Numbers | NDArray[np.bool_]) -> Inspections:
        """See `Table`."""
        rows = np.arange(len(self))[rows]
        return Inspections(
            self.digest[rows], self.bytes[rows], self.width[rows], self.height[rows], self.reason.take(rows),
            self.detail.take(rows), self.flags.take(rows), self.properties.take(rows), self.row[rows],
            self.lasting[rows], self.thumb[rows], self.thumbs,
        )  # fmt: skip

    def stored(self, file: IO[builtins.bytes]) -> Inspections:
        """The same with the thumbnails in a file, behind what is in it already."""
        start, shape = file.seek(0, os.SEEK_END), self.thumbs.shape
        for at in range(0, len(self.thumbs), _BLOCK):
            file.write(self.thumbs[at : at + _BLOCK].tobytes())
        file.flush()
        thumbs = np.memmap(file, np.uint8, "r", start, shape) if len(self.thumbs) else np.empty(shape, np.uint8)
        return replace(self, thumbs=Mapped([thumbs]))

    def __len__(self) -> int:
        return len(self.digest)

    def made(self, rows: Numbers) -> Iterator[Inspection]:
        """See `Table`."""
        return map(
            Inspection,
            (digest.decode() for digest in self.digest[rows].tolist()),
            self.bytes[rows].tolist(),
            self.width[rows].tolist(),
            self.height[rows].tolist(),
            self.reason.take(rows),
            self.detail.take(rows),
            self.flags.take(rows),
            self.properties.take(rows),
            (NO_THUMB if thumb < 0 else self.thumbs[thumb] for thumb in self.thumb[rows].tolist()),
            self.row[rows].tolist(),
            self.lasting[rows].tolist(),
        )
