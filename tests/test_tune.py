"""The search: nothing is lost or done twice, only validation photos judge, and what is found can be trained."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pati.cli.options import print_json
from pati.data.loader import Samples
from pati.data.sources.source import Columns
from pati.errors import Diverged, Interrupted, PatiError
from pati.events import EpochDone, TrainingBegan, TrainingEvent
from pati.locale.catalogues import languages
from pati.models import Net
from pati.recipe import Recipe
from pati.report import labels
from pati.report.markup import m, t
from pati.runs.history import Epoch
from pati.training.loop import State
from pati.workflows import fit, tune
from pati.workflows.prepare import prepare
from pati.workflows.train import train
from pati.workflows.tune_study import (
    CHANGED,
    DEFAULT_FIELDS,
    MOST_KILLS,
    RANDOM_TRIALS,
    UNPRUNED_TENTHS,
    UNPRUNED_TRIALS,
    Settings,
    Study,
    chosen_fields,
    rounded,
    searchable,
    space,
)
from tests.support.commands import pati
from tests.support.forks import Fork
from tests.support.photos import write_shapes
from tests.support.recipes import settled

pytestmark = pytest.mark.slow

QUICK = Recipe(epochs=1, size=32, growth=(1.0,), width=0.25, batch=16)
OPTIONS = (
    "--epochs",
    "2",
    "--size",
    "32",
    "--set",
    "growth=1",
    "width=0.25",
    "batch=16",
    "--search",
    "dropout",
    "crop",
)


def search(data: Path, out: Path, recipe: Recipe = QUICK, **options: Any) -> dict[str, Any]:
    events: list[dict[str, Any]] = []
    return tune.tune(data, recipe, out=out, listen=events.append, **options)


def states(folder: Path) -> dict[str, int]:
    """How many trials of a folder are in each state."""
    study = Study(folder, Settings.read(folder))
    found: dict[str, int] = {}
    for trial in study.trials():
        found[trial.state.name] = found.get(trial.state.name, 0) + 1
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("tune") / "shapes", per_class=20)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """The folder of a finished search over the usual fields."""
    out = tmp_path_factory.mktemp("searched") / "search"
    search(data, out, trials=6)
    return out


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Recipe], list[float]]], list[Recipe]]:
    """Puts a drawn-up course of validation accuracies in the place of training; returns the recipes it was given."""
    seen: list[Recipe] = []

    def replace(course: Callable[[Recipe], list[float]]) -> list[Recipe]:
        def train(net: Net, *arguments: Any, log: Callable[[TrainingEvent], None], **options: Any) -> State:
            recipe = next(value for value in arguments if isinstance(value, Recipe))
            seen.append(recipe)
            values = course(recipe)
            for epoch, value in enumerate(values, start=1):
                log(
                    EpochDone(
                        Epoch(
                            epoch=epoch, step=epoch, progress=epoch / len(values), size=32, train_loss=0.0,
                            train_accuracy=0.0, validation_loss=0.0, validation_accuracy=value,
                            validation_macro_f1=value, learning_rate=0.0, photos_per_second=1.0, seconds=0.1 * epoch,
                            left=0.0,
                        )
                    )
                )  # fmt: skip
            return State()

        monkeypatch.setattr(fit, "train_net", train)
        return seen

    return replace


# Where it looks ----------------------------------------------------------------------


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    optimizer=st.sampled_from(["muon", "sgd", "adamw"]),
    learning_rate=st.none() | st.floats(1e-6, 10),
    dropout=st.floats(0, 0.95),
    batch=st.integers(2, 8192),
)
def test_values_lie_where_the_fields_say(
    seed: int, optimizer: str, learning_rate: float | None, dropout: float, batch: int
) -> None:
    given_recipe = Recipe(epochs=1, optimizer=optimizer, learning_rate=learning_rate, dropout=dropout, batch=batch)
    base = settled(given_recipe)
    where = space(base, searchable())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    values = {name: rounded(value) for name, value in study.ask(where).params.items()}
    recipe = dataclasses.replace(base, **values)  # refuses what lies outside a field's own limits
    for item in dataclasses.fields(Recipe):
        value, own, asked = getattr(recipe, item.name), getattr(base, item.name), item.metadata["search"]
        if not asked:
            assert value == own
        elif len(asked) == 2:
            factor = own if item.metadata["relative"] else 1
            assert asked[0] * factor * 0.99 <= value <= asked[1] * factor * 1.01 or item.metadata["relative"]
            assert where[item.name].log == item.metadata["log"]  # type: ignore[attr-defined]
        else:
            assert value in (*asked, own)
    if learning_rate is None:
        assert 0.15 * base.learning_rate * 0.99 <= recipe.learning_rate <= 3 * base.learning_rate * 1.01  # type: ignore[operator]


def test_every_searchable_range_lies_inside_the_fields_limits() -> None:
    for name in searchable():
        item = next(item for item in dataclasses.fields(Recipe) if item.name == name)
        for value in () if item.metadata["relative"] else item.metadata["search"]:
            Recipe(**{name: value})
    assert set(DEFAULT_FIELDS) <= set(searchable())


def test_drawings_that_cannot_be_turned_are_not() -> None:
    assert "rotate" in chosen_fields((), rotation_invariant=True, uneven=False)
    assert "rotate" not in chosen_fields((), rotation_invariant=False, uneven=False)
    with pytest.raises(PatiError, match="flips and rotations"):
        chosen_fields(["rotate"], rotation_invariant=False, uneven=False)


@pytest.mark.parametrize("name", ["size", "droput"])
def test_other_names_are_refused_with_the_list(name: str) -> None:
    with pytest.raises(PatiError, match=name) as caught:
        chosen_fields(["dropout", name], rotation_invariant=True, uneven=False)
    assert all(field in str(caught.value.hint) for field in searchable())


# What comes out ----------------------------------------------------------------------


def test_a_search_leaves_what_it_promises(searched: Path, data: Path) -> None:
    document = tune.resume(searched, listen=lambda event: None)
    assert [row["number"] for row in document["trials"]] == list(range(6))
    assert document["trials"][0]["default"]
    assert document["default"]["values"] == {
        name: getattr(Settings.read(searched).recipe, name) for name in document["default"]["values"]
    }
    assert document["best"]["value"] >= document["default"]["value"]
    finished = [row for row in document["trials"] if row["state"] == "complete"]
    assert document["best"]["value"] == max(row["value"] for row in finished)
    tied = [row for row in finished if row["value"] == document["best"]["value"]]
    assert document["best"]["log_loss"] == min(row["log_loss"] for row in tied)
    best = Recipe.read(searched / "best.json")
    assert {name: getattr(best, name) for name in document["best"]["values"]} == document["best"]["values"]
    assert best.epochs == 1
    assert sorted(path.name for path in searched.iterdir()) == [
        ".lock", "best.json", "report.html", "study.db", "tune.json",
    ]  # fmt: skip


def test_the_best_recipe_trains_to_the_value_that_was_told(searched: Path, data: Path, tmp_path: Path) -> None:
    best = tune.resume(searched, listen=lambda event: None)["best"]
    command = ["train", data, "--recipe", searched / "best.json", "--out", tmp_path / "run", "--json"]
    done = pati(*command)
    assert done.returncode == 0, done.stderr
    validation = json.loads(done.stdout)["validation"]
    assert validation["accuracy"] == best["value"]
    assert validation["log_loss"] == best["log_loss"]


def test_the_report_has_two_languages_and_figures(searched: Path) -> None:
    page = (searched / "report.html").read_text(encoding="utf-8")
    honest = t(
        "All trials were scored on the validation split only; the test split was not used. The best of many trials is "
        "partly lucky, so expect a slightly lower score than the one shown here: train its recipe and read the test "
        "score."
    )
    assert honest in page
    for language in languages():
        assert f'lang="{language}" role="img"' in page
    figures = re.findall(r"<svg.*?</svg>", page, re.S)
    count = len(languages())
    assert len(figures) in (count, 2 * count)  # importance can't be estimated if no two trials differ
    assert "dropout" in page
    assert page.count('class="best"') == 1


def test_only_validation_photos_judge(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = prepare(data, QUICK)
    seen: set[int] = set()
    at = Samples.at

    def spy(self: Samples, numbers: Any) -> Any:
        seen.update(self.rows[numbers].tolist())
        return at(self, numbers)

    monkeypatch.setattr(Samples, "at", spy)
    search(data, tmp_path / "search", trials=2)
    rows = {
        name: set(ready.packed.of(ready.manifest.of_split(name)).tolist()) for name in ("train", "validation", "test")
    }
    assert rows["test"]
    assert seen == rows["train"] | rows["validation"]


def test_uneven_classes_are_scored_by_macro_f1(tmp_path: Path) -> None:
    write_shapes(tmp_path / "shapes", per_class=40, classes=("circle",))
    write_shapes(tmp_path / "shapes", per_class=10, classes=("square",))
    document = search(tmp_path / "shapes", tmp_path / "search", trials=1, fields=["dropout"])
    assert document["score"] == "macro_f1"
    run = train(tmp_path / "shapes", Recipe.read(tmp_path / "search" / "best.json"), out=tmp_path / "run")
    assert run.metrics["validation"]["macro_f1"] == document["best"]["value"]


# Poor trials -------------------------------------------------------------------------


def test_a_poor_trial_is_given_up(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]]
) -> None:
    courses = iter([[0.8] * 10] * UNPRUNED_TRIALS + [[0.5] * 10, [0.9] * 10])
    trained(lambda recipe: next(courses))
    document = search(data, tmp_path / "search", trials=UNPRUNED_TRIALS + 2)
    assert [row["state"] for row in document["trials"]] == [
        *["complete"] * UNPRUNED_TRIALS, "pruned", "complete",
    ]  # fmt: skip
    poor = document["trials"][UNPRUNED_TRIALS]
    assert poor["value"] is None
    assert poor["seconds"] == pytest.approx(0.1 * UNPRUNED_TENTHS)


def test_a_diverged_trial_counts_and_is_no_best(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]]
) -> None:
    def course(recipe: Recipe) -> list[float]:
        if len(seen) > 1:
            raise Diverged("the loss became nan")
        return [0.5]

    seen = trained(course)
    document = search(data, tmp_path / "search", trials=3)
    assert [row["state"] for row in document["trials"]] == ["complete", "diverged", "diverged"]
    assert document["best"]["number"] == 0


def test_a_budget_ends_the_search(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    trained(lambda recipe: [0.5] if time.sleep(0.2) is None else [])
    monkeypatch.setattr("pati.training.plan.REPORT", 0.0)
    started = time.monotonic()
    document = search(data, tmp_path / "search", budget=4.0, started=started)
    assert len(document["trials"]) > 1
    assert time.monotonic() - started < 12
    document = search(data, tmp_path / "other", budget=0.01)  # the first one is finished in any case
    assert [row["state"] for row in document["trials"]] == ["complete"]


# Stops -------------------------------------------------------------------------------

SLOWED = """
import sys, time, warnings
warnings.simplefilter("error")
import pati.training.loop
pati.training.loop.CHECKPOINT_SECONDS = 0.0
step = pati.training.loop.Optimizers.step
def slow(*arguments):
    time.sleep(0.1)
    step(*arguments)
