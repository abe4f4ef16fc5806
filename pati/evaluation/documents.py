"""The shape of what is measured, as metrics.json keeps it and as report, page, terminal and comparisons read it.

Intervals are at 95 %, `[low, high]`. A value is None where it is not defined, such as the recall of a class without
photos. Nothing here depends on a photo having one class alone but the confusion matrix.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

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
"""One class's scores: `support` photos of it, `predicted` answers."""


class Balance(TypedDict):
    """See `runs.history.Evenness`."""

    method: str
    ratio: float
    by_class: bool


class Scores(TypedDict):
    """What `metrics.summary` gives: beside these, each registered metric under its name (see `metrics.value`)."""

    photos: int
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
    """Photos answered with about the same confidence."""

    photos: int
    confidence: float
    accuracy: float
    interval: Interval


class Reliability(TypedDict):
    """How far confidence can be believed at one temperature; `error`: the expected calibration error."""

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
"""One class's ROC and precision-recall curves."""


class Part(TypedDict):
    """Photos of a split with a property from `low` to `high`; `difference`: of the accuracy, to the other photos."""

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


class Suspect(TypedDict):
    """A photo whose label is likely wrong."""

    path: str
    split: str | None
    label: str
    answer: str
    label_probability: float


class Suspects(TypedDict):
    """The photos whose label is likely wrong, the `first` of `count`; `decided`: those that a person has looked at."""

    photos: int
    count: int
    decided: int
    first: list[Suspect]


class Accuracy(TypedDict):
    """A share of right answers."""

    accuracy: float
    interval: Interval


class Damage(Accuracy):
    """The same at one strength of damage; `lost`: how much of it, on the same photos."""

    strength: float
    lost: float
    lost_interval: Interval


class Robustness(TypedDict):
    """Accuracy by kind and strength of damage."""

    photos: int
    undamaged: Accuracy
    kinds: dict[str, list[Damage]]


class Outside(TypedDict):
    """How well photos from elsewhere are told from the test photos."""

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
    """A mean less that of a baseline; `better`: None where it can't be told."""

    better: bool | None


class Likeness(TypedDict):
    """The rank correlation of two maps of the same photos, of so many draws of the other net."""

    mean: float | None
    interval: list[float | None]
    photos: int
    draws: int


Map = Literal["method", "random", "centre", "edges"]
"""Whose maps: a method's, or some that know no net."""


class Measure(TypedDict):
    """One measure of maps, of a method and of maps that know no net."""

    high_is_good: bool
    method: Mean
    centre: Mean
    edges: Mean
    random: Mean
    against: dict[str, Gain]


class ExplanationChecks(TypedDict):
    """What tests of explanations came to, see `explain.checks.summary`."""

    method: NotRequired[str]
    photos: int
    even: int
    forgotten: dict[str, Likeness]
    depends: bool | None
    steadiness: Likeness
    measures: dict[str, Measure]
    beyond_centre: dict[str, list[str]]


class Analysis(TypedDict):
    """What a result is worth beyond its scores. What there was no time to measure is not there."""

    calibration: CalibrationResult
    curves: list[ClassCurve]
    slices: NotRequired[Slices]
    suspects: NotRequired[Suspects]
    robustness: NotRequired[Robustness]
    explanations: NotRequired[ExplanationChecks]


class Seconds(TypedDict):
    """How long a run took: training alone, and the whole command."""

    training: float
    command: NotRequired[float]


class RunDocument(TypedDict):
    """metrics.json."""

    classes: list[str]
    validation: Scores
    test: Scores
    epochs: int
    seconds: Seconds
    seed: int
    split_seed: int
    manifest: str
    shares: dict[str, float]
    versions: dict[str, str]
    balance: Balance
    analysis: Analysis
    outside: NotRequired[dict[str, Outside]]


class Probed(TypedDict):
    """What takes longer the more photos it is measured on; what there was no time for is not there."""

    robustness: NotRequired[Robustness]
    explanations: NotRequired[ExplanationChecks]


class About(TypedDict):
    """What a later scoring was about; `test_scored`: how often test photos have been scored, if any are among them."""

    data: str
    kind: str
    model: str
    manifest: str
    balance: Balance
    dependent: dict[str, int]
    unreadable: int
    trained_on: int
    test_photos: int
    test_scored: NotRequired[int]
    report: NotRequired[str]


class LaterScores(Scores, About):
    """A later scoring."""


class ScoresPage(About):
    """What its page shows."""

    scores: Scores
    analysis: Analysis
    classes: list[str]


class OutsideOf(Outside):
    """The same, of a data set of this name."""

    data: str


class RunRow(TypedDict):
    """A run in a comparison: its scores and costs."""

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
    group_by: str | None
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


class LocatedMean(Mean):
    """A measure of maps against boxes, and how far above each baseline it is."""

    against: NotRequired[dict[str, Mean]]


class Located(TypedDict):
    """Maps against boxes: each method's measures."""

    photos: int
    unreadable: int
    beyond: int
    area: Mean
    methods: dict[str, dict[str, LocatedMean]]


class ShuffledLabels(TypedDict):
    """A method's maps against those of a net trained on shuffled labels."""

    likeness: Likeness
    depends: bool | None
    epochs: int
    seconds: float
    train_accuracy: float


class CheckedExplanations(ExplanationChecks):
    """The same of photos that a person named."""

    unreadable: int
    shuffled_labels: NotRequired[ShuffledLabels]


class TrialRow(TypedDict):
    """See `workflows.tune_study.Trial`."""

    number: int
    state: str
    why: str | None
    value: float | None
    log_loss: float | None
    seconds: float | None
    default: bool
    values: dict[str, Value]
    idle: list[str]


class SearchDocument(TypedDict):
    """What a search found, for its report and for programs."""

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
    """One of several trainings: photos answered, and the share of them answered as they are labelled."""

    photos: int
    epochs: int
    seconds: float
    agreement: float


class CleanDocument(TypedDict):
    """Which photos a person should look at: how many for which reason, and where the lists lie."""

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
    """A photo to look at, by its line in the table."""

    line: int
    path: str
    label: str
    why: str
    answer: str
    label_probability: float | None
