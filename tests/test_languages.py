"""A new language is one catalogue: accented English through terminal, report, card and page."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pati.events import silent
from pati.locale import catalogues
from pati.workflows.clean import clean
from tests.support.accented import CODE, escaped, spoken, visible, write
from tests.support.browser import CHROMIUM, QUIET, free_port, needs_chromium, wait_for
from tests.support.commands import pati
from tests.support.photos import write_shapes

if TYPE_CHECKING:
    from playwright.sync_api import Page

# What stays as it is in every language: see docs/faq.md.
NAMES = {
    # of programs, files, verbs and options' values
    "pati", "predict", "explain", "train", "check", "report", "html", "photo", "run", "photos", "runs", "cli",
    # of models, recipe fields and their values
    "scratch", "muon", "sgd", "adamw", "none", "stretch", "auto", "trivial", "randaugment",
    # of the pictures' classes
    "circle", "square", "triangle", "shapes",
    # of splits, as files and options name them
    "test", "validation", "first",
    # terms that are names
    "grad", "cam", "jpeg", "linux", "px", "english", "xa",
}  # fmt: skip
# What Streamlit itself says, to screen readers alone; the page lays words of its own over the field for files.
STREAMLIT = (
    "Skip to main content", "Link to heading", "Choose an option", "Open", "progress", "Fullscreen", "Shortcut",
    "file upload",
)  # fmt: skip
COVERED = "[data-testid=stIconMaterial], [data-testid=stFileUploaderDropzone] > * { display: none }"
VERSIONS = {"python", "torch", "numpy", "pillow", "simplejpeg", "safetensors", "timm", "machine", "cores", "x86"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[tuple[Path, str]]:
    """A run that was trained in the language, and what the terminal said."""
    base = tmp_path_factory.mktemp("languages")
    data = write_shapes(base / "shapes", per_class=40)
    (data / "circle" / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200))
    with spoken(base / "locale"):
        done = pati("train", data, "--epochs", 2, "--size", 32, "--set", "width=0.5", "--out", base / "run", cwd=base)
        assert done.returncode == 0, done.stderr
        yield base / "run", done.stdout + done.stderr


def test_the_terminal_of_a_training(run: tuple[Path, str]) -> None:
    assert "éṗóçĥ" in run[1]
    assert escaped(run[1], NAMES) == []


def test_the_report(run: tuple[Path, str]) -> None:
    page = (run[0] / "report.html").read_text(encoding="utf-8")
    assert f'<html lang="{CODE}" data-lang="{CODE}">' in page
    assert escaped(visible(page), NAMES | VERSIONS) == []
    assert "accuracy" in visible(page, "en").lower()


def test_the_card(run: tuple[Path, str]) -> None:
    text = (run[0] / "model-card.md").read_text(encoding="utf-8")
    assert escaped(re.sub(r"`[^`]*`", "", text), NAMES | VERSIONS) == []


# The page: another process, with the package and one more catalogue in it ------------------


@pytest.fixture(scope="module")
def page(run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    from playwright.sync_api import sync_playwright

    folder, _ = run
    base = tmp_path_factory.mktemp("package")
    package = Path(catalogues.__file__).parents[1]
    shutil.copytree(package, base / "pati", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for model in package.glob("included/*.safetensors"):
        (base / "pati/included" / model.name).symlink_to(model)
    write(base / "pati/locale")
    shutil.copytree(folder, folder.parent / "runs" / "first")
    clean(folder.parent / "shapes", folder.parent / "runs" / "first", listen=silent)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "pati", "app", "--port", str(port), "--no-browser"],
        cwd=folder.parent, env=os.environ | {"PYTHONPATH": str(base), "PATI_LANG": CODE}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(port)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            tab = browser.new_page(base_url=f"http://localhost:{port}")
            tab.set_default_timeout(30_000)
            tab.context.add_cookies([{"name": "pati_language", "value": CODE, "url": f"http://localhost:{port}"}])
            yield tab
            browser.close()
    finally:
        process.terminate()
        process.wait(20)


def shown(page: Page) -> str:
    """The words of the page at rest, with those in fields."""
    page.locator("h1").wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.add_style_tag(content=COVERED)
    labels = page.locator("[aria-label], [placeholder], [title]").evaluate_all(
        "all => all.flatMap(one => ['aria-label', 'placeholder', 'title'].map(name => one.getAttribute(name) ?? ''))"
    )
    return "\n".join([page.locator("body").inner_text(), *labels])


@needs_chromium
@pytest.mark.parametrize("tab", ["", "train", "results", "clean"])
def test_the_page(page: Page, tab: str) -> None:
    page.goto(f"/{tab}")
    text = shown(page)
    for words in STREAMLIT:
        text = text.replace(words, "")
    assert len(re.findall(r"\w*[áéíóúý]\w*", text)) > 10
    assert escaped(text, NAMES) == []
