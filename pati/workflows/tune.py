"""Hyperparameter search with Optuna (Akiba et al., 2019, https://arxiv.org/abs/1907.10902).

A search is a folder that several processes can share and that survives interruptions (see `tune_study`): `tune.json`
holds the settings and is written first, `study.db` the trials, `best.json` the best recipe so far, `report.html` the
report. With `storage`, a database server holds the trials instead, for several machines (see `tune_storage`).

Every trial is trained on the training split and scored on the validation split; the test split is not used. The score
is accuracy, or macro F1 if the classes are imbalanced (see `balance`); ties are broken by the log loss.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pati import plugins
from pati.data.sources.archives import stem
from pati.data.sources.find import find_source
from pati.data.sources.source import Columns
from pati.errors import Diverged, Interrupted, PatiError
from pati.evaluation import metrics
from pati.evaluation.documents import SearchDocument, TrialRow
from pati.events import (
    EpochDone,
    Listen,
    Noted,
    SearchBegan,
    Stage,
    StageBegan,
    StepDone,
    TrainingEvent,
    TrialAdvanced,
    TrialDone,
    Warned,
    silent,
)
from pati.inference.splits import all_logits
from pati.locale import catalogues
from pati.locale.messages import N_, Message
from pati.recipe import Recipe
from pati.report import pages
from pati.runs.run import versions
from pati.system import clock, files
from pati.training import balance, plan
from pati.workflows.fit import fit
from pati.workflows.opening import where_is
from pati.workflows.prepare import Prepared, prepare
from pati.workflows.stopping import stoppable
from pati.workflows.tune_storage import STORAGE_ERRORS, Server, Storage, alone
from pati.workflows.tune_study import (
    Settings,
    Study,
    Trial,
    TrialFacts,
    chosen_fields,
    reason,
    space,
    storage_of,
    study_name,
)

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

POLLED = 2.0  # seconds between two looks at the trials of other processes
MOST_FAILURES = 3  # failed trials in a row: with more, the cause is not the sampled values


@clock.watched()
def tune(
    data: str | Path,
    recipe: Recipe,
    *,
    trials: int | None = None,
    budget: float | None = None,
    fields: Sequence[str] = (),
    out: Path | None = None,
    storage: str | None = None,
    columns: Columns = Columns(),
    started: float | None = None,
    listen: Listen,
) -> SearchDocument:
    """Search until `trials` trials have finished, over all processes and starts, or for `budget` seconds.

    Starts a search in `out`, or resumes the one that is there. `storage`: the address of a database server that holds
    the trials. Returns the result (see `_document`). Raises `PatiError`; `Interrupted` after a stop.
    """
    started = clock.now() if started is None else started
    _require_goal(trials, budget)
    if recipe.group_by is not None:
        columns = dataclasses.replace(columns, group=recipe.group_by)
    source = find_source(data, columns)
    where = where_is(data)
    folder = out or Path("tune") / files.shortened(stem(source.name))
    requested = tuple(sorted(set(fields)))
    chosen_fields(
        requested, rotation_invariant=source.rotation_invariant, uneven=False
    )  # raises for an invalid name before the data is read
    _require_time(recipe.budget, len(source.items))
    server = None if storage is None else Server(storage, study_name(folder))
    with _resumable(folder, server):
        ready = None
        if server is not None:
            with contextlib.closing(server):
                server.connect()  # before the photos are read, which may take long
        if not (folder / "tune.json").exists():
            _require_free(folder)
            ready = prepare(data, recipe, columns=columns, listen=listen)
            score = _score_for(ready)
            names = chosen_fields(requested, rotation_invariant=source.rotation_invariant, uneven=score == "macro_f1")
            settings = Settings(
                data=where,
                columns=columns,
                given=recipe,
                fields=requested,
                recipe=ready.recipe,
                space=space(ready.recipe, names),
                score=score,
                manifest=ready.manifest.hash(),
                trials=trials,
                budget=budget,
                plugins=plugins.state(),
                storage=None if server is None else server.name,
            )
            folder.mkdir(parents=True, exist_ok=True)
            with alone(folder):
                if not (folder / "tune.json").exists():  # otherwise another process was first
                    settings.write(folder)
        settings = Settings.read(folder)
        for what, mine, kept in (
            (N_("other data"), (where, columns), (settings.data, settings.columns)),
            (N_("another recipe"), recipe, settings.given),
            (N_("other fields"), requested, settings.fields),
            (N_("another --storage"), None if server is None else server.name, settings.storage),
        ):
            if mine != kept:
                raise PatiError(
                    N_("{folder} contains a search with {what}", folder=folder, what=what),
                    N_("resume it with: {command}; or choose another folder with --out", command=_again(folder)),
                )
        return _run(folder, settings, storage, ready, trials, budget, started, listen)


@clock.watched()
def resume(
    folder: Path,
    *,
    trials: int | None = None,
    budget: float | None = None,
    storage: str | None = None,
    started: float | None = None,
    listen: Listen,
) -> SearchDocument:
    """Resume the search in a folder, up to its original limit unless `trials` or `budget` is given.

    `storage`: the address of its server, if that needs a password that is not in the environment.
    """
    started = clock.now() if started is None else started
    settings = Settings.read(folder)
    if trials is None and budget is None:
        trials, budget = settings.trials, settings.budget
    _require_goal(trials, budget)
    server = storage_of(settings, folder, storage)
    if isinstance(server, Server) and server.name != settings.storage:
        raise PatiError(
            N_("{folder} contains a search with {what}", folder=folder, what=N_("another --storage")),
            N_("resume it with: {command}; or choose another folder with --out", command=_again(folder)),
        )
    with _resumable(folder, server):
        return _run(folder, settings, storage, None, trials, budget, started, listen)


def _require_goal(trials: int | None, budget: float | None) -> None:
    if (trials is None) == (budget is None):
        got = N_("neither") if trials is None else N_("both")
        raise PatiError(
            N_("expected --trials or --budget, got {got}", got=got), N_("for example: --trials 20 or --budget 2h")
        )
    if (trials is not None and trials < 1) or (budget is not None and not 0 < budget < math.inf):
        raise PatiError(N_("expected at least 1 trial or a budget above 0 s"), N_("for example: --trials 20"))


def _require_free(folder: Path) -> None:
    if folder.is_file():
        raise PatiError(N_("--out {folder} is a file, expected a folder", folder=folder))
    here = folder.iterdir() if folder.exists() else ()
    strange = sorted(path.name for path in here if path.name != ".lock" and not files.is_unfinished(path))
    if strange:
        raise PatiError(
            N_("--out {folder} is not empty ({names})", folder=folder, names=strange[:3]),
            N_("choose a new or empty folder, or that of a search"),
        )


def _again(folder: Path) -> str:
    return plugins.command("tune", "--out", str(folder))


@contextlib.contextmanager
def _resumable(folder: Path, storage: Storage | None) -> Iterator[None]:
    """Context manager that turns an interruption into `Interrupted` with a hint on how to resume.

    Errors of the storage become `PatiError`.
    """
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        begun = (folder / "tune.json").exists()
        hint = N_("resume it with: {again}", again=_again(folder)) if begun else N_("start it again")
        raise Interrupted(N_("all finished trials are saved"), hint) from None
    except STORAGE_ERRORS as error:
        hint = N_("fix this, or choose another folder with --out")
        if isinstance(storage, Server):
            hint = N_(
                "check the address; a password is read from --storage, PGPASSWORD or ~/.pgpass. Then continue with: "
                "{command}",
                command=_again(folder),
            )
        name = folder / "study.db" if storage is None else storage.name
        raise PatiError(N_("can't use {path}: {reason}", path=name, reason=reason(error)), hint) from error


def _score_for(ready: Prepared) -> str:
    class_balance = balance.class_balance(ready.recipe.balance, ready.training.counts())
    return "macro_f1" if class_balance.by_class else "accuracy"


def _run(
    folder: Path,
    settings: Settings,
    storage: str | None,
    ready: Prepared | None,
    trials: int | None,
    budget: float | None,
    started: float,
    listen: Listen,
) -> SearchDocument:
    plugins.require_same(settings.plugins)
    if ready is None:
        ready = prepare(settings.data, settings.recipe, columns=settings.columns, listen=listen)
    if ready.manifest.hash() != settings.manifest:
        raise PatiError(
            N_("the data has changed since this search was started"),
            N_("restore the photos, or choose another folder with --out"),
        )
    deadline = math.inf if budget is None else started + budget - plan.REPORT
    with contextlib.ExitStack() as held:
        stop_requested = held.enter_context(stoppable())
        study = Study(
            folder, settings, storage_of(settings, folder, storage),
            warn=lambda text: listen(Warned(text)), stopped=stop_requested,
        )  # fmt: skip
        held.enter_context(contextlib.closing(study))
        settings = study.settings
        plugins.require_same(settings.plugins)  # on a server, other machines may have begun it
        if ready.recipe != settings.recipe:  # another process has measured another speed
            ready = prepare(settings.data, settings.recipe, columns=settings.columns, listen=silent)
        listen(
            SearchBegan(
                folder, tuple(settings.space), settings.score, trials, budget, settings.recipe,
                done=len(study.finished()), validation=len(ready.validation),
            )
        )  # fmt: skip

        def wanted() -> bool:
            if trials is not None:
                return len(study.finished()) + study.running() < trials
            first = not study.finished() and not study.running()
            return first or clock.now() + _median_seconds(study) < deadline

        waiting = False
        while not stop_requested():
            some = bool(study.finished())  # the first trial is trained to the end, even beyond the deadline

            def stopped(some: bool = some) -> bool:
                return stop_requested() or (some and clock.now() > deadline)

            try:
                with study.trial(wanted) as trial:
                    if trial is not None:
                        _work(ready, study, trial, stopped, listen)
            except Interrupted:
                break
            if trial is None:
                if trials is None or not study.running():
                    break
                if not waiting:  # for what becomes of the others: a trial whose process dies is tried again here
                    waiting = True
                    listen(Noted(N_("waiting for the trials of other processes")))
                time.sleep(POLLED)
                continue
            waiting = False
            done = len(study.finished())
            left = deadline - clock.now() if trials is None else (trials - done) * _median_seconds(study)
            finished, best = study.as_trial(study.trials()[trial.number]), study.best()
            listen(
                TrialDone(
                    finished,
                    settings.score,
                    None if best is None else study.as_trial(best),
                    done,
                    trials,
                    max(0.0, left),
                )
            )
        study.tidy()
        document = _document(study, ready)
        if study.finished():
            listen(StageBegan(Stage.REPORT))
            pages.write_search(folder / "report.html", document, settings.recipe, language=catalogues.current())
        if stop_requested():
            raise Interrupted(N_("stopped"))
    if document["best"] is None:
        raise PatiError(
            N_("no trial has finished yet"),
            N_("continue with: {command} --budget 1h (or --trials 20)", command=_again(folder)),
        )
    return document


def _median_seconds(study: Study) -> float:
    """Median duration of a trial; 0 before the first one."""
    return float(statistics.median([trial.user_attrs["seconds"] for trial in study.finished()] or [0.0]))


class _Pruned(Exception):
    """The trial is pruned."""


class _Taken(Exception):
    """Another process has taken the trial over, since this one was suspended or cut off for long."""


def _work(ready: Prepared, study: Study, trial: optuna.Trial, stopped: Callable[[], bool], listen: Listen) -> None:
    """Train one trial, score it on the validation split, and store the result."""
    recipe, score = study.recipe(trial), study.settings.score
    ready = dataclasses.replace(ready, recipe=recipe)
    seconds, reported = 0.0, 0

    def log(event: TrainingEvent) -> None:
        nonlocal seconds, reported
        if study.is_taken(trial):
            raise _Taken
        if isinstance(event, StepDone):
            seconds = event.seconds
            listen(TrialAdvanced(trial.number, event.progress, event.left))
        if not isinstance(event, EpochDone):
            return
        epoch, seconds = event.epoch, event.epoch.seconds
        # Trials by budget have different numbers of epochs, so all are compared at tenths of their progress.
        tenth = int(10 * epoch.progress + 1e-9)
        if tenth > reported:
            reported = tenth
            value = epoch.validation_macro_f1 if score == "macro_f1" else epoch.validation_accuracy
            if study.report(trial, value, tenth):
                raise _Pruned

    try:
        net, _ = fit(
            ready, study.checkpoints(trial), seconds=_training_seconds(ready),
            owner=f"{study.settings.manifest} {json.dumps(recipe.to_json())}", stopped=stopped, log=log,
        )  # fmt: skip
        at = clock.now()
        logits = all_logits(ready.classifier(net), ready.validation)
        labels = ready.validation.labels
        loss = metrics.log_loss(logits, labels)
        if not math.isfinite(loss):
            raise Diverged(N_("the validation log loss is {loss}", loss=loss))
    except _Taken:
        return
    except _Pruned:
        study.finish(trial, None, {"seconds": round(seconds, 2)})
    except Diverged as error:
        study.finish(trial, None, {"seconds": round(seconds, 2), "diverged": error.message.to_json()})
    except Interrupted:
        raise
    except PatiError as error:  # training fails with these values; others may work
        if "default" in trial.user_attrs or study.consecutive_failures() >= MOST_FAILURES:
            raise
        study.finish(trial, None, {"seconds": round(seconds, 2), "failed": _why(error).to_json()})
    else:
        facts: TrialFacts = {"log_loss": loss, "seconds": round(seconds + clock.now() - at, 2)}
        study.finish(trial, metrics.metrics[score](logits, labels), facts)


def _training_seconds(ready: Prepared) -> float | None:
    """Training time of a trial: that of a run of the same recipe with photos already decoded."""
    if ready.recipe.budget is None:
        return None
    return plan.training_seconds(ready.recipe.budget, photos=len(ready.manifest.entries), reading=0.0)


def _require_time(budget: float | None, photos: int) -> None:
    if budget is not None and plan.training_seconds(budget, photos=photos, reading=0.0) < 0.2 * budget:
        raise PatiError(
            N_("a trial budget of {budget:.0f} s leaves less than a fifth of it for training", budget=budget),
            N_(
                "use --trial-budget {seconds}s or more",
                seconds=math.ceil(plan.overhead(photos=photos, reading=0.0) / 0.8),
            ),
        )


# Results ----------------------------------------------------------------------------


def _document(study: Study, ready: Prepared) -> SearchDocument:
    """The result of the search as plain values, for the report and `--json`."""
    settings, best = study.settings, study.folder / "best.json"
    return {
        "folder": str(study.folder),
        "source": ready.manifest.source,
        "score": settings.score,
        "validation_photos": len(ready.validation),
        "best": _plain(study, study.best()),
        "default": _plain(study, study.default()),
        "default_open": study.default_open(),
        "importance": study.importance(),
        "trials": [_row(trial) for trial in study.begun()],
        "recipe": str(best),
        "report": str(study.folder / "report.html"),
        "command": plugins.command("train", settings.data, *settings.columns.options(), "--recipe", str(best)),
        "seed": settings.recipe.seed,
        "manifest": settings.manifest,
        "versions": versions() | {"optuna": version("optuna")},
    }


def _plain(study: Study, trial: FrozenTrial | None) -> TrialRow | None:
    return None if trial is None else _row(study.as_trial(trial))


def _row(trial: Trial) -> TrialRow:
    return cast(TrialRow, dataclasses.asdict(trial) | {"why": trial.why})


def _why(error: PatiError) -> Message:
    """The error and its hint in one sentence."""
    return N_("{error}; {hint}", error=error.message, hint=error.hint) if error.hint else error.message
