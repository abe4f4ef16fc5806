"""`Recipe`: every choice that defines a run, in one frozen dataclass.

A field's name, type, default, help and range are declared here and nowhere else: the command line's `--set
field=value`, the JSON file, the hyperparameter search and the docs all read them from here. Knows nothing of data,
models or training.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar, cast

from pati.errors import PatiError, os_reason
from pati.locale.formats import with_point
from pati.locale.messages import N_, Message, either
from pati.registry import Registry

FORMAT = 1

Value = str | float | bool | tuple[float, ...] | None
"""The value of a recipe field."""
RecipeDocument = dict[str, str | float | bool | list[float] | None]
"""A recipe as JSON."""
T = TypeVar("T")

presets: Registry[typing.Callable[[], Recipe]] = Registry(N_("preset"))


def _choice(
    default: T,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    among: tuple[str, ...] = (),
    search: tuple[int | float | str | bool, ...] = (),
    log: bool = False,
    relative: bool = False,
    where: tuple[str, tuple[str, ...]] | None = None,
) -> T:
    """A dataclass field with its default, help and constraints.

    `search`: the search space of `pati tune`; two numbers are a range, anything else is a list of choices. `log`:
    sample the range log-uniformly. `relative`: the range is in multiples of the recipe's own value, for fields whose
    best value depends on other fields. `where`: another field, and the values of it for which this field has an effect.
    """
    metadata = {"help": help, "low": low, "high": high, "among": among, "where": where}
    return field(default=default, metadata=metadata | {"search": search, "log": log, "relative": relative})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All choices of a run. `None` means: chosen from the data, and then recorded."""

    model: str | None = _choice(
        None, "architecture, see `pati list models`; default: the pati network that suits the time"
    )
    width: float | None = _choice(
        None,
        "multiplier on the model's channel counts; default: suits the time",
        low=0.125,
        high=8,
        search=(0.5, 2),
        log=True,
        relative=True,
    )
    dropout: float = _choice(0.0, "dropout probability before the last layer", low=0, high=0.95, search=(0, 0.6))
    drop_path: float = _choice(
        0.0,
        "stochastic depth: probability of dropping the deepest residual branch in training, "
        "rising linearly up to it; no effect in networks without residual branches",
        low=0,
        high=0.9,
        search=(0, 0.3),
    )
    size: int | None = _choice(None, "side of the square input image, in pixels", low=8, high=1024)
    resize: str = _choice("stretch", "how a photo is resized to a square", among=("stretch", "crop", "pad"))

    epochs: int | None = _choice(None, "passes over the training photos; not with budget", low=1, high=100_000)
    budget: float | None = _choice(None, "seconds for the whole command; not with epochs", low=5, high=10_000_000)
    batch: int | None = _choice(None, "batch size", low=2, high=8192, search=(16, 32, 64, 128, 256))
    precision: str | None = _choice(
        None,
        "number format of the convolutions in training; default: the faster one on this machine",
        among=("float32", "bfloat16"),
    )
    growth: tuple[float, ...] | None = _choice(
        None,
        "progressive resizing: training sizes as fractions of size, for equal parts of the run; "
        "default: suits the time",
        low=0.1,
        high=1,
    )

    optimizer: str = _choice(
        "muon",
        "muon: orthogonalised momentum for convolution kernels, Nesterov SGD for the rest",
        among=("muon", "sgd", "adamw"),
    )
    learning_rate: float | None = _choice(
        None,
        "peak learning rate, with muon that of the kernels; default: suits the optimizer",
        low=1e-6,
        high=10,
        search=(0.15, 3),
        log=True,
        relative=True,
    )
    vector_learning_rate: float = _choice(
        0.02, "with muon, peak learning rate of norms, biases and the last layer", low=1e-6, high=10
    )
    momentum: float | None = _choice(
        None,
        "momentum, or the first beta of adamw; default: suits the optimizer",
        low=0,
        high=0.999,
        search=(0.4, 0.98),
    )
    weight_decay: float = _choice(
        0.0,
        "decoupled weight decay; not applied to norms, biases and muon's kernels, whose norm is fixed",
        low=0,
        high=1,
        search=(1e-5, 0.1),
        log=True,
    )
    l2: float = _choice(
        0.0,
        "L2 penalty, added to the gradient; not applied to norms, biases and muon's kernels",
        low=0,
        high=1,
        search=(1e-5, 0.01),
        log=True,
    )
    schedule: str = _choice(
        "one-cycle",
        "learning rate schedule; one-cycle: linear warmup, then linear decay to 0; cosine: "
        "warmup, then cosine decay; linear: linear decay without warmup",
        among=("one-cycle", "cosine", "linear"),
        search=("one-cycle", "cosine", "linear"),
    )
    warmup: float = _choice(
        0.2,
        "fraction of the run for learning rate warmup; not with schedule=linear",
        low=0,
        high=0.9,
        search=(0.02, 0.4),
    )
    clip: float = _choice(0.0, "maximum gradient norm; 0: no clipping", low=0, high=1_000_000)
    label_smoothing: float = _choice(0.05, "label smoothing", low=0, high=0.9, search=(0, 0.2))
    averaging: float = _choice(
        0.0,
        "horizon of the exponential moving average of the weights, as a fraction of the run; 0: none",
        low=0,
        high=0.5,
        search=(0.0, 0.03, 0.1, 0.2),
    )
    sync_batch_norm: bool = _choice(
        True,
        "in training by several processes, batch norm with the statistics of the whole batch instead of each process's "
        "part",
    )
    patience: int = _choice(
        0,
        "early stopping: epochs without a better validation loss (macro F1 if balanced); 0: never",
        low=0,
        high=100_000,
    )

    balance: str = _choice(
        "none",
        "class balancing; sampling: oversampling; weights: class weights in the loss; effective: "
        "weights by the effective number of samples; focal: focal loss; logits: logit "
        "adjustment; augment: oversampling with stronger augmentation; auto: suits the ratio",
        among=("none", "auto", "sampling", "weights", "effective", "focal", "logits", "augment"),
        search=("none", "sampling", "weights", "effective", "focal", "logits", "augment"),
    )
    balance_power: float = _choice(
        0.5,
        "strength of sampling, weights, logits and augment: 0: none, 1: full balance, above 1: "
        "rare classes count more than common ones",
        low=0,
        high=2,
        search=(0, 1.5),
        where=("balance", ("sampling", "weights", "logits", "augment")),
    )
    focal_gamma: float = _choice(
        2.0,
        "gamma of the focal loss",
        low=0,
        high=10,
        search=(0.5, 5),
        where=("balance", ("focal",)),
    )
    effective_beta: float = _choice(
        0.999,
        "beta of the effective number of samples",
        low=0,
        high=0.999999,
    )

    flip: float | None = _choice(None, "probability of a horizontal flip", low=0, high=1)
    mirror: bool | None = _choice(
        None,
        "test-time augmentation: average the predictions for a photo and its mirror image; better, and half as fast",
    )
    center_crop: float | None = _choice(
        None,
        "test-time augmentation: the second image, mirrored or not, is the enlarged centre, this fraction of each "
        "side; 1: the whole",
        low=0.5,
        high=1,
    )
    rotate: float | None = _choice(None, "maximum rotation either way, in degrees", low=0, high=180, search=(0, 20))
    crop: float | None = _choice(None, "minimum area of a random resized crop", low=0.05, high=1, search=(0.3, 1))
    shear: float = _choice(0.0, "maximum shear along each axis, in degrees", low=0, high=60, search=(0, 20))
    translate: float = _choice(
        0.0, "maximum translation along each side, as a fraction of it", low=0, high=0.5, search=(0, 0.2)
    )
    zoom: float = _choice(0.0, "maximum relative zoom in or out", low=0, high=1, search=(0, 0.4))
    brightness: float = _choice(0.15, "maximum relative change of brightness", low=0, high=0.95, search=(0, 0.4))
    contrast: float = _choice(0.0, "maximum relative change of contrast", low=0, high=0.95, search=(0, 0.4))
    saturation: float = _choice(0.0, "maximum relative change of saturation", low=0, high=0.95, search=(0, 0.4))
    hue: float = _choice(0.0, "maximum hue shift, as a fraction of the colour circle", low=0, high=0.5, search=(0, 0.1))
    policy: str | None = _choice(
        None,
        "augmentation policy; trivial: one random operation of random magnitude per photo; "
        "randaugment: several of one magnitude; default: trivial in trainings of many epochs",
        among=("none", "trivial", "randaugment"),
    )
    policy_operations: int = _choice(2, "number of operations per photo in randaugment", low=1, high=8)
    policy_strength: float = _choice(0.3, "magnitude of the operations in randaugment", low=0, high=1)
    erase: float = _choice(
        0.0, "random erasing: probability of covering a rectangle with the mean colour", low=0, high=1, search=(0, 0.5)
    )
    mixup: float = _choice(
        0.0,
        "alpha of mixup, which blends photos of a batch (usually 1); 0: none",
        low=0,
        high=10,
        search=(0, 1),
    )
    cutmix: float = _choice(
        0.0, "alpha of cutmix, which pastes patches of other photos (usually 1); 0: none", low=0, high=10, search=(0, 1)
    )

    group_by: str | None = _choice(None, "CSV column of groups: photos with the same value stay in one split")
    near_duplicates: str | None = _choice(
        None,
        "near duplicates; group: keep together in one split; report: only report; off: do not look for them; default: "
        "group, except many photos of one scene that would tie up classes",
        among=("group", "report", "off"),
    )
    validation: float = _choice(0.1, "fraction of the data for validation", low=0.01, high=0.45)
    test: float = _choice(0.1, "fraction of the data for testing", low=0.01, high=0.45)
    folds: int | None = _choice(
        None,
        "cross-validation folds that give the score in place of a test split, 2 or more; 0: a test split; default: "
        "folds where the test split would be small",
        low=0,
        high=20,
    )
    split_seed: int = _choice(0, "seed of the split, independent of seed", low=0, high=2**31)
    seed: int = _choice(0, "seed of weights, sampling order and augmentation", low=0, high=2**31)

    def __post_init__(self) -> None:
        wanted = _types(type(self).__name__)
        for item in dataclasses.fields(self):
            value = _convert(item, wanted[item.name], getattr(self, item.name))
            object.__setattr__(self, item.name, value)
        if self.folds == 1:
            raise PatiError(N_("folds: expected 0, or from 2 to 20, got 1"), N_("0: a test split in place of folds"))
        if self.epochs is not None and self.budget is not None:
            raise PatiError(
                N_(
                    "both epochs ({epochs}) and a budget ({budget:g} s) are given",
                    epochs=self.epochs,
                    budget=self.budget,
                ),
                N_("give one of the two"),
            )

    def to_json(self) -> RecipeDocument:
        """Plain values, `format` first; `from_json` restores an equal recipe."""
        values = vars(self)
        return {"format": FORMAT} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The recipe in a JSON document. Raises `PatiError` for anything else."""
        if not isinstance(document, dict):
            raise PatiError(N_("expected a recipe as a JSON object, got a {type}", type=type(document).__name__))
        values = dict(document)
        version = values.pop("format", FORMAT)
        if version != FORMAT:
            raise PatiError(
                N_("this recipe has format {version}, this pati reads {format}", version=repr(version), format=FORMAT),
                N_("update pati, or write the recipe again"),
            )
        for name in values:
            field_named(name)
        required = {item.name for item in dataclasses.fields(cls) if item.default is dataclasses.MISSING}
        if missing := sorted(required - values.keys()):
            raise PatiError(
                N_("the recipe has no {missing}", missing=missing),
                N_("the run was made by an older version: train it again"),
            )
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the recipe from a JSON file. Raises `PatiError`."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise PatiError(N_("can't read the recipe {path}: {reason}", path=path, reason=os_reason(error))) from error
        except ValueError as error:
            raise PatiError(
                N_("{path} is not valid JSON: {error}", path=path, error=error),
                N_("expected a recipe such as a run's recipe.json"),
            ) from error

    def changed(self, values: Mapping[str, Value]) -> Self:
        """A copy of this recipe with the given field values."""
        return type(self)(**vars(self) | dict(values))

    def updated(self, assignments: list[str]) -> Self:
        """A copy of this recipe with `field=value` assignments applied, as given to `--set`."""
        changes: dict[str, Value] = {}
        for text in assignments:
            name, sign, value = text.partition("=")
            if not sign:
                raise PatiError(
                    N_("--set: expected field=value, got {text!r}", text=text), N_("for example: --set dropout=0.3")
                )
            item = field_named(name.strip())
            point = with_point(value)
            if point is not None and not isinstance(item.default, tuple) and "tuple" not in str(item.type):
                raise PatiError(
                    N_("--set {text}: decimals need a point", text=text),
                    N_("write --set {name}={number}", name=item.name, number=point),
                )
            changes[item.name] = value.strip() if value.strip() in item.metadata["among"] else _parse(value.strip())
        return self.changed(changes)


def _known(name: str) -> Mapping[str, object]:
    """Metadata of the recipe field `name`."""
    return Recipe.__dataclass_fields__[name].metadata


@dataclass(frozen=True, kw_only=True)
class SettledRecipe(Recipe):
    """A recipe in which every open field has been chosen from the data and the machine; all training code takes this.

    Only `epochs` or `budget` may be None: the other one determines the length of the run.
    """

    model: str = field(metadata=_known("model"))
    width: float = field(metadata=_known("width"))
    size: int = field(metadata=_known("size"))
    batch: int = field(metadata=_known("batch"))
    precision: str = field(metadata=_known("precision"))
    growth: tuple[float, ...] = field(metadata=_known("growth"))
    learning_rate: float = field(metadata=_known("learning_rate"))
    momentum: float = field(metadata=_known("momentum"))
    flip: float = field(metadata=_known("flip"))
    mirror: bool = field(metadata=_known("mirror"))
    center_crop: float = field(default=1.0, metadata=_known("center_crop"))  # recipes of older runs have none
    rotate: float = field(metadata=_known("rotate"))
    crop: float = field(metadata=_known("crop"))
    policy: str = field(metadata=_known("policy"))

    @property
    def views(self) -> int:
        """How many images a prediction is averaged over."""
        return 2 if self.mirror or self.center_crop < 1 else 1


def field_named(name: str) -> dataclasses.Field[object]:
    """The recipe field `name`. For an unknown name, raises `PatiError` with the closest matches."""
    known = {item.name: item for item in dataclasses.fields(Recipe)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise PatiError(
        N_("a recipe has no field {name!r}", name=name),
        N_("did you mean {names}?", names=either(near)) if near else N_("fields: {names}", names=list(known)),
    )


def does_anything(name: str, recipe: Recipe) -> bool:
    """Whether changing the field `name` would change the run, given the other fields of `recipe`."""
    where = field_named(name).metadata["where"]
    return where is None or getattr(recipe, where[0]) in where[1]


def _parse(text: str) -> Value:
    if text.lower() in ("none", "null", "auto", ""):
        return None
    for read in (json.loads, float):  # .5 and 5. are numbers to Python, but not to JSON
        with contextlib.suppress(ValueError):
            return cast(Value, read(text))
    return tuple(cast(float, _parse(part)) for part in text.split(",")) if "," in text else text


@functools.cache  # resolving the hints takes a hundred times longer than the rest of creating a recipe
def _types(kind: str) -> Mapping[str, object]:
    return typing.get_type_hints(globals()[kind])


def _convert(item: dataclasses.Field[object], wanted: object, value: object) -> Value:
    """`value` converted to the type `wanted` and checked against the field's range. Raises `PatiError`."""
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        values = value if isinstance(value, list | tuple) else (value,)
        if not values:
            raise PatiError(N_("{name}: expected at least one number, got none", name=item.name))
        return tuple(_number(item, part, float) for part in values)
    if kind is str:
        among = item.metadata["among"]
        if not isinstance(value, str) or (among and value not in among):
            expected = either(among) if among else N_("text")
            raise PatiError(
                N_("{name}: expected {expected}, got {value}", name=item.name, expected=expected, value=repr(value)),
                Message(item.metadata["help"]),
            )
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise PatiError(
                N_("{name}: expected true or false, got {value}", name=item.name, value=repr(value)),
                Message(item.metadata["help"]),
            )
        return value
    return _number(item, value, kind)


