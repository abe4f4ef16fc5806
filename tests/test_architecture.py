"""Packages import downwards and in no circle, and `import pati` is light."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pati

ROOT = Path(__file__).parent.parent


def linted(root: Path) -> subprocess.CompletedProcess[str]:
    """The contracts in a checkout's pyproject.toml."""
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources."""
    shutil.copytree(ROOT / "pati", tmp_path / "pati", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_keep_the_contracts() -> None:
    done = linted(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("evaluation/metrics.py", "from pati.report import figures", "Packages import downwards"),
        ("system/files.py", "from pati.data import decode", "Packages import downwards"),
        ("data/sources/source.py", "from pati.data.sources import tables", "No circular imports"),
        ("training/budget.py", "def late():\n    from pati.training import loop", "No circular imports"),
    ],
)
def test_a_forbidden_import_breaks_them(checkout: Path, module: str, line: str, broken: str) -> None:
    path = checkout / "pati" / module
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    done = linted(checkout)
    assert done.returncode != 0
    assert [told for told in done.stdout.splitlines() if told.startswith(broken) and told.endswith("BROKEN")]


def test_nothing_is_flat_but_what_is_used_everywhere() -> None:
    flat = {path.stem for path in Path(pati.__file__).parent.glob("*.py")}
    assert flat == {"__init__", "__main__", "api", "errors", "events", "plugins", "recipe", "registry"}


def test_import_pati_does_not_import_torch() -> None:
    code = "import sys, pati; pati.Recipe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_names_are_sorted_and_exist() -> None:
    assert pati.__all__ == sorted(pati.__all__)
    for name in pati.__all__:
        assert getattr(pati, name) is not None


@pytest.mark.slow
def test_loading_a_model_needs_nothing_of_reports_and_training(trained: Path) -> None:
    code = (
        "import sys, pati; pati.load(sys.argv[1]); "
        "heavy = ('matplotlib', 'jinja2', 'sklearn', 'scipy', 'pati.workflows', 'pati.training', 'pati.report'); "
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code, trained], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_catalogue_is_whole_for_every_thread() -> None:
    code = (
        "import threading\n"
        "from pati.models import models\n"
        "start, missing = threading.Barrier(8), []\n"
        "def ask():\n"
        "    start.wait()\n"
        "    try: models['vgg11']\n"
        "    except Exception as error: missing.append(error)\n"
        "threads = [threading.Thread(target=ask) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "raise SystemExit('; '.join(map(str, missing)) or None)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