pati.training.loop.Optimizers.step = slow
from pati.cli import main
main()
"""


def start(data: Path, out: Path, trials: int, *options: object) -> Fork:
    return Fork(SLOWED, "tune", data, *OPTIONS, "--trials", trials, "--out", out, *options)


PLUGIN = """
from pati.models import Net, Options, models
from pati.models.scratch import scratch

@models.register("mine")
def mine(classes: int, options: Options) -> Net:
    '''The bootcamp net under another name.'''
    return scratch(classes, options)
"""


def test_a_search_goes_on_only_with_the_plugin_that_it_began_with(data: Path, tmp_path: Path) -> None:
    plugin, out = tmp_path / "mine.py", tmp_path / "search"
    plugin.write_text(PLUGIN)

    def told(trials: int, *options: object) -> str:
        process = start(data, out, trials, "--model", "mine", *options)
        return " ".join(process.communicate(timeout=300)[1].split())

    told(1, "--plugin", plugin)
    assert states(out) == {"COMPLETE": 1}
    assert "the model 'mine' comes from the plugin mine.py" in told(2)
    plugin.write_text(PLUGIN + "# edited")
    assert "the plugin mine.py has changed since this run was started" in told(2, "--plugin", plugin)
    assert states(out) == {"COMPLETE": 1}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_stop_loses_no_finished_trial(number: signal.Signals, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a?b #%20"  # a name that means something in an address
    process = start(data, out, 3)
    deadline = time.monotonic() + 300
    while not list(out.glob("trials/1/step-*")):  # trial 0 is finished, trial 1 under way
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130, told
        assert f"pati tune --out '{out}'" in " ".join(told.split())
        assert states(out) == {"COMPLETE": 1, "FAIL": 1, "WAITING": 1}
    else:
        assert states(out) == {"COMPLETE": 1, "RUNNING": 1}
    study = Study(out, Settings.read(out))
    first, stopped = study.trials()[:2]
    left = sorted(out.glob("trials/1/step-*"))[-1].name

    begun: list[TrainingBegan] = []
    real = fit.train_net

    def spy(*arguments: Any, **options: Any) -> State:
        log = options.pop("log")

        def both(event: TrainingEvent) -> None:
            if isinstance(event, TrainingBegan):
                begun.append(event)
            log(event)

        return real(*arguments, log=both, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_net", spy)
        document = tune.resume(out, listen=lambda event: None)
    assert states(out) == {"COMPLETE": 3, "FAIL": 1}
    again = study.trials()
    assert (again[0].value, again[0].params) == (first.value, first.params)
    assert again[2].params == stopped.params  # tried again,
    assert left == f"step-{begun[0].step:09d}.safetensors"  # from where it was
    assert [row["state"] for row in document["trials"]] == ["complete", "stopped", "complete", "complete"]
    assert not (out / "trials").exists()


def test_a_trial_that_takes_its_process_down_is_left_out(data: Path, tmp_path: Path) -> None:
    search(data, tmp_path / "search", trials=1, fields=["dropout"])
    study = Study(tmp_path / "search", Settings.read(tmp_path / "search"))
    for _ in range(MOST_KILLS):
        with pytest.raises(MemoryError), study.trial(lambda: True):
            raise MemoryError
    tried = [trial for trial in study.trials() if trial.state.name == "FAIL"]
    assert len(tried) == MOST_KILLS
    assert len({str(trial.params) for trial in tried}) == 1
    with study.trial(lambda: True) as other:
        assert other is not None
        assert other.params != tried[0].params
        study.finish(other, 0.5, {"log_loss": 1.0, "seconds": 1.0})


def test_trials_change_a_few_fields_of_the_best(tmp_path: Path) -> None:
    names = chosen_fields((), rotation_invariant=True, uneven=True)
    assert {"balance", "balance_power"} <= set(names)
    recipe = settled(Recipe(rotate=0.0))
    drawn = Settings(
        data="", columns=Columns(), given=recipe, fields=(), recipe=recipe, space=space(recipe, names),
        score="macro_f1", manifest="", trials=30, budget=None, plugins={},
    )  # fmt: skip
    study = Study(tmp_path, drawn)
    changed, everything = [], 0
    for number in range(40):
        best = study.best()
        with study.trial(lambda: True) as trial:
            assert trial is not None
            if best is not None:
                count = sum(trial.params[name] != best.params[name] for name in names)
                idle = best.params["balance"] in ("none", "focal", "effective")
                if idle and count <= 1:
                    assert trial.params["balance_power"] == best.params["balance_power"]
                everything += count > max(CHANGED)
                changed += [count] * (count <= max(CHANGED))
                assert count >= 1  # none is done twice
                assert number > RANDOM_TRIALS or count <= max(CHANGED)
            study.finish(trial, 0.5 + (number % 7) / 100, {"log_loss": 1.0, "seconds": 1.0})
    assert set(changed) == set(CHANGED)
    assert 1 <= everything <= 15
    assert study.trials()[0].params == {
        name: pytest.approx(getattr(recipe, name), abs=1e-4) if name != "balance" else recipe.balance for name in names
    }


def test_two_processes_share_a_search(data: Path, tmp_path: Path) -> None:
    processes = [start(data, tmp_path / "search", 5, "--json") for _ in range(2)]
    told = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert states(tmp_path / "search") == {"COMPLETE": 5}
    rows = json.loads(max((out for out, _ in told), key=len))["trials"]
    assert len({json.dumps(row["values"]) for row in rows}) == 5  # none was done twice
    assert sum(row["default"] for row in rows) == 1
    lines = [len(re.findall(r"^trial \d+:", shown, re.M)) for _, shown in told]
    assert sum(lines) == 5
    assert min(lines) >= 1


def test_another_search_in_the_folder_is_refused(searched: Path, data: Path, tmp_path: Path) -> None:
    other = write_shapes(tmp_path / "other", per_class=12)
    for told, options in (
        ("other data", {"data": other}),
        ("another recipe", {"recipe": dataclasses.replace(QUICK, dropout=0.1)}),
        ("other fields", {"fields": ["dropout"]}),
    ):
        with pytest.raises(PatiError, match=told) as caught:
            search(**{"data": data, "out": searched, "trials": 1} | options)  # type: ignore[arg-type]
        assert "pati tune --out" in str(caught.value.hint)


def test_photos_that_changed_are_refused(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "shapes", per_class=12)
    search(data, tmp_path / "search", trials=1)
    write_shapes(data, per_class=13)
    with pytest.raises(PatiError, match="data has changed"):
        search(data, tmp_path / "search", trials=2)


def test_a_stop_before_anything_is_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "prepare", stop)
    with pytest.raises(Interrupted, match="start it again"):
        search(data, tmp_path / "search", trials=1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["digits"], "got neither"),
        (["digits", "--trials", "3", "--budget", "1h"], "got both"),
        (["digits", "--trials", "0"], "at least 1 trial"),
        ([], "requires DATA"),
        (["--out", "x", "--model", "pati"], "omit the other options"),
        (["--out", "nowhere"], "not the folder of a search"),
        (["digits", "--trials", "3", "--search", "rotate"], "flips and rotations"),
        (["digits", "--trials", "3", "--trial-budget", "soon"], "--trial-budget is 'soon', expected a time"),
        (["digits", "--trials", "3", "--trial-budget", "6s"], "--trial-budget 11s or more"),
        (["digits", "--trials", "3", "--epochs", "1", "--out", "full"], "is not empty"),
    ],
)
def test_mistakes_get_words(arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pati.cli import program

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PatiError) as caught:
        program(["tune", *arguments])
    assert told in str(caught.value)


def test_without_optuna_the_command_to_install_it_is_told() -> None:
    code = "import sys; sys.modules['optuna'] = None; from pati.cli import main; main()"
    command = [sys.executable, "-c", code, "tune", "digits", "--trials", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "pati[tune]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trial_that_cant_be_trained_counts_and_the_search_goes_on(
    data: Path,
    tmp_path: Path,
    trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    errors = [PatiError("this width can't be"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")]

    def course(recipe: Recipe) -> list[float]:
        if 1 < len(seen) < 4:
            raise errors[len(seen) - 2]
        return [0.5]

    seen = trained(course)
    document = search(data, tmp_path / "search", trials=4)
    assert [row["state"] for row in document["trials"]] == ["complete", "failed", "failed", "complete"]
    assert document["trials"][0]["why"] is None
    why = [row["why"].shown("en") for row in document["trials"] if row["why"] is not None]
    assert why[0] == "this width can't be"
    assert "not enough GPU memory for this model" in why[1]
    print_json(document)
    assert [row["why"] for row in json.loads(capsys.readouterr().out)["trials"]] == [None, *why, None]
    page = (tmp_path / "search" / "report.html").read_text(encoding="utf-8")
    assert m(labels.TRIALS["failed"]) in page


def test_a_recipe_that_cant_be_trained_is_an_error(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]]
) -> None:
    def course(recipe: Recipe) -> list[float]:
        raise PatiError("nothing can be")

    trained(course)
    with pytest.raises(PatiError, match="nothing can be"):
        search(data, tmp_path / "search", trials=4)


def test_the_storage_of_another_optuna_is_told(searched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "search"
    shutil.copytree(searched, folder)
    with sqlite3.connect(folder / "study.db") as connection:
        connection.execute("update version_info set schema_version = 3")
        connection.execute("update alembic_version set version_num = 'v0.0.1'")
    with pytest.raises(PatiError, match="was written by another version of optuna"):
        tune.resume(folder, trials=7, listen=lambda event: None)


def test_a_search_in_which_nothing_can_be_trained_ends(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]]
) -> None:
    def course(recipe: Recipe) -> list[float]:
        if len(seen) > 1:
            raise PatiError("no net has this", "leave it out")
        return [0.5]

    seen = trained(course)
    for _ in range(2):  # also when it is started again
        with pytest.raises(PatiError, match="no net has this") as caught:
            search(data, tmp_path / "search", trials=20)
        assert str(caught.value.hint) == "leave it out"
    assert states(tmp_path / "search") == {"COMPLETE": 1, "PRUNED": tune.MOST_FAILURES, "FAIL": 2, "WAITING": 1}


def test_a_default_that_cant_be_trained_now_is_tried_again_later(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]]
) -> None:
    def course(recipe: Recipe) -> list[float]:
        if len(seen) <= MOST_KILLS + 1:
            raise RuntimeError("CUDA out of memory")
        return [0.5]

    seen = trained(course)
    for _ in range(MOST_KILLS + 1):
        with pytest.raises(PatiError, match="not enough GPU memory"):
            search(data, tmp_path / "search", trials=1)
    document = search(data, tmp_path / "search", trials=1)
    assert document["default"]["value"] is not None


def test_the_report_says_when_the_recipe_itself_gave_nothing(
    data: Path, tmp_path: Path, trained: Callable[[Callable[[Recipe], list[float]]], list[Recipe]]
) -> None:
    def course(recipe: Recipe) -> list[float]:
        if len(seen) == 1:
            raise Diverged("the loss became nan")
        return [0.5]

    seen = trained(course)
    document = search(data, tmp_path / "search", trials=2)
    assert (document["default"]["value"], document["default_open"]) == (None, False)
    page = tmp_path / "search" / "report.html"
    told = t("The baseline (the recipe's own values) could not be trained to the end.")
    assert told in page.read_text(encoding="utf-8")
    seen.clear()
    seen.append(Recipe())
    search(data, tmp_path / "other", trials=2)
    assert told not in (tmp_path / "other" / "report.html").read_text(encoding="utf-8")
