"""What a user calls DATA -> its labelled files."""

from __future__ import annotations

import os
from pathlib import Path

from pati.data.sources.known_sets import datasets
from pati.data.sources.paths import open_path
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError


def find_source(data: str | os.PathLike[str], columns: Columns = Columns()) -> Source:
    """The source that DATA names: a path or one of `datasets`. Raises `PatiError`."""
    text = os.fspath(data)
    path = Path(text).expanduser()
    if not path.exists():
        if text in datasets:
            if columns != Columns():
                raise PatiError(f"the known set {text} has no CSV, so there are no columns to choose or group by")
            return datasets[text](None)
        near = "" if os.sep in text else f"known sets: {', '.join(datasets)}"
        raise PatiError(f"there is no file, folder or known set {text!r}", near)
    return open_path(path, columns)
