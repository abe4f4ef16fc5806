"""A search on a database server: several machines, one of which dies, a server that restarts; no trial is lost."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from pati.cli import program
from pati.data.sources.source import Columns
from pati.errors import Interrupted, PatiError
from pati.recipe import Recipe
from pati.workflows import tune, tune_storage, tune_study
from pati.workflows.tune_storage import STORAGE_ERRORS, Server
from pati.workflows.tune_study import Settings, Study, chosen_fields, space
from tests.support.forks import Fork
from tests.support.photos import write_shapes
from tests.support.postgres import Postgres, postgres
from tests.support.recipes import settled

pytestmark = pytest.mark.slow

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

# Trials that are slow enough to be interrupted, of processes that notice soon when another one has died.
SLOWED = """
import sys, time, warnings
warnings.simplefilter("error")
import pati.training.loop, pati.workflows.tune, pati.workflows.tune_storage, pati.workflows.tune_study
pati.training.loop.CHECKPOINT_SECONDS = 0.0
pati.workflows.tune_storage.HEARTBEAT, pati.workflows.tune_storage.GRACE = 0.5, 5.0
pati.workflows.tune.POLLED = pati.workflows.tune_study.ASKED_AGAIN = 0.2
step = pati.training.loop.Optimizers.step
def slow(*arguments):
    time.sleep(0.1)
    step(*arguments)
pati.training.loop.Optimizers.step = slow
from pati.cli import main
main()
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as started:
        yield started


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, study_at: Opens) -> None:
    monkeypatch.setattr(tune_storage, "HEARTBEAT", 0.1)
    monkeypatch.setattr(tune_storage, "GRACE", 1.0)
    monkeypatch.setattr(tune_study, "ASKED_AGAIN", 0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("server") / "shapes", per_class=20)


def made_up(**changes: object) -> Settings:
    recipe = settled(Recipe(rotate=0.0))
    names = chosen_fields((), rotation_invariant=True, uneven=False)
    settings = Settings(
        data="/here", columns=Columns(), given=Recipe(), fields=(), recipe=recipe, space=space(recipe, names),
        score="accuracy", manifest="1", trials=30, budget=None, plugins={},
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)  # type: ignore[arg-type]


@pytest.fixture
def study_at() -> Iterator[Opens]:
    """Opens the study in a database, as a process that works in the folder does."""
    opened: list[Study] = []

    def study_at(
        url: str, folder: Path, study: str = "study", settings: Settings | None = None, **options: Any
    ) -> Study:
        folder.mkdir(exist_ok=True)
        opened.append(Study(folder, settings or made_up(), Server(url, study), **options))
        return opened[-1]

    yield study_at
    for study in opened:
        study.close()


def states(study: Study) -> dict[str, int]:
    found: dict[str, int] = {}
    for trial in study.trials():
        found[trial.state.name] = found.get(trial.state.name, 0) + 1
    return found


Opens = Callable[..., Study]
SCORED: tune_study.TrialFacts = {"log_loss": 1.0, "seconds": 1.0}


