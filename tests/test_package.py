"""What is published: the wheel and the sdist hold what they should, and say of themselves what is true."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import email
import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import yaml
from cyclopts.completion._base import CompletionAction, get_completion_action

from pati.cli import demo, program
from pati.cli.options import Balance
from pati.data.sources import builtin_datasets, fetch
from pati.errors import PatiError
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.system import command
from pati.system.doctor import BASE
from pati.system.extras import EXTRAS
from pati.system.version import VERSION
from tests.support.commands import pati

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMPORTED_AS = BASE | {  # other names than those of the packages
    "sklearn": "scikit-learn", "skimage": "scikit-image", "multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}  # fmt: skip
BUILT_FROM = {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=; ]", line)[0].lower() for line in requirements}


def tracked() -> set[str]:
    """The files of the checkout, committed or not."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an sdist, and of a wheel that was built from it, as `python -m build` does; without a network."""
    pytest.importorskip("build")
    base = tmp_path_factory.mktemp("package")
    for name in tracked():
        (base / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, base / "checkout" / name)
    left_out = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")  # setuptools warns of the latter
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", base / "dist", base / "checkout"],
        capture_output=True, text=True, env=environment, cwd=base,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    return base / "dist"


def metadata(built: Path) -> Message:
    with zipfile.ZipFile(*built.glob("*.whl")) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(wheel.read(name))


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    with zipfile.ZipFile(*built.glob("*.whl")) as wheel:
        held = {name for name in wheel.namelist() if not name.startswith(f"pati-{VERSION}.dist-info/")}
    assert held == {name for name in tracked() if name.startswith("pati/")}


