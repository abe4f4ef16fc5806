"""The HTML page of a model: it answers in Chromium, without a network, as the model does here."""

from __future__ import annotations

import base64
import html
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pati import included
from pati.data.preprocess import Preprocess
from pati.errors import PatiError
from pati.inference.classifier import Classifier
from pati.inference.export import Tolerance, web
from pati.inference.export.pictures import made_pictures
from pati.inference.onnx_classifier import OnnxClassifier
from pati.locale.catalogues import languages
from tests.support.browser import CHROMIUM, QUIET, needs_axe, needs_chromium, violations
from tests.support.commands import pati

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

pytestmark = pytest.mark.slow
PAGE = Path(web.__file__).parent / "page"
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def page_file(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small model."""
    file = tmp_path_factory.mktemp("web") / "page.html"
    done = pati("export", trained, "--to", "web", "--out", file)
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture(scope="module")
def included_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the included model."""
    file = tmp_path_factory.mktemp("included") / "page.html"
    file.write_bytes(web.from_onnx(included.exported().read_bytes()))
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *CAMERA])
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page from its file, without a network; in the end, it has asked for nothing else, and nothing failed."""
    contexts: list[BrowserContext] = []
    asked: list[str] = []
    said: list[str] = []

    def open_(file: Path, **options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_offline(True)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.goto(file.as_uri())
        page.locator("#state").wait_for(state="hidden", timeout=60_000)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    assert sum(url.startswith("file:") for url in asked) == len(contexts)
    assert said == []


def classify(page: Page, files: list[Path]) -> list[dict[str, Any] | None]:
    """What the page says of the photos, in their order; None for those that it can't read."""
    before = page.locator("article").count()
    page.set_input_files("#files", [str(file) for file in files])
    page.locator("article").nth(before + len(files) - 1).wait_for(timeout=120_000)
    page.locator("#progress:empty").wait_for(state="attached", timeout=120_000)
    rows = page.evaluate("[...document.querySelectorAll('article')].map(article => article.answer ?? null)")
    return list(reversed(rows[: len(files)]))  # the last one is on top


# The file -----------------------------------------------------------------------------


def test_the_page_holds_all_it_needs(page_file: Path, trained: Path) -> None:
    data = page_file.read_bytes()
    document = OnnxClassifier(web.model_of(data)).document
    assert document["classes"] == list(Classifier.load(trained).classes)
    assert document["parity"]["probability"] < 0.02
    text = data.decode()
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "default-src 'none'" in text
    assert "Permission is hereby granted" in text  # the licence of ONNX Runtime
    assert "sourceMappingURL" not in text
    assert document["card"].startswith("# ")


def test_the_included_models_page_is_small(included_page: Path) -> None:
    assert included_page.stat().st_size <= 12_000_000


def test_weights_are_halved_where_that_is_rounding() -> None:
    import onnx

    data = included.exported().read_bytes()
    document = OnnxClassifier(data).document
    model = onnx.load_model_from_string(data)
    large = [tensor for tensor in model.graph.initializer if ".weight" in tensor.name and np.prod(tensor.dims) > 10_000]
    values = onnx.numpy_helper.to_array(large[0]) * 1e-9  # below what half precision holds
    large[0].CopyFrom(onnx.numpy_helper.from_array(values, large[0].name))
    half = onnx.load_model_from_string(web.halved(model.SerializeToString(), document))
    kinds = {tensor.name.removesuffix(".half"): tensor.data_type for tensor in half.graph.initializer}
    assert kinds[large[0].name] == onnx.TensorProto.FLOAT
    assert {kinds[tensor.name] for tensor in large[1:]} == {onnx.TensorProto.FLOAT16}
    assert {kind for name, kind in kinds.items() if name.startswith("detector.")} == {onnx.TensorProto.FLOAT}


def test_weights_stay_as_they_are_where_halves_would_change_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    data = included.exported().read_bytes()
    document = OnnxClassifier(data).document
    assert web.is_halved(web.compact(data, document))
    monkeypatch.setattr(web.Web, "tolerance", Tolerance(probability=1e-9))
    assert not web.is_halved(web.compact(data, document))
    text = html.unescape(web.from_onnx(data).decode())
    assert "stored in single precision" in text
    assert "stored in half precision" not in text


