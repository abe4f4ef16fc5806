"""ONNX: one file with the whole way from pixels to answers."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn

from pati.errors import PatiError
from pati.evaluation.out_of_distribution import OutOfDistributionDetector
from pati.inference.documents import ExportDocument
from pati.inference.export import Format, formats
from pati.inference.forward import features_and_moments
from pati.inference.onnx_classifier import (
    MAP,
    P_VALUES,
    PIXELS,
    PROBABILITIES,
    OnnxClassifier,
    with_document,
)
from pati.locale.messages import N_, Message, as_is
from pati.models import Net, folded
from pati.system import extras

if TYPE_CHECKING:
    from pati.inference.classifier import Classifier

OPSET = 20
_EXAMPLES = 2  # photos to trace with: a batch of one would be taken for a constant


@formats.register("onnx")
class Onnx(Format):
    """ONNX: one file that ONNX Runtime and others read, from pixels to calibrated probabilities."""

    suffix = ".onnx"

    @staticmethod
    def written(classifier: Classifier, document: ExportDocument) -> bytes:
        """See `Format`."""
        graph = Graph(classifier)
        document["map"], document["opset"] = graph.weights is not None, OPSET
        size = classifier.preprocess.size
        pixels = torch.zeros(_EXAMPLES, size, size, 3, dtype=torch.uint8)
        names = [PROBABILITIES, *([P_VALUES] if document["detector"] else []), *([MAP] if document["map"] else [])]
        try:
            # The exporter's own libraries warn, and print programs that they can't export.
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), torch.inference_mode():
                warnings.simplefilter("ignore")
                for name in ("onnxscript", "torch.fx", "torch.onnx"):
                    logging.getLogger(name).setLevel(logging.ERROR)
                program = torch.onnx.export(
                    graph, (pixels,), dynamo=True, external_data=False, opset_version=OPSET, verbose=False,
                    input_names=[PIXELS], output_names=names,
                    dynamic_shapes=({0: torch.export.Dim("photos", min=1)},),
                )  # fmt: skip
        except ImportError as error:
            told = extras.explained(error, "pati export")
            if told is None:
                raise
            raise told from error
        except MemoryError:
            raise
        except Exception as error:  # what the exporter or a plugin's network raises
            if any(isinstance(one, KeyboardInterrupt) for one in _chain(error)):
                raise KeyboardInterrupt from None
            raise _not_exportable(as_is(_cause(error))) from error
        assert program is not None
        model = program.model_proto
        if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
            raise _not_exportable(N_("it computes with the number of photos as a constant"))
        return with_document(model.SerializeToString(), document)

    @staticmethod
    def stated(data: bytes, document: ExportDocument) -> bytes:
        """See `Format`."""
        return with_document(data, document)

    @staticmethod
    def read(data: bytes) -> OnnxClassifier:
        """See `Format`."""
        return OnnxClassifier(data)


def _not_exportable(why: Message) -> PatiError:
    return PatiError(
        N_("this network cannot be written as ONNX: {why}", why=why),
        N_("its operations must be known to torch.onnx.export, and depend on neither values nor number of the photos"),
    )


def _cause(error: BaseException) -> str:
    """The first line of what made the exporter fail, which tells it at the end of a chain of general errors."""
    *_, first = _chain(error)
    return next(iter(str(first).strip().splitlines()), type(first).__name__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it was raised from."""
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__


class Graph(nn.Module):
    """A classifier as one module, from pixels to what it answers, in float32.

    Pixels `uint8 (N, size, size, 3)` -> calibrated probabilities `(N, K)`; p-values `(N,)`, with an out-of-distribution
    detector; saliency maps `(N, h, w)` of the predicted classes, if the head is a linear layer of means.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.net = folded(classifier.net, torch.float32, exported=True).cpu()
        self.second_view = classifier.second_view
        self.temperature = 1.0 if classifier.calibration is None else classifier.calibration.temperature
        scale, shift = classifier.preprocess.normalisation()
        self.register_buffer("scale", scale / 255)
        self.register_buffer("shift", shift)
        self.weights = linear_weights(self.net)
        self.detector = None if classifier.detector is None else _Detector(classifier.detector)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pixels -> answers; see the class."""
        images = (pixels.float() * self.scale + self.shift).permute(0, 3, 1, 2)  # NHWC -> NCHW
        features, moments = features_and_moments(self.net, images)
        logits = self.net.head(features)
        if self.second_view:
            logits = (logits + self.net(self.second_view.of(images))) / 2
        probabilities = (logits / self.temperature).softmax(1)
        answers = [probabilities]
        if self.detector is not None:
            answers.append(self.detector(moments, probabilities.amax(1)))
        if self.weights is not None:
            # The gradient of a logit is the same at all positions: Grad-CAM is the class activation map (Zhou et al.,
            # 2016, https://arxiv.org/abs/1512.04150) of the positive values.
            own = self.weights[probabilities.argmax(1)][:, :, None, None]
            answers.append((own * features).sum(1).relu() / (features.shape[2] * features.shape[3]))
        return tuple(answers)


def linear_weights(net: Net) -> torch.Tensor | None:
    """The weights `(K, C)` of a head that is a linear layer of the means of the last features; None for other heads."""
    # Exact types: a subclass may compute something else.
    layers = [layer for layer in net.head.modules() if type(layer) not in (nn.Sequential, nn.Dropout, nn.Identity)]
    if [type(layer) for layer in layers] != [nn.AdaptiveAvgPool2d, nn.Flatten, nn.Linear]:
        return None
    pool, _, linear = layers
    assert isinstance(pool, nn.AdaptiveAvgPool2d)
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach().clone() if pool.output_size in (1, (1, 1)) else None


class _Detector(nn.Module):
    """`OutOfDistributionDetector.p_values` with the operations that ONNX has."""

    distances: torch.Tensor
    confidences: torch.Tensor

    def __init__(self, detector: OutOfDistributionDetector) -> None:
        super().__init__()
        self.count = len(detector.distances)
        for name, values in detector.tensors().items():
            self.register_buffer(name, values.cpu().clone())

    def forward(self, moments: torch.Tensor, confidences: torch.Tensor) -> torch.Tensor:
        """Moments `(N, D)` and confidences `(N,)` -> p-values `(N,)`."""
        distance = OutOfDistributionDetector(**dict(self.named_buffers())).distance(moments)
        farther = (self.distances[None] >= distance[:, None]).float().sum(1)
        less_sure = (self.confidences[None] <= confidences[:, None]).float().sum(1)
        product = (farther + 1) / (self.count + 1) * ((less_sure + 1) / (self.count + 1))
        return (product * (1 - product.log())).clamp(0, 1)
