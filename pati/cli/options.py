"""Options that several verbs share, and what they mean."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from pati.errors import PatiError
from pati.locale.formats import with_point
from pati.locale.messages import N_, Message

if TYPE_CHECKING:
    from pati.data.sources.source import Columns
    from pati.recipe import Recipe, Value
    from pati.terminal.progress import Watch

    Place = str
else:
    # A path, a pattern or the name of a dataset: kept as it was typed, whereas shells complete it as a path.
    Place = Annotated[str | Path, Parameter(metavar="DATA")]

Json = Annotated[bool, Parameter(name="--json", negative="", help=N_("Print one JSON document.").text)]
NearDuplicates = Literal["group", "report", "off"]
# Names to complete; others are refused where the recipe or the registry is known, with what is meant.
Balance = Annotated[
    Literal["none", "auto", "sampling", "weights", "effective", "focal", "logits", "augment"] | str,
    Parameter(show_choices=False, metavar="STR"),
]
Assignments = Annotated[list[str] | None, Parameter(name="--set", negative="", consume_multiple=True)]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The CSV that names the photos or lies with them, its columns, and the folders that are the classes.

    Parameters
    ----------
    table
        The CSV with the classes, if there are several, or if it lies elsewhere: a path, or one within DATA.
    path_column
        CSV column with the paths of the photos, if it is not found by its name; of Parquet, the column with the photos.
    label_column
        Column with the classes, or field of the .json of samples in tars.
    split_column
        CSV column with train, validation or test.
    classes_level
        Which folders are the classes, where that is not clear: 1 for the top folders, 2 for the folders in them, and so
        on.
    class_case
        For classes whose names differ only in case, such as Cat and cat: join makes them one, keep keeps them apart.
    """

    table: Path | None = None
    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    classes_level: int | None = None
    class_case: Literal["join", "keep"] | None = None

    def columns(self) -> Columns:
        """As `find_source` takes them."""
        from pati.data.sources.source import Columns

        table = self.table and self.table.expanduser()
        table = table.absolute() if table and table.exists() else table
        return Columns(
            self.path_column,
            self.label_column,
            self.split_column,
            classes_level=self.classes_level,
            class_case=self.class_case,
            table=None if table is None else str(table),
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """A recipe to start from, and changes to it.

    Parameters
    ----------
    model
        A name from `pati list models`.
    size
        Side of the square input image, in pixels.
    seed
        Seed of weights, sampling order and augmentation. The split has its own: --set split_seed=N.
    group_by
        CSV column of groups: photos with the same value stay in one split.
    near_duplicates
        What to do with near duplicates: keep each group in one split, only report them, or do not look for them.
        Default: group, except many photos of one scene, as from a fixed camera, that would tie up most of a class or
        several classes.
    balance
        Class balancing: auto, or a method of the recipe field `balance`.
    recipe
        The recipe to start from: a JSON file such as the recipe.json of a run, or a name from `pati list presets`.
    set_
        Recipe fields to change, as field=value, any number of them.
    """

    model: str | None = None
    size: int | None = None
    seed: int | None = None
    group_by: str | None = None
    near_duplicates: NearDuplicates | None = None
    balance: Balance | None = None
    recipe: str | None = None
    set_: Assignments = None

    def chosen(self, *, epochs: int | None = None, budget: float | None = None) -> Recipe:
        """The recipe, paced by `epochs` or by a `budget` in seconds in place of its own pace where one is given."""
        fields = ("model", "size", "seed", "group_by", "near_duplicates", "balance")
        named = {name: getattr(self, name) for name in fields}
        changes: dict[str, Value] = {name: value for name, value in named.items() if value is not None}
        if epochs is not None or budget is not None:
            changes |= {"epochs": epochs, "budget": budget}
        return recipe_named(self.recipe).changed(changes).updated(self.set_ or [])


def recipe_named(name: str | None) -> Recipe:
    """A preset, or the recipe in a JSON file; the usual one for None."""
    from pati.recipe import Recipe, presets

    if name is None:
        return Recipe()
    return Recipe.read(Path(name)) if Path(name).is_file() or name.endswith(".json") else presets[name]()


LEAST_SECONDS = 15  # fewer are taken for minutes whose unit was forgotten


def seconds(text: str | None, option: str = "--budget") -> float | None:
    """A time such as 90s, 5m or 1h in seconds; None for None."""
    if text is None:
        return None
    units = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in units:
        raise PatiError(
            N_("{option} is {text!r}, expected a time such as 90s, 5m or 1h", option=option, text=text),
            None if (point := with_point(text)) is None else N_("decimals need a point: {number}", number=point),
        )
    value = float(match[1]) * units[match[2]]
    if value < LEAST_SECONDS and not match[2]:
        raise PatiError(
            N_("{option} is {text!r}: without a unit, these are seconds", option=option, text=text),
            N_("for minutes: {option} {number}m", option=option, number=match[1]),
        )
    return value


def said_if_included(model: Path | None) -> Path | None:
    """The model that was named; None for the included one, and saying so."""
    from pati import included
    from pati.terminal.console import say

    if model is None:
        say(N_("model: {name}, included in pati", name=included.NAME))
    return model


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """What shows progress on stderr."""
    from pati.terminal.progress import Watch

    with contextlib.closing(Watch()) as watch:
        yield watch


def print_json(document: object) -> None:
    """A result on stdout for programs; its messages in English."""
    from pati.system.files import finite

    print(json.dumps(finite(document), indent=2, allow_nan=False, default=_english))


def _english(value: object) -> str:
    if isinstance(value, Message):
        return value.shown("en")
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
