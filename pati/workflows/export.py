"""Export a model: find the photos to check on, and write the file."""

from __future__ import annotations

from pathlib import Path

from pati import included
from pati.data.decode import Unreadable
from pati.data.manifest import Manifest
from pati.data.sources import storage
from pati.errors import PatiError
from pati.events import Listen, Noted, Stage, StageBegan, silent
from pati.inference.classifier import Classifier
from pati.inference.export import Export, Format, formats
from pati.inference.export import export as write
from pati.inference.onnx_classifier import LARGEST
from pati.locale.messages import N_
from pati.runs.run import Run
from pati.system import files

PHOTOS = 128  # of a run's validation photos, for the check,
MOST_BYTES = 200_000_000  # or fewer, if they are large


def export(model: Path, *, to: str = "onnx", out: Path | None = None, listen: Listen = silent) -> Export:
    """Write a model file, or the model in the folder of a run, in the format `to`; see `pati.inference.export`.

    `out`: the file; default: beside the model. A file that is not an export is never overwritten. Raises `PatiError`.
    """
    classifier = Classifier.load(model)
    file = model / "model.safetensors" if model.is_dir() else model
    path = out or file.with_suffix(formats[to].suffix)
    _require_free(path, formats[to])
    listen(StageBegan(Stage.EXPORT))
    photos = _photos(model) if model.is_dir() else []
    if model.is_dir() and not photos:
        listen(Noted(N_("the photos of the run are not there: the check uses made-up pictures only")))
    return write(classifier, path, to=to, source=files.sha256_file(file), card=_card(file), photos=photos)


def _require_free(path: Path, format: type[Format]) -> None:
    """Raise `PatiError` if `path` is anything but a new file or an export of this format."""
    if not path.exists():
        if not path.parent.is_dir():
            raise PatiError(
                N_("the folder {folder} does not exist", folder=path.parent), N_("create it, or choose another one")
            )
        return
    try:
        format.read(files.contents(path, LARGEST) or b"")
    except (PatiError, OSError):
        raise PatiError(
            N_("{path} exists and was not written by pati; it is not overwritten", path=path),
            N_("choose another name, or delete the file first"),
        ) from None


def _photos(folder: Path) -> list[bytes]:
    """Some validation photos of a run, evenly spread; none if its data is not there."""
    photos: list[bytes] = []
    size = 0
    try:
        manifest = Manifest.read(Run.open(folder).manifest)
        entries = manifest.calibrating()
        store = storage.at(Path(manifest.root))
        for entry in entries[:: max(1, len(entries) // PHOTOS)][:PHOTOS]:
            photos.append(store.read(entry.path))
            size += len(photos[-1])
            if size > MOST_BYTES:
                break
    except (PatiError, Unreadable, OSError):
        return photos
    return photos


def _card(file: Path) -> str:
    """The model card beside a model file; empty if there is none."""
    card = included.card() if file == included.model() else Run(file.parent).card
    return card.read_text(encoding="utf-8", errors="replace") if card.is_file() else ""
