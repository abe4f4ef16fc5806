"""Check that an exported model answers as its source does in float32, from the photo on."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image

from pati.data import colour, decode
from pati.data.preprocess import Photo
from pati.errors import PatiError
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.inference.documents import ParityDocument
from pati.inference.predictor import Explanation, Prediction, Predictor
from pati.locale.messages import N_, NP_, Message
from pati.system import machine

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier

PROBABILITY = 1e-4  # largest difference that is accepted;
SPREAD, ROUNDING = 0.01, 2e-6  # less, down to rounding, where the probabilities of the photos hardly differ
DISTANCE_ROUNDING = 1e-4  # relative, of the detector's distances
P_VALUE_RANKS = 3  # a photo may lie on the border between two ranks: so many ranks of difference are accepted
CORRELATION = 0.999  # smallest correlation of a map with Grad-CAM that is accepted
MADE = 48  # pictures that are made for the check
MAPS = 16  # photos whose maps are compared
ALONE = 4  # photos that are also answered one by one
_KINDS = (
    "RGB PNG", "RGB JPEG", "turned", "profile", "transparent", "P PNG", "L PNG", "16 bits", "CMYK JPEG", "L JPEG",
    "LA PNG",
)  # fmt: skip
_SIZES = ((64, 64), (37, 91), (300, 200), (11, 8), (160, 500))  # height, width


def checked(classifier: Classifier, exported: Predictor, photos: Sequence[Photo]) -> ParityDocument:
    """The figures of the comparison. Raises `PatiError` if the two don't agree."""
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
    varied = np.std(_probabilities(ours, exact.classes), 0).max()
    if not difference <= min(PROBABILITY, max(ROUNDING, SPREAD * varied)):
        raise _differs(N_("a probability differs by {value:.2g}", value=difference))
    same = sum(_same_class(one, other) for one, other in zip(ours, theirs, strict=True))
    if same < len(all_photos):
        raise _differs(NP_("{n} photo has another class", "{n} photos have another class", n=len(all_photos) - same))
    p_values = None
    if exact.detector is not None:
        p_values = float(
            np.max([abs(one.ood_p_value - two.ood_p_value) for one, two in zip(ours, theirs, strict=True)])
        )
        excess = _beyond_rounding(exact, exact.detector, [pixels for _, pixels in read], theirs)
        if not excess <= 2 * P_VALUE_RANKS / (len(exact.detector.distances) + 1):
            raise _differs(N_("a p-value differs by {value:.2g}", value=p_values))
    correlation = _correlation(exact, exported, all_photos[:MAPS] + all_photos[-MAPS:])
    if correlation is not None and not correlation >= CORRELATION:
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
) -> float:
    """By how much a p-value differs from the source's beyond what rounding of distance and confidence explains.

    Where many photos have nearly the same confidence, as those close to 1, rounding is many ranks.
    """
    logits, moments = exact.answers(torch.from_numpy(np.stack(pixels)))
    confidences = exact.calibrated(logits).amax(1)
    low, high = (
        replace(
            detector,
            distances=detector.distances * (1 + sign * DISTANCE_ROUNDING),
            confidences=detector.confidences - sign * ROUNDING,
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
    return float(np.min(found))


def _pearson(one: Explanation, other: Explanation) -> float:
    return float(np.corrcoef(one.map.ravel(), other.map.ravel())[0, 1])


def made_pictures(count: int) -> list[bytes]:
    """Photo files of many sizes, contents and kinds, the same every time.

    Plain, patterned and noisy pictures, and some with the spectrum of photos, which a detector finds less unusual. Each
    property of a file that changes pixels is among them: orientation, profile, transparency, palette, grey, depth.
    """
    generator = np.random.default_rng(0)
    pictures = []
    for number in range(count):
        height, width = _SIZES[number % len(_SIZES)]
        if number % 3 == 2:
            pixels = _natural(generator, height, width)
        else:
            coarse = 2 ** generator.integers(0, 6)
            pixels = generator.integers(0, 256, (-(-height // coarse), -(-width // coarse), 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC if number % 2 else 0)
        if number % 12 == 0:
            picture.paste(tuple(map(int, generator.integers(0, 256, 3))), (0, 0, width, height))
        pictures.append(_file(picture, _KINDS[number % len(_KINDS)], number))
    return pictures


def _natural(generator: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """Noise `(H, W, 3)` whose amplitude falls with frequency as in photos (Field, 1987), with little colour."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    frequency[0, 0] = 1 / max(height, width)
    noise = 0.9 * generator.normal(size=(height, width, 1)) + 0.1 * generator.normal(size=(height, width, 3))
    smooth = np.fft.ifft2(np.fft.fft2(noise, axes=(0, 1)) / frequency[..., None] ** 1.7, axes=(0, 1)).real
    contrast, mean = generator.uniform(50, 120), generator.normal(128, 25)
    values = mean + contrast * (smooth - smooth.mean()) / smooth.std()
    pixels: NDArray[np.uint8] = np.clip(values, 0, 255).astype(np.uint8)
    return pixels


def _file(picture: Image.Image, kind: str, number: int) -> bytes:
    """The picture as a file of one of the `_KINDS`."""
    file, exif = io.BytesIO(), Image.Exif()
    if kind == "turned":
        exif[ExifTags.Base.Orientation] = 2 + number % 7
        picture.save(file, "JPEG", exif=exif)
    elif kind == "profile":
        picture.save(file, "JPEG", icc_profile=colour.profile_of(colour.ADOBE_RGB, 563 / 256))
    elif kind == "transparent":
        picture.putalpha(picture.getchannel("G"))
        picture.save(file, "PNG")
    elif kind == "16 bits":
        Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(file, "PNG")
    else:
        mode, _, format_ = kind.partition(" ")
        picture.convert(mode).save(file, format_)
    return file.getvalue()
