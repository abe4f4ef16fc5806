"""The same photos by every way to a prediction: the same class, and the largest difference of a probability."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.page import INPUT, served
from bench.web import answers
from pati import included
from pati.data.sources import storage
from pati.inference.classifier import Classifier
from pati.inference.load import load
from pati.recipe import Recipe
from pati.system import machine
from pati.workflows.check import check
from pati.workflows.export import export
from tests.support.browser import CHROMIUM
from tests.support.serving import form, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PHOTOS = 200  # test photos
BATCH = 50  # photos in a request
Rows = list[dict[str, Any]]


def ways() -> dict[str, Any]:
    """Each way against the model in Python, which is in float32 and in the format that is faster on this processor."""
    from playwright.sync_api import sync_playwright

    manifest = check("cats-vs-dogs", Recipe())
    store = storage.at(Path(manifest.root))
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        files = [folder / f"{number:03}.jpg" for number in range(PHOTOS)]
        for file, entry in zip(files, manifest.of_split("test"), strict=False):
            file.write_bytes(store.read(entry.path))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        model = Classifier.load(included.model())
        found = {
            "Python, float32": _python(model.in_float32(), files),
            "Python": _python(model, files),
            "command line": _command_line(files),
            "web app": _web_app(browser, folder, files),
            "server": _server(folder, included.model(), files),
            "ONNX, Python": _python(load(included.exported()), files),
            "ONNX, server": _server(folder, included.exported(), files),
            "HTML file": _html(browser, folder, files),
        }
        browser.close()
    exact, usual = found["Python, float32"], found["Python"]
    return {
        "photos": PHOTOS,
        "precision": machine.faster_precision(),
        "ways": {
            name: {
                "same_class_as_python": _same(rows, usual),
                "largest_difference_to_python": _largest(rows, usual),
                "same_class_as_float32": _same(rows, exact),
                "largest_difference_to_float32": _largest(rows, exact),
            }
            for name, rows in found.items()
        },
    }


Probabilities = np.ndarray[Any, np.dtype[np.float64]]  # (N, K)


def _same(one: Probabilities, other: Probabilities) -> int:
    return int((one.argmax(1) == other.argmax(1)).sum())


def _largest(one: Probabilities, other: Probabilities) -> float:
    return float(np.abs(one - other).max())


def _values(rows: Rows) -> Probabilities:
    return np.array([list(row["probabilities"].values()) for row in rows])


def _python(model: Any, files: list[Path]) -> Probabilities:
    return np.array([list(row.probabilities.values()) for row in model.predict(files)])


def _command_line(files: list[Path]) -> Probabilities:
    command = [sys.executable, "-m", "pati", "predict", *map(str, files), "--format", "json"]
    return _values(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def _server(folder: Path, model: Path, files: list[Path]) -> Probabilities:
    rows: Rows = []
    with serving(folder, model) as server:
        for start in range(0, len(files), BATCH):
            sent = [(file.name, file.read_bytes()) for file in files[start : start + BATCH]]
            rows += server.ask("/v1/predict", *form(sent)).document
    return _values(rows)


def _web_app(browser: Browser, folder: Path, files: list[Path]) -> Probabilities:
    with served(folder) as (address, _):
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.goto(address)
        page.locator(INPUT).wait_for(state="attached")
        page.set_input_files(INPUT, list(files))
        with page.expect_download() as download:
            page.get_by_role("button", name="Download the predictions (CSV)").click()
        text = Path(download.value.path()).read_text(encoding="utf-8")
        page.close()
    rows = {row["path"]: row for row in csv.DictReader(text.splitlines())}
    classes = Classifier.load(included.model()).classes
    return np.array([[float(rows[file.name][name]) for name in classes] for file in files])


def _html(browser: Browser, folder: Path, files: list[Path]) -> Probabilities:
    written = export(included.model(), to="web", out=folder / "page.html")
    page = browser.new_page()
    page.goto(written.path.as_uri())
    page.locator("#state").wait_for(state="hidden", timeout=60_000)
    return np.array(answers(page, files))
