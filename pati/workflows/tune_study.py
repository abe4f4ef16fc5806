"""A hyperparameter search, shared by any number of processes: its settings, its trials, and the best recipe.

The baseline, the recipe's own values, is the first trial, so the result is never worse on validation. Every other trial
changes a few fields of the best trial so far: a good recipe lies far from the centre of most ranges, and a trial that
changes everything is worse in something. Once enough trials have finished, some sample all fields nevertheless. Values
are sampled by TPE (Bergstra et al., 2011, https://papers.nips.cc/paper/4443), the first few uniformly. A trial is
pruned if, halfway or later, its validation curve lies below those of three quarters of the finished trials (after the
median rule of Golovin et al., 2017, https://doi.org/10.1145/3097983.3098043, which prunes more).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import random
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict, TypeVar, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import FrozenTrial, TrialState

from pati.data.sources.source import Columns
from pati.errors import Interrupted, PatiError
from pati.locale.messages import N_, Message, MessageDocument
from pati.plugins import PluginState
from pati.recipe import Recipe, SettledRecipe, Value, does_anything
from pati.system import clock, files
from pati.workflows.tune_storage import STORAGE_ERRORS, Folder, Server, Storage

T = TypeVar("T")

FORMAT = 1
DEFAULT_FIELDS = ("batch", "learning_rate", "dropout", "label_smoothing", "crop", "rotate", "brightness", "mixup")
BALANCING = ("balance", "balance_power")  # in addition, if the classes are imbalanced
TURNING = ("rotate",)  # only if a rotated photo means the same
RANDOM_TRIALS = 10  # before TPE starts
CHANGED = (1, 1, 2, 3)  # number of fields that a trial changes, sampled uniformly from these
ALL_CHANGED = 0.2  # probability that a later trial samples all fields
UNPRUNED_TRIALS = 4  # that must have finished before any is pruned,
UNPRUNED_TENTHS = 5  # and tenths of a trial before pruning: earlier, at high learning rates, scores say little
KEPT_PERCENT = 75
FEWEST_FOR_IMPORTANCE = 5
MOST_KILLS = 3  # a trial that repeatedly kills its process is not retried
PATIENCE = 900.0  # seconds for which a server may be away
ASKED_AGAIN = 2.0  # seconds between two attempts to reach it

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "stopped",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_UNTRAINED = ("diverged", "failed")  # attributes of trials without a score, which hold the reason

optuna.logging.set_verbosity(optuna.logging.ERROR)


class TrialFacts(TypedDict, total=False):
    """Facts stored with a trial besides its score; `diverged` and `failed`: why there is none."""

    log_loss: float
    seconds: float
    diverged: MessageDocument
    failed: MessageDocument


@dataclass(frozen=True)
class Trial:
    """One trial of a search. `values`: the searched fields of its recipe; `idle`: those that have no effect in it.

    `value` and `log_loss`: on the validation photos; None if it was not trained to the end, with the reason in `why`.
    `default`: whether it is the baseline, the recipe that the search started from.
    """

    number: int
    state: str
    why: Message | None
    value: float | None
    log_loss: float | None
    seconds: float | None
    default: bool
    values: dict[str, Value]
    idle: list[str]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a search, stored in tune.json and, with a server, there too; shared by all processes.

    `given`: the user's recipe; `recipe`: the same, settled, which is the first trial. `fields`: the fields that the
    user asked to search; empty for the default ones. `score`: a name in `metrics`. `trials` and `budget` (seconds): the
    limit of the first start. `plugins`: see `plugins.state`. `storage`: the address of the database server, without a
    password; None for a file in the folder.
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
    storage: str | None = None

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return {
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
            "storage": self.storage,
        }

    def write(self, folder: Path) -> None:
        """Write tune.json."""
        files.write_json(folder / "tune.json", self.to_json())

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """The settings in a search folder; raises `PatiError`."""
        path = folder / "tune.json"
        try:
            return cls.from_text(files.patiently(lambda: path.read_text(encoding="utf-8")), str(path))
        except FileNotFoundError:
            raise PatiError(
                N_("{folder} is not the folder of a search", folder=folder),
                N_("expected a folder written by `pati tune`"),
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(str(path), error) from None

    @classmethod
    def from_text(cls, text: str, where: str) -> Settings:
        """The settings in the JSON of `to_json`, which is stored in `where`; raises `PatiError`."""
        try:
            document = json.loads(text)
            version = document["format"]
            if version != FORMAT:
                raise PatiError(
                    N_(
                        "{path} has format {version}, this pati reads {format}",
                        path=where,
                        version=repr(version),
                        format=FORMAT,
                    ),
                    N_("choose another folder with --out"),
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
                storage=document.get("storage"),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _unreadable(where, error) from None


def _unreadable(path: str, error: Exception) -> PatiError:
    return PatiError(N_("can't read {path}: {error}", path=path, error=error), N_("choose another folder with --out"))


# The space --------------------------------------------------------------------------


def searchable() -> tuple[str, ...]:
    """Names of the recipe fields that have a search space."""
    return tuple(item.name for item in dataclasses.fields(Recipe) if item.metadata["search"])


def chosen_fields(fields: Sequence[str], *, rotation_invariant: bool, uneven: bool) -> tuple[str, ...]:
    """The fields to search: those asked for, or the default ones.

    `rotation_invariant`: rotated photos mean the same; `uneven`: the classes are imbalanced. Raises `PatiError`
    for names that can't be searched.
    """
    able = [name for name in searchable() if rotation_invariant or name not in TURNING]
    wrong = [name for name in fields if name not in able]
    if wrong:
        why = N_("not searched")
        if wrong[0] in TURNING:
            why = N_("flips and rotations change what these photos show")
        raise PatiError(N_("--search {wrong}: {why}", wrong=wrong[0], why=why), N_("fields: {names}", names=able))
    return tuple(name for name in able if name in (fields or (*DEFAULT_FIELDS, *(BALANCING if uneven else ()))))


def space(recipe: SettledRecipe, names: Sequence[str]) -> dict[str, BaseDistribution]:
    """The search space of each field of a settled recipe, from the metadata of `Recipe`."""
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
    """Round to three digits: a search can't resolve more, and they are easier to read."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _nearest(where: BaseDistribution, value: Value) -> Value:
    """The value in the range closest to the recipe's own, which may lie outside, such as no weight decay."""
    if isinstance(where, FloatDistribution):
        return min(max(cast(float, value), where.low), where.high)
    return value


