"""What a search by `pati tune` keeps in its folder, for any number of processes: `tune.json`, `study.db`, `best.json`.

The recipe's own values are the first trial, so what is found is never worse on validation. Every other one changes a
few fields of the best trial so far, for a good recipe lies far from the middle of most ranges, and a trial that changes
everything is worse in something; once enough have been seen, some draw all fields nevertheless. Numbers are drawn by
TPE (Bergstra et al., 2011, https://papers.nips.cc/paper/4443), the first few evenly. A trial whose validation curve
lies below those of three quarters of the finished ones halfway or later is given up (after the median rule of Golovin
et al., 2017, https://doi.org/10.1145/3097983.3098043, which spares fewer).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, TypeVar, cast

from pati.data.sources.source import Columns
from pati.errors import PatiError
from pati.plugins import PluginState
from pati.recipe import Recipe, SettledRecipe, Value, does_anything
from pati.system import files, locks

try:
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        distribution_to_json,
        json_to_distribution,
    )
    from optuna.trial import FrozenTrial, TrialState
    from sqlalchemy.exc import SQLAlchemyError
except ModuleNotFoundError as error:
    raise PatiError(
        f"pati tune needs {error.name}, which is not installed", "install it: pip install optuna"
    ) from error
T = TypeVar("T")

FORMAT = 1
USUAL = ("batch", "learning_rate", "dropout", "label_smoothing", "crop", "rotate", "brightness", "mixup")
BALANCING = ("balance", "balance_power")  # as well, where the classes are uneven
TURNING = ("rotate",)  # only where a turned photo means the same
RANDOM_TRIALS = 10  # before TPE has seen enough
CHANGED = (1, 1, 2, 3)  # fields that a trial changes: one of these numbers, drawn evenly
ALL_CHANGED = 0.2  # chance that a later trial draws all of them
UNPRUNED_TRIALS = 4  # that must have finished before one can be given up,
UNPRUNED_TENTHS = 5  # and tenths of a trial that it is let run: before, while steps are large, scores tell little
KEPT_PERCENT = 75
FEWEST_FOR_IMPORTANCE = 5
MOST_KILLS = 3  # a trial that takes its process down again and again is left out

STORAGE_ERRORS = (SQLAlchemyError, optuna.exceptions.StorageInternalError)
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "stopped",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_UNTRAINED = ("diverged", "failed")  # facts of trials that gave no score, with the reason

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TrialFacts(TypedDict, total=False):
    """What is kept of a trial beside its score; `diverged` and `failed`: why it gave none."""

    log_loss: float
    seconds: float
    diverged: str
    failed: str


@dataclass(frozen=True)
class Trial:
    """One training of a search. `values`: its recipe's in the searched fields, `idle`: those without effect.

    `value`: the score, and `log_loss`, on the validation photos; None where it was not trained to its end, `why` says
    then what happened. `default`: of the recipe that the search began with.
    """

    number: int
    state: str
    why: str | None
    value: float | None
    log_loss: float | None
    seconds: float | None
    default: bool
    values: dict[str, Value]
    idle: list[str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a search is about, as tune.json keeps it; every process that joins works on this.

    `given`: the recipe as the user gave it; `recipe`: the same with everything settled, the first trial's.
    `fields`: what the user asked to search, nothing for the usual ones. `score`: a name of `metrics`. `trials` and
    `budget` (seconds): how far the first start was to go. `plugins`: see `plugins.state`.
    """

    data: str
    columns: Columns
    given: Recipe
    fields: tuple[str, ...]
    recipe: SettledRecipe
    space: dict[str, BaseDistribution]
    score: str
    manifest: str
    trials: int | None
    budget: float | None
    plugins: dict[str, PluginState]

    def write(self, folder: Path) -> None:
        """Write tune.json."""
        document = {
            "format": FORMAT,
            "data": self.data,
            "columns": asdict(self.columns),
            "given": self.given.to_json(),
            "fields": list(self.fields),
            "recipe": self.recipe.to_json(),
            "space": {name: json.loads(distribution_to_json(where)) for name, where in self.space.items()},
            "score": self.score,
            "manifest": self.manifest,
            "trials": self.trials,
            "budget": self.budget,
            "plugins": self.plugins,
        }
        files.write_json(folder / "tune.json", document)

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """The settings in a search's folder; raises `PatiError`."""
        path = folder / "tune.json"
        try:
            document = files.read_json(path)
            version = document.pop("format")
            if version != FORMAT:
                raise PatiError(
                    f"{path} has format {version!r}, this pati reads {FORMAT}", "name another folder with --out"
                )
            return cls(
                data=document["data"],
                columns=Columns(**document["columns"]),
                given=Recipe.from_json(document["given"]),
                fields=tuple(document["fields"]),
                recipe=SettledRecipe.from_json(document["recipe"]),
                space={name: json_to_distribution(json.dumps(where)) for name, where in document["space"].items()},
                score=document["score"],
                manifest=document["manifest"],
                trials=document["trials"],
                budget=document["budget"],
                plugins=document["plugins"],
            )
        except FileNotFoundError:
            raise PatiError(f"{folder} is not a search's folder", "expected one that `pati tune` made") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PatiError(f"{path} can't be read: {error}", "name another folder with --out") from None


