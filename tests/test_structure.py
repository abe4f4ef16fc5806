"""The house keeps its plan: imports point down only, and `import pati` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pati

ROOT = Path(pati.__file__).parent

# Top floor first. A module may import its own floor and those below.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"app"},
    {"terminal", "api"},
    {"workflows"},
    {"report"},
    {"training"},
    {"inference"},
    {"runs"},
    {
        "explain",
        "models",
        "evaluation",
        "data",
    },
    {"recipe", "plugins", "system"},
    {"registry", "errors", "__init__"},
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Rooms that a file imports at run time, also inside functions; type-only imports don't count."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[1] for alias in node.names if alias.name.startswith("pati."))
        if isinstance(node, ast.ImportFrom) and node.module == "pati":
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pati."):
            found.add(str(node.module).split(".")[1])
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    mine = FLOOR[room(path)]
    for other in imported(path):
        assert other in FLOOR, f"{other} has no floor yet: give it one here and in docs/architecture.md"
        assert FLOOR[other] >= mine, f"{path.name} imports {other}, which lies above it"


def test_every_floor_is_in_use() -> None:
    assert {room(path) for path in modules()} == set(FLOOR)


def test_import_pati_does_not_import_torch() -> None:
    code = "import sys, pati; pati.Recipe(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_names_are_sorted_and_exist() -> None:
    assert pati.__all__ == sorted(pati.__all__)
    for name in pati.__all__:
        assert getattr(pati, name) is not None
