"""Predictions from packed pixels: `Classifier` against the same net in plain PyTorch and in ONNX Runtime, in turn.

All ways average over the mirror image where the classifier does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.runs import trained
from pati import Classifier
from pati.data import pack
from pati.data.sources.find import find_source
from pati.inference.forward import batch_logits
from pati.system import machine

PHOTOS, BATCH, TURNS = 4096, 128, 7


def inference() -> dict[str, Any]:
    """The 1-minute preset's model, seed 0, on photos as they lie in the pack."""
    machine.keep_blocks()
    run, _ = trained("1m-0", "cats-vs-dogs", "--budget", "1m", "--seed", 0)
    made = Classifier.load(run)
    _, packed, _ = pack.open_or_build(find_source("cats-vs-dogs"), made.preprocess)
    pixels = np.ascontiguousarray(packed.pixels[:PHOTOS])
    photos = list(pixels)

    @torch.inference_mode()
    def eager() -> torch.Tensor:
        parts = [made.preprocess.normalise(part) for part in torch.from_numpy(pixels).split(BATCH)]
        return torch.cat([batch_logits(made.net, part, made.second_view) for part in parts])

    ways: dict[str, Callable[[], Any]] = {
        "Classifier.probabilities": lambda: made.probabilities(pixels),
        "Classifier.predict": lambda: made.predict(photos),
        "plain PyTorch, float32": eager,
        "ONNX Runtime, float32": onnx(made, pixels),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(TURNS + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if turn:  # the first one is slower
                times[name].append(time.perf_counter() - started)
    ours, plain = times["Classifier.probabilities"], times["plain PyTorch, float32"]
    agree = (made.probabilities(pixels).argmax(1) == eager().argmax(1)).float().mean().item()
    return {
        "photos": PHOTOS,
        "size": made.preprocess.size,
        "second_view": [made.second_view.mirror, made.second_view.crop],
        "precision": machine.faster_precision(),
        "photos_per_second": {name: round(PHOTOS / statistics.median(found)) for name, found in times.items()},
        "times_faster_than_plain": round(statistics.median(b / a for a, b in zip(ours, plain, strict=True)), 2),
        "same_answer_as_float32": round(agree, 4),
    }


def onnx(made: Classifier, pixels: np.ndarray[Any, Any]) -> Callable[[], np.ndarray[Any, Any]]:
    """The same net in ONNX Runtime, which folds and fuses by itself; normalisation is done before it."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        example = torch.zeros(BATCH, 3, made.preprocess.size, made.preprocess.size)
        torch.onnx.export(made.net, (example,), path, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = machine.cores()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def way() -> np.ndarray[Any, Any]:
        parts = [made.preprocess.normalise(part).contiguous() for part in torch.from_numpy(pixels).split(BATCH)]
        found = [session.run(None, {name: part.numpy()})[0] for part in parts]
        if made.mirror:
            mirrored = [session.run(None, {name: part.flip(3).numpy()})[0] for part in parts]
            found = [(one + two) / 2 for one, two in zip(found, mirrored, strict=True)]
        return np.concatenate(found)

    return way
