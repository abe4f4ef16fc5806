"""Where the trials of a search are stored, and which process works on which of them.

Optuna stores the trials: in a SQLite file in the folder of the search, or on a database server (`--storage URL`), for
several machines. A trial whose process has died is tried again. In a folder, locks on files tell which processes live.
On a server, each running trial has a heartbeat: a number that its process keeps increasing. Unlike the heartbeat of
Optuna's `RDBStorage`, this one outlives a restart of the server, does not compare the clocks of machines, and tells a
process that was suspended for long that its trial was taken over.
"""

from __future__ import annotations

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial
from sqlalchemy import Column, MetaData, String, Table, select, text
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from pati.errors import PatiError
from pati.locale.messages import N_
from pati.system import clock, extras, locks

STORAGE_ERRORS = (SQLAlchemyError, StorageInternalError)
HEARTBEAT = 10.0  # seconds between two
GRACE = 60.0  # seconds without a heartbeat after which a trial is tried again
LONGEST_LOCK = 60_000  # milliseconds of silence after which a PostgreSQL server ends the connection that holds the lock

_HEARTBEAT = "heartbeat"  # attribute of a trial
_SETTINGS = "settings"  # attribute of a study on a server
_locks = Table("pati_locks", MetaData(), Column("study", String(255), primary_key=True))


class Storage(ABC):
    """Where the trials of one search are stored.

    `name`: for messages, without a password; `study`: Optuna's name of the study; `reached`: whether a connection has
    been made that can be made again when it is lost.
    """

    name: str
    study: str
    reached = False

    @abstractmethod
    def open(self) -> optuna.storages.RDBStorage:
        """Connect, and create what is missing. Raises one of `STORAGE_ERRORS`, or `PatiError`."""

    @abstractmethod
    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Context manager for one process at a time. Raises one of `STORAGE_ERRORS`, also when it ends."""

    @abstractmethod
    def owned(self, trial: optuna.Trial) -> contextlib.AbstractContextManager[None]:
        """Context manager in which other processes see that this one works on the trial."""

    @abstractmethod
    def is_orphaned(self, trial: FrozenTrial) -> bool:
        """Whether the process that worked on a running trial has died."""

    def is_taken(self, number: int) -> bool:
        """Whether another process has given up this process's trial for lost."""
        return False

    @abstractmethod
    def released(self, number: int) -> None:
        """Forget who worked on a trial that is finished."""

    def close(self) -> None:  # noqa: B027
        """End the connections that `open` has not returned."""

    def disconnected(self) -> None:  # noqa: B027
        """Note that the storage could not be reached."""

    def settings(self, study: optuna.Study, own: str) -> str:
        """The settings, as JSON, of the search that is stored here; `own`, which it then stores, if there is none."""
        return own


class Folder(Storage):
    """A SQLite file and locks in the folder of the search, for the processes of one machine."""

    study = "pati"

    def __init__(self, folder: Path) -> None:
        self._folder, self.name = folder, str(folder / "study.db")

    def open(self) -> optuna.storages.RDBStorage:
        """See `Storage`."""
        with self.alone():  # Optuna's tables can't be created by two at a time
            return _opened("sqlite:///study.db", {"creator": self._connect}, self.name)

    def _connect(self) -> sqlite3.Connection:
        # Not by URL: a folder's name may contain characters with a special meaning there.
        return sqlite3.connect(self.name, timeout=60, check_same_thread=False)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """See `Storage`."""
        return alone(self._folder)

    @contextlib.contextmanager
    def owned(self, trial: optuna.Trial) -> Iterator[None]:
        """See `Storage`."""
        path = self._lock(trial.number)
        path.parent.mkdir(exist_ok=True)  # another process may have removed it
        with locks.locked(path, N_("trial {number} is taken", number=trial.number)):
            yield

    def is_orphaned(self, trial: FrozenTrial) -> bool:
        """See `Storage`."""
        return not locks.is_locked(self._lock(trial.number))

    def released(self, number: int) -> None:
        """See `Storage`."""
        locks.discard(self._lock(number))

    def _lock(self, number: int) -> Path:
        return self._folder / "trials" / f"{number}.lock"


