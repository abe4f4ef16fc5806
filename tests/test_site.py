"""The docs site is built whole, without a network, and asks for nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_the_site(tmp_path: Path) -> None:
    environment = os.environ | {
        "NO_MKDOCS_2_WARNING": "1",
        "http_proxy": "http://localhost:9",
        "https_proxy": "http://localhost:9",
    }
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = {str(path.relative_to(tmp_path)): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert {"index.html", "tutorial/index.html", "tr/index.html", "tr/tutorial/index.html", "faq/index.html"} <= set(
        pages
    )
    for name, text in pages.items():
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)|<link[^>]*rel=\"(?:stylesheet|preconnect)\"[^>]*href=\"([^\"]+)",
            text,
        )
        assert not [url for pair in loaded for url in pair if url.startswith(("http", "//"))], name
    assert "A saliency map for" in pages["python/index.html"]  # from docstrings
    assert "Usage: pati train" in pages["cli/index.html"]  # from the help


def test_both_languages_have_the_same_steps() -> None:
    for name in ("index.md", "tutorial.md", "glossary.md"):
        english, turkish = ((ROOT / "docs" / part / name).read_text(encoding="utf-8") for part in ("", "tr"))
        for pattern in (r"^#+ ", r"^```", r"^- ", r"^\|"):
            assert len(re.findall(pattern, english, re.M)) == len(re.findall(pattern, turkish, re.M)), (name, pattern)
