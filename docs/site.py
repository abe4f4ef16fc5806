"""What the site adds to docs/: pages and pictures that lie elsewhere in the checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = ("LOG.md", "CONTRIBUTING.md", "SECURITY.md")


def on_files(files: Files, *, config: Any) -> Files:
    for name in PAGES:
        text = (ROOT / name).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)  # links in the checkout, seen from the site
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "paw.png", content=(ROOT / "pati" / "app" / "paw.png").read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    return re.sub(r"\]\(((?:\.\./)*)\.\./(LOG|CONTRIBUTING|SECURITY)\.md", r"](\1\2.md", markdown)
