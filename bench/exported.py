"""Exported models against their sources: answers, maps and speed."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from pati import included
from pati.data.preprocess import Preprocess
from pati.data.sources import storage
from pati.errors import PatiError
from pati.inference.classifier import Classifier
from pati.inference.documents import Facts
from pati.inference.export import export
from pati.inference.onnx_classifier import OnnxClassifier
from pati.inference.predictor import Prediction, Predictor
from pati.models import Options, build, models
from pati.recipe import Recipe
from pati.system import machine
from pati.workflows.check import check

MAPS = 200  # test photos whose maps are compared
TURNS = 7


def exported() -> dict[str, Any]:
    classifier = Classifier.load(included.model())
    with tempfile.TemporaryDirectory() as folder:
        written = export(classifier, Path(folder) / "model.onnx")
        model = OnnxClassifier.load(written.path)
        families = {name: family(name, Path(folder)) for name in models}
    exact = classifier.in_float32()
    manifest = check("cats-vs-dogs", Recipe())
    store = storage.at(Path(manifest.root))
    photos = [store.read(entry.path) for entry in manifest.of_split("test")]
    ours, theirs = exact.predict(photos), model.predict(photos)
    usual = classifier.predict(photos)
    return {
        "included": {
            "bytes": written.size,
            "photos": len(photos),
            **difference(ours, theirs, "float32"),
            **difference(usual, theirs, machine.faster_precision()),
            "maps": MAPS,
            "smallest_map_correlation": min(correlation(exact, model, photo) for photo in photos[:MAPS]),
            "largest_difference_by_batch": by_batch(exact, model, photos),
        },
        "families_with_random_weights": families,
        "speed": speed({"ONNX Runtime, float32": model, "torch, float32": exact, "torch, as it is": classifier}),
        "precision": machine.faster_precision(),
    }


def difference(one: Sequence[Prediction], other: Sequence[Prediction], name: str) -> dict[str, Any]:
    rows = [
        np.array([list(answer.probabilities.values()) for answer in answers], np.float64) for answers in (one, other)
    ]
    same = [first.label == second.label for first, second in zip(one, other, strict=True)]
    return {
        f"same_class_as_{name}": sum(same),
        f"largest_difference_of_a_probability_to_{name}": float(np.abs(rows[0] - rows[1]).max()),
    }


def correlation(exact: Classifier, model: OnnxClassifier, photo: bytes) -> float:
    theirs = model.explain(photo)
    ours = exact.explain(photo, label=theirs.label)
    return float(np.corrcoef(ours.map.ravel(), theirs.map.ravel())[0, 1])


def by_batch(exact: Classifier, model: OnnxClassifier, photos: Sequence[bytes]) -> float:
    """The largest difference of a probability in batches of 1 to 65."""
    pixels = np.stack([exact.preprocess(photo) for photo in photos[:65]])
    expected, _ = exact.answer(pixels)
    found = [model.answer(pixels[:count])[0] for count in range(1, 66)]
    return max(float(np.abs(part - expected[: len(part)]).max()) for part in found)


def family(name: str, folder: Path) -> dict[str, Any] | str:
    """A network of this family with random weights, quarter width, at 64 px."""
    net = build(name, 3, Options(width=0.25, size=64))
    facts = cast(Facts, {"model": {"name": name, "width": 0.25, "dropout": 0.0}})
    try:
        written = export(Classifier(net, Preprocess(size=64), "abc", mirror=True, facts=facts), folder / "x.onnx")
    except PatiError as error:
        return str(error)
    return {**written.parity}


def speed(ways: dict[str, Predictor]) -> dict[str, Any]:
    """400 originals from bytes to answers, in turns."""
    with zipfile.ZipFile(Path(os.environ["PATI_MIRROR"]) / "originals.zip") as archive:
        photos = [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".jpg")]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way.predict(photos)
            if turn:  # the first one is slower
                seconds[name].append(time.perf_counter() - started)
    return {
        "photos": len(photos),
        "threads": torch.get_num_threads(),
        "photos_per_second": {name: round(len(photos) / statistics.median(times)) for name, times in seconds.items()},
    }