def alone(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Context manager in which no other process of this machine reads and then writes in the folder of a search."""
    return locks.locked(folder / ".lock", N_("another process is using {folder}", folder=folder), wait=True)


class Server(Storage):
    """A study on a database server. `url`: its address, as SQLAlchemy and Optuna take it. Raises `PatiError`."""

    def __init__(self, url: str, study: str) -> None:
        self._url, self.study = _parsed(url), study
        self.name = without_password(self._url)
        self._engine = _engine(self._url)
        self._heartbeats: dict[int, _Heartbeat] = {}
        self._taken: set[int] = set()

    def connect(self) -> None:
        """Raise one of `STORAGE_ERRORS` if the server can't be reached."""
        with self._engine.connect():
            self.reached = True

    def open(self) -> optuna.storages.RDBStorage:
        """See `Storage`."""
        self.connect()  # its error would be hidden below
        with contextlib.suppress(SQLAlchemyError):  # another process creates it at the same time
            _locks.create(self._engine, checkfirst=True)
        with contextlib.suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(_locks.insert().values(study=self.study))
        with self.alone():
            return _opened(self._url.render_as_string(hide_password=False), _engine_options(self._url), self.name)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """See `Storage`: a lock on a row, which the server releases when the connection ends."""
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":  # such as the connection of a machine that lost its power
                connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {LONGEST_LOCK}"))
            connection.execute(select(_locks).where(_locks.c.study == self.study).with_for_update())
            yield

    @contextlib.contextmanager
    def owned(self, trial: optuna.Trial) -> Iterator[None]:
        """See `Storage`."""
        count = 0

        def beat() -> None:
            nonlocal count
            count += 1
            trial.set_user_attr(_HEARTBEAT, count)

        def beat_again() -> None:
            try:
                beat()
            except UpdateFinishedTrialError:
                self._taken.add(trial.number)
            except STORAGE_ERRORS:  # the next one may be written
                self.disconnected()

        beat()
        with clock.repeated(HEARTBEAT, beat_again, name="heartbeat"):
            yield

    def is_orphaned(self, trial: FrozenTrial) -> bool:
        """See `Storage`: its heartbeat has not changed while this process could have read it for `GRACE` seconds."""
        count, last = trial.user_attrs.get(_HEARTBEAT, 0), self._heartbeats.get(trial.number)
        if last is None or last.count != count:
            self._heartbeats[trial.number] = _Heartbeat(count, clock.now())
            return False
        return clock.now() - last.read > GRACE

    def close(self) -> None:
        """See `Storage`."""
        self._engine.dispose()

    def is_taken(self, number: int) -> bool:
        """See `Storage`."""
        return number in self._taken

    def disconnected(self) -> None:
        """See `Storage`: others could not write heartbeats either, so time begins anew for them."""
        self._heartbeats.clear()

    def released(self, number: int) -> None:
        """See `Storage`."""
        self._heartbeats.pop(number, None)

    def settings(self, study: optuna.Study, own: str) -> str:
        """See `Storage`: they are an attribute of the study, for the machines that join later."""
        if _SETTINGS not in study.user_attrs:
            study.set_user_attr(_SETTINGS, own)
        return str(study.user_attrs[_SETTINGS])


@dataclass(frozen=True)
class _Heartbeat:
    """The last heartbeat of a trial that was read: its number, and when it was first read."""

    count: int
    read: float


def _opened(url: str, engine_options: Mapping[str, object], name: str) -> optuna.storages.RDBStorage:
    storage = optuna.storages.RDBStorage(url, engine_kwargs=dict(engine_options), skip_compatibility_check=True)
    if storage.get_current_version() != storage.get_head_version():
        storage.engine.dispose()
        raise PatiError(
            N_("{path} was written by another version of optuna than {version}", path=name, version=optuna.__version__),
            N_("install that version (the report names it), or choose another folder with --out"),
        )
    return storage


# Addresses --------------------------------------------------------------------------

_EXAMPLE = N_("for example: --storage postgresql://user@host/database")


def without_password(url: sqlalchemy.URL) -> str:
    """An address as it may be shown and stored."""
    query = {name: value for name, value in url.query.items() if "password" not in name.lower()}
    shown = sqlalchemy.URL.create(
        url.drivername, url.username, host=url.host, port=url.port, database=url.database, query=query
    )
    return shown.render_as_string()


def _parsed(url: str) -> sqlalchemy.URL:
    """Raises `PatiError`, which does not repeat the address: it may contain a password."""
    try:
        found = sqlalchemy.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise PatiError(N_("--storage expects the address of a database server"), _EXAMPLE) from error
    dialect, _, driver = found.drivername.partition("+")
    if dialect in ("postgres", "postgresql"):  # "postgres" is what some hosts write
        found = found.set(drivername=f"postgresql+{driver or 'psycopg'}")
    if dialect == "sqlite":
        raise PatiError(
            N_("--storage expects the address of a database server, got a SQLite file"),
            N_("without --storage, the processes of one machine share a SQLite file in the folder --out"),
        )
    if not found.database:
        raise PatiError(N_("--storage {url} lacks the name of a database", url=without_password(found)), _EXAMPLE)
    return found


def _engine_options(url: sqlalchemy.URL) -> dict[str, object]:
    options: dict[str, object] = {"pool_pre_ping": True}  # replaces connections that a restart has ended
    if url.drivername == "postgresql+psycopg":
        # A database in SQL_ASCII, as where the server's locale is C, gives bytes without an encoding.
        options["connect_args"] = {"connect_timeout": 10, "client_encoding": "utf8"} | dict(url.query)
    return options


def _engine(url: sqlalchemy.URL) -> sqlalchemy.Engine:
    try:
        return sqlalchemy.create_engine(url, **_engine_options(url))
    except ImportError as error:
        known = extras.missing(error.name or "", "--storage")
        driver = error.name or url.drivername
        raise known or PatiError(
            N_("--storage requires {package}, which is not installed", package=driver),
            N_("install the driver of this database, or name one that is installed, as in mysql+pymysql://"),
        ) from error
    except (NoSuchModuleError, ArgumentError) as error:
        raise PatiError(N_("--storage: {name} is not a known database", name=url.drivername), _EXAMPLE) from error
