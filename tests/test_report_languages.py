"""Reports in every language: what is the same stands once, numbers are in each one's notation, all can be chosen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes
from markupsafe import Markup

from pati.data.split import SPLITS
from pati.evaluation.corruptions import CORRUPTIONS
from pati.explain.checks import BASELINES, MEASURES
from pati.locale import catalogues
from pati.locale.messages import as_is
from pati.report import labels, markup, pages
from tests.support import accented

TEMPLATES = Path(pages.__file__).parent / "templates"
MARKS = {"t": 1, "tp": 2, "tc": 2, "s": 1, "sp": 2}  # how many of the first arguments are a sentence, or its context


@pytest.fixture
def third(tmp_path: Path) -> Iterator[str]:
    """A third language's code, while there is a catalogue of it."""
    shutil.copytree(catalogues.FOLDER / "tr", tmp_path / "tr")
    with accented.spoken(tmp_path):
        yield accented.CODE


def both(english: str, turkish: str, style: str = "") -> str:
    return f'<span{style} lang="en">{english}</span><span{style} lang="tr">{turkish}</span>'


def test_numbers_are_in_each_languages_notation() -> None:
    assert markup.share(0.9237) == both("92.4\xa0%", "%92,4")
    assert markup.share(0.9996) == both("&gt; 99.9\xa0%", "&gt; %99,9")
    assert markup.share(-0.036) == both("-3.6\xa0%", "-%3,6")
    assert markup.shares((-0.05, 0.01)) == both("-5.0\xa0%\xa0– 1.0\xa0%", "-%5,0\xa0– %1,0", ' class="shares"')
    assert markup.points(-0.036) == both("\N{MINUS SIGN}3.6", "\N{MINUS SIGN}3,6")
    assert markup.points(-0.0001) == both("&gt; \N{MINUS SIGN}0.1", "&gt; \N{MINUS SIGN}0,1")
    assert markup.point_span((-0.05, 0.01)) == both(
        "\N{MINUS SIGN}5.0\xa0– 1.0", "\N{MINUS SIGN}5,0\xa0– 1,0", ' class="shares"'
    )
    assert markup.plain(value=True) == both("yes", "evet")
    assert markup.plain(None) == "–"
    assert markup.rate(0.9237) == both("0.924", "0,924")
    assert markup.rate(None) == "–"
    assert markup.number(-1.257, 2) == both("-1.26", "-1,26")
    assert markup.span((0.5, 0.75)) == both("0.500–0.750", "0,500–0,750", ' class="span"')
    assert markup.plain(0.05) == both("0.05", "0,05")
    assert markup.duration(130) == both("2.2 min", "2,2 dk")
    assert markup.t("label: {label} ({share:percent})", label="a.b", share=0.25) == both(
        "label: a.b (25.0\xa0%)", "etiket: a.b (%25,0)"
    )


def test_what_is_the_same_in_all_languages_stands_once() -> None:
    assert markup.number(12, 0) == "12"
    assert markup.plain(7) == "7"
    assert markup.plain("<adamw>") == "&lt;adamw&gt;"
    assert markup.m(as_is("a & b")) == "a &amp; b"
    assert markup.spoken(lambda language: "5", "span") == '<span class="span">5</span>'


def test_sentences_and_what_is_filled_in_are_text() -> None:
    assert markup.t("predicted: {label}", label="<b>") == both("predicted: &lt;b&gt;", "tahmin: &lt;b&gt;")
    assert isinstance(markup.t("Accuracy"), Markup)


def test_a_count_has_its_plural() -> None:
    one, more = (markup.tp("{n} epoch", "{n} epochs", count) for count in (1, 2))
    assert (one, more) == (both("1 epoch", "1 dönem"), both("2 epochs", "2 dönem"))


def test_every_sentence_of_the_templates_can_be_extracted() -> None:
    """Its words are literals, as Babel reads the templates without running them."""
    found = 0
    for path in TEMPLATES.glob("*.jinja"):
        tree = jinja2.Environment().parse(path.read_text(encoding="utf-8"))
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in MARKS:
                literals = call.args[: MARKS[call.node.name]]
                assert len(literals) == MARKS[call.node.name], path.name
                assert all(isinstance(one, nodes.Const) and isinstance(one.value, str) for one in literals), path.name
                found += 1
    assert found > 200


def test_labels_are_those_of_what_is_measured() -> None:
    assert list(labels.SPLITS) == list(SPLITS)
    assert list(labels.CORRUPTIONS) == list(CORRUPTIONS)
    assert list(labels.MEASURES) == list(MEASURES)
    assert set(labels.BASELINES) == set(BASELINES)
    assert list(labels.EXAMPLES) == list(pages.GROUPS)


def empty(language: str) -> str:
    """A page without anything in it."""
    return pages._filled("base.html.jinja", language=language, source="photos")


def test_two_languages_have_a_button_with_the_others_name() -> None:
    page = empty("tr")
    assert '<html lang="tr" data-lang="tr">' in page
    assert f'<button type="button" id="switch">{both("Türkçe", "English")}</button>' in page
    assert "<select" not in page


def test_more_languages_can_be_chosen_among(third: str) -> None:
    page = empty("tr")
    options = re.findall(r'<option value="(\w+)"( selected)?>([^<]+)</option>', page)
    assert [(code, chosen, name) for code, chosen, name in options] == [
        ("en", "", "English"), ("tr", " selected", "Türkçe"), (third, "", accented.accented("English")),
    ]  # fmt: skip
    assert "<button" not in page
    (rule,) = re.findall(r"(html\[data-lang.*?) \{ display: none; \}", page)
    assert rule.split(", ") == [f'html[data-lang="{code}"] [lang]:not([lang="{code}"])' for code in ("en", "tr", third)]
    assert markup.number(0.5, 1) == both("0.5", "0,5") + f'<span lang="{third}">0.5</span>'


def test_one_language_needs_no_switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "FOLDER", tmp_path)
    for cached in (catalogues.languages, catalogues.catalogue):
        cached.cache_clear()
    page = empty("en")
    monkeypatch.undo()
    for cached in (catalogues.languages, catalogues.catalogue):
        cached.cache_clear()
    assert not re.search(r'<button|<select|id="switch"|\[data-lang', page)
    assert "<h1>: photos</h1>" in page
