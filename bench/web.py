"""The HTML page of the included model in Chromium, from its file, without a network: its answers, and their speed."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from pati import included
from pati.data.sources import storage
from pati.errors import PatiError
from pati.inference.classifier import Classifier
from pati.inference.export import export as write
from pati.inference.export.pictures import made_pictures
from pati.models import models
from pati.recipe import Recipe
from pati.workflows.check import check
from pati.workflows.export import export
from tests.support.browser import CHROMIUM
from tests.test_export import classifier

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHOTOS = 500  # test photos
FEW = 8  # made-up pictures for each family
LIVE = 10  # seconds of the camera
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


def web() -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    model = Classifier.load(included.model())
    manifest = check("cats-vs-dogs", Recipe())
    store = storage.at(Path(manifest.root))
    entries = manifest.of_split("test")[:PHOTOS]
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        written = export(included.model(), to="web", out=folder / "page.html")
        files = []
        for number, entry in enumerate(entries):
            files.append(folder / f"{number:03}.jpg")
            files[-1].write_bytes(store.read(entry.path))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context()
        context.set_offline(True)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        begun = time.monotonic()
        page.goto(written.path.as_uri())
        page.locator("#state").wait_for(state="hidden", timeout=60_000)
        loaded = time.monotonic() - begun
        begun = time.monotonic()
        rows = answers(page, files)
        seconds = time.monotonic() - begun
        page.click("#start")
        time.sleep(LIVE)
        live = float(page.get_attribute("#rate", "data-rate") or 0)
        page.close()
        version = browser.version
        families = {name: _family(browser, name, folder) for name in models}
        browser.close()
    exact = model.in_float32()
    expected = [list(exact.predict(store.read(entry.path)).probabilities.values()) for entry in entries]
    ours, theirs = np.array(expected), np.array(rows)
    difference = np.abs(ours - theirs).max(1)
    return {
        "bytes": written.size,
        "chromium": version,
        "requests": [url for url in asked if not url.startswith(("blob:", "data:", written.path.as_uri()))],
        "seconds_to_load": round(loaded, 2),
        "photos": len(files),
        "same_class": int((ours.argmax(1) == theirs.argmax(1)).sum()),
        "median_difference": float(statistics.median(difference)),
        "largest_difference": float(difference.max()),
        "milliseconds_a_photo": round(1000 * seconds / len(files), 1),
        "live_answers_a_second": round(live, 1),
        "parity": {**written.parity},
        "families_with_random_weights": families,
    }


def _family(browser: Browser, name: str, folder: Path) -> dict[str, Any] | str:
    """A network of this family with random weights, as a page, against itself here."""
    model, file = classifier(name, size=64), folder / f"{name}.html"
    try:
        write(model, file, to="web")
    except PatiError as error:
        return str(error)
    photos = []
    for number, data in enumerate(made_pictures(FEW)):
        photos.append(folder / f"{name}-{number}.png")
        Image.fromarray(model.preprocess.photo(data)).save(photos[-1])
    page = browser.new_page()
    page.goto(file.as_uri())
    page.locator("#state").wait_for(state="hidden", timeout=120_000)
    rows = np.array(answers(page, photos))
    page.close()
    expected = np.array([list(one.probabilities.values()) for one in model.in_float32().predict(list(photos))])
    return {
        "bytes": file.stat().st_size,
        "photos": FEW,
        "same_class": int((expected.argmax(1) == rows.argmax(1)).sum()),
        "largest_difference": float(np.abs(expected - rows).max()),
    }


def answers(page: Page, files: list[Path]) -> list[list[float]]:
    """The probabilities of photos that are added to a page."""
    page.set_input_files("#files", [str(file) for file in files])
    while page.evaluate("document.querySelectorAll('article').length") < len(files) or page.inner_text("#progress"):
        time.sleep(0.1)
    rows: list[list[float]] = page.evaluate(
        "[...document.querySelectorAll('article')].map((row) => row.answer.probabilities)"
    )
    return rows[::-1]  # the last one is on top
