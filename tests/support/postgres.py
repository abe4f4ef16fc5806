"""A PostgreSQL server of the test's own, from the binaries that the system has."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.browser import free_port

PASSWORD = "s3cret/word"


def binaries() -> Path:
    """The folder of the newest installed version; skips the test where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    if on_path is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return Path(on_path).parent


@dataclass(frozen=True)
class Postgres:
    """A server on 127.0.0.1 with the databases that `create` makes; `pati` is its user, with `PASSWORD`."""

    folder: Path
    port: int

    def url(self, database: str, password: str | None = "s3cret%2Fword") -> str:
        """An address for `--storage`."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://pati{secret}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new, empty database; returns its address."""
        self._run("createdb", "--host", "127.0.0.1", "--port", str(self.port), "--username", "pati", database)
        return self.url(database)

    def start(self) -> None:
        options = f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "start", "--wait", "--silent", "-D", str(self.folder / "data"), "-l", log, "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; by default, as if it had been killed."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "-D", str(self.folder / "data"), "--mode", mode)

    def _run(self, name: str, *words: str) -> None:
        # PostgreSQL refuses to run as root.
        other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        command = [*other, str(binaries() / name), *words]
        environment = os.environ | {"PGPASSWORD": PASSWORD, "LC_ALL": "C"}
        done = subprocess.run(
            command, env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server, whose data are removed at the end."""
    binaries()
    folder = Path(tempfile.mkdtemp(prefix="pati-postgres-"))
    server = Postgres(folder, free_port())
    try:
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        server._run(
            "initdb", "-D", str(folder / "data"), "--username", "pati", "--pwfile", str(folder / "password"),
            "--auth", "scram-sha-256", "--no-sync", "--no-instructions",
        )  # fmt: skip
        server.start()
        yield server
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
