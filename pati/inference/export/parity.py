"""Check that an exported model answers as its source does in float32, from the photo on."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pati.data.preprocess import Photo
from pati.errors import PatiError
from pati.inference.documents import ParityDocument
from pati.inference.predictor import Explanation, Prediction, Predictor
from pati.locale.messages import N_, NP_, Message
from pati.system import machine

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier

PROBABILITY = 1e-4  # largest difference that is accepted;
SPREAD, ROUNDING = 0.01, 2e-6  # less, down to rounding, where the probabilities of the photos hardly differ
P_VALUE_RANKS = 3  # a photo may lie on the border between two ranks: so many ranks of difference are accepted
CORRELATION = 0.999  # smallest correlation of a map with Grad-CAM that is accepted
MADE = 48  # pictures that are made for the check
MAPS = 16  # photos whose maps are compared
_SIZES = ((64, 64), (37, 91), (300, 200), (11, 8), (160, 500))  # height, width


def checked(classifier: Classifier, exported: Predictor, photos: Sequence[Photo]) -> ParityDocument:
    """The figures of the comparison. Raises `PatiError` if the two don't agree."""
    exact = classifier.in_float32()
    all_photos: list[Photo] = [*photos, *made_pictures(MADE)]
    answers = exact.predict(all_photos)
    all_photos = [photo for photo, answer in zip(all_photos, answers, strict=True) if not answer.error]
    own = len(all_photos) - MADE
    ours, theirs = [answer for answer in answers if not answer.error], exported.predict(all_photos)
    difference = _largest(ours, theirs)
    varied = np.std([list(one.probabilities.values()) for one in ours], 0).max()
    if not difference <= min(PROBABILITY, max(ROUNDING, SPREAD * varied)):
        raise _differs(N_("a probability differs by {value:.2g}", value=difference))
    same = sum(_same_class(one, other) for one, other in zip(ours, theirs, strict=True))
    if same < len(all_photos):
        raise _differs(NP_("{n} photo has another class", "{n} photos have another class", n=len(all_photos) - same))
    p_values = None
    if exact.detector is not None:
        p_values = max(abs(one.ood_p_value - other.ood_p_value) for one, other in zip(ours, theirs, strict=True))
        if not p_values <= 2 * P_VALUE_RANKS / (len(exact.detector.distances) + 1):
            raise _differs(N_("a p-value differs by {value:.2g}", value=p_values))
    correlation = _correlation(exact, exported, all_photos[:MAPS] + all_photos[-MAPS:])
    if correlation is not None and not correlation >= CORRELATION:
        raise _differs(N_("a saliency map correlates with Grad-CAM by {value:.4f} only", value=correlation))
    usual = machine.faster_precision()
    return {
        "photos": len(all_photos),
        "own_photos": own,
        "same_class": same,
        "probability": difference,
        "p_value": p_values,
        "map_correlation": correlation,
        "bfloat16_probability": _largest(ours, classifier.predict(all_photos)) if usual == "bfloat16" else None,
    }


def _differs(what: Message) -> PatiError:
    return PatiError(
        N_("the exported model does not answer as its source does: {what}", what=what),
        N_("nothing was written; please report this, with the model file"),
    )


def _largest(one: Sequence[Prediction], other: Sequence[Prediction]) -> float:
    """The largest difference of a probability."""
    return max(
        abs(first.probabilities[label] - second.probabilities[label])
        for first, second in zip(one, other, strict=True)
        for label in first.probabilities
    )


def _same_class(one: Prediction, other: Prediction) -> bool:
    """Whether both have the same class, or two that are equally likely up to rounding."""
    return one.label == other.label or abs(one.probabilities[one.label] - one.probabilities[other.label]) <= 1e-6


def _correlation(exact: Classifier, exported: Predictor, photos: Sequence[Photo]) -> float | None:
    """The smallest correlation of a map with Grad-CAM; None for a model without maps."""
    if not exported.has_map:
        return None
    found = []
    for photo in photos:
        theirs = exported.explain(photo)
        ours = exact.explain(photo, label=theirs.label)
        if theirs.even or ours.even:  # a map without positive values
            found.append(1.0 if theirs.even == ours.even else 0.0)
        else:
            found.append(_pearson(theirs, ours))
    return min(found)


def _pearson(one: Explanation, other: Explanation) -> float:
    return float(np.corrcoef(one.map.ravel(), other.map.ravel())[0, 1])


def made_pictures(count: int) -> list[bytes]:
    """Pictures of many sizes as PNG and JPEG files: plain, patterned and noisy ones, the same every time."""
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        height, width = _SIZES[number % len(_SIZES)]
        coarse = 2 ** generator.integers(0, 6)
        cells = generator.integers(0, 256, (-(-height // coarse), -(-width // coarse), 3), dtype=np.uint8)
        picture = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC if number % 2 else 0)
        if number % 12 == 0:
            picture.paste(tuple(map(int, generator.integers(0, 256, 3))), (0, 0, width, height))
        file = io.BytesIO()
        picture.save(file, "PNG" if number % 3 else "JPEG")
        pictures.append(file.getvalue())
    return pictures
