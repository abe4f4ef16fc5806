"""Check that an exported model answers as its source does in float32, from the photo on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pati.data import decode
from pati.data.preprocess import Photo
from pati.errors import PatiError
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.inference.documents import ParityDocument
from pati.inference.export import Tolerance
from pati.inference.export.pictures import made_pictures
from pati.inference.predictor import Explanation, Prediction, Predictor
from pati.locale.messages import N_, NP_, Message
from pati.system import machine

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier

MADE = 48  # pictures that are made for the check
MAPS = 16  # photos whose maps are compared
ALONE = 4  # photos that are also answered one by one


def checked(
    classifier: Classifier, exported: Predictor, photos: Sequence[Photo], tolerance: Tolerance = Tolerance()
) -> ParityDocument:
    """The figures of the comparison. Raises `PatiError` if the two differ by more than the tolerance."""
    exact = classifier.in_float32()
    if _stated(exported) != _stated(exact):
        raise _differs(N_("it states other classes, thresholds or preprocessing"))
    own = _readable(exact, photos)
    read = [*own, *_readable(exact, made_pictures(MADE))]
    all_photos = [photo for photo, _ in read]
    if not all(np.array_equal(exported.preprocess(photo), pixels) for photo, pixels in read):
        raise _differs(N_("it sees other pixels"))
    ours = exact.predict([pixels for _, pixels in read])
    theirs = exported.predict(all_photos)
    alone = [exported.predict([photo])[0] for photo in all_photos[-ALONE:]]
    difference = _largest([*ours, *ours[-ALONE:]], [*theirs, *alone])
    if not difference <= tolerance.limit(_probabilities(ours, exact.classes)):
        raise _differs(N_("a probability differs by {value:.2g}", value=difference))
    same = sum(one.label == other.label for one, other in zip(ours, theirs, strict=True))
    alike = sum(_alike(one, other, tolerance.rounding) for one, other in zip(ours, theirs, strict=True))
    if alike < len(all_photos):
        raise _differs(NP_("{n} photo has another class", "{n} photos have another class", n=len(all_photos) - alike))
    p_values = None
    if exact.detector is not None:
        p_values = float(
            np.max([abs(one.ood_p_value - two.ood_p_value) for one, two in zip(ours, theirs, strict=True)])
        )
        excess = _beyond_rounding(exact, exact.detector, [pixels for _, pixels in read], theirs, tolerance)
        if not excess <= 2 * tolerance.p_value_ranks / (len(exact.detector.distances) + 1):
            raise _differs(N_("a p-value differs by {value:.2g}", value=p_values))
    correlation = _correlation(exact, exported, all_photos[:MAPS] + all_photos[-MAPS:])
    if correlation is not None and not correlation >= tolerance.correlation:
        raise _differs(N_("a saliency map correlates with Grad-CAM by {value:.4f} only", value=correlation))
    usual = machine.faster_precision()
    return {
        "photos": len(all_photos),
        "own_photos": len(own),
        "same_class": same,
        "probability": difference,
        "p_value": p_values,
        "map_correlation": correlation,
        "bfloat16_probability": _largest(ours, classifier.predict(all_photos)) if usual == "bfloat16" else None,
    }


def _stated(model: Predictor) -> tuple[object, ...]:
    return model.classes, model.calibration, model.preprocess


def _readable(exact: Classifier, photos: Iterable[Photo]) -> list[tuple[Photo, NDArray[np.uint8]]]:
    """The photos that can be read, each with its pixels as the source sees them."""
    found = []
    for photo in photos:
        with contextlib.suppress(decode.Unreadable):
            found.append((photo, exact.preprocess(photo)))
    return found


def _beyond_rounding(
    exact: Classifier,
    detector: OutOfDistributionDetector,
    pixels: Sequence[NDArray[np.uint8]],
    theirs: Sequence[Prediction],
    tolerance: Tolerance,
) -> float:
    """By how much a p-value differs from the source's beyond what rounding of distance and confidence explains.

    Where many photos have nearly the same confidence, as those close to 1, rounding is many ranks.
    """
    logits, moments = exact.answers(torch.from_numpy(np.stack(pixels)))
    confidences = exact.calibrated(logits).amax(1)
    low, high = (
        replace(
            detector,
            distances=detector.distances * (1 + sign * tolerance.distance),
            confidences=detector.confidences - sign * tolerance.rounding,
        ).p_values(moments, confidences).numpy()
        for sign in (-1, 1)
    )  # fmt: skip
    found = np.array([one.ood_p_value for one in theirs])
    return float(np.max([low - found, found - high]))


def _differs(what: Message) -> PatiError:
    return PatiError(
        N_("the exported model does not answer as its source does: {what}", what=what),
        N_("nothing was written; please report this, with the model file"),
    )


def _probabilities(predictions: Sequence[Prediction], classes: Sequence[str]) -> NDArray[np.float64]:
    """Probabilities `(N, K)`; not numbers where a prediction is missing."""
    return np.array([[one.probabilities.get(name, np.nan) for name in classes] for one in predictions])


def _largest(one: Sequence[Prediction], other: Sequence[Prediction]) -> float:
    """The largest difference of a probability; NaN if one is not a number, which `max` of Python would overlook."""
    classes = list(one[0].probabilities)
    return float(np.max(np.abs(_probabilities(one, classes) - _probabilities(other, classes))))


def _alike(one: Prediction, other: Prediction, rounding: float) -> bool:
    """Whether both have the same class, or two that are equally likely up to rounding."""
    return one.label == other.label or abs(one.probabilities[one.label] - one.probabilities[other.label]) <= rounding


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
    return float(np.min(found))


def _pearson(one: Explanation, other: Explanation) -> float:
    return float(np.corrcoef(one.map.ravel(), other.map.ravel())[0, 1])
