"""Types of the evaluation results, as stored in metrics.json and used by report, web app, terminal and comparisons.

Intervals are 95 % intervals, `[low, high]`. An undefined value is None, such as the recall of a class without photos.
Only the confusion matrix assumes that a photo has exactly one class.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from pati.locale.messages import Message
from pati.recipe import Value

Interval = list[float]

ClassRow = TypedDict(
    "ClassRow",
    {
        "class": str,
        "precision": float | None,
        "recall": float | None,
        "f1": float | None,
        "support": int,
        "predicted": int,
        "precision_interval": Interval,
        "recall_interval": Interval,
        "f1_interval": Interval,
    },
)
"""Scores of one class; `support`: photos of the class, `predicted`: photos predicted as it."""


class Balance(TypedDict):
    """See `runs.history.ClassBalance`."""

    method: str
    ratio: float
    by_class: bool


class Scores(TypedDict):
    """The result of `metrics.summary`; each other registered metric is added under its name (see `metrics.value`).

    `interval_method`: of all intervals of these photos. `clusters`: number of groups of photos that are resampled
    together, `effective_clusters`: see `Clusters.effective`; None if the photos are independent.
    """

    photos: int
    interval_method: NotRequired[str]
    clusters: NotRequired[int | None]
    effective_clusters: NotRequired[float | None]
    metrics: NotRequired[list[str]]
    accuracy: float
    macro_f1: float
    balanced_accuracy: float
    log_loss: float
    accuracy_interval: Interval
    macro_f1_interval: Interval
    balanced_accuracy_interval: Interval
    log_loss_interval: Interval
    confusion: list[list[int]]
    per_class: list[ClassRow]


class Bin(TypedDict):
    """Photos predicted with similar confidence."""

    photos: int
    confidence: float
    accuracy: float
    interval: Interval


class Reliability(TypedDict):
    """Calibration at one temperature; `error`: the expected calibration error."""

    error: float
    error_interval: Interval
    error_by_chance: float
    log_loss: float
    log_loss_interval: Interval
    bins: list[Bin]


class CalibrationResult(TypedDict):
    """See `analysis.calibrated`."""

    temperature: float
    validation_photos: int
    before: Reliability
    after: Reliability
    risk: float
    risk_bound: float
    threshold: float | None
    odd_needs: int
    odd: float
    coverage: float
    coverage_interval: Interval
    answered_accuracy: float | None
    answered_interval: Interval
    coverages: list[float]
    accuracies: list[float]


ClassCurve = TypedDict(
    "ClassCurve",
    {
        "class": str,
        "roc_area": float,
        "roc_interval": Interval,
        "average_precision": float,
        "average_precision_interval": Interval,
        "false_rate": list[float],
        "recall": list[float],
        "precision": list[float],
    },
)
"""ROC and precision-recall curves of one class."""


class Part(TypedDict):
    """Photos of a split with a property from `low` to `high`; `difference`: accuracy minus that of all other photos."""

    low: float
    high: float
    photos: int
    accuracy: float
    interval: Interval
    difference: float
    difference_interval: Interval
    few: bool


class Slices(TypedDict):
    """Accuracy by properties of the photos."""

    photos: int
    by: dict[str, list[Part]]


class LabelError(TypedDict):
    """A likely label error."""

    path: str
    split: str | None
    label: str
    answer: str
    label_probability: float


class LabelErrors(TypedDict):
    """Likely label errors, the `first` of `count`; `decided`: how many others a person has already decided on."""

    photos: int
    count: int
    decided: int
    first: list[LabelError]


class Accuracy(TypedDict):
    """A fraction of correct predictions."""

    accuracy: float
    interval: Interval


class CorruptionResult(Accuracy):
    """Accuracy at one severity of a corruption; `lost`: the decrease on the same photos."""

    strength: float
    lost: float
    lost_interval: Interval


class Robustness(TypedDict):
    """Accuracy by type and severity of corruption."""

    photos: int
    undamaged: Accuracy
    kinds: dict[str, list[CorruptionResult]]


class OutOfDistributionResult(TypedDict):
    """Out-of-distribution detection: how well photos of another dataset are distinguished from the test photos."""

    photos: int
    roc_area: float
    roc_interval: Interval
    odd: float
    odd_interval: Interval
    unsure: float
    unsure_interval: Interval


class Mean(TypedDict):
    """A mean over photos."""

    mean: float
    interval: Interval


class Gain(Mean):
    """A mean minus that of a baseline; `better`: None if the difference is not significant."""

    better: bool | None


class MapSimilarity(TypedDict):
    """Rank correlation of two maps of the same photos, over `draws` randomised networks."""

    mean: float | None
    interval: list[float | None]
    photos: int
    draws: int


Map = Literal["method", "random", "centre", "edges"]
"""Source of the maps: a method, or a baseline that uses no network."""


class Measure(TypedDict):
    """One measure, for the maps of a method and of the baselines."""

    high_is_good: bool
    method: Mean
    centre: Mean
    edges: Mean
    random: Mean
    against: dict[str, Gain]


class ExplanationChecks(TypedDict):
    """Results of the tests of explanations, see `explain.checks.summary`."""

    method: NotRequired[str]
    photos: int
    even: int
    forgotten: dict[str, MapSimilarity]
    depends: bool | None
    steadiness: MapSimilarity
    measures: dict[str, Measure]
    beyond_centre: dict[str, list[str]]


class Analysis(TypedDict):
    """The evaluation beyond the scores. Parts for which there was no time are missing."""

    calibration: CalibrationResult
    curves: list[ClassCurve]
    slices: NotRequired[Slices]
    suspects: NotRequired[LabelErrors]
    robustness: NotRequired[Robustness]
    explanations: NotRequired[ExplanationChecks]


class Seconds(TypedDict):
    """Duration of a run: training alone, and the whole command."""

    training: float
    command: NotRequired[float]


class Ancestor(TypedDict):
    """A model that another one was trained from.

    `sha256`: of its weights, see `system.tensors.digest`, or of the file of pretrained ones. `classes`, `source`,
    `training_photos`, `manifest`: of its training, empty or None where that is not known. `photos_known`: whether the
    later training knew its photos, so that none of them can be among those that were scored.
    """

    name: str
    pretrained: bool
    sha256: str
    classes: list[str]
    source: str | None
    training_photos: int | None
    manifest: str | None
    photos_known: bool


class RunDocument(TypedDict):
    """metrics.json; `weights`: the hash of those that the scores are of, see `system.tensors.digest`.

    `test`: the scores on the test split, or, with `folds`, those of the out-of-fold predictions; `validation`: None
    without validation photos. `lineage`: the models that the training started from, the last one first; none for a
    training from scratch.
    """

    classes: list[str]
    validation: Scores | None
    test: Scores
    folds: NotRequired[list[FoldFacts]]
    epochs: int
    seconds: Seconds
    seed: int
    split_seed: int
    manifest: str
    weights: NotRequired[str]
    lineage: NotRequired[list[Ancestor]]
    shares: dict[str, float]
    versions: dict[str, str]
    balance: Balance
    analysis: Analysis
    outside: NotRequired[dict[str, OutOfDistributionResult]]


class Measurements(TypedDict):
    """Measurements that take longer on more photos; those for which there was no time are missing."""

    robustness: NotRequired[Robustness]
    explanations: NotRequired[ExplanationChecks]


class PhotoCopy(TypedDict):
    """A photo of another dataset that is a photo `of` the run: the same file, or a near copy of it."""

    path: str
    of: str
    same_file: bool


class PartScores(TypedDict):
    """Scores on some of the photos."""

    photos: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval


class EvaluationContext(TypedDict):
    """The subject of a later evaluation.

    `trained_on`, `test_photos`: how many of its photos are training and test photos of the run, as the same file or as
    a near copy; of another dataset, they are named in `training_copies` and `test_copies`. `without_training_photos`:
    scores on the others; None if no photo was trained on, or all were.

    `test_scored`: how many times test photos have been scored, if this evaluation includes some.
    """

    data: str
    kind: str
    model: str
    manifest: str
    balance: Balance
    dependent: dict[str, int]
    unreadable: int
    trained_on: int
    test_photos: int
    training_copies: list[PhotoCopy]
    test_copies: list[PhotoCopy]
    without_training_photos: PartScores | None
    test_scored: NotRequired[int]
    report: NotRequired[str]


class LaterScores(Scores, EvaluationContext):
    """The result of a later evaluation."""


class ScoresPage(EvaluationContext):
    """The contents of its page."""

    scores: Scores
    analysis: Analysis
    classes: list[str]


class OutOfDistributionScores(OutOfDistributionResult):
    """The same, with the name of the dataset."""

    data: str


class RunRow(TypedDict):
    """Scores and costs of a run in a comparison; `folds`: of the cross-validation, 0 for scores on a test split."""

    name: str
    run: str
    model: str | None
    size: int
    accuracy: float
    accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    balanced_accuracy: float
    log_loss: float
    further: dict[str, float | None]
    photos: int
    folds: int
    clusters: int | None
    effective_clusters: float | None
    parameters: int
    multiply_adds: int
    training_seconds: float
    photos_per_second: float | None
    epochs: int
    seed: int


class Pair(TypedDict):
    """Two runs, first minus second; `p` is corrected for the number of pairs, `p_alone` is not."""

    first: str
    second: str
    difference: float
    interval: Interval
    p_alone: float
    p: float
    verdict: str
    only_first_right: NotRequired[int]
    only_second_right: NotRequired[int]
    macro_f1_difference: NotRequired[float]
    macro_f1_interval: NotRequired[Interval]


class Comparison(TypedDict):
    """See `workflows.compare.compare`."""

    paired: bool
    test: str
    by_class: bool
    runs: list[RunRow]
    pairs: list[Pair]


class LocalisationMean(Mean):
    """A measure of maps against boxes, and its gain over each baseline."""

    against: NotRequired[dict[str, Mean]]


class LocalisationResult(TypedDict):
    """Evaluation of maps against bounding boxes: the measures of each method."""

    photos: int
    unreadable: int
    beyond: int
    area: Mean
    methods: dict[str, dict[str, LocalisationMean]]


class ShuffledLabels(TypedDict):
    """Comparison of a method's maps with those of a network trained on shuffled labels."""

    likeness: MapSimilarity
    depends: bool | None
    epochs: int
    seconds: float
    train_accuracy: float


