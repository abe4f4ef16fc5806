"""Find the labelled files that the user's DATA argument refers to."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from pati.data.sources.builtin_datasets import datasets
from pati.data.sources.paths import open_path, open_without_classes
from pati.data.sources.source import Columns, Source
from pati.errors import PatiError
from pati.locale.messages import N_, Message


def find_source(data: str | os.PathLike[str], columns: Columns = Columns()) -> Source:
    """The source that DATA names: a path or one of `datasets`. Raises `PatiError`."""
    path = _existing(data)
    if path is None:
        if columns != Columns():
            raise PatiError(
                N_("the built-in dataset {name} has no CSV, so no columns to choose or group by", name=os.fspath(data))
            )
        return datasets[os.fspath(data)](None)
    return open_path(path, columns)


def find_photos(data: str | os.PathLike[str]) -> Source:
    """The photos that DATA names, whatever their classes: as `find_source`, and folders of any layout, and a photo."""
    path = _existing(data)
    return datasets[os.fspath(data)](None) if path is None else open_without_classes(path)


def _existing(data: str | os.PathLike[str]) -> Path | None:
    """The path that DATA is, or None for the name of a built-in dataset. Raises `PatiError`."""
    text = os.fspath(data)
    path = Path(os.path.expanduser(text))  # as it is, where there is no such user
    if not path.exists():
        if text in datasets:
            return None
        raise PatiError(N_("no file, folder or built-in dataset {text!r}", text=text), _hint(text, path))
    if path.suffix == ".dvc" and path.is_file():
        raise PatiError(
            N_("{path} is a file of DVC, which stores the data elsewhere", path=path),
            N_("run `dvc pull`, then give the folder itself"),
        )
    return path


def _hint(text: str, path: Path) -> Message | None:
    """Where the data of a name that does not exist may be."""
    if "://" in text:
        return N_("pati reads folders and files: download the data, then give the place where it is")
    if path.with_name(path.name + ".dvc").exists():
        return N_("its data is stored with DVC: run `dvc pull` first")
    try:
        near = get_close_matches(path.name, os.listdir(path.parent), 3)
    except (OSError, ValueError):
        near = []
    if near:
        return N_("did you mean {names}?", names=[str(path.parent / name) for name in near])
    return None if os.sep in text else N_("built-in datasets: {names}", names=list(datasets))
