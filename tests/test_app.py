"""The page of `pati app`, opened in a browser as a visitor would."""

from __future__ import annotations

import ast
import csv
import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import pati
import pati.app
from pati.app import jobs, page, parts, train_page, work
from pati.app.jobs import Order
from pati.app.settings import Settings
from pati.data import decode
from pati.data.sources import allowed
from pati.errors import PatiError
from pati.events import Noted, Stage, Warned
from pati.locale import catalogues
from pati.locale.messages import N_, Message, as_is
from pati.recipe import Recipe
from pati.runs.run import Run
from pati.runs.start import Start
from pati.system import locks
from pati.workflows import clean
from pati.workflows.train import train
from tests.support import phone
from tests.support.browser import CHROMIUM, QUIET, needs_axe, needs_chromium, violations
from tests.support.commands import pati as command
from tests.support.photos import draw, jpeg, write_shapes

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
HOSTILE = "<img src=x onerror=alert(1)>*b*"  # a class that must be shown as it is
# The photo that is asked about, by its button; the button's other classes change while the page is written anew.
# While the page is drawn anew, the button may be missing for a moment.
PHOTO = "document.querySelector('[class*=st-key-decide-keep]')?.className.match(/st-key-decide-keep\\S*/)[0]"
UPLOAD = '[data-testid="stFileUploaderDropzoneInput"]'
SECONDS = 30_000  # milliseconds that a page may take


def silent(event: dict[str, object]) -> None:
    """Listens to nothing."""


# A server, and a browser --------------------------------------------------------------