class CheckedExplanations(ExplanationChecks):
    """The same for photos that the user chose."""

    unreadable: int
    shuffled_labels: NotRequired[ShuffledLabels]


class TrialRow(TypedDict):
    """See `workflows.tune_study.Trial`."""

    number: int
    state: str
    why: Message | None
    value: float | None
    log_loss: float | None
    seconds: float | None
    default: bool
    values: dict[str, Value]
    idle: list[str]


class SearchDocument(TypedDict):
    """The result of a hyperparameter search, for its report and for `--json`."""

    folder: str
    source: str
    score: str
    validation_photos: int
    best: TrialRow | None
    default: TrialRow | None
    default_open: bool
    importance: dict[str, float]
    trials: list[TrialRow]
    recipe: str
    report: str
    command: str
    seed: int
    manifest: str
    versions: dict[str, str]


class FoldFacts(TypedDict):
    """The training run of one fold: photos predicted, and the fraction predicted as labelled."""

    photos: int
    epochs: int
    seconds: float
    agreement: float


class CleanDocument(TypedDict):
    """Photos for review: how many for each reason, and where the lists are."""

    data: str
    run: str
    photos: int
    judged: int
    unjudged: int
    folds: list[FoldFacts]
    counts: dict[str, int]
    decided: int
    unlisted: int
    table: str
    page: str
    command: str
    manifest: str
    seconds: NotRequired[float]


