"""The pages in a browser: no request, no missing word, nothing that runs over; decisions are saved as a list."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from pati.data import decisions
from pati.locale import catalogues
from pati.locale.catalogues import languages
from pati.locale.messages import N_, Message
from pati.report import pages as writer
from pati.workflows import clean
from pati.workflows.report import report_again
from pati.workflows.score import outside, score
from tests.support import accented
from tests.support.browser import CHROMIUM, QUIET, contrast, needs_chromium
from tests.support.commands import undrawn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PHONE, DESKTOP = 390, 1100  # px wide
CSS = Path(writer.__file__).parent / "templates" / "base.html.jinja"

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@dataclass
class Opened:
    """A page, what it asked for, and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def opened(browser: Browser, path: Path, *, width: int = DESKTOP, scheme: str = "light") -> Opened:
    found = Opened(
        browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, accept_downloads=True
        ).new_page()
    )
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.on("pageerror", lambda error: found.errors.append(str(error)))
    found.page.goto(path.as_uri())
    return found


@pytest.fixture(scope="module")
def pages(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All kinds of pages about a run: its report, a scoring, photos to look at."""
    run = tmp_path_factory.mktemp("pages") / "run"
    shutil.copytree(trained, run)
    dirty = shutil.copytree(trained.parent / "shapes", run.parent / "dirty")
    shutil.copy(dirty / "circle" / "10.jpg", dirty / "triangle" / "twin.jpg")
    with undrawn():
        outside(run, trained.parent / "shapes")
    made, _ = report_again(run)
    scored = score(run, split="validation")
    cleaned = clean.clean(dirty, run, folds=2, listen=lambda event: None)
    return {"report": made.report, "scores": Path(scored["report"]), "review": Path(cleaned["page"])}


@pytest.mark.parametrize("name", ["report", "scores", "review"])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_pages_ask_for_nothing_and_fit(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    found = opened(browser, pages[name], width=width)
    for language in languages():
        found.page.evaluate("language => show(language)", language)
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    outside = [url for url in found.requests if not url.startswith("data:")]
    assert outside == [pages[name].as_uri()]
    assert found.errors == []
    assert pages[name].stat().st_size < 5e6


@pytest.mark.parametrize("name", ["report", "scores", "review"])
def test_each_language_is_complete(browser: Browser, pages: dict[str, Path], name: str) -> None:
    page = opened(browser, pages[name]).page
    texts = {}
    for language in languages():
        assert page.evaluate("document.documentElement.lang") == language
        texts[language] = plain(page.inner_text("body"))
        assert page.locator("h2:visible").count() > 2
        for heading in page.locator("h1, h2:visible, th:visible").all_inner_texts():
            assert heading.strip()
            assert "undefined" not in heading
        page.click("#switch")
    assert page.evaluate("document.documentElement.lang") == languages()[0]  # it has gone round
    sentences = [message for message in template_sentences() if message.shown("en") != message.shown("tr")]
    told = [message for message in sentences if plain(message.shown("en")) in texts["en"]]
    assert len(told) >= 2
    for message in told:  # each stands in the other language's place, and nowhere else
        assert plain(message.shown("en")) not in texts["tr"]
        assert plain(message.shown("tr")) in texts["tr"]
        assert plain(message.shown("tr")) not in texts["en"]
    assert page.locator("img:not([alt]), [role=img]:not([aria-labelledby])").count() == 0


@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_figure_is_named_by_its_heading(browser: Browser, pages: dict[str, Path], language: str) -> None:
    page = opened(browser, pages["report"]).page
    page.evaluate("language => show(language)", language)
    names = page.locator("[role=img]:visible").evaluate_all(
        "figures => figures.map(figure => document.getElementById(figure.getAttribute('aria-labelledby')).innerText)"
    )
    matrix = N_("Confusion matrix").shown(language)
    assert names[:2] == [matrix, matrix]
    assert page.get_by_role("img", name=matrix, exact=True).count() == 2
    assert "" not in names
    assert len(set(names)) == len(names) - 1


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def template_sentences() -> list[Message]:
    """The templates' sentences without anything that is filled in."""
    found = []
    for path in CSS.parent.glob("*.html.jinja"):
        found += re.findall(r't\("([^"{}]{40,})"\)', path.read_text(encoding="utf-8"))
    return [N_(text) for text in found]


def test_a_third_language_can_be_chosen(browser: Browser, trained: Path, tmp_path: Path) -> None:
    """Each of three shows its own words alone."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.copytree(catalogues.FOLDER / "tr", tmp_path / "locale" / "tr")
    with accented.spoken(tmp_path / "locale"), undrawn():
        path = report_again(run, language="tr", thorough=False)[0].report
        codes = languages()
        headings = {code: N_("Confusion matrix").shown(code) for code in codes}
    assert codes == ("en", "tr", accented.CODE)
    page = opened(browser, path).page
    assert page.evaluate("document.documentElement.lang") == "tr"
    assert page.input_value("#switch") == "tr"
    for code in (*codes, "tr"):
        page.select_option("#switch", code)
        assert page.evaluate("document.documentElement.lang") == code
        assert page.inner_text("#confusion") == headings[code]
        shown = page.locator("[lang]:visible").evaluate_all("parts => parts.map(part => part.lang)")
        assert set(shown) == {code}
    page.goto(f"{path.as_uri()}#{accented.CODE}")
    page.reload()
    assert page.inner_text("#confusion") == headings[accented.CODE]
    assert page.input_value("#switch") == accented.CODE


def test_the_language_can_be_asked_for(browser: Browser, pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["report"].as_uri() + "#tr")
    assert page.evaluate("document.documentElement.lang") == "tr"
    assert page.locator("h2:visible").first.inner_text() == N_("Result on the test split").shown("tr")


def test_dark_is_dark(browser: Browser, pages: dict[str, Path]) -> None:
    backgrounds = [
        opened(browser, pages["report"], scheme=scheme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert backgrounds == ["rgb(255, 255, 255)", "rgb(23, 24, 26)"]


def rgb(colour: str) -> str:
    """`rgb(1, 2, 3)` as a browser computes it -> `#010203`."""
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_of_figures_can_be_read(browser: Browser, pages: dict[str, Path], scheme: str) -> None:
    page = opened(browser, pages["report"], scheme=scheme).page
    behind = rgb(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    colours = page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(text => text.getClientRects().length)"
        ".map(text => getComputedStyle(text).fill)"
    )
    inks = {rgb(colour) for colour in colours} - {"#000000", "#ffffff"}  # those lie on a matrix's cells
    assert len(inks) >= 3
    assert min(contrast(ink, behind) for ink in inks) >= 4.5


def test_figures_keep_their_size_on_a_phone(browser: Browser, pages: dict[str, Path]) -> None:
    """They scroll: made as small as the screen, they could not be read."""
    page = opened(browser, pages["report"], width=PHONE).page
    sizes = page.evaluate(
        "[...document.querySelectorAll('svg')].filter(svg => svg.getClientRects().length)"
        ".map(svg => [svg.getBoundingClientRect().width, svg.viewBox.baseVal.width * 96 / 72])"
    )
    assert max(natural for _, natural in sizes) > PHONE
    for shown, natural in sizes:
        assert shown == pytest.approx(natural, abs=1)


def test_a_shade_tells_of_more_at_the_side(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["report"], width=PHONE).page
    box = page.evaluate_handle(
        "[...document.querySelectorAll('.scroll:has(svg)')].find(part => part.scrollWidth > part.clientWidth)"
    ).as_element()
    assert box

    def corners() -> list[bool]:
        """Whether the left and the right corner, where no figure draws, are shaded."""
        with Image.open(io.BytesIO(box.screenshot())) as picture:
            bare = picture.convert("RGB")
        return [bare.getpixel((x, 1)) != (255, 255, 255) for x in (1, bare.width - 2)]

    assert corners() == [False, True]
    box.evaluate("part => { part.scrollLeft = 20; }")
    assert corners() == [True, True]
    box.evaluate("part => { part.scrollLeft = part.scrollWidth; }")
    assert corners() == [True, False]


def test_paper_shows_what_is_folded_on_the_screen(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    page = opened(browser, pages["report"]).page
    closed = "document.querySelectorAll('details:not([open])').length"
    before = page.evaluate(closed)
    page.evaluate(f"addEventListener('beforeprint', () => {{ window.folded = {closed}; }})")
    page.pdf(path=tmp_path / "report.pdf")
    assert before > 0
    assert page.evaluate("window.folded") == 0
    assert page.evaluate(closed) == before
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 700
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll')].every(part => getComputedStyle(part).overflowX === 'visible')"
    )


def test_tables_say_what_they_hold(browser: Browser, pages: dict[str, Path]) -> None:
    page = opened(browser, pages["scores"]).page
    assert page.locator("table").count() >= 5
    assert page.locator("table:not(:has(caption))").count() == 0
    assert page.locator("th:not([scope])").count() == 0
    for name in ("calibration", "unsure"):  # what the figure shows, for those who can't see it
        section = page.locator("section", has=page.locator(f"h2#{name}"))
        assert section.locator("details table").count() == 1


def test_decisions_are_saved_as_a_list(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    page = opened(browser, pages["review"]).page
    boxes = page.locator(".choice")
    assert boxes.count() >= 1
    boxes.nth(0).locator("button[data-decision=relabel]").click()
    label = boxes.nth(0).locator("select").input_value()
    boxes.nth(0).locator("select").select_option(label)
    for number in range(1, boxes.count()):
        boxes.nth(number).locator("button[data-decision=drop]").click()
    boxes.nth(0).locator("button[data-decision=relabel]").click()  # undone, and done again
    boxes.nth(0).locator("button[data-decision=relabel]").click()
    assert page.inner_text("#count") == str(boxes.count())
    with page.expect_download() as waiting:
        page.click("#save")
    assert waiting.value.suggested_filename == "decisions.csv"
    waiting.value.save_as(tmp_path / "decisions.csv")
    with (pages["review"].parent / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    made = decisions.read(tmp_path / "decisions.csv", ("circle", "square", "triangle"))
    with (tmp_path / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
        saved = list(csv.DictReader(file))
    own = ("decision", "new_label")
    assert [{**row, **dict.fromkeys(own)} for row in saved] == [{**row, **dict.fromkeys(own)} for row in rows]
    assert made.keys() == {row["path"] for row in rows}
    assert {path: decision.sha256 for path, decision in made.items()} == {row["path"]: row["sha256"] for row in rows}
    assert made[rows[0]["path"]].label == label
    assert {decision.action for path, decision in made.items() if path != rows[0]["path"]} <= {"drop"}


def test_decisions_outlive_the_page_and_undecided_photos_stay_listed(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    context = browser.new_context(accept_downloads=True)
    for number, decision in ((0, "keep"), (1, "drop")):  # the page is closed in between
        page = context.new_page()
        page.goto(pages["review"].as_uri())
        page.locator(".choice").nth(number).locator(f"button[data-decision={decision}]").click()
        assert page.inner_text("#count") == str(number + 1)
        if number == 0:
            page.close()
    with page.expect_download() as waiting:
        page.click("#save")
    waiting.value.save_as(tmp_path / "decisions.csv")
    with (tmp_path / "decisions.csv").open(newline="", encoding="utf-8-sig") as file:
        saved = list(csv.DictReader(file))
    assert [row["decision"] for row in saved] == ["keep", "drop", *[""] * (len(saved) - 2)]
    assert len(saved) == page.locator(".choice").count()


def test_colours_are_told_apart() -> None:
    """Text has a contrast of 4.5 and more to what is behind it (WCAG 2.2, level AA), in both themes."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", line)) for line in CSS.read_text().splitlines() if "--ink:" in line
    )
    for theme in (light, dark):
        for text in ("ink", "soft", "accent", "bad"):
            for behind in ("page", "box"):
                assert contrast(theme[text], theme[behind]) >= 4.5, (text, behind, theme)