# The study --------------------------------------------------------------------------


class Study:
    """The trials of a search. Each read that is followed by a write excludes all other processes.

    If a server that was reached before is away, its return is awaited for `PATIENCE` seconds, which `warn` is told,
    unless `stopped`; then what was interrupted is done again.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        storage: Storage | None = None,
        *,
        warn: Callable[[Message], None] = lambda text: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder, self.settings = folder, settings
        self._storage = storage or storage_of(settings, folder)
        self._warn, self._stopped = warn, stopped
        self._alone = False
        try:
            self._opened = self._storage.open()
        except BaseException:
            self._storage.close()
            raise

        def begin() -> None:
            self._study = optuna.create_study(
                storage=self._opened,
                study_name=self._storage.study,
                direction="maximize",
                load_if_exists=True,
                pruner=optuna.pruners.PercentilePruner(
                    KEPT_PERCENT, n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_TENTHS
                ),
            )
            self.settings = self._joined()
            if not self.trials():
                self._enqueue(self._own(), {"default": True})
            self._write_best()  # an earlier process may have been killed before this

        try:
            self._exclusively(begin)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connections."""
        self._opened.engine.dispose()
        self._storage.close()

    def _joined(self) -> Settings:
        """The settings of the search that is stored already, which must be the same search, or this process's own."""
        own = self.settings
        shared = json.dumps(dataclasses.replace(own, data="", columns=Columns(), storage=None).to_json())
        text = self._storage.settings(self._study, shared)
        if text == shared:
            return own
        stored = Settings.from_text(text, f"{self._storage.name} ({self._storage.study})")
        for what, mine, theirs in (
            (N_("other data"), own.manifest, stored.manifest),
            (N_("another recipe"), own.given, stored.given),
            (N_("other fields"), own.fields, stored.fields),
        ):
            if mine != theirs:
                raise PatiError(
                    N_("the study {study} in {storage} is a search with {what}", study=self._storage.study,
                       storage=self._storage.name, what=what),
                    N_("the study has the name of the folder --out: choose another one, or another database"),
                )  # fmt: skip
        return dataclasses.replace(
            stored, data=own.data, columns=own.columns, storage=own.storage, trials=own.trials, budget=own.budget
        )

    def _exclusively(self, work: Callable[[], T]) -> T:
        """The result of `work`, which may be done again, with all other processes excluded."""

        def alone() -> T:
            with self._storage.alone():
                self._alone = True
                try:
                    return work()
                finally:
                    self._alone = False

        return self._persistently(alone)

    def _persistently(self, work: Callable[[], T]) -> T:
        """The result of `work`, which is done again where the storage was away."""
        since: float | None = None
        while True:
            try:
                return work()
            except STORAGE_ERRORS as error:
                self._storage.disconnected()
                if not self._storage.reached or (since is not None and clock.now() - since > PATIENCE):
                    raise
                if since is None:
                    since = clock.now()
                    self._warn(
                        N_(
                            "{storage} can't be reached ({reason}); trying again for {patience:duration}",
                            storage=self._storage.name,
                            reason=reason(error),
                            patience=PATIENCE,
                        )
                    )
            if self._stopped():
                raise Interrupted(N_("{storage} can't be reached", storage=self._storage.name))
            time.sleep(ASKED_AGAIN)

    def _own(self) -> dict[str, Value]:
        """The recipe's own values, or the closest ones in the ranges."""
        settings = self.settings
        return {name: _nearest(where, getattr(settings.recipe, name)) for name, where in settings.space.items()}

    def _enqueue(self, values: dict[str, Value], facts: dict[str, object]) -> None:
        """Let a later trial have these values. `facts`: its attributes."""
        self._study.enqueue_trial(values, {**facts, "order": uuid.uuid4().hex})

    def trials(self) -> list[FrozenTrial]:
        """All trials by number."""
        read = partial(self._study.get_trials, deepcopy=False)
        return read() if self._alone else self._persistently(read)

    def finished(self) -> list[FrozenTrial]:
        """Trials that were trained to the end or pruned."""
        return [trial for trial in self.trials() if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]

    def consecutive_failures(self) -> int:
        """Number of consecutive failed trials among the finished ones, counted from the last."""
        return sum(1 for _ in itertools.takewhile(lambda trial: "failed" in trial.user_attrs, self.finished()[::-1]))

    def running(self) -> int:
        """Number of trials in training, over all processes."""
        return sum(trial.state == TrialState.RUNNING for trial in self.trials())

    def changes(self, trial: FrozenTrial | optuna.Trial) -> dict[str, Value]:
        """The fields that a trial sets; empty for the baseline."""
        if "default" in trial.user_attrs:
            return {}
        return {name: rounded(value) for name, value in trial.params.items()}

    def recipe(self, trial: FrozenTrial | optuna.Trial) -> SettledRecipe:
        """The recipe of a trial."""
        return self.settings.recipe.changed(self.changes(trial))

    def best(self) -> FrozenTrial | None:
        """The trial with the highest score; ties are broken by the lowest log loss, then by the lowest number."""
        complete = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE]
        return max(complete, key=lambda t: (t.value, -t.user_attrs["log_loss"], -t.number), default=None)

    def default(self) -> FrozenTrial | None:
        """The finished trial of the baseline."""
        return next((trial for trial in self.finished() if "default" in trial.user_attrs), None)

    def as_trial(self, trial: FrozenTrial) -> Trial:
        """A trial as `Trial`."""
        recipe, known = self.recipe(trial), trial.user_attrs
        return Trial(
            number=trial.number,
            state=next((name for name in _UNTRAINED if name in known), _STATES[trial.state]),
            why=next((Message.from_json(known[name]) for name in _UNTRAINED if name in known), None),
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            log_loss=known.get("log_loss"),
            seconds=known.get("seconds"),
            default="default" in known,
            values={name: getattr(recipe, name) for name in self.settings.space},
            idle=[name for name in self.settings.space if not does_anything(name, recipe)],
        )

    def begun(self) -> list[Trial]:
        """All trials that have started."""
        return [self.as_trial(trial) for trial in self.trials() if trial.state != TrialState.WAITING]

    def default_open(self) -> bool:
        """Whether the baseline is waiting or in training."""
        return any("default" in trial.user_attrs and not trial.state.is_finished() for trial in self.trials())

    def checkpoints(self, trial: optuna.Trial) -> Path:
        """Folder for a trial's checkpoints; a retried trial uses that of the first attempt."""
        return self.folder / "trials" / str(trial.user_attrs.get("first", trial.number))

    @contextlib.contextmanager
    def trial(self, wanted: Callable[[], bool]) -> Iterator[optuna.Trial | None]:
        """A new trial, owned by this process inside the block; None if no more are `wanted`.

        If an error leaves the block before the trial is finished, the trial is put back, to be resumed later.
        """
        with contextlib.ExitStack() as held:

            def ask() -> optuna.Trial | None:
                held.close()  # of an earlier attempt
                self._put_back_dead()
                if not wanted():
                    return None
                # A new sampler for each trial, so that its values depend only on the seed and the earlier trials.
                seed = self.settings.recipe.seed + len(self.trials())
                self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
                if not any(trial.state == TrialState.WAITING for trial in self.trials()):
                    self._enqueue(self._fixed(seed), {})
                trial = self._study.ask(self.settings.space)
                while self._is_repeated(trial):
                    self._study.tell(trial, state=TrialState.FAIL)
                    trial = self._study.ask(self.settings.space)
                held.enter_context(self._storage.owned(trial))
                return trial

            trial = self._exclusively(ask)
            try:
                yield trial
            except BaseException as error:
                if trial is not None:
                    stopped = isinstance(error, PatiError | KeyboardInterrupt)
                    number = trial.number
                    self._exclusively(lambda: self._put_back(self.trials()[number], killed=not stopped))
                raise

    def _is_repeated(self, trial: optuna.Trial) -> bool:
        """Whether an earlier trial was enqueued by the same call: Optuna repeats one whose confirmation was lost."""
        order = trial.user_attrs.get("order")
        earlier = self.trials()[: trial.number]
        return order is not None and any(other.user_attrs.get("order") == order for other in earlier)

    def is_taken(self, trial: optuna.Trial) -> bool:
        """Whether another process has taken this trial over, as this one seemed to have died."""
        return self._storage.is_taken(trial.number)

    def report(self, trial: optuna.Trial, value: float, tenth: int) -> bool:
        """Store the score after a tenth of a trial; return whether the trial is to be pruned.

        The answer is no if the storage can't be reached: training does not wait for it.
        """
        try:
            trial.report(value, tenth)
            return tenth < 10 and trial.should_prune()
        except STORAGE_ERRORS:
            if not self._storage.reached:
                raise
            self._storage.disconnected()
            return False
        except optuna.exceptions.UpdateFinishedTrialError:  # it was taken over
            return False

    def _fixed(self, seed: int) -> dict[str, Value]:
        """The values that the next trial fixes; the sampler draws the rest.

        The best trial's values in all fields that it leaves unchanged, and new values in the categorical fields that it
        changes.
        """
        best, rng = self.best(), random.Random(seed)
        values = self._own() if best is None else best.params
        if len(self.finished()) >= RANDOM_TRIALS and rng.random() < ALL_CHANGED:
            return {}
        known = self.settings.recipe.changed(values)
        able = [name for name in values if does_anything(name, known)] or [*values]
        for name in rng.sample(able, min(len(able), rng.choice(CHANGED))):
            where, value = self.settings.space[name], values[name]
            values = {other: kept for other, kept in values.items() if other != name}
            if isinstance(where, CategoricalDistribution):
                values[name] = rng.choice([choice for choice in where.choices if choice != value])
        return values

    def _put_back_dead(self) -> None:
        """Put back the trials of processes that have died."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and self._storage.is_orphaned(trial):
                self._put_back(trial, killed=True)

    def _put_back(self, trial: FrozenTrial, *, killed: bool) -> None:
        if trial.state != TrialState.RUNNING:
            return
        kills = trial.user_attrs.get("kills", 0) + killed
        fixed = trial.system_attrs.get("fixed_params", {}) | trial.params
        # Already put back, by a process that was killed before it could mark this one as failed.
        again = any(other.user_attrs.get("after") == trial.number for other in self.trials())
        # A trial killed before all its values were sampled is dropped: a new one will replace it.
        if kills < MOST_KILLS and not again and fixed.keys() == self.settings.space.keys():
            kept = {name: value for name, value in trial.user_attrs.items() if name in ("default", "first")}
            self._enqueue(fixed, {"first": trial.number, **kept, "after": trial.number, "kills": kills})
        self._study.tell(trial.number, state=TrialState.FAIL)
        self._storage.released(trial.number)

    def finish(self, trial: optuna.Trial, value: float | None, facts: TrialFacts) -> None:
        """Store a trial's score, None if it was pruned, and `facts` about it; write the best recipe.

        Nothing is stored for a trial that another process has taken over.
        """

        def store() -> None:
            if not self.trials()[trial.number].state.is_finished():
                for name, fact in facts.items():
                    trial.set_user_attr(name, fact)
                self._study.tell(trial, value, TrialState.COMPLETE if value is not None else TrialState.PRUNED)
            self._write_best()
            if self.trials()[trial.number].state != TrialState.FAIL:
                shutil.rmtree(self.checkpoints(trial), ignore_errors=True)
            self._storage.released(trial.number)

        self._exclusively(store)

    def _write_best(self) -> None:
        best = self.best()
        if best is not None:
            files.write_json(self.folder / "best.json", self.recipe(best).to_json())

    def tidy(self) -> None:
        """Remove files that are not needed once no trial is open."""

        def remove() -> None:
            if all(trial.state.is_finished() for trial in self.trials()):
                shutil.rmtree(self.folder / "trials", ignore_errors=True)

        self._exclusively(remove)

    def importance(self) -> dict[str, float]:
        """Hyperparameter importance: fraction of the score's variance that each field alone explains, largest first.

        By functional ANOVA (Hutter et al., 2014, https://proceedings.mlr.press/v32/hutter14.html). Empty if too few
        trials have finished.
        """
        values = [trial.value for trial in self.trials() if trial.state == TrialState.COMPLETE]
        if len(values) < FEWEST_FOR_IMPORTANCE or len(set(values)) == 1:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # for `normalize`
                shares = optuna.importance.get_param_importances(
                    self._study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), normalize=False
                )
            return shares if any(shares.values()) else {}
        except RuntimeError:  # no tree has a split
            return {}


def storage_of(settings: Settings, folder: Path, url: str | None = None) -> Storage:
    """The storage of a search. `url`: the address of its server, with the password if that is needed."""
    url = url or settings.storage
    return Folder(folder) if url is None else Server(url, study_name(folder))


def study_name(folder: Path) -> str:
    """The name of a search's study on a server."""
    return folder.resolve().name


def reason(error: BaseException) -> str:
    """Why the storage can't be used, in one line of its own."""
    return next(iter(str(error.__cause__ or error).strip().splitlines()), type(error).__name__)
