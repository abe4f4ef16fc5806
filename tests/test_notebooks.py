"""The notebooks, whose code is the same, run from top to bottom, here on a part of the real photos and in a third of a
minute a training."""

from __future__ import annotations

import importlib.util
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent / "notebooks"
NAMES = ("cats_vs_dogs.ipynb", "cats_vs_dogs.tr.ipynb")
PHOTOS = 250  # of each class


@pytest.mark.parametrize("name", NAMES)
def test_it_is_as_written_and_keeps_no_output(name: str) -> None:
    spec = importlib.util.spec_from_file_location("write_notebooks", ROOT / "write.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / name).read_text(encoding="utf-8")
    assert text == module.text(name), "run `make docs`"
    assert all(not cell.get("outputs") for cell in json.loads(text)["cells"])


def code(name: str) -> list[str]:
    cells = json.loads((ROOT / name).read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_their_code_is_the_same_but_for_the_language() -> None:
    english, turkish = map(code, NAMES)
    assert [cell.replace('LANGUAGE = "en"', 'LANGUAGE = "tr"') for cell in english] == turkish
    assert sum(one != other for one, other in zip(english, turkish, strict=True)) == 1


def test_it_runs(photos: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Turkish one, whose words are the longer ones."""
    import nbformat
    from nbclient import NotebookClient

    with zipfile.ZipFile(photos("cats-vs-dogs")) as whole, zipfile.ZipFile(tmp_path / "cats-vs-dogs.zip", "w") as part:
        for label in ("Cat", "Dog"):
            names = sorted(one for one in whole.namelist() if f"/{label}/" in one and one.endswith(".jpg"))
            for one in names[:PHOTOS]:
                part.writestr(one, whole.read(one))
    monkeypatch.setenv("PATI_MIRROR", str(tmp_path))
    monkeypatch.setenv("PATI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT.parent), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.reads((ROOT / NAMES[1]).read_text(encoding="utf-8"), as_version=4)
    (choice,) = (cell for cell in notebook.cells if "MINUTES = 5" in cell.source)
    choice.source = choice.source.replace("MINUTES = 5", "MINUTES = 0.3")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    )
    for words in ("fotoğraf alındı", "val. %", "duyarlılık", "ortalanmış Gauss", "çarpma-toplama"):
        assert words in printed, words
    assert "house" in printed
    pictures = [
        kind
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        for kind in output.get("data", {})
        if kind.startswith("image/")
    ]
    assert len(pictures) >= 8
    (runs,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in runs.iterdir()} == {"house", "scratch"}
