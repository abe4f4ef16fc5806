"""Fetch built-in datasets: from the mirror, Kaggle, or the publisher's URL."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from pati.data.sources.archives import is_archive
from pati.data.sources.builtin_datasets import CLASSES, Download, datasets, downloads, locate, place_file
from pati.data.sources.download import ATTEMPTS, Progress, download
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.system import files
from pati.system.files import cache_folder


def fetch(
    name: str,
    given: Path | None = None,
    *,
    timeout: float = 30.0,
    attempts: int = ATTEMPTS,
    progress: Progress | None = None,
) -> Path:
    """Fetch the built-in dataset `name` if needed, and return its location. `given`: a file or folder already there.

    `timeout` and `attempts` as in `download`. Raises `PatiError`.
    """
    find = datasets[name]
    if given is not None:
        return _from_file(name, given)
    published = downloads.get(name)
    if published is None:
        return find(None).root
    at_hand = locate(name)
    if at_hand is not None:
        return at_hand
    try:
        return _from_kaggle(name, published) or download(
            published.address, _target(name), sha256=published.sha256, timeout=timeout, attempts=attempts,
            progress=progress,
        )  # fmt: skip
    except PatiError as error:
        raise PatiError(
            error.message,
            N_(
                "{hint}. Or download it in another way and run `pati fetch {name} --from FILE`, or set "
                "PATI_MIRROR to a folder that contains it",
                hint=error.hint,
                name=name,
            ),
        ) from None


def _target(name: str) -> Path:
    return cache_folder() / "datasets" / f"{name}.zip"


def _require_classes(name: str, given: Path) -> None:
    """Raise `PatiError` if the photos in `given` are not those of the dataset, by their classes."""
    found, expected = datasets[name](given).classes, CLASSES.get(name)
    if (expected is not None and not set(found) <= set(expected)) or not found:
        raise PatiError(
            N_("{path} is not {name}: its classes are {found}", path=given, name=name, found=found[:6]),
            N_("expected {expected}; other data needs no name: pati train FOLDER", expected=expected or name),
        )


def _from_file(name: str, given: Path) -> Path:
    if not given.exists():
        raise PatiError(N_("--from {path}: no such file or folder", path=given))
    if given.is_dir():
        _require_classes(name, given)
        return _point(name, given.resolve())
    if not is_archive(given) or not zipfile.is_zipfile(given):
        raise PatiError(
            N_("--from {path} is not a zip file", path=given),
            N_("expected a folder, or the zip file as published"),
        )
    _require_classes(name, given)
    _forget(name)  # `locate` would find a folder first
    with given.open("rb") as source, files.atomic(_target(name)) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return _target(name)


def _from_kaggle(name: str, published: Download) -> Path | None:
    """Download with kagglehub if the extra [fetch] is installed and configured; otherwise None."""
    try:
        import kagglehub
    except ImportError:
        return None
    try:
        folder = Path(kagglehub.dataset_download(published.kaggle))
    except Exception:  # no account or no network: fall back to the publisher's URL
        return None
    return _point(name, folder)


def _point(name: str, folder: Path) -> Path:
    """Let the dataset's name stand for a folder elsewhere."""
    _forget(name)
    files.write_bytes(place_file(name), os.fsencode(folder))
    return folder


def _forget(name: str) -> None:
    """Forget such a folder. Raises `PatiError` for one in the cache: it may contain the user's photos."""
    link = cache_folder() / "datasets" / name  # of an earlier version
    if link.is_dir() and not link.is_symlink():
        raise PatiError(
            N_("{link} already contains {name}", link=link, name=name),
            N_("move this folder, then run the command again"),
        )
    link.unlink(missing_ok=True)
    place_file(name).unlink(missing_ok=True)