def test_two_machines_one_killed_and_the_server_restarted(
    server: Postgres, data: Path, tmp_path: Path, study_at: Opens
) -> None:
    url = server.create("killed")
    trials = 6
    first, second = (
        Fork(SLOWED, "tune", data, *OPTIONS, "--trials", trials, "--out", tmp_path / name / "search", "--storage", url)
        for name in ("one", "two")
    )

    def at_work(name: str, number: int) -> list[Path]:
        return [path for path in (tmp_path / name).glob("search/trials/*/step-*") if int(path.parent.name) >= number]

    def until(begun: str, number: int) -> None:
        deadline = time.monotonic() + 200
        while not at_work(begun, number):
            assert first.poll() is None, first.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    until("one", 0)
    until("two", 0)
    second.kill()
    second.communicate(timeout=60)
    server.stop()
    time.sleep(1)
    server.start()
    _, told = first.communicate(timeout=300)
    assert first.returncode == 0, told
    study = study_at(url, tmp_path / "one" / "search", "search", Settings.read(tmp_path / "one" / "search"))
    found = states(study)
    assert found.pop("COMPLETE") + found.pop("PRUNED", 0) == trials
    assert set(found) == {"FAIL"}  # the trial of the killed process,
    failed = [trial for trial in study.trials() if trial.state.name == "FAIL"]
    done = study.finished()
    for trial in failed:  # which was tried again
        assert [other.params for other in done].count(trial.params) == 1
    assert len({json.dumps(trial.params) for trial in done}) == trials  # and none was done twice
    assert sum("default" in trial.user_attrs for trial in done) == 1
    assert (tmp_path / "one" / "search" / "report.html").exists()
    for path in (tmp_path / "one").rglob("*"):
        if path.is_file():
            assert b"s3cret" not in path.read_bytes(), path
    assert "s3cret" not in told


def test_two_processes_on_a_server(server: Postgres, data: Path, tmp_path: Path) -> None:
    url = server.create("shared")
    processes = [
        Fork(SLOWED, "tune", data, *OPTIONS, "--trials", 4, "--out", tmp_path / name / "s", "--storage", url, "--json")
        for name in ("one", "two")
    ]
    told = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    documents = [json.loads(out) for out, _ in told]
    assert documents[0]["trials"] == documents[1]["trials"]  # both waited for the last one
    assert [row["state"] for row in documents[0]["trials"]] in (["complete"] * 4, ["complete"] * 3 + ["pruned"])
    assert len({json.dumps(row["values"]) for row in documents[0]["trials"]}) == 4
    assert documents[0]["best"] == documents[1]["best"]
    assert [len(re.findall(r"^trial \d+:", shown, re.M)) > 0 for _, shown in told] == [True, True]


