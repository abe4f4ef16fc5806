"""Datasets that are known by name."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pati.data.sources.paths import open_path
from pati.data.sources.source import Source
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.registry import Registry
from pati.system.files import cache_folder, publish_folder, scratch_folder

datasets: Registry[Callable[[Path | None], Source]] = Registry(N_("dataset"))


@dataclass(frozen=True)
class Download:
    """Where a dataset can be downloaded: its name on Kaggle, and the publisher's archive with its checksum."""

    kaggle: str
    address: str
    sha256: str


downloads = {
    "cats-vs-dogs": Download(
        kaggle="shaunthesheep/microsoft-catsvsdogs-dataset",
        address="https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/"
        "kagglecatsanddogs_5340.zip",
        # Microsoft publishes none; this is from GoMLX's dogs-vs-cats example, https://github.com/gomlx/gomlx.
        sha256="b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
    )
}  # for datasets that are not part of a library

CLASSES = {"cats-vs-dogs": ("Cat", "Dog"), "digits": tuple("0123456789")}


def mirror() -> Path | None:
    """The folder with local copies of datasets, from `$PATI_MIRROR`."""
    folder = os.environ.get("PATI_MIRROR")
    return Path(os.path.expanduser(folder)) if folder else None


def locate(name: str, suffixes: tuple[str, ...] = (".zip",)) -> Path | None:
    """A built-in dataset's archive or folder in the mirror or the download cache."""
    candidates = [
        base / f"{name}{suffix}"
        for base in (mirror(), cache_folder() / "datasets")
        if base
        for suffix in ("", *suffixes)
    ]
    with contextlib.suppress(OSError):
        candidates.insert(0, Path(os.fsdecode(place_file(name).read_bytes())))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def place_file(name: str) -> Path:
    """A file that says where the folder with a dataset is; not every system lets users make links."""
    return cache_folder() / "datasets" / f"{name}.place"


@datasets.register("cats-vs-dogs")
def cats_vs_dogs(given: Path | None) -> Source:
    """Microsoft Cats vs Dogs: 25,000 photos of two classes; `pati fetch cats-vs-dogs` downloads it."""
    path = given or locate("cats-vs-dogs")
    if path is None:
        raise PatiError(
            N_("cats-vs-dogs is not on this machine"),
            N_("run `pati fetch cats-vs-dogs`, or set PATI_MIRROR to a folder with cats-vs-dogs.zip"),
        )
    source = open_path(path)
    return Source("cats-vs-dogs", source.root, source.items, presplit=source.presplit, notes=source.notes)


@datasets.register("digits")
def digits(given: Path | None) -> Source:
    """Handwritten digits: 1,797 grey 8×8 images of 0 to 9, included in scikit-learn."""
    path = given or locate("digits")
    if path is None:
        path = cache_folder() / "datasets" / "digits"
        _write_digits(path)
    source = open_path(path)
    # A mirrored 2 is not a digit, and a rotated 6 is a 9.
    return Source(
        "digits", source.root, source.items, flip_invariant=False, rotation_invariant=False, notes=source.notes
    )


def _write_digits(folder: Path) -> None:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    with scratch_folder(folder) as temporary:
        bunch = load_digits()
        for index, (picture, target) in enumerate(zip(bunch.images, bunch.target, strict=True)):
            path = temporary / "new" / str(target) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = np.clip(np.rint(picture * (255 / 16)), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(path)
        publish_folder(temporary / "new", folder)
