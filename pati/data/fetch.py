"""Known sets brought to this machine: from the mirror, Kaggle, or their publisher's address."""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pati import files
from pati.data import sources
from pati.data.archives import is_archive
from pati.errors import PatiError
from pati.files import cache_folder

KAGGLE = "shaunthesheep/microsoft-catsvsdogs-dataset"
MICROSOFT = (
    "https://download.microsoft.com/download/3/e/1/3e1c3f21-ecdb-4869-8368-6deba77b919f/kagglecatsanddogs_5340.zip"
)

Progress = Callable[[int, int], None]


def fetch(name: str, given: Path | None = None, *, timeout: float = 30.0, progress: Progress | None = None) -> Path:
    """Where the known set `name` lies, after bringing it there. `given`: a file or folder already downloaded."""
    sources.datasets[name]
    if name != "cats-vs-dogs":
        return sources.datasets[name](None).root
    if given is not None:
        return _from_file(name, given)
    at_hand = sources.locate(name)
    if at_hand is not None:
        return at_hand
    return _from_kaggle(name) or _from_address(name, MICROSOFT, timeout, progress)


def _target(name: str) -> Path:
    return cache_folder() / "datasets" / f"{name}.zip"


def _from_file(name: str, given: Path) -> Path:
    if not given.exists():
        raise PatiError(f"--from {given}: there is no such file or folder")
    if given.is_dir():
        return _link(name, given.resolve())
    if not is_archive(given) or not zipfile.is_zipfile(given):
        raise PatiError(f"--from {given} is not a zip file", "expected the zip as Kaggle or Microsoft gives it")
    with given.open("rb") as source, files.atomic(_target(name)) as file:
        shutil.copyfileobj(source, file, 1 << 20)
    return _target(name)


def _from_kaggle(name: str) -> Path | None:
    """Through kagglehub where the extra [fetch] is installed and the user has set it up; else None."""
    try:
        import kagglehub
    except ImportError:
        return None
    try:
        folder = Path(kagglehub.dataset_download(KAGGLE))
    except Exception:  # no account, no network: the publisher's address comes next
        return None
    return _link(name, folder)


def _link(name: str, folder: Path) -> Path:
    """Remember a folder that lies elsewhere as the set's place."""
    link = cache_folder() / "datasets" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(folder, target_is_directory=True)
    return link


def _from_address(name: str, address: str, timeout: float, progress: Progress | None) -> Path:
    """Download to the cache; the file appears there only when it is whole and a sound zip."""
    target = _target(name)
    try:
        with urllib.request.urlopen(address, timeout=timeout) as answer, files.atomic(target) as file:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(1 << 20):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
            if total and done != total:
                raise PatiError(f"the download ended after {done:,} of {total:,} bytes", "try again")
            file.flush()
            with open(file.fileno(), "rb", closefd=False) as written:
                sound = zipfile.is_zipfile(written)
            file.seek(0, os.SEEK_END)
            if not sound:
                raise PatiError(f"{address} gave no zip file", "download it by hand and use --from FILE")
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason: Any = getattr(error, "reason", error)
        raise PatiError(
            f"can't download {name}: {reason}",
            f"download {address} by another way and run `pati fetch {name} --from FILE`, "
            "or set PATI_MIRROR to a folder that holds it",
        ) from None
    except OSError as error:
        raise PatiError(f"can't write {target}: {os.strerror(error.errno or 0)}") from None
    return target
