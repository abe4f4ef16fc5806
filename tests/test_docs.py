"""Generated docs are current, and the two READMEs say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import generate

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_current(name: str) -> None:
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generate.PAGES[name](), "run `make docs`"


@pytest.mark.parametrize("name", ["README.md", "README.tr.md"])
def test_results_are_those_of_the_benchmarks(name: str) -> None:
    assert generate.results(name) in (ROOT / name).read_text(encoding="utf-8"), "run `make docs`"


# Names of a reader's own files, in the commands of the Turkish pages.
NAMES = {
    "YOUR/PHOTOS": "FOTOĞRAF/KLASÖRÜ", "photos": "fotograflar", "holiday/": "tatil/", "other/": "baska/",
    "cat.jpg": "kedi.jpg",
}  # fmt: skip


def test_readmes_are_kept_equal() -> None:
    english, turkish = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.tr.md"))
    for pattern in (r"^#+ ", r"^\|", r"^```"):
        assert len(re.findall(pattern, english, re.M)) == len(re.findall(pattern, turkish, re.M)), pattern
    blocks = [re.findall(r"^```(?:sh|python)\n(.*?)^```", text, re.M | re.S) for text in (english, turkish)]
    strip = [[re.sub(r"\s+#.*", "", block) for block in found] for found in blocks]
    for own, turkish_name in NAMES.items():
        strip[0] = [block.replace(own, turkish_name) for block in strip[0]]
    assert strip[0] == strip[1]


def test_the_turkish_readme_names_nothing_in_english() -> None:
    text = (ROOT / "README.tr.md").read_text(encoding="utf-8")
    assert re.findall(r"`[^`]*\b(?:RUN|DATA|PHOTOS?|photos/|holiday/)[^`]*`", text) == []


def test_english_pages_are_marked_in_the_turkish_readme() -> None:
    text = " ".join((ROOT / "README.tr.md").read_text(encoding="utf-8").split())
    links = re.findall(r"\[[^]]+\]\(([^)#]+\.md)[^)]*\)(.{0,60})", text)
    unmarked = [target for target, after in links if "tr/" not in target and "ngilizce" not in after]
    assert unmarked == ["README.md"]


def test_readme_names_every_module() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "pati").iterdir():
        if path.name not in ("__init__.py", "__main__.py", "__pycache__", "py.typed"):
            assert path.name.removesuffix(".py") in text, path.name


def test_links_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
