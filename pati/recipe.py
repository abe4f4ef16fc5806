"""`Recipe`: every choice that makes a run, in one frozen dataclass.

A field's name, type, default, help and range stand here and nowhere else: the command
line's `--set field=value`, the JSON file, the search and the docs all read them from here.
Knows nothing of data, models or training.
"""

from __future__ import annotations

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

from pati.errors import PatiError
from pati.registry import Registry

FORMAT = 1

Value = str | float | bool | tuple[float, ...] | None
"""Of a field."""
RecipeDocument = dict[str, str | float | bool | list[float] | None]
"""A recipe as JSON."""
T = TypeVar("T")

presets: Registry[typing.Callable[[], Recipe]] = Registry("preset")


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
    """A field with what is known of it.

    `search` is where `pati tune` may look for a better value: two numbers are a range, anything else is a choice of
    values. `log`: each tenfold of the range is as likely as another. `relative`: the range is in multiples of the
    recipe's own value, for fields whose right size depends on other fields. `where`: another field and those of its
    values with which this one does anything.
    """
    metadata = {"help": help, "low": low, "high": high, "among": among, "where": where}
    return field(default=default, metadata=metadata | {"search": search, "log": log, "relative": relative})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that is chosen for a run; `None` means: chosen from the data, and then written down."""

    model: str | None = _choice(
        None, "architecture, see `pati list models`; the house net that suits the time if left out"
    )
    width: float | None = _choice(
        None,
        "multiplier on the model's channel counts; suits the time there is if left out",
        low=0.125,
        high=8,
        search=(0.5, 2),
        log=True,
        relative=True,
    )
    dropout: float = _choice(0.0, "share of features dropped before the last layer", low=0, high=0.95, search=(0, 0.6))
    drop_path: float = _choice(
        0.0,
        "chance that the deepest residual branch is left out in training, less in those before it; nothing in nets "
        "without such branches",
        low=0,
        high=0.9,
        search=(0, 0.3),
    )
    size: int | None = _choice(None, "side of the square that the net sees, in pixels", low=8, high=1024)
    resize: str = _choice("stretch", "how a photo becomes a square", among=("stretch", "crop", "pad"))

    epochs: int | None = _choice(None, "passes over the training photos; excludes budget", low=1, high=100_000)
    budget: float | None = _choice(None, "seconds for the whole command; excludes epochs", low=5, high=1e7)
    batch: int | None = _choice(None, "photos in one step", low=2, high=8192, search=(16, 32, 64, 128, 256))
    precision: str | None = _choice(
        None,
        "number format of training's convolutions: the faster one on the machine at hand if left out",
        among=("float32", "bfloat16"),
    )
    growth: tuple[float, ...] | None = _choice(
        None,
        "training sizes as shares of size, each given an equal part; suits the time there is if left out",
        low=0.1,
        high=1,
    )

    optimizer: str = _choice(
        "muon",
        "muon: orthogonalised momentum for kernels, Nesterov SGD for the rest",
        among=("muon", "sgd", "adamw"),
    )
    learning_rate: float | None = _choice(
        None,
        "peak step of the kernels (muon) or of everything; suits the optimizer if left out",
        low=1e-6,
        high=10,
        search=(0.15, 3),
        log=True,
        relative=True,
    )
    vector_learning_rate: float = _choice(
        0.02, "peak step of norms, biases and the last layer when the optimizer is muon", low=1e-6, high=10
    )
    momentum: float | None = _choice(
        None, "momentum; first beta of adamw; suits the optimizer if left out", low=0, high=0.999, search=(0.4, 0.98)
    )
    weight_decay: float = _choice(
        0.0,
        "decoupled: a step shrinks weights by this times the learning rate; never norms and biases, "
        "nor muon's kernels, whose norm is fixed",
        low=0,
        high=1,
        search=(1e-5, 0.1),
        log=True,
    )
    l2: float = _choice(
        0.0,
        "coupled penalty: this times the weight joins its gradient; never for norms and biases, nor muon's kernels",
        low=0,
        high=1,
        search=(1e-5, 0.01),
        log=True,
    )
    schedule: str = _choice(
        "one-cycle",
        "one-cycle: the learning rate rises over warmup, then falls evenly to 0; cosine: falls as half a cosine; "
        "linear: falls evenly from the start",
        among=("one-cycle", "cosine", "linear"),
        search=("one-cycle", "cosine", "linear"),
    )
    warmup: float = _choice(
        0.2,
        "share of the run in which the learning rate rises; not with schedule=linear",
        low=0,
        high=0.9,
        search=(0.02, 0.4),
    )
    clip: float = _choice(0.0, "limit on the gradient's norm; 0 is none", low=0, high=1e6)
    label_smoothing: float = _choice(
        0.05, "probability spread over the other classes", low=0, high=0.9, search=(0, 0.2)
    )
    averaging: float = _choice(
        0.0,
        "horizon of the weights' moving average as a share of the run; 0 is none",
        low=0,
        high=0.5,
        search=(0.0, 0.03, 0.1, 0.2),
    )
    patience: int = _choice(
        0,
        "epochs without a lower validation loss, or a higher macro F1 if balanced, after which the run ends early; "
        "0 is never",
        low=0,
        high=100_000,
    )

    balance: str = _choice(
        "none",
        "how rare classes are made to count; sampling: drawn more often; weights: weigh more in the loss; effective: "
        "so by the effective number of photos; focal: what is answered surely counts less; logits: the answers expect "
        "them less while training; augment: drawn more often and changed more; auto: what suits the ratio",
        among=("none", "auto", "sampling", "weights", "effective", "focal", "logits", "augment"),
        search=("none", "sampling", "weights", "effective", "focal", "logits", "augment"),
    )
    balance_power: float = _choice(
        0.5,
        "how far sampling, weights, logits and augment even the classes out: 0 not at all, 1 fully, more beyond",
        low=0,
        high=2,
        search=(0, 1.5),
        where=("balance", ("sampling", "weights", "logits", "augment")),
    )
    focal_gamma: float = _choice(
        2.0,
        "how little sure answers count when balance is focal",
        low=0,
        high=10,
        search=(0.5, 5),
        where=("balance", ("focal",)),
    )
    effective_beta: float = _choice(
        0.999,
        "how little another photo of a class adds when balance is effective: nearer 1, the more",
        low=0,
        high=0.999999,
    )

    flip: float | None = _choice(None, "chance of a horizontal flip", low=0, high=1)
    mirror: bool | None = _choice(
        None, "answer by the average over a photo and its mirror image: better, and half as fast; true or false"
    )
    rotate: float | None = _choice(None, "largest turn either way, in degrees", low=0, high=180, search=(0, 20))
    crop: float | None = _choice(None, "smallest area kept by a random resized crop", low=0.05, high=1, search=(0.3, 1))
    shear: float = _choice(0.0, "largest slant sideways and upwards, in degrees", low=0, high=60, search=(0, 20))
    translate: float = _choice(0.0, "largest move along each side, as a share of it", low=0, high=0.5, search=(0, 0.2))
    zoom: float = _choice(0.0, "largest relative enlargement or shrinking", low=0, high=1, search=(0, 0.4))
    brightness: float = _choice(0.15, "largest relative change of brightness", low=0, high=0.95, search=(0, 0.4))
    contrast: float = _choice(0.0, "largest relative change of contrast", low=0, high=0.95, search=(0, 0.4))
    saturation: float = _choice(0.0, "largest relative change of saturation", low=0, high=0.95, search=(0, 0.4))
    hue: float = _choice(
        0.0, "largest turn of the hue, as a share of the colour circle", low=0, high=0.5, search=(0, 0.1)
    )
    policy: str = _choice(
        "none",
        "operations drawn for each photo: trivial: one of any strength; randaugment: several of one strength",
        among=("none", "trivial", "randaugment"),
    )
    policy_operations: int = _choice(2, "operations that randaugment draws for a photo", low=1, high=8)
    policy_strength: float = _choice(0.3, "strength of randaugment's operations", low=0, high=1)
    erase: float = _choice(0.0, "chance of covering a rectangle with the mean colour", low=0, high=1, search=(0, 0.5))
    mixup: float = _choice(
        0.0,
        "alpha of mixup, photos blended with others of the batch (1 is usual); 0 is none",
        low=0,
        high=10,
        search=(0, 1),
    )
    cutmix: float = _choice(
        0.0, "alpha of cutmix, pieces of other photos pasted in (1 is usual); 0 is none", low=0, high=10, search=(0, 1)
    )

    group_by: str | None = _choice(None, "CSV column whose equal values must stay in one split")
    validation: float = _choice(0.1, "share of the data for validation", low=0.01, high=0.45)
    test: float = _choice(0.1, "share of the data for the test", low=0.01, high=0.45)
    split_seed: int = _choice(0, "seed of the split; apart from seed", low=0, high=2**31)
    seed: int = _choice(0, "seed of weights, order and augmentation", low=0, high=2**31)

    def __post_init__(self) -> None:
        wanted = _types(type(self).__name__)
        for item in dataclasses.fields(self):
            value = _convert(item, wanted[item.name], getattr(self, item.name))
            object.__setattr__(self, item.name, value)
        if self.epochs is not None and self.budget is not None:
            raise PatiError(
                f"a run has epochs ({self.epochs}) or a budget ({self.budget:g} s), not both",
                "leave one of the two out",
            )

    def to_json(self) -> RecipeDocument:
        """Plain values, `format` first; `from_json` gives back an equal recipe."""
        values = vars(self)
        return {"format": FORMAT} | {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, document: object) -> Self:
        """The recipe of a JSON document; raises `PatiError` for anything else."""
        if not isinstance(document, dict):
            raise PatiError(f"a recipe is a JSON object, not a {type(document).__name__}")
        values = dict(document)
        version = values.pop("format", FORMAT)
        if version != FORMAT:
            raise PatiError(
                f"this recipe has format {version!r}, this pati reads {FORMAT}",
                "update pati, or write the recipe anew",
            )
        for name in values:
            field_named(name)
        required = {item.name for item in dataclasses.fields(cls) if item.default is dataclasses.MISSING}
        if missing := sorted(required - values.keys()):
            raise PatiError(f"the recipe lacks {', '.join(missing)}", "the run is of an older pati: train it again")
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The recipe in a JSON file."""
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise PatiError(f"can't read the recipe {path}: {error.strerror}") from error
        except ValueError as error:
            raise PatiError(f"{path} is not JSON: {error}", "a recipe is what a run's recipe.json holds") from error

    def changed(self, values: Mapping[str, Value]) -> Self:
        """This recipe with other values in some fields, by their names."""
        return type(self)(**vars(self) | dict(values))

    def updated(self, assignments: list[str]) -> Self:
        """This recipe with `field=value` texts applied, as given to `--set`."""
        changes: dict[str, Value] = {}
        for text in assignments:
            name, sign, value = text.partition("=")
            if not sign:
                raise PatiError(f"--set wants field=value, got {text!r}", "for example --set dropout=0.3")
            item = field_named(name.strip())
            changes[item.name] = value.strip() if value.strip() in item.metadata["among"] else _parse(value.strip())
        return self.changed(changes)