@pytest.mark.slow
def test_the_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    with tarfile.open(*built.glob("*.tar.gz")) as sdist:
        held = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    made = {name for name in held if name.startswith("pati.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert held - made == BUILT_FROM | {name for name in tracked() if name.startswith("pati/")}


@pytest.mark.slow
@pytest.mark.parametrize("tool", [["twine", "check", "--strict"], ["check_wheel_contents"]])
def test_the_tools_of_publishers_find_nothing(built: Path, tool: list[str]) -> None:
    pytest.importorskip(tool[0])
    packages = [*built.glob("*.whl")] if tool[0] == "check_wheel_contents" else [*built.iterdir()]
    done = subprocess.run([sys.executable, "-m", *tool, *packages], capture_output=True, text=True, cwd=built)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_what_it_says_of_itself(built: Path) -> None:
    found = metadata(built)
    assert (found["Name"], found["Version"], found["License-Expression"]) == ("pati", VERSION, "Apache-2.0")
    text = str(found.get_payload())
    assert text.startswith("# pati\n")
    assert len(text) > 10_000
    assert not re.findall(r"\]\((?!https?:|#)[^)]*\)", text), "links to files of the checkout"
    for anchor in re.findall(r"\]\(#([^)]*)\)", text):
        assert re.search(rf"^#+ {anchor}$", text.lower(), re.MULTILINE)


@pytest.mark.slow
def test_it_works_without_the_checkout(built: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(*built.glob("*.whl")) as wheel:
        wheel.extractall(tmp_path / "installed")
    code = (
        "import pati, sys; from pati import cli, included; from pati.locale import catalogues; "
        "from pati.report import pages; assert pati.__file__.startswith(sys.argv.pop()); "
        "assert included.model().is_file() and included.card().is_file(); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "list", "presets", "--lang", "tr", tmp_path],
        capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "dakika" in done.stdout


def test_extras_are_those_of_the_package() -> None:
    assert names(PROJECT["dependencies"]) == set(BASE.values())
    for name, extra in EXTRAS.items():
        listed = names(PROJECT["optional-dependencies"][name]) - {"pati"}
        assert {IMPORTED_AS.get(package, package) for package in extra.packages} == listed, name
    assert set(PROJECT["optional-dependencies"]) == {*EXTRAS, "dev", "fuzz", "bench"}


def test_all_that_is_imported_is_required() -> None:
    known = {*BASE, *(package for extra in EXTRAS.values() for package in extra.packages), "pati"}
    known |= {"_pi_heif", "_typeshed"}  # part of pi_heif; for type checkers only
    known |= {"pydantic", "starlette"}  # parts of fastapi's interface
    for path in (ROOT / "pati").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            strange = {name.partition(".")[0] for name in found} - known - sys.stdlib_module_names
            assert not strange, f"{path.name} imports {strange}"


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", PROJECT["license"])
    assert (cited["title"], cited["version"]) == ("pati", VERSION)
    assert f"## {VERSION}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# The demo -----------------------------------------------------------------------------


def test_the_demo_uses_the_digits_where_no_photos_can_be_had(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float | None]] = []

    def train(name: str, recipe: Any, **options: object) -> SimpleNamespace:
        asked.append((name, recipe.budget))
        return SimpleNamespace(run=Run(trained), metrics=Run(trained).read_metrics())

    def fail(*arguments: object, **options: object) -> Path:
        raise PatiError("no network")

    monkeypatch.setattr("pati.workflows.train.train", train)
    monkeypatch.setattr(builtin_datasets, "locate", lambda name: None)
    monkeypatch.setattr(fetch, "fetch", fail)
    done = pati("demo")
    assert done.returncode == 0, done.stderr
    assert asked == [("digits", demo.BUDGET["digits"])]
    assert "no network\nnote: the demo uses the built-in digits instead" in done.stderr
    assert f"next:     {command.shown()} open {trained}" in done.stdout


def test_the_demo_downloads_nothing_where_it_cannot_train(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from pati import cli; cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo"],
        capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATI_CACHE": str(tmp_path / "cache"), "PATI_MIRROR": ""},
    )  # fmt: skip
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "error: pati demo requires torch, which is not installed"
    assert '"pati[train]"' in second
    assert not list(tmp_path.iterdir())


def test_make_demo_is_the_same() -> None:
    assert "\t@$(BIN)/pati demo\n" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_how_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("own", "other"):
        program_file = tmp_path / folder / "pati"
        program_file.parent.mkdir()
        program_file.touch(mode=0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / "own"))
    monkeypatch.setenv("PATH", str(tmp_path / "other"))
    assert command.shown() == str(tmp_path / "own" / "pati")
    monkeypatch.chdir(tmp_path)
    assert command.shown() == os.path.join("own", "pati")
    monkeypatch.setenv("PATH", str(tmp_path / "own"))
    assert command.shown() == "pati"
    (tmp_path / "own" / "pati").unlink()
    assert command.shown().endswith(" -m pati")


# Completion ---------------------------------------------------------------------------


def typed(home: Path, keys: str) -> list[str]:
    """The words that the command pati is given where these keys are pressed in bash."""
    import pty

    process, terminal = pty.fork()
    if process == 0:
        os.chdir(home)
        os.execvp("bash", ["bash", "--noprofile", "--norc", "-i"])
    words = r"""pati() { printf '%s\n' '<<' "$@" '>>'; }"""
    lines = [". ~/.bashrc", "bind 'set enable-bracketed-paste off'", words, keys, "exit", ""]
    os.write(terminal, "\n".join(lines).encode())
    shown = b""
    with contextlib.suppress(OSError):  # the end of bash
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    os.waitpid(process, 0)
    return shown.decode().replace("\r", "").rpartition("<<\n")[2].partition("\n>>")[0].split("\n")


def test_places_are_completed_in_all_shells() -> None:
    """All that names photos, a model or a run."""
    for shell in ("bash", "zsh", "fish", "powershell"):
        script = program.generate_completion(shell=shell)
        assert "effective" in script
    for name in ("train", "check", "clean", "show-augment", "lr-find", "tune", "predict", "explain", "eval", "export"):
        places = program[name].assemble_argument_collection()
        assert get_completion_action(places[0].hint) is CompletionAction.FILES, name


def test_balancing_methods_are_all_completed() -> None:
    (balance,) = (field for field in dataclasses.fields(Recipe) if field.name == "balance")
    assert get_args(get_args(get_args(Balance)[0])[0]) == balance.metadata["among"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".bashrc").write_text("alias ll=ls\n")
    done = [pati("--install-completion", "--shell", "bash") for _ in range(2)]
    assert [one.returncode for one in done] == [0, 0], done[0].stderr
    script = Path(done[0].stdout.strip())
    assert script.is_relative_to(tmp_path)
    assert script.read_text(encoding="utf-8").isascii()
    lines = (tmp_path / ".bashrc").read_text().splitlines()
    assert (lines[0], sum(str(script) in line for line in lines)) == ("alias ll=ls", 1)

    def completed(*words: str) -> set[str]:
        array = " ".join(f"'{word}'" for word in words)
        code = (
            f". ~/.bashrc; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; _pati; printf '%s\\n' ${{COMPREPLY[@]}}"
        )
        shown = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=tmp_path)
        return set(shown.stdout.split())

    assert completed("pati", "do") == {"doctor"}
    assert {name for name in program if not name.startswith("-")} <= completed("pati", "")
    assert completed("pati", "train", "--bud") == {"--budget"}
    assert {"models", "presets"} <= completed("pati", "list", "")
    assert {"--lang", "--plugin"} <= completed("pati", "train", "--")
    assert completed("pati", "predict", "--format", "c") == {"csv"}
    assert completed("pati", "train", "--balance", "w") == {"weights"}
    (tmp_path / "old photos" / "cat").mkdir(parents=True)
    for words in (["predict"], ["train"], ["tune"], ["eval", "run", "--outside"], ["explain", "a.jpg"]):
        assert typed(tmp_path, f"pati {' '.join(words)} ol\tc\t.jpg") == [*words, "old photos/cat/.jpg"]


def test_completion_of_an_unknown_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    detect = importlib.import_module("cyclopts.completion.detect")

    def fail() -> str:
        raise detect.ShellDetectionError

    monkeypatch.setattr(detect, "detect_shell", fail)
    done = pati("--install-completion")
    assert done.returncode == 1
    assert "hint: name it: pati --install-completion --shell bash" in done.stderr


# The notebooks ------------------------------------------------------------------------


@pytest.mark.parametrize("torch", [True, False])
def test_notebooks_install_the_wheel_and_keep_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch: bool
) -> None:
    cells = json.loads((ROOT / "notebooks" / "cats_vs_dogs.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    code = next(source for source in sources if '"pip"' in source)
    (tmp_path / "pati-0.1.0-py3-none-any.whl").touch()
    monkeypatch.chdir(tmp_path)
    asked: list[list[str]] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: (torch and name == "torch") or None)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.9.1+cu126")
    monkeypatch.setattr(subprocess, "run", lambda words, check: asked.append(words))
    exec(code, {})
    wheel = f"{tmp_path / 'pati-0.1.0-py3-none-any.whl'}[train]"
    assert asked == [[sys.executable, "-m", "pip", "install", "--quiet", wheel, *["torch==2.9.1+cu126"] * torch]]
