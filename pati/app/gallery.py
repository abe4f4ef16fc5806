"""Photos of a run with their labels, predictions and explanation maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import streamlit as st
import torch

from pati.app import parts
from pati.app.parts import classifier, percent, plain, t
from pati.app.photos import GONE, photo_of, readable_root
from pati.data.entries import Entry
from pati.data.manifest import Manifest
from pati.explain.palette import OPACITY
from pati.inference.classifier import Classifier
from pati.locale.formats import printable
from pati.locale.messages import N_
from pati.report import pictures
from pati.runs.predictions import Predictions
from pati.runs.run import Run

SIDE = 200  # px


@dataclass(frozen=True)
class Tested:
    """A run's scored photos and predictions: `probabilities` `(N, K)` calibrated, `labels` and `answers` `(N,)`.

    `root`: where the photos lie, or None where the page may not look or they are gone.
    """

    entries: list[Entry]
    classes: tuple[str, ...]
    probabilities: torch.Tensor
    labels: torch.Tensor
    root: Path | None

    @property
    def answers(self) -> torch.Tensor:
        """The class predicted for each."""
        return self.probabilities.argmax(1)

    def read(self, number: int) -> bytes | None:
        """A photo's bytes."""
        return photo_of(self.root, self.entries[number].path)


@st.cache_resource(max_entries=8, show_spinner=False)
def _tested(folder: str, changed: int) -> Tested:
    run = Run(Path(folder))
    clf = cast(Classifier, classifier(run.model))  # this page needs torch
    manifest = Manifest.read(run.manifest)
    entries = {entry.sha256: entry for entry in manifest.scored()}
    answers = Predictions.of(run, clf.weights()).test
    with run.reading_scores():  # of photos that the manifest does not have
        photos = [entries[digest] for digest in answers.sha256]
    return Tested(photos, manifest.classes, clf.calibrated(answers.logits), answers.labels, readable_root(manifest))


def tested(folder: Path) -> Tested:
    """The run's scored photos with its predictions."""
    return _tested(str(folder), (folder / "predictions.npz").stat().st_mtime_ns)


def show(run: Run, tested: Tested, numbers: Sequence[int], *, overlays: bool, key: str, page: int = 12) -> None:
    """Photos by their numbers, `page` at a time, with label and prediction; `overlays`: with its explanation map."""
    if not len(numbers):
        st.caption(t(N_("No photos.")))
        return
    if tested.root is None:
        st.info(t(GONE))
        return
    pages = -(-len(numbers) // page)
    first = page * (st.number_input(t(N_("Page")), 1, pages, key=f"{key}-page") - 1) if pages > 1 else 0
    some = list(numbers)[first : first + page]
    with st.container(key=f"grid-{key}"):
        for row in range(0, len(some), 4):
            for column, number in zip(st.columns(4), some[row : row + 4], strict=False):
                with column:
                    _photo(run, tested, number, overlays=overlays)


def _photo(run: Run, tested: Tested, number: int, *, overlays: bool) -> None:
    entry, answer = tested.entries[number], int(tested.answers[number])
    label = tested.classes[answer] if overlays else None
    model = run.model if entry.fold is None else run.fold_model(entry.fold)  # which predicted this photo
    picture = _picture(str(model), model.stat().st_mtime_ns, str(tested.root), entry.path, entry.sha256, label)
    if picture is None:
        st.caption(t(GONE))
        return
    st.image(picture, alt=printable(entry.path), width="stretch")
    truth, predicted = (printable(tested.classes[index]) for index in (int(tested.labels[number]), answer))
    st.caption(plain(f"{truth} → {predicted} {percent(float(tested.probabilities[number, answer]))}"))


@st.cache_data(max_entries=300, show_spinner=False)
def _picture(model: str, changed: int, root: str, path: str, sha256: str, label: str | None) -> bytes | None:
    """A small JPEG; with a `label`, under the explanation map for it. `changed` and `sha256` are for the cache."""
    data = photo_of(Path(root), path)
    pixels = None if data is None else parts.pixels_of(data)
    if data is None or pixels is None:
        return None
    if label is None:
        pixels = pictures.at_most(pixels, 2 * SIDE)
    else:
        pixels = parts.overlaid(classifier(Path(model)).explain(data, label=label), OPACITY, 2 * SIDE)
    return pictures.thumbnail(pixels, SIDE)