def test_only_a_page_is_overwritten(page_file: Path, trained: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine</p>")
    done = pati("export", trained, "--to", "web", "--out", mine)
    assert done.returncode == 1
    assert "is not overwritten" in done.stderr
    assert mine.read_text() == "<p>mine</p>"
    mine.write_bytes(page_file.read_bytes())
    assert pati("export", trained, "--to", "web", "--out", mine).returncode == 0
    assert pati("export", trained, "--to", "web", "--out", tmp_path / "x.onnx").returncode == 1


@pytest.mark.parametrize("data", [b"", b"<html>", b'<script type="text/plain" id="model">AAAA</script>', bytes(99)])
def test_what_is_no_page(data: bytes) -> None:
    with pytest.raises(PatiError, match="not a page"):
        web.model_of(data)


def test_each_text_is_there() -> None:
    """Each text that the page shows is known, and each known one is shown."""
    scripts = "".join((PAGE / name).read_text() for name in ("page.js", "worker.js"))
    shown = set(re.findall(r'data-text="([^"]+)"', (PAGE / "page.html").read_text()))
    shown |= set(re.findall(r'\btext\("([^"]+)"', scripts))
    assert shown <= {*web.TEXTS, "decimal mark", "percentage"}
    by_python = {"card", "licences"}
    assert {name for name in {*web.TEXTS} - shown - by_python if f'"{name}"' not in scripts} <= {"language"}
    for language in languages():
        for name, text in web.TEXTS.items():
            assert text.shown(language), name


def test_names_cannot_break_out_of_the_page() -> None:
    model = OnnxClassifier.load(included.exported())
    bad = "</script><script>alert(1)</script>"
    document = {**model.document, "classes": [bad, "Dog"], "card": bad, "data": bad}
    text = web.page(included.exported().read_bytes(), document).decode()  # type: ignore[arg-type]
    assert "<script>alert" not in text


# Pixels -------------------------------------------------------------------------------


@needs_chromium
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_pixels_are_those_of_preprocess(resize: str, browser: Browser) -> None:
    """Photos that are reduced, enlarged, very long or tiny. Of tall photos, new versions of Pillow resize the columns
    first, which rounds otherwise."""
    page = browser.new_page()
    page.add_script_tag(content=(PAGE / "preprocess.js").read_text().replace("export ", ""))
    generator = np.random.default_rng(0)
    for width, height, size in (
        (200, 133, 64), (133, 200, 64), (40, 40, 64), (64, 64, 64), (1, 1, 8), (3, 500, 32), (500, 3, 32), (31, 77, 33),
        (4000, 3, 16), (257, 255, 160),
    ):  # fmt: skip
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        rgba = np.dstack([pixels, np.full((height, width), 255, np.uint8)])
        found = page.evaluate(
            """([data, width, height, size, resize]) => {
                const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
                const read = (top, rows) => bytes.subarray(top * width * 4, (top + rows) * width * 4);
                return btoa(String.fromCharCode(...fitted(read, width, height, size, resize)));
            }""",
            [base64.b64encode(rgba.tobytes()).decode(), width, height, size, resize],
        )
        expected = Preprocess(size=size, resize=resize).fit(pixels)
        got = np.frombuffer(base64.b64decode(found), np.uint8).reshape(size, size, 3)
        tall = height > size and height + size > 2 * width
        np.testing.assert_allclose(
            got.astype(int), expected.astype(int), rtol=0, atol=tall, err_msg=f"{width}×{height} to {size}"
        )
    page.close()


# Answers ------------------------------------------------------------------------------


@needs_chromium
def test_answers_are_those_of_the_model(
    page_file: Path, trained: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    model = Classifier.load(trained).in_float32()
    files = []
    for number, data in enumerate(made_pictures(33)):
        kind = "jpg" if data[:2] == b"\xff\xd8" else "png"
        files.append(tmp_path / f"{number}.{kind}")
        files[-1].write_bytes(data)
    answers = classify(opened(page_file), files)
    same = 0
    for file, answer in zip(files, answers, strict=True):
        expected = model.predict(file)
        assert answer is not None, file
        found = np.array(answer["probabilities"])
        assert np.abs(found - np.array(list(expected.probabilities.values()))).max() < 0.1, file  # another JPEG decoder
        same += model.classes[answer["best"]] == expected.label
        assert (answer["pValue"] is None) == math.isnan(expected.ood_p_value)
    assert same >= len(files) - 1


@needs_chromium
def test_the_network_sees_the_pixels_of_preprocess(
    page_file: Path, trained: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    """From the file on: orientation, profile, transparency, palette, 16 bits. JPEG decoders differ by a few levels."""
    preprocess = Classifier.load(trained).preprocess
    page = opened(page_file)
    for number, data in enumerate(made_pictures(44)):
        pixels = page.evaluate(PIXELS, [base64.b64encode(data).decode(), preprocess.size, preprocess.resize])
        got = np.array(pixels, int).reshape(preprocess.size, preprocess.size, 3)
        difference = np.abs(got - preprocess(data).astype(int))
        jpeg = data[:2] == b"\xff\xd8"
        assert difference.mean() < (4 if jpeg else 1.5), number
        assert np.quantile(difference, 0.99) <= (24 if jpeg else 6), number


# A worker like that of the page, which returns the pixels.
PIXELS = """([data, size, resize]) => new Promise(async (resolve) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const code = document.getElementById("worker").textContent + `
        tasks.pixels = ({ image, size, resize }) => Array.from(
            fitted(rowsOf(image), image.width, image.height, size, resize));`;
    const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    worker.onmessage = (event) => resolve(event.data.answer);
    worker.postMessage({ number: 1, task: "pixels", given: { image, size, resize } }, [image]);
})"""


@needs_chromium
@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_phone_shows_all_without_scrolling_sideways(
    language: str, included_page: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    photo = tmp_path / f"{'long-name-' * 12}.png"
    photo.write_bytes(made_pictures(1)[0])
    page = opened(included_page, locale=language, viewport={"width": 360, "height": 740}, is_mobile=True)
    classify(page, [photo])
    page.click("#about > summary")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 360


@needs_chromium
def test_what_is_shown(page_file: Path, trained: Path, opened: Callable[..., Page], tmp_path: Path) -> None:
    photo, bad = tmp_path / "photo.png", tmp_path / "bad.png"
    photo.write_bytes(made_pictures(1)[0])
    bad.write_bytes(b"no photo")
    page = opened(page_file, locale="tr-TR", color_scheme="dark")
    good, broken = classify(page, [photo, bad])
    assert good is not None
    assert broken is None
    assert "fotoğraf" in page.inner_text("body").lower()
    page.select_option("#language", "en")
    article = page.locator("article").last
    assert re.search(r"^(Prediction: \w+|Unsure)$", article.locator("h2").inner_text())
    assert article.locator(".bars li").count() == len(Classifier.load(trained).classes)
    assert article.locator(".look").is_visible() == (good["map"] is not None)
    assert "can't read" in page.locator("article").first.locator("h2").inner_text()
    page.locator("article").first.get_by_role("button", name="Remove").click()
    assert page.locator("article").count() == 1
    page.get_by_text("About this model").click()
    assert "SHA-256" in page.inner_text("#about")


@needs_chromium
def test_the_camera(page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file)
    page.click("#start")
    page.locator("#rate:not(:empty)").wait_for(timeout=60_000)
    page.click("#take")
    page.locator("article .bars li").first.wait_for()
    page.click("#stop")
    assert page.locator("#live").is_hidden()
    page.click("#start")  # again, and unplugged
    page.locator("#live").wait_for()
    page.evaluate("document.getElementById('video').srcObject.getTracks()[0].onended()")
    page.locator("#live").wait_for(state="hidden")


@needs_chromium
def test_without_a_camera(page_file: Path, opened: Callable[..., Page]) -> None:
    page = opened(page_file)
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('none')); }")
    page.click("#start")
    page.locator("#no-camera").wait_for()
    assert "web address" in page.inner_text("#no-camera")


@needs_chromium
@needs_axe
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "tr"])
def test_axe_finds_no_barrier(
    language: str, scheme: Any, included_page: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    photo, bad = tmp_path / "photo.png", tmp_path / "bad.png"
    photo.write_bytes(made_pictures(2)[1])
    bad.write_bytes(b"no photo")
    page = opened(included_page, locale=language, color_scheme=scheme)
    classify(page, [photo, bad])
    page.click("#start")
    page.locator("#rate:not(:empty)").wait_for(timeout=60_000)
    page.click("#about > summary")
    assert violations(page) == []