def test_a_search_resumes_without_data(server: Postgres, data: Path, tmp_path: Path) -> None:
    url, out = server.create("resumed"), tmp_path / "search"
    process = Fork(SLOWED, "tune", data, *OPTIONS, "--trials", 2, "--out", out, "--storage", url)
    deadline = time.monotonic() + 200
    while not list(out.glob("trials/*/step-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    with pytest.raises(PatiError, match="can't use postgresql") as error:  # a password is needed, and nowhere
        tune.resume(out, listen=lambda event: None)
    assert "PGPASSWORD" in str(error.value.hint)
    document = tune.resume(out, storage=url, listen=lambda event: None)
    assert [row["state"] for row in document["trials"]] == ["stopped", "complete", "complete"]
    assert "s3cret" not in json.dumps(document)
    with pytest.raises(PatiError, match="another --storage"):
        tune.resume(out, storage=server.create("elsewhere"), listen=lambda event: None)


def test_the_password_may_come_from_the_environment(
    server: Postgres, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study_at: Opens
) -> None:
    server.create("environment")
    url = server.url("environment", password=None)
    with pytest.raises(STORAGE_ERRORS, match="no password supplied"):
        study_at(url, tmp_path / "a")
    monkeypatch.setenv("PGPASSWORD", "s3cret/word")
    assert states(study_at(url, tmp_path / "a")) == {"WAITING": 1}


@pytest.mark.usefixtures("quick")
class TestOwners:
    """Which process works on a trial."""

    def test_a_trial_that_no_process_works_on_is_tried_again(
        self, server: Postgres, tmp_path: Path, study_at: Opens
    ) -> None:
        url = server.create("orphan")
        dead, living = study_at(url, tmp_path / "a"), study_at(url, tmp_path / "b")
        dead._storage.owned = lambda trial: threading.Lock()  # type: ignore[method-assign] # a process without heartbeat
        with dead.trial(lambda: True) as trial:
            assert trial is not None
            deadline = time.monotonic() + 30
            while states(living).get("FAIL") is None:
                assert time.monotonic() < deadline
                with living.trial(lambda: False):
                    time.sleep(0.05)
            with living.trial(lambda: True) as again:
                assert again is not None
                assert again.params == trial.params
                living.finish(again, 0.5, SCORED)
            dead.finish(trial, 0.9, SCORED)  # it was not dead after all: too late
        assert states(living) == {"FAIL": 1, "COMPLETE": 1}
        assert living.best().value == 0.5  # type: ignore[union-attr]

    def test_a_trial_with_a_heartbeat_is_left_alone(self, server: Postgres, tmp_path: Path, study_at: Opens) -> None:
        url = server.create("alive")
        one, other = study_at(url, tmp_path / "a"), study_at(url, tmp_path / "b")
        with one.trial(lambda: True) as trial:
            assert trial is not None
            until = time.monotonic() + 2.5
            while time.monotonic() < until:
                with other.trial(lambda: False):
                    time.sleep(0.05)
            one.finish(trial, 0.5, SCORED)
        assert states(other) == {"COMPLETE": 1}

    def test_a_process_learns_that_its_trial_was_taken_over(
        self, server: Postgres, tmp_path: Path, study_at: Opens
    ) -> None:
        url = server.create("taken")
        one, other = study_at(url, tmp_path / "a"), study_at(url, tmp_path / "b")
        with one.trial(lambda: True) as trial:
            assert trial is not None
            assert not one.is_taken(trial)
            other._exclusively(lambda: other._put_back(other.trials()[trial.number], killed=True))
            deadline = time.monotonic() + 10
            while not one.is_taken(trial):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert not one.report(trial, 0.5, 5)
            one.finish(trial, 0.9, SCORED)
        assert states(other) == {"FAIL": 1, "WAITING": 1}

    def test_silence_while_the_server_is_away_says_nothing(
        self, server: Postgres, tmp_path: Path, study_at: Opens
    ) -> None:
        url = server.create("silent")
        warned: list[str] = []
        one, other = (
            study_at(url, tmp_path / "a"),
            study_at(url, tmp_path / "b", warn=lambda text: warned.append(str(text))),
        )
        with one.trial(lambda: True) as trial:
            assert trial is not None
            with other.trial(lambda: False):
                pass
            server.stop()
            threading.Timer(2.5, server.start).start()
            with other.trial(lambda: False):
                pass
            assert len(warned) == 1
            assert "can't be reached" in warned[0]
            assert "s3cret" not in warned[0]
            until = time.monotonic() + 2
            while time.monotonic() < until:
                with other.trial(lambda: False):
                    time.sleep(0.05)
            one.finish(trial, 0.5, SCORED)
        assert states(other) == {"COMPLETE": 1}

    def test_training_goes_on_while_the_server_is_away(self, server: Postgres, tmp_path: Path, study_at: Opens) -> None:
        study = study_at(server.create("away"), tmp_path / "a")
        with study.trial(lambda: True) as trial:
            assert trial is not None
            server.stop()
            try:
                at = time.monotonic()
                assert not study.report(trial, 0.5, 5)
                assert time.monotonic() - at < 3
            finally:
                server.start()
            study.finish(trial, 0.5, SCORED)
        assert states(study) == {"COMPLETE": 1}

    def test_a_stop_ends_the_wait_for_the_server(self, server: Postgres, tmp_path: Path, study_at: Opens) -> None:
        study = study_at(server.create("stopped"), tmp_path / "a", stopped=lambda: True)
        server.stop()
        try:
            with pytest.raises(Interrupted, match="can't be reached"):
                study.trials()
        finally:
            server.start()

    def test_a_lock_that_is_lost_is_taken_again(self, server: Postgres, tmp_path: Path, study_at: Opens) -> None:
        study = study_at(server.create("lost"), tmp_path / "a")
        calls = []

        def work() -> int:
            calls.append(1)
            if len(calls) == 1:
                server.stop()
                server.start()
            return len(calls)

        assert study._exclusively(work) == 2

    def test_what_was_enqueued_twice_is_tried_once(self, server: Postgres, tmp_path: Path, study_at: Opens) -> None:
        study = study_at(server.create("twice"), tmp_path / "a")
        waiting = study.trials()[0]
        study._study.enqueue_trial(waiting.system_attrs["fixed_params"], waiting.user_attrs)  # as Optuna repeats it
        assert states(study) == {"WAITING": 2}
        for number in (0, 2):
            with study.trial(lambda: True) as trial:
                assert trial is not None
                assert trial.number == number
                study.finish(trial, 0.5, SCORED)
        assert states(study) == {"COMPLETE": 2, "FAIL": 1}


def test_many_processes_exclude_each_other(server: Postgres, tmp_path: Path, study_at: Opens) -> None:
    url = server.create("many")
    counted, goal = [], 24

    def work(number: int) -> None:
        study = study_at(url, tmp_path / str(number))

        def wanted() -> bool:
            return len(study.finished()) + study.running() < goal

        while True:
            with study.trial(wanted) as trial:
                if trial is None:
                    return
                study.finish(trial, 0.5, SCORED)
                counted.append(trial.number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counted) == list(range(goal))
    study = study_at(url, tmp_path / "0")
    assert states(study) == {"COMPLETE": goal}
    assert len({json.dumps(trial.params) for trial in study.trials()}) == goal


def test_another_search_of_this_name_is_refused(server: Postgres, tmp_path: Path, study_at: Opens) -> None:
    url = server.create("refused")
    study_at(url, tmp_path / "a")
    for told, changes in (
        ("other data", {"manifest": "2"}),
        ("another recipe", {"given": Recipe(dropout=0.3)}),
        ("other fields", {"fields": ("crop",)}),
    ):
        with pytest.raises(PatiError, match=rf"the study study in postgresql\S+ is a search with {told}") as error:
            study_at(url, tmp_path / "a", settings=made_up(**changes))
        assert "s3cret" not in str(error.value)
    joined = study_at(url, tmp_path / "a", settings=made_up(data="/elsewhere", trials=3)).settings
    assert (joined.data, joined.trials) == ("/elsewhere", 3)
    assert study_at(url, tmp_path / "a", "other", made_up(manifest="2")).settings.manifest == "2"


def test_a_storage_of_another_optuna_is_told(server: Postgres, tmp_path: Path, study_at: Opens) -> None:
    url = server.create("version")
    study_at(url, tmp_path / "a")
    with contextlib.closing(Server(url, "study")) as known, known._engine.begin() as connection:
        connection.execute(sqlalchemy.text("update version_info set schema_version = 3"))
        connection.execute(sqlalchemy.text("update alembic_version set version_num = 'v0.0.1'"))
    with pytest.raises(PatiError, match=r"postgresql\S+ was written by another version of optuna"):
        study_at(url, tmp_path / "a")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "expects the address of a database server"),
        ("postgresql://me:s3cret@host:port/db", "expects the address of a database server"),
        ("sqlite:///trials.db", "got a SQLite file"),
        ("postgresql://me:s3cret@host", "lacks the name of a database"),
        ("paradox://me:s3cret@host/db", "paradox is not a known database"),
        ("mysql+pymysql://me:s3cret@host/db", "requires pymysql, which is not installed"),
        (
            "postgresql://me:s3cret@127.0.0.1:9/db",
            "can't use postgresql+psycopg://me@127.0.0.1:9/db: connection failed",
        ),
        ("postgres://me@127.0.0.1:9/db?sslpassword=s3cret", "can't use postgresql+psycopg://me@127.0.0.1:9/db: conn"),
    ],
)
def test_mistakes_get_words(url: str, told: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "prepare", lambda *arguments, **options: pytest.fail("the photos are read"))
    with pytest.raises(PatiError) as caught:
        program(["tune", str(data), "--trials", "1", "--epochs", "1", "--storage", url])
    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)