class ReviewItem(TypedDict):
    """A photo for review, by its line in the table."""

    line: int
    path: str
    label: str
    why: str
    answer: str
    label_probability: float | None


class CurvePoint(TypedDict):
    """Networks trained alike on parts of the photos: their mean accuracy on photos that they were not trained on.

    `photos`: how many each was trained on; `length`: its training time as a share of the longest.
    """

    photos: int
    length: float
    accuracy: float
    interval: Interval


class CurvePrediction(TypedDict):
    """The accuracy that a fitted learning curve predicts for a network, and how much more that is than now (`gain`)."""

    photos: int
    length: float
    accuracy: float
    interval: Interval
    gain: float
    gain_interval: Interval


class LearningCurveDocument(TypedDict):
    """The result of `pati learning-curve`.

    `photos`: how many `pati train` would train on; `scored`: how many of them were predicted. `length`: seconds of each
    training, or epochs on all photos. `now`, `more_photos`, `more_time`: predictions for a network trained on all
    photos, on more, or for longer; `curve`: from few photos to many.
    """

    folder: str
    source: str
    photos: int
    classes: int
    scored: int
    folds: int
    networks: int
    length: float
    by_time: bool
    points: list[CurvePoint]
    now: CurvePrediction
    more_photos: list[CurvePrediction]
    more_time: CurvePrediction
    curve: list[CurvePrediction]
    dependent: dict[str, int]
    effective_clusters: float | None
    report: str
    seed: int
    manifest: str
    versions: dict[str, str]
    seconds: float