# The space --------------------------------------------------------------------------


def searchable() -> tuple[str, ...]:
    """Names of the recipe's fields that say where to search."""
    return tuple(item.name for item in dataclasses.fields(Recipe) if item.metadata["search"])


def chosen_fields(asked: Sequence[str], *, turned: bool, uneven: bool) -> tuple[str, ...]:
    """The fields to search: those asked for, or the usual ones. `turned`: turned photos mean the same; `uneven`: some
    classes have many more photos than others.

    Raises `PatiError` for names that can't be searched.
    """
    able = [name for name in searchable() if turned or name not in TURNING]
    wrong = [name for name in asked if name not in able]
    if wrong:
        why = "these photos mean something else when turned" if wrong[0] in TURNING else "there is no search over it"
        raise PatiError(f"--search {wrong[0]}: {why}", f"fields: {', '.join(able)}")
    return tuple(name for name in able if name in (asked or (*USUAL, *(BALANCING if uneven else ()))))


def space(recipe: SettledRecipe, names: Sequence[str]) -> dict[str, BaseDistribution]:
    """Where to search each field of a settled recipe, by what `Recipe` says of it."""
    known = {item.name: item for item in dataclasses.fields(Recipe)}
    return {name: _distribution(known[name], getattr(recipe, name)) for name in names}


def _distribution(item: dataclasses.Field[object], own: Value) -> BaseDistribution:
    search = item.metadata["search"]
    if len(search) != 2 or isinstance(search[0], str):
        choices = search if own in search else (own, *search)
        return CategoricalDistribution(choices)
    factor = own if item.metadata["relative"] else 1
    low, high = (rounded(min(max(factor * end, item.metadata["low"]), item.metadata["high"])) for end in search)
    return FloatDistribution(low, high, log=item.metadata["log"])


def rounded(value: T) -> T | float:
    """Three digits are all that a search can tell, and easier to read."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _nearest(where: BaseDistribution, value: Value) -> Value:
    """The value in a range that is nearest to the recipe's own, which need not lie in it: no weight decay at all."""
    if isinstance(where, FloatDistribution):
        return min(max(cast(float, value), where.low), where.high)
    return value


# The study --------------------------------------------------------------------------