def _number(item: dataclasses.Field[object], value: object, kind: type) -> float:
    low, high = item.metadata["low"], item.metadata["high"]
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        whole = float(value).is_integer()
        if (whole or kind is not int) and low <= value <= high:
            return int(value) if kind is int else float(value)
    what = N_("an integer") if kind is int else N_("a number")
    raise PatiError(
        N_(
            "{name}: expected {what} from {low} to {high}, got {value}",
            name=item.name,
            what=what,
            low=low,
            high=high,
            value=repr(value),
        ),
        Message(item.metadata["help"]),
    )


@presets.register("house")
def house() -> Recipe:
    """The default: pati's network and schedule, tuned for accuracy per minute on a small machine.

    Cats-vs-dogs in 5 minutes on 2 cores with bfloat16 matrix units: 95.3 % test accuracy on a slow day, 96.7 % on a
    fast one (three seeds each).
    """
    return Recipe()


@presets.register("bootcamp")
def bootcamp() -> Recipe:
    """The bootcamp notebook's network and recipe: conv blocks, dropout, flip, rotation, colour jitter, Adam.

    Cats-vs-dogs with its default budget of 5 minutes on 2 cores with bfloat16 matrix units: five epochs, 84.9 % test
    accuracy (one seed).
    """
    return Recipe(
        model="scratch",
        size=128,
        growth=(1.0,),
        dropout=0.5,
        optimizer="adamw",
        learning_rate=1e-3,
        label_smoothing=0.0,
        flip=0.5,
        rotate=15,
        crop=1.0,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
        hue=0.05,
    )
