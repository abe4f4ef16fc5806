"""The folders that may be read: all of them, unless this process or the one that started it was restricted.

The web app restricts itself to the folders that it may show to visitors, and so its jobs and decoders, which inherit
its environment. Links are followed before a path is judged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

VARIABLE = "PATI_WITHIN"  # a list in JSON


def restrict(folders: Iterable[Path]) -> None:
    """Allow this process, and those it starts, to read photos and tables below these folders only."""
    os.environ[VARIABLE] = json.dumps([os.path.realpath(folder) for folder in folders])


def folders() -> list[str] | None:
    """The folders that may be read; None: all."""
    named = os.environ.get(VARIABLE)
    return None if named is None else list(map(str, json.loads(named)))


def may_read(path: str | os.PathLike[str]) -> bool:
    """Whether what `path` leads to lies below a folder that may be read."""
    limits = folders()
    if limits is None:
        return True
    target = os.path.realpath(path)
    return any(target == folder or target.startswith(folder.rstrip(os.sep) + os.sep) for folder in limits)
