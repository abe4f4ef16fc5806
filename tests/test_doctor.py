"""`pati doctor`: it finds what is wrong, says what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pati.locale.messages import as_is
from pati.system import doctor, extras, locks
from pati.system.doctor import Verdict
from tests.support.commands import pati


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch, which takes seconds to import."""
    monkeypatch.setattr(extras, "installed", lambda package: package not in ("torch", "optuna", "scipy"))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules the examined processes import before those that are installed."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def checks(code: int) -> dict[str, dict[str, Any]]:
    done = pati("doctor", "--json")
    assert done.returncode == code, done.stdout
    rows = json.loads(done.stdout)["checks"]
    assert set(Counter(row["name"] for row in rows).values()) == {1}
    return {row["name"]: row for row in rows}


def test_it_examines_everything_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "not" / "there" / "yet"))
    found = checks(0)
    assert not list(tmp_path.iterdir())
    names = {"pati", "python", "numpy", "onnxruntime", "train", "app", "processor", "bfloat16", "gpu", "memory"}
    assert names | {"cache", "current_folder", "temporary_folder", "home", "language", "output"} <= set(found)
    assert found["train"]["found"].startswith("not installed; for: training")
    assert '"pati[train]"' in found["train"]["hint"]
    assert {found["train"]["verdict"], found["tune"]["verdict"]} == {"absent"}
    assert "without torch" in found["bfloat16"]["found"]
    assert found["cache"]["found"].startswith(str(tmp_path / "not" / "there" / "yet"))


def test_what_is_optional_is_not_called_ok() -> None:
    done = pati("doctor")
    assert re.search(r"^  \[tune\] +–  +not installed", done.stdout, re.MULTILINE)
    assert all(line == line.rstrip() for line in done.stdout.splitlines())


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_place_that_cannot_be_written_to_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "file" / "cache"))
    done = pati("doctor", "--lang", language)
    assert done.returncode == 1
    assert "PATI_CACHE" in done.stdout
    assert {"en": "Not a directory", "tr": "Bu bir klasör değil"}[language] in done.stdout
    assert ("1 problem\n" in done.stdout) == (language == "en")
    assert checks(1)["cache"]["verdict"] == "problem"


def test_a_folder_without_working_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "is_locked", lambda path: False)
    cache = checks(1)["cache"]
    assert (cache["verdict"], cache["wrong"]) == ("problem", "locks have no effect on this disk")


def test_a_package_that_cannot_be_imported(packages: Path) -> None:
    (packages / "simplejpeg.py").write_text("raise ImportError('DLL load failed')")
    row = checks(1)["simplejpeg"]
    assert row["wrong"] == "it cannot be imported: ImportError: DLL load failed"
    assert "pip install --force-reinstall --no-deps simplejpeg" in row["hint"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    ("number", "told"), [(signal.SIGILL, "this processor lacks instructions"), (signal.SIGKILL, "ended by SIGKILL")]
)
def test_a_package_that_ends_the_process(packages: Path, number: int, told: str) -> None:
    (packages / "simplejpeg.py").write_text(f"import os; os.kill(os.getpid(), {int(number)})")
    assert told in checks(1)["simplejpeg"]["wrong"]


def test_a_package_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_least", lambda: {"pillow": "900.1"})
    assert checks(1)["pillow"]["wrong"] == "pati needs 900.1 or newer"


def test_least_versions_are_those_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["pillow>=12.0", "pi-heif<2,>=1.4", 'torch>=2.9; extra == "train"', 'pati[train]; extra == "tune"', "rich"]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    assert doctor._least() == {"pillow": "12.0", "pi-heif": "1.4", "torch": "2.9"}
    assert doctor._numbers("2.13.0+cpu") > doctor._numbers("2.9")


def test_an_incomplete_extra_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "installed", lambda package: package not in ("torch", "uvicorn"))
    row = checks(0)["app"]
    assert (row["verdict"], row["wrong"]) == ("warning", "uvicorn is missing")


@pytest.mark.parametrize(("encoding", "verdict"), [("utf-8", "ok"), ("cp1254", "ok"), ("cp437", "warning")])
def test_encodings(encoding: str, verdict: str) -> None:
    assert doctor._encoding("output", as_is("output"), encoding, as_is("")).verdict == Verdict(verdict)


def test_a_deleted_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_here", lambda: None)
    assert checks(1)["current_folder"]["wrong"] == "it has been deleted"


def test_an_nvidia_card_that_torch_does_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}")
    row = doctor._gpu(doctor.TorchFacts("2.13.0+cpu"))
    assert row.verdict is Verdict.WARNING
    assert "for the CPU only" in str(row.wrong)
    used = doctor._gpu(doctor.TorchFacts("2.13.0", "cuda", "H200", 139_000_000_000, "13.0", "bfloat16"))
    assert (used.verdict, str(used.found)) == (Verdict.OK, "H200, 139 GB")


@pytest.mark.slow
def test_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = doctor._torch_facts(doctor._imported(["torch"])["torch"])
    assert facts is not None
    assert facts.version
    assert facts.precision in ("float32", "bfloat16")
