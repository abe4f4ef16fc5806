"""What a model file states about its model: the types of the documents in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from pati.data.preprocess import PreprocessDocument
from pati.evaluation.calibration import CalibrationDocument
from pati.evaluation.documents import Ancestor
from pati.recipe import RecipeDocument


class Architecture(TypedDict):
    """The network that the weights belong to; `plugin`: the file that registers it."""

    name: str
    width: float
    dropout: float
    drop_path: NotRequired[float]
    plugin: NotRequired[str]


class ModelScores(TypedDict, total=False):
    """Scores on the test photos; each other registered metric is added under its name.

    `folds`: number of cross-validation folds, if the scores are those of networks not trained on these photos.
    """

    accuracy: float
    accuracy_interval: list[float]
    photos: int
    folds: int


class Facts(TypedDict, total=False):
    """Facts about the training of the model in a file; `manifest`: its hash.

    `lineage`: the models that it was trained from, the last one first.
    """

    model: Architecture
    recipe: RecipeDocument
    metrics: ModelScores
    data: str
    training_photos: int
    manifest: str
    lineage: list[Ancestor]
    versions: dict[str, str]


class ParityDocument(TypedDict):
    """How closely an exported model agrees with its source in float32, on `photos` of which some are the run's own.

    Largest differences of a probability and of a p-value, number of photos with the same class, and the smallest
    correlation of a saliency map with Grad-CAM; None for what the model doesn't have. `bfloat16_probability`: the
    largest difference to the source in bfloat16, where that is the number format of its predictions.
    """

    photos: int
    own_photos: int
    same_class: int
    probability: float
    p_value: float | None
    map_correlation: float | None
    bfloat16_probability: float | None


class ExportDocument(Facts):
    """The document in an exported model.

    `source`: SHA-256 of the model file; `at_once`: photos that fit into memory at once; `opset`: of ONNX; `detector`,
    `map`: whether the model has an out-of-distribution detector, and a saliency map of the predicted class; `card`: its
    model card, in Markdown; `checksum`: SHA-256 of the whole file, with zeros in its place.
    """

    kind: str
    format: int
    classes: Sequence[str]
    preprocess: PreprocessDocument
    calibration: CalibrationDocument | None
    source: str
    at_once: int
    detector: bool
    map: bool
    opset: NotRequired[int]
    parity: NotRequired[ParityDocument]
    card: NotRequired[str]
    checksum: NotRequired[str]
