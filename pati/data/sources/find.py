"""Find the labelled files that the user's DATA argument refers to."""

from __future__ import annotations

import os
from pathlib import Path

from pati.data.sources.builtin_datasets import datasets
from pati.data.sources.paths import open_path
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.locale.messages import N_


def find_source(data: str | os.PathLike[str], columns: Columns = Columns()) -> Source:
    """The source that DATA names: a path or one of `datasets`. Raises `PatiError`."""
    text = os.fspath(data)
    path = Path(os.path.expanduser(text))  # as it is, where there is no such user
    if not path.exists():
        if text in datasets:
            if columns != Columns():
                raise PatiError(
                    N_(
                        "the built-in dataset {name} has no CSV, so no columns to choose or group by",
                        name=text,
                    )
                )
            return datasets[text](None)
        hint = None if os.sep in text else N_("built-in datasets: {names}", names=list(datasets))
        raise PatiError(N_("no file, folder or built-in dataset {text!r}", text=text), hint)
    return open_path(path, columns)
