"""Locks end with their process, asking for one changes nothing, and a file system without them is an error."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pati.errors import PatiError
from pati.runs.run import Run
from pati.system import locks

HOLD = """
import sys, time
from pathlib import Path
from pati.system.locks import locked
with locked(Path(sys.argv[1]), "held"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_one_process_at_a_time_until_it_ends_however_it_does(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert locks.is_locked(lock)
    with pytest.raises(PatiError, match="somebody else"), locks.locked(lock, "somebody else"):
        pytest.fail("two processes hold one lock")
    holder.kill()
    holder.wait()
    assert not locks.is_locked(lock)
    with locks.locked(lock, "somebody else"):
        assert locks.is_locked(lock)
    assert not locks.is_locked(lock)


def test_asking_writes_nothing(tmp_path: Path) -> None:
    assert not locks.is_locked(tmp_path / "lock")
    assert not list(tmp_path.iterdir())
    (tmp_path / "lock").touch()
    (tmp_path / "lock").chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert not locks.is_locked(tmp_path / "lock")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("code", [errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_an_error(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    (tmp_path / "run").mkdir()
    with pytest.raises(PatiError, match="no locks here") as caught, Run(tmp_path / "run").alone():
        pytest.fail("worked on unguarded")
    assert "local disk" in str(caught.value.hint)
    (tmp_path / "lock").touch()
    with pytest.raises(PatiError, match="no locks here"):
        locks.is_locked(tmp_path / "lock")


def test_a_full_disk_is_not_taken_for_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **options: object) -> int:
        raise OSError(errno.ENOSPC, "no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.open", full)
        with pytest.raises(OSError, match="no space left"), locks.locked(tmp_path / "lock", "held"):
            pytest.fail("locked nothing")