def _known(name: str) -> Mapping[str, object]:
    """What is known of the field of that name."""
    return Recipe.__dataclass_fields__[name].metadata


@dataclass(frozen=True, kw_only=True)
class SettledRecipe(Recipe):
    """A recipe with everything that was left open chosen from data and machine: what nets are trained by.

    `epochs` or `budget` is None, as one of them paces the run.
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
    rotate: float = field(metadata=_known("rotate"))
    crop: float = field(metadata=_known("crop"))


def field_named(name: str) -> dataclasses.Field[object]:
    """The recipe's field `name`; an unknown name answers with the nearest ones."""
    known = {item.name: item for item in dataclasses.fields(Recipe)}
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise PatiError(
        f"a recipe has no field {name!r}",
        f"did you mean {' or '.join(near)}?" if near else f"fields: {', '.join(known)}",
    )


def does_anything(name: str, recipe: Recipe) -> bool:
    """Whether another value of the field `name` would make another run, by what the recipe says in other fields."""
    where = field_named(name).metadata["where"]
    return where is None or getattr(recipe, where[0]) in where[1]


def _parse(text: str) -> Value:
    if text.lower() in ("none", "null", "auto", ""):
        return None
    try:
        value: Value = json.loads(text)
    except ValueError:
        return tuple(cast(float, _parse(part)) for part in text.split(",")) if "," in text else text
    return value


