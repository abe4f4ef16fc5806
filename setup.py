"""The long description of the package, made of README.md; everything else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup


def portable(text: str) -> str:
    """README.md without what only a checkout has: its pictures are left out, and links to its files are plain text."""
    file = r"\((?!https?:|mailto:|#)[^)]*\)"
    text = re.sub(rf"^!?\[[^\]]*\]{file}\n\n", "", text, flags=re.MULTILINE)  # a paragraph of its own
    return re.sub(rf"!?\[([^\]]*)\]{file}", r"\1", text)


setup(
    long_description=portable(Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
