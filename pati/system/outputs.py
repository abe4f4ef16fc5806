"""Files that a user names as output: one that pati did not write is never overwritten.

Pictures and pages carry a mark, by which they are known when they are written again.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from pati.errors import PatiError
from pati.locale.messages import N_
from pati.system import files

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER = len(_PNG) + 25  # of a PNG: its signature and its first chunk
_MADE = b"tEXtSoftware\0pati"  # https://www.w3.org/TR/png-3/#11keywords
_COMMENT = b"<!-- made by pati -->\n"


def require_free(path: Path) -> None:
    """Raises `PatiError` if `path` is a folder, or a file that pati did not write."""
    if path.is_dir():
        raise PatiError(N_("{path} is a folder, expected the name of a file", path=path))
    if os.path.lexists(path) and not _is_ours(path):
        raise PatiError(
            N_("{path} exists and was not written by pati; it is not overwritten", path=path),
            N_("choose another name, or delete the file first"),
        )


def write(path: Path, data: bytes) -> None:
    """Write a PNG, an SVG or an HTML page with our mark, atomically. Raises `PatiError`, see `require_free`."""
    require_free(path)
    if data.startswith(_PNG):
        chunk = struct.pack(">I", len(_MADE) - 4) + _MADE + struct.pack(">I", zlib.crc32(_MADE))
        marked = data[:_HEADER] + chunk + data[_HEADER:]
    else:
        marked = data.rstrip() + b"\n" + _COMMENT
    files.write_bytes(path, marked)


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER + 4 + len(_MADE))
            file.seek(0, os.SEEK_END)
            file.seek(-min(file.tell(), len(_COMMENT)), os.SEEK_END)
            end = file.read()
    except OSError:
        return False
    return (start.startswith(_PNG) and start.endswith(_MADE)) or end == _COMMENT