@functools.cache  # working them out takes a hundred times longer than all else about a recipe
def _types(kind: str) -> Mapping[str, object]:
    return typing.get_type_hints(globals()[kind])


def _convert(item: dataclasses.Field[object], wanted: object, value: object) -> Value:
    """`value` as the type `wanted` and inside the field's range, or a `PatiError` that says what was expected."""
    options = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    if value is None and type(None) in options:
        return None
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is tuple:
        values = value if isinstance(value, list | tuple) else (value,)
        if not values:
            raise PatiError(f"{item.name} wants at least one number, got none")
        return tuple(_number(item, part, float) for part in values)
    if kind is str:
        among = item.metadata["among"]
        if not isinstance(value, str) or (among and value not in among):
            expected = " or ".join(among) if among else "a text"
            raise PatiError(f"{item.name} wants {expected}, got {value!r}", item.metadata["help"])
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise PatiError(f"{item.name} wants true or false, got {value!r}", item.metadata["help"])
        return value
    return _number(item, value, kind)


def _number(item: dataclasses.Field[object], value: object, kind: type) -> float:
    low, high = item.metadata["low"], item.metadata["high"]
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        whole = float(value).is_integer()
        if (whole or kind is not int) and low <= value <= high:
            return int(value) if kind is int else float(value)
    what = "a whole number" if kind is int else "a number"
    raise PatiError(f"{item.name} wants {what} from {low:g} to {high:g}, got {value!r}", item.metadata["help"])


@presets.register("house")
def house() -> Recipe:
    """The house net and the schedule that wins accuracy per minute on a small machine; the default.

    Cats-vs-dogs in 5 minutes on 2 cores with bfloat16 matrix units: 95.3 % of the test photos on a slow day, 96.7 % on
    a quick one (three seeds each).
    """
    return Recipe()


@presets.register("bootcamp")
def bootcamp() -> Recipe:
    """The bootcamp notebook's net and recipe: conv blocks, dropout, flip, rotation, colour jitter, Adam.

    Cats-vs-dogs with its default budget of 5 minutes on 2 cores with bfloat16 matrix units: five epochs, 84.9 % of the
    test photos (one seed).
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