@dataclass
class Served:
    """A page being served, and the folder that it may read, with photos/ and runs/ in it."""

    address: str
    folder: Path


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("app")
    photos = write_shapes(folder / "photos", per_class=40)
    (photos / "square").rename(photos / HOSTILE)
    (photos / "triangle" / "twin.jpg").write_bytes(jpeg(draw("circle", 10), 80))
    (photos / "triangle" / "broken.jpg").write_bytes(b"\xff\xd8\xff" + bytes(200))
    write_shapes(folder / "clean", per_class=30)
    recipe = Recipe(epochs=4, size=32, growth=(1.0,), width=0.5, split_seed=1)
    train(photos, recipe, out=folder / "runs" / "first")
    clean.clean(photos, folder / "runs" / "first", listen=silent)
    port = free_port()
    command = [sys.executable, "-m", "pati", "app", "--port", str(port), "--no-browser"]
    with (folder / "app.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    for _ in range(200):
        with socket.socket() as one:
            if one.connect_ex(("localhost", port)) == 0:
                break
        time.sleep(0.1)
    yield Served(f"http://localhost:{port}", folder)
    process.terminate()
    process.wait(20)
    assert "Traceback" not in (folder / "app.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *CAMERA])
        yield chromium
        chromium.close()


@dataclass
class Visit:
    """A browser's tab on the page, and what it asked for and went wrong in it."""

    page: Page
    address: str
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def go(self, where: str = "") -> None:
        self.page.goto(f"{self.address}/{where}")
        self.page.wait_for_selector("h1")

    def see(self, text: str | re.Pattern[str], timeout: int = SECONDS) -> None:
        from playwright.sync_api import TimeoutError as TooLate

        try:
            self.page.get_by_text(text).first.wait_for(timeout=timeout)
        except TooLate:
            shown = self.page.locator("body").inner_text()
            raise AssertionError(f"{text!r} did not come; the page shows:\n{shown}") from None

    def rest(self) -> None:
        """Wait until the page stands: before, a button may be still to come, or a picture may move it away."""
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for(timeout=SECONDS)
        self.page.wait_for_function("[...document.images].every(image => image.complete)")

    def press(self, key: str) -> None:
        """The button of that name in the program."""
        self.rest()
        self.page.locator(f"[class*='st-key-{key}'] button:visible").first.click()

    def key(self, letter: str) -> None:
        """Typed once the page is at rest: a button that is still to come would not hear it."""
        self.rest()
        self.page.keyboard.press(letter)

    def choose(self, text: str) -> None:
        one = self.page.get_by_role("radio", name=text, exact=True)
        for _ in range(10):  # a click while the page is being written anew may be lost
            one.evaluate("box => box.click()")  # at itself, not at where it stood before the menu was laid out
            self.page.wait_for_timeout(500)
            if one.get_attribute("aria-checked") == "true" or one.is_checked():
                return

    def pick(self, label: str, option: str) -> None:
        """An option of a list, as by typing its first letters."""
        box = self.page.get_by_role("combobox", name=label)
        box.click()
        box.press_sequentially(option)
        self.page.get_by_role("option", name=option).first.wait_for()
        box.press("Enter")
        self.page.wait_for_timeout(1500)  # the page hears of it, and begins anew
        self.rest()

    def upload(self, *photos: Path) -> None:
        self.page.set_input_files(UPLOAD, list(photos))


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    context = browser.new_context(
        viewport={"width": 1100, "height": 900}, locale="en-US", accept_downloads=True, permissions=["camera"]
    )
    found = Visit(context.new_page(), served.address)
    found.page.set_default_timeout(SECONDS)
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    found.page.on("dialog", lambda dialog: found.errors.append(f"dialog {dialog.message}"))
    yield found
    context.close()
    elsewhere = [url for url in found.requests if not url.startswith((served.address, "data:", "blob:", "ws:"))]
    assert not elsewhere, "the page asks for nothing beyond this machine"
    assert not found.errors


@pytest.fixture(scope="module")
def chelsea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = pytest.importorskip("skimage.data")
    path = tmp_path_factory.mktemp("photo") / "chelsea.jpg"
    path.write_bytes(jpeg(Image.fromarray(data.chelsea())))
    return path


# Trying -------------------------------------------------------------------------------


@needs_chromium
def test_a_photo_is_answered_as_by_command_line_and_python(visit: Visit, chelsea: Path, tmp_path: Path) -> None:
    visit.go()
    visit.upload(chelsea)
    visit.see("Prediction: Cat")
    bars = visit.page.locator(".pati-bar")
    assert bars.count() == 2
    answer = pati.load().predict(chelsea)
    shown = dict(re.findall(r"(\w+)\s*([\d.]+) %", bars.first.inner_text() + "\n" + bars.last.inner_text()))
    for name, share in answer.probabilities.items():
        assert float(shown[name]) == pytest.approx(100 * share, abs=0.051)
    overlay = visit.page.get_by_role("img", name="The photo under the explanation map for Cat")
    assert overlay.evaluate("image => image.naturalWidth") > 100
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download the predictions (CSV)").click()
    saved.value.save_as(tmp_path / "answers.csv")
    rows = list(csv.reader((tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()))
    printed = command("predict", chelsea, "--format", "csv").stdout.splitlines()
    assert rows[0] == printed[0].split(",")
    assert rows[1][1:] == printed[1].split(",")[1:]
    assert rows[1][0] == "chelsea.jpg"
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download the overlay").click()
    saved.value.save_as(tmp_path / "overlay.png")
    with Image.open(tmp_path / "overlay.png") as overlaid, Image.open(chelsea) as photo:
        assert overlaid.size == photo.size


@needs_chromium
def test_photos_of_phones_are_answered_as_their_pixels(visit: Visit, chelsea: Path, tmp_path: Path) -> None:
    """HEIC with a profile, and a motion photo, which is turned."""
    image = Image.open(chelsea)
    stored = {
        "phone.heic": phone.heic(image, icc_profile=phone.P3),
        "motion.jpg": phone.encoded(image, "JPEG", exif=phone.oriented(6)) + phone.video(1),
    }
    for name, content in stored.items():
        (tmp_path / name).write_bytes(content)
        Image.fromarray(decode.decode(content).pixels).save(tmp_path / f"{name}.png")
    visit.go()
    visit.upload(*(tmp_path / name for name in stored))
    with visit.page.expect_download() as saved:
        visit.page.get_by_role("button", name="Download the predictions (CSV)").click()
    saved.value.save_as(tmp_path / "answers.csv")
    rows = {
        row["path"]: row for row in csv.DictReader((tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines())
    }
    for name in stored:
        answer = pati.load().predict(tmp_path / f"{name}.png")
        assert rows[name]["prediction"] == answer.label
        assert float(rows[name]["confidence"]) == pytest.approx(answer.confidence, abs=1e-3)


@needs_chromium
def test_other_methods_stages_and_classes(visit: Visit, chelsea: Path) -> None:
    visit.go()
    visit.upload(chelsea)
    visit.see("Yellow regions contribute most to the class Cat.")
    visit.page.set_viewport_size({"width": 1100, "height": 1600})  # an open list closes when the page scrolls
    visit.page.get_by_text("Explanation options", exact=True).click()
    visit.page.wait_for_timeout(1000)
    for label, option in (("Class to explain", "Dog"), ("Method", "layer-cam"), ("Stage of the network", "2")):
        visit.pick(label, option)
    visit.see("to the class Dog")
    visit.see("Prediction: Cat")  # what is answered stays


@needs_chromium
def test_language_is_switched_and_remembered(visit: Visit, chelsea: Path) -> None:
    visit.go()
    visit.see("What is in the photo?")
    visit.choose("Türkçe")
    visit.see("Fotoğrafta ne var?")
    visit.upload(chelsea)
    visit.see("Tahmin: Kedi")
    visit.page.wait_for_timeout(500)
    visit.page.reload()
    visit.see("Fotoğrafta ne var?")


@needs_chromium
@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("<img src=x onerror=alert(1)>.jpg", b"\xff\xd8\xff" + bytes(300), "the file cannot be decoded"),
        ("notes.jpg", b"just text", "not in one of the formats JPEG"),
        ("empty.png", b"", "the file is empty"),
        ("bomb.png", None, "larger than this page accepts"),
    ],
)
def test_a_bad_file_is_told_in_words(visit: Visit, tmp_path: Path, name: str, data: bytes | None, told: str) -> None:
    bad = tmp_path / name
    if data is None:  # 30,000 × 30,000 px in some kilobytes
        Image.new("1", (30_000, 30_000)).save(bad)
    else:
        bad.write_bytes(data)
    visit.go()
    visit.upload(bad)
    visit.see(told)
    assert f"{name} cannot be read" in visit.page.get_by_test_id("stAlert").inner_text()
    visit.choose("Türkçe")
    visit.see("okunamıyor")


@needs_chromium
@needs_axe
@pytest.mark.parametrize("language", ["English", "Türkçe"])
def test_axe_finds_no_barrier_to_trying(visit: Visit, chelsea: Path, language: str) -> None:
    visit.go()
    visit.choose(language)
    visit.upload(chelsea)
    visit.page.locator(".pati-bars").wait_for()
    visit.page.locator('[data-testid="stImage"] img').first.wait_for()
    assert violations(visit.page) == []


@needs_chromium
def test_the_camera(visit: Visit) -> None:
    visit.go()
    visit.choose("Camera")
    visit.page.wait_for_function("document.querySelector('video')?.readyState === 4")
    visit.page.get_by_test_id("stCameraInputButton").click()
    visit.page.locator(".pati-bars").wait_for()


@needs_chromium
def test_samples_are_the_runs_own_test_photos(visit: Visit) -> None:
    visit.go()
    visit.choose("Sample")
    visit.press("sample-0")
    visit.see("Prediction: Cat")
    visit.pick("Model", "first")
    visit.see("These are test photos of this run")
    visit.press("sample-1")
    visit.see("True label")


@needs_chromium
def test_a_hundred_photos_at_once(visit: Visit, served: Served, tmp_path: Path) -> None:
    photos = sorted((served.folder / "photos").rglob("*.jpg"))[:99]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff" + bytes(300))
    visit.go()
    visit.upload(*photos, broken)
    visit.see("1 unreadable", timeout=60_000)
    told = visit.page.get_by_text("predicted,").inner_text()
    predicted, unsure, unreadable = map(int, re.findall(r"\d+", told))
    assert predicted + unsure == 99
    assert unreadable == 1
    visit.press("closer-3")
    visit.page.locator(".pati-bars").wait_for()


@needs_chromium
def test_uploads_from_elsewhere_are_refused(visit: Visit, chelsea: Path) -> None:
    """Without the token that only the page itself can know (XSRF), and from a page of another origin."""
    visit.go()
    with visit.page.expect_request(lambda request: request.method == "PUT") as sent:
        visit.upload(chelsea)
    visit.see("Prediction: Cat")
    asked = sent.value
    headers = asked.all_headers()
    assert "x-xsrftoken" in headers
    kept = {name: headers[name] for name in ("content-type", "cookie") if name in headers}
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\nx\r\n--x--\r\n'
    kept["content-type"] = "multipart/form-data; boundary=x"
    refused = visit.page.request.put(asked.url, headers=kept, data=body)
    assert refused.status == 403


# Training -----------------------------------------------------------------------------


@needs_chromium
def test_a_training_outlives_the_page(visit: Visit, served: Served) -> None:
    """One minute on a small folder: audit, start, see the curve move, reload, stop, go on, open the result."""
    visit.go("train")
    visit.pick("Folder with one folder per class", "photos")
    visit.press("audit")
    visit.see("Groups of duplicates")
    visit.see("Duplicates across classes: 1")
    visit.page.get_by_text("Quarantined files: 1").click()
    visit.see("the file cannot be decoded")
    visit.see(HOSTILE)
    visit.page.get_by_role("slider", name="Time budget (minutes)").focus()
    visit.page.keyboard.press("ArrowLeft")
    visit.page.wait_for_timeout(1000)
    chosen = visit.page.get_by_role("combobox", name="Score").input_value()
    assert "-fold cross-validation" in chosen
    visit.pick("Score", "on a test split")
    visit.press("begin")
    curve = visit.page.locator(".st-key-curves img")
    curve.wait_for()
    first = curve.get_attribute("src")
    visit.page.wait_for_function(
        "before => document.querySelector('.st-key-curves img')?.getAttribute('src') !== before", arg=first
    )
    run = served.folder / "runs" / re.search(r"run=([\w-]+)", visit.page.url)[1]  # type: ignore[index]
    assert json.loads((run / "recipe.json").read_text())["budget"] == 60
    other = visit.page.context.new_page()
    other.goto(f"{served.address}/train")
    other.get_by_text(f"{run.name} is still running").wait_for()
    other.close()
    with pytest.raises(PatiError, match="is still running"):
        jobs.train(served.folder / "runs", str(served.folder / "clean"), Recipe(epochs=1))
    visit.page.reload()
    visit.page.locator(".st-key-stop button").wait_for()
    visit.press("stop")
    visit.see("The state of the run is saved")
    visit.press("run_new")  # it is found again where trainings begin
    visit.page.get_by_text("Stopped or failed runs: 1").click()
    visit.press(f"open-{run.name}")
    visit.see("The state of the run is saved")
    assert list((run / "checkpoints").iterdir())
    Run(run).keep_elapsed(40.0)  # more of the minute would show nothing more
    visit.press("resume")
    visit.see("Done: accuracy", timeout=100_000)
    frame = visit.page.frame_locator("iframe")
    frame.get_by_text("Result on the test split").first.wait_for()
    assert json.loads((run / "run.json").read_text())["test_scored"] == 1
    visit.press("try_it")
    visit.see(f"{run.name}: trained from scratch")


@needs_chromium
def test_a_training_starts_from_an_earlier_model(visit: Visit, served: Served) -> None:
    visit.go("train")
    visit.pick("Folder with one folder per class", "clean")
    visit.press("audit")
    visit.pick("Start from", "first")
    network = visit.page.get_by_role("textbox", name="Network")
    assert network.is_disabled()
    assert network.input_value() == "that of the earlier model"
    visit.press("begin")
    visit.page.locator(".st-key-curves img").wait_for()
    run = Run(served.folder / "runs" / re.search(r"run=([\w-]+)", visit.page.url)[1])  # type: ignore[index]
    visit.press("stop")
    visit.see("The state of the run is saved")
    start = Start.of(run)
    assert start is not None
    assert [row["name"] for row in start.lineage] == ["first"]
    assert json.loads(run.recipe.read_text())["width"] == 0.5
    shutil.rmtree(run.folder)


@needs_chromium
def test_a_learning_curve_is_measured_and_shown(visit: Visit, served: Served) -> None:
    recipe = Recipe(epochs=1, size=32, width=0.25, batch=16, growth=(1.0,), model="pati")
    folder = jobs.learning_curve(served.folder / "runs", str(served.folder / "clean"), recipe)
    visit.go(f"train?run={folder.name}")
    visit.see("networks, trained for as many steps as 1 epochs", timeout=100_000)
    visit.page.frame_locator("iframe").get_by_text("More photos, or more time?").first.wait_for()


@needs_chromium
def test_what_lies_outside_is_not_read(visit: Visit, served: Served) -> None:
    visit.go("train")
    field = visit.page.get_by_role("combobox", name="Folder with one folder per class")
    field.fill("../..")
    field.press("Enter")
    visit.see("is outside")


@needs_chromium
def test_what_the_library_says_is_in_the_visitors_language(visit: Visit, served: Served) -> None:
    write_shapes(served.folder / "alone", per_class=4, classes=("circle",))
    visit.go("train")
    visit.choose("Türkçe")
    field = visit.page.get_by_role("combobox", name="Her sınıf için bir klasör")
    field.fill("alone")
    field.press("Enter")
    visit.page.get_by_role("button", name="Fotoğrafları denetle").click()
    visit.see("içinde tek sınıf var")
    visit.see("en az iki klasör beklenir")


def test_the_root_is_kept_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    kept = Settings.of(None, tmp_path / "root")
    monkeypatch.setenv(allowed.VARIABLE, "")  # put back afterwards
    allowed.restrict(kept.readable())
    assert allowed.may_read(tmp_path / "root" / "photos")
    assert not allowed.may_read(tmp_path / "root" / "link")
    assert not allowed.may_read(tmp_path / "root" / ".." / "secret")
    assert Settings.from_text(kept.to_text()) == kept


# Results ------------------------------------------------------------------------------


@needs_chromium
def test_a_cell_of_the_confusion_matrix_opens_its_photos(visit: Visit) -> None:
    visit.go("results")
    visit.pick("Run", "first")
    cell = visit.page.locator(".st-key-cell-1-1 button:visible").first
    count = int(cell.inner_text())
    cell.click()
    visit.see(re.compile(f"circle predicted as circle: {count} photos?"))
    photos = visit.page.locator(".stMain [class*='st-key-grid'] img")
    photos.first.wait_for()
    visit.page.get_by_text("Show explanation maps").click()
    visit.page.wait_for_timeout(1500)
    assert photos.count() == min(12, count)
    visit.see(HOSTILE)  # as text


# Cleaning -----------------------------------------------------------------------------


@needs_chromium
def test_decisions_by_click_and_key(visit: Visit, served: Served) -> None:
    table = served.folder / "runs" / "first" / "clean" / "decisions.csv"

    def decided() -> list[str]:
        with table.open(newline="", encoding="utf-8-sig") as file:
            return [row["decision"] for row in csv.DictReader(file) if row["decision"]]

    def asked() -> str:
        visit.rest()
        return str(visit.page.evaluate(PHOTO))

    total = len(table.read_text(encoding="utf-8-sig").splitlines()) - 1
    visit.go("clean")
    visit.pick("Run", "first")
    visit.see("Duplicate in another class")
    visit.see(f"0 of {total} photos decided")
    visit.press("decide-keep")
    visit.see(f"1 of {total} photos decided")
    assert decided() == ["keep"]
    visit.key("d")
    visit.see(f"2 of {total} photos decided")
    assert sorted(decided()) == ["drop", "keep"]
    visit.key("u")
    visit.see(f"1 of {total} photos decided")
    assert decided() == ["keep"]
    put_off = [asked()]
    for _ in range(total - 1):  # those not decided, one after the other, and then the first one again
        visit.key("l")
        visit.page.wait_for_function(f"({PHOTO} ?? {json.dumps(put_off[-1])}) != {json.dumps(put_off[-1])}")
        put_off.append(asked())
    assert put_off[-1] == put_off[0]
    assert len(set(put_off)) == total - 1
    visit.key("n")
    visit.see(f"2 of {total} photos decided")
    assert sorted(decided()) == ["keep", "relabel"]


@needs_chromium
def test_a_list_is_made_and_followed(visit: Visit, served: Served) -> None:
    """A list of another run by its button; a training follows the decisions, and is compared with the first one."""
    runs = served.folder / "runs"
    recipe = Recipe(epochs=2, size=32, growth=(1.0,), width=0.25, split_seed=1)
    train(served.folder / "photos", recipe, out=runs / "second")
    visit.go("clean")
    visit.pick("Run", "second")
    visit.press("clean_list")
    visit.page.get_by_text(re.compile(r"^0 of \d+ photos? decided")).wait_for(timeout=60_000)
    visit.press("decide-drop")
    visit.page.get_by_text(re.compile(r"^1 of \d+ photos? decided")).wait_for(timeout=SECONDS)
    visit.press("clean_train")
    visit.see("Done: accuracy", timeout=60_000)
    made = re.search(r"run=([\w-]+)", visit.page.url)[1]  # type: ignore[index]
    assert (runs / made / "decisions.csv").read_text(encoding="utf-8-sig").count(",drop,") == 1
    visit.go("results")
    visit.pick("Run", made)
    visit.pick("Compare with", "second")
    visit.see("the comparison is less powerful")
    (runs / "broken").mkdir()
    for name in ("metrics.json", "run.json", "model.safetensors"):
        (runs / "broken" / name).write_text("no JSON")
    visit.go("results")
    visit.see(made)  # a damaged run hides no other
    scores = (runs / "second" / "metrics.json").read_bytes()
    for damaged in (b"no JSON", b"{}"):
        (runs / "second" / "metrics.json").write_bytes(damaged)
        visit.go("results")
        visit.see("metrics.json or predictions.npz is damaged")
        visit.see(made)
    visit.go("train?run=second")
    visit.see("metrics.json or predictions.npz is damaged")
    (runs / "second" / "metrics.json").write_bytes(scores)
    recipe = (runs / "second" / "recipe.json").read_bytes()
    (runs / "second" / "recipe.json").write_bytes(b"{")
    visit.go("results")
    visit.see("recipe.json is not valid JSON")
    visit.see(made)
    (runs / "second" / "recipe.json").write_bytes(recipe)
    (runs / made / "predictions.npz").write_bytes(b"no archive")
    visit.go("results")
    visit.pick("Run", made)
    visit.see("predictions.npz is damaged")


# The process behind it ----------------------------------------------------------------


@pytest.fixture(autouse=True, scope="module")
def _none_left() -> Iterator[None]:
    yield
    for process in jobs._started:
        process.wait(30)


def wait_for(run: Path, *states: str, seconds: float = 60.0) -> jobs.Job:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = jobs.job(run)
        if found is not None and found.state in states and "process" in found.progress:  # or else it has just begun
            return found
        time.sleep(0.1)
    raise AssertionError(f"{jobs.job(run)}; {(run / 'job' / 'output.txt').read_text()}")


def test_a_killed_process_is_stopped_and_goes_on(shapes: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    recipe = Recipe(folds=0, epochs=400, size=32, growth=(1.0,), width=0.5)
    run = jobs.train(runs, str(shapes), recipe)
    assert wait_for(run, "running").progress["process"] != os.getpid()
    with pytest.raises(PatiError, match="is still running"):
        jobs.train(runs, str(shapes), recipe)
    assert [path.name for path in runs.iterdir() if path.is_dir()] == [run.name]  # nothing is left of the second one
    deadline = time.monotonic() + 60
    while not list(run.glob("log.jsonl")) or '"epoch"' not in (run / "log.jsonl").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(jobs.job(run).progress["process"], signal.SIGKILL)  # type: ignore[union-attr]
    assert wait_for(run, "stopped", "failed").state == "stopped"
    jobs.begin(Order("resume", str(run)), runs)
    while not wait_for(run, "running").progress.get("epoch"):  # until it trains again
        time.sleep(0.1)
    jobs.stop(run)
    assert wait_for(run, "stopped", "done", "failed").state == "stopped"
    assert list((run / "checkpoints").iterdir())


def test_names_are_no_links() -> None:
    from pati.app.parts import plain

    for name in ("www.evil.com.jpg", "a@b.com", "http://evil.com"):
        assert "\u2060" in plain(name)
        assert plain(name).replace("\u2060", "").replace("\\", "") == name


def test_a_mistake_is_told_by_the_job(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    run = jobs.train(tmp_path / "runs", str(tmp_path / "empty"), Recipe(epochs=1))
    found = wait_for(run, "failed")
    assert found.error is not None
    assert found.error.message.text == "no photos found in {root}"  # a message, to be translated
    assert "one folder of photos per class" in str(found.error.hint)


# Words --------------------------------------------------------------------------------


TITLES = {
    "try": N_("What is in the photo?"),
    "train": N_("Train your own classifier"),
    "results": N_("Results"),
    "clean": N_("Photos to review"),
}


def sentences() -> list[Message]:
    """Every message that the page's code holds."""
    found = []
    for path in Path(pati.app.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("N_", "NC_"):
                texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
                found.append(Message(texts[-1], context=texts[0] if node.func.id == "NC_" else None))
    return found


def test_every_text_of_the_page_is_a_message() -> None:
    """What Streamlit shows is never a literal."""
    shown = {"title", "subheader", "write", "caption", "info", "error", "warning", "success", "button", "toggle"}
    for path in Path(pati.app.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in shown:
                assert not any(isinstance(argument, ast.Constant) for argument in node.args[:1]), ast.unparse(node)
    assert len(sentences()) > 100


@needs_chromium
@pytest.mark.parametrize("width", [390, 1100])
@pytest.mark.parametrize("where", parts.TABS)
def test_pages_fit_in_every_language(visit: Visit, where: str, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 850})
    visit.go(where)
    whole = [message for message in sentences() if len(message.text) > 25 and "{" not in message.text]
    languages = catalogues.languages()
    for language in [*languages[1:], languages[0]]:
        visit.choose(page.name_of(language))
        visit.see(TITLES[where].shown(language))
        main = visit.page.get_by_test_id("stMain")
        assert main.evaluate("box => box.scrollWidth - box.clientWidth") <= 0
        own = {message.shown(language) for message in whole}
        strange = {message.shown(other) for message in whole for other in languages} - own
        for _ in range(50):  # what stood there before goes piece by piece
            left = [text for text in strange if text in main.inner_text()]
            if not left:
                break
            visit.page.wait_for_timeout(100)
        assert not left


@pytest.mark.parametrize(
    ("cookie", "asked", "browser", "first"),
    [
        ("de", "tr", "en-US", "de"),
        ("xx", "tr", "en-US", "tr"),
        (None, None, "tr-TR", "tr"),
        (None, None, "de", "de"),
        (None, None, "fr-FR", "en"),
        (None, "xx", None, "en"),
    ],
)
def test_the_first_language(
    monkeypatch: pytest.MonkeyPatch, cookie: str | None, asked: str | None, browser: str | None, first: str
) -> None:
    cookies = {page.COOKIE: cookie} if cookie else {}
    monkeypatch.setattr(catalogues, "languages", lambda: ("en", "de", "tr"))
    monkeypatch.setattr(page.st, "context", SimpleNamespace(cookies=cookies, locale=browser))
    monkeypatch.setattr(page, "settings", lambda: Settings(Path(), Path(), Path(), asked))
    assert page.first_language() == first


def test_progress_is_told_in_messages(tmp_path: Path) -> None:
    """What the process writes is translated when a visitor reads it, also what an older version wrote."""
    run, job = tmp_path / "run", Run(tmp_path / "run").job
    job.mkdir(parents=True)
    progress = work.Progress(job / jobs.NAME, "train")
    told = N_("{name} is still running", name="a")
    progress(Noted(told))
    progress(Warned(as_is("100 %")))
    progress.end("failed", PatiError(N_("the process did not start"), N_("details are in {path}", path=Path("b"))))
    found = jobs.job(run)
    assert found is not None
    assert found.state == "failed"
    assert found.error is not None
    assert found.notes == [told, as_is("100 %")]
    assert found.error.message == N_("the process did not start")
    assert found.error.hint == N_("details are in {path}", path="b")
    progress.end("failed", PatiError("no hint"))
    old = {"ended": "failed", "notes": ["grouped by *x*"], "error": "no space left", "hint": ""}
    (job / jobs.NAME).write_text(json.dumps(old), encoding="utf-8")
    found = jobs.job(run)
    assert found is not None
    assert found.error is not None
    assert (str(found.notes[0]), str(found.error.message), found.error.hint) == (
        "grouped by *x*",
        "no space left",
        None,
    )


def test_every_stage_has_a_name() -> None:
    assert {"begin", "train", *Stage} == train_page.STAGES.keys()
    assert parts.REASONS.keys() == decode.REASONS.keys()


def test_without_streamlit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pati.app.launch import launch

    monkeypatch.setitem(sys.modules, "streamlit", None)
    with pytest.raises(PatiError, match="pati app requires streamlit") as told:
        launch(Settings.of(None, tmp_path), hosts=["localhost"], port=None, browser=False)
    assert 'pip install "pati[app]"' in str(told.value.hint)


def test_garbage_is_not_looked_for_in_what_was_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import uvicorn
    from streamlit.web import bootstrap

    from pati.app.launch import launch

    looked_at: list[int] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        looked_at.append(len(gc.get_objects()))
        for one in sockets:
            one.close()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(bootstrap, "load_config_options", lambda options: None)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv(allowed.VARIABLE, "")  # put back afterwards
    before = len(gc.get_objects())
    try:
        launch(Settings.of(None, tmp_path), hosts=["localhost"], port=free_port(), browser=False)
    finally:
        gc.unfreeze()
    assert looked_at[0] < before / 100


def test_a_job_that_outlives_the_page_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import uvicorn
    from streamlit.web import bootstrap

    from pati.app.launch import launch

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        for one in sockets:
            one.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr(bootstrap, "load_config_options", lambda options: None)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv(allowed.VARIABLE, "")  # put back afterwards
    settings = Settings.of(tmp_path, tmp_path)

    def told() -> str:
        try:
            launch(settings, hosts=["localhost"], port=free_port(), browser=False)
        finally:
            gc.unfreeze()
        return capsys.readouterr().err

    assert re.fullmatch(r"Ctrl-C ends the page at http://localhost:\d+\n", told())
    for folder, action, sentence in (
        ("a/job", "train", "the training of"),
        ("b/clean/job", "clean", "the check of the photos of"),
        ("c/job", "learning-curve", "the measurement of"),
    ):
        job = tmp_path / folder
        job.mkdir(parents=True)
        (job / "progress.json").write_text(json.dumps({"action": action}))
        with locks.locked(job / ".lock", N_("locked")):
            last = told().splitlines()[-1]
        assert last.startswith(f"{sentence} {tmp_path / folder[0]} goes on. ")
        assert last.endswith(f"create the file {job / 'stop'}")


def test_mistakes_at_the_start_are_told(tmp_path: Path) -> None:
    assert "does not exist" in command("app", tmp_path / "nothing", "--no-browser").stderr
    assert "is not a folder" in command("app", "--root", tmp_path / "nothing", "--no-browser").stderr
    with socket.socket() as one:
        one.bind(("localhost", 0))
        one.listen()
        port = one.getsockname()[1]
        assert f"port {port}" in command("app", "--port", port, "--no-browser", cwd=tmp_path).stderr