class Study:
    """The trials of a folder. What is read and then written, one process at a time does, under the folder's lock."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        with self._alone():
            self._study = optuna.create_study(
                storage=self._storage(),
                study_name="pati",
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.PercentilePruner(
                    KEPT_PERCENT, n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_TENTHS
                ),
            )
            if not self.trials():
                self._study.enqueue_trial(self._own(), {"default": True})
            self._write_best()  # a process may have been killed before it could

    def _own(self) -> dict[str, Value]:
        """The recipe's own values, or the nearest in their ranges."""
        settings = self.settings
        return {name: _nearest(where, getattr(settings.recipe, name)) for name, where in settings.space.items()}

    def _storage(self) -> optuna.storages.RDBStorage:
        try:
            return optuna.storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": self._connect})
        except RuntimeError as error:  # of another optuna, by what its versions write
            raise PatiError(
                f"{self.folder / 'study.db'} was made by another optuna than {optuna.__version__}",
                "install that one (the report names it), or name another folder with --out",
            ) from error

    def _connect(self) -> sqlite3.Connection:
        # By hand: a folder's name may hold what means something in an address.
        return sqlite3.connect(self.folder / "study.db", timeout=60, check_same_thread=False)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        return alone(self.folder)

    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        return self._study.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        """Those that count: trained to the end, or given up for being poor."""
        return [trial for trial in self.trials() if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]

    def failed_of_late(self) -> int:
        """How many of the finished trials, from the last one on backwards, could not be trained."""
        return sum(1 for _ in itertools.takewhile(lambda trial: "failed" in trial.user_attrs, self.finished()[::-1]))

    def running(self) -> int:
        """How many are being trained, by all processes."""
        return sum(trial.state == TrialState.RUNNING for trial in self.trials())

    def changes(self, trial: FrozenTrial | optuna.Trial) -> dict[str, Value]:
        """The fields that a trial sets; nothing for the recipe's own values."""
        if "default" in trial.user_attrs:
            return {}
        return {name: rounded(value) for name, value in trial.params.items()}

    def recipe(self, trial: FrozenTrial | optuna.Trial) -> SettledRecipe:
        """What a trial trains."""
        return self.settings.recipe.changed(self.changes(trial))

    def best(self) -> FrozenTrial | None:
        """The trial with the highest score; among equals the one with the lowest log loss, then the first."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda t: (t.value, -t.user_attrs["log_loss"], -t.number), default=None)

    def default(self) -> FrozenTrial | None:
        """The finished trial of the recipe's own values."""
        return next((trial for trial in self.finished() if "default" in trial.user_attrs), None)

    def told(self, trial: FrozenTrial) -> Trial:
        """A trial as it is told of."""
        recipe, known = self.recipe(trial), trial.user_attrs
        return Trial(
            number=trial.number,
            state=next((name for name in _UNTRAINED if name in known), _STATES[trial.state]),
            why=next((known[name] for name in _UNTRAINED if name in known), None),
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            log_loss=known.get("log_loss"),
            seconds=known.get("seconds"),
            default="default" in known,
            values={name: getattr(recipe, name) for name in self.settings.space},
            idle=[name for name in self.settings.space if not does_anything(name, recipe)],
        )

    def begun(self) -> list[Trial]:
        """All trials that have begun."""
        return [self.told(trial) for trial in self.trials() if trial.state != TrialState.WAITING]

    def default_open(self) -> bool:
        """Whether the recipe's own values are still to be trained, or being trained."""
        return any("default" in trial.user_attrs and not trial.state.is_finished() for trial in self.trials())

    def checkpoints(self, trial: optuna.Trial) -> Path:
        """Where a trial's state is kept; that of one tried again is the first one's."""
        return self.folder / "trials" / str(trial.user_attrs.get("first", trial.number))

    def _lock(self, number: int) -> Path:
        return self.folder / "trials" / f"{number}.lock"

    @contextlib.contextmanager
    def trial(self, wanted: Callable[[], bool]) -> Iterator[optuna.Trial | None]:
        """A new trial, this process's own inside the block; None if no more are `wanted`.

        One that is not finished when an error leaves the block is put back, to be tried again from where it was.
        """
        with contextlib.ExitStack() as held:
            with self._alone():
                self._put_back_dead()
                trial = None
                if wanted():
                    # A sampler for each trial: what is drawn follows from the seed and the trials before.
                    seed = self.settings.recipe.seed + len(self.trials())
                    self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
                    if not any(trial.state == TrialState.WAITING for trial in self.trials()):
                        self._study.enqueue_trial(self._fixed(seed))
                    trial = self._study.ask(self.settings.space)
                    self._lock(trial.number).parent.mkdir(exist_ok=True)  # tidied away by another process
                    held.enter_context(locks.locked(self._lock(trial.number), f"trial {trial.number} is taken"))
            try:
                yield trial
            except BaseException as error:
                if trial is not None:
                    with self._alone():
                        stopped = isinstance(error, PatiError | KeyboardInterrupt)
                        self._put_back(self.trials()[trial.number], killed=not stopped)
                raise

    def _fixed(self, seed: int) -> dict[str, Value]:
        """What the next trial has: the best one's values in the fields that it leaves as they are, and other ones in
        the fields without an order that it changes. The sampler draws what is missing.
        """
        best, lot = self.best(), random.Random(seed)
        values = self._own() if best is None else best.params
        if len(self.finished()) >= RANDOM_TRIALS and lot.random() < ALL_CHANGED:
            return {}
        known = self.settings.recipe.changed(values)
        able = [name for name in values if does_anything(name, known)] or [*values]
        for name in lot.sample(able, min(len(able), lot.choice(CHANGED))):
            where, value = self.settings.space[name], values[name]
            values = {other: kept for other, kept in values.items() if other != name}
            if isinstance(where, CategoricalDistribution):
                values[name] = lot.choice([choice for choice in where.choices if choice != value])
        return values

    def _put_back_dead(self) -> None:
        """Put back the trials of killed processes: those whose lock is free."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and not locks.is_locked(self._lock(trial.number)):
                self._put_back(trial, killed=True)

    def _put_back(self, trial: FrozenTrial, *, killed: bool) -> None:
        if trial.state != TrialState.RUNNING:
            return
        kills = trial.user_attrs.get("kills", 0) + killed
        fixed = trial.system_attrs.get("fixed_params", {}) | trial.params
        again = any(other.user_attrs.get("after") == trial.number for other in self.trials())  # it died here before
        # One killed before all its values were drawn is not missed: another one will be.
        if kills < MOST_KILLS and not again and fixed.keys() == self.settings.space.keys():
            kept = {name: value for name, value in trial.user_attrs.items() if name in ("default", "first")}
            self._study.enqueue_trial(fixed, {"first": trial.number, **kept, "after": trial.number, "kills": kills})
        self._study.tell(trial.number, state=TrialState.FAIL)
        self._lock(trial.number).unlink(missing_ok=True)

    def finish(self, trial: optuna.Trial, value: float | None, facts: TrialFacts) -> None:
        """Keep a trial's score, None if it was given up, and `facts` about it; write the best recipe."""
        with self._alone():
            for name, fact in facts.items():
                trial.set_user_attr(name, fact)
            self._study.tell(trial, value, TrialState.COMPLETE if value is not None else TrialState.PRUNED)
            self._write_best()
            shutil.rmtree(self.checkpoints(trial), ignore_errors=True)
            self._lock(trial.number).unlink(missing_ok=True)

    def _write_best(self) -> None:
        best = self.best()
        if best is not None:
            files.write_json(self.folder / "best.json", self.recipe(best).to_json())

    def tidy(self) -> None:
        """Remove what nobody needs once no trial is open."""
        with self._alone():
            if all(trial.state.is_finished() for trial in self.trials()):
                shutil.rmtree(self.folder / "trials", ignore_errors=True)

    def importance(self) -> dict[str, float]:
        """Share of the score's variance that each field explains by itself, largest first; empty if too few finished.

        By functional analysis of variance (Hutter et al., 2014, https://proceedings.mlr.press/v32/hutter14.html).
        """
        values = [trial.value for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len(values) < FEWEST_FOR_IMPORTANCE or len(set(values)) == 1:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of normalize
                shares = optuna.importance.get_param_importances(
                    self._study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), normalize=False
                )
            return shares if any(shares.values()) else {}
        except RuntimeError:  # no tree found a difference
            return {}


def alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Inside, no other process reads and then writes in the search's folder."""
    return locks.locked(folder / ".lock", f"another process keeps {folder} locked", wait=True)
