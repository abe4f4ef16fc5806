"""Update the catalogues in pati/locale: extract the messages from the code and compile the translations.

To add a language: `python tools/messages.py new de` creates pati/locale/de/LC_MESSAGES/pati.po.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import sys
from collections.abc import Iterator
from pathlib import Path

from babel import Locale
from babel.messages import Catalog, mofile, pofile
from babel.messages.extract import extract

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "pati"
FOLDER = PACKAGE / "locale"
# Function -> which of its arguments are messages: (singular, plural), or (context "c", message).
PLURAL, CONTEXT = (1, 2), ((1, "c"), 2)
IN_CODE = {"N_": None, "NP_": PLURAL, "NC_": CONTEXT, "pgettext": CONTEXT, "_choice": (2,)}  # the help of a field
IN_TEMPLATES = IN_CODE | {"t": None, "tp": PLURAL, "tc": CONTEXT, "s": None, "sp": PLURAL, "sc": CONTEXT}


def messages() -> Catalog:
    """All user-visible messages of the package, as a catalogue without translations."""
    found = Catalog(charset="utf-8", header_comment="# Sentences of pati.")
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        for line, message, _, context in extract("python", io.BytesIO(text), IN_CODE):
            _add(found, path, line, message, context)
        for line, message in _help(path, ast.parse(text)):
            _add(found, path, line, message, None)
    for path in sorted(PACKAGE.rglob("*.jinja")):
        with path.open("rb") as file:
            for line, message, _, context in extract("jinja2", file, IN_TEMPLATES, options={"trimmed": "true"}):
                _add(found, path, line, message, context)
    return found


def _add(catalogue: Catalog, path: Path, line: int, message: str | tuple[str, ...], context: str | None) -> None:
    # Without line numbers, so that a catalogue changes only where its messages do.
    catalogue.add(message, locations=[(path.relative_to(ROOT).as_posix(), None)], context=context)


def _help(path: Path, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The user-visible parts of a module's docstrings: help of commands and options, and registry summaries."""
    inside = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        text = ast.get_docstring(node)
        if text is None:
            continue
        if inside.startswith("cli/") and (_decorated(node, "command", "default") or "Parameters\n-----" in text):
            body, _, parameters = text.partition("Parameters\n----------\n")
            paragraphs = [*body.split("\n\n"), *_descriptions(parameters)]
        elif _decorated(node, "register", "register_family"):
            paragraphs = text.split("\n\n")[:1]
            if inside == "recipe.py":  # the other paragraphs give a preset's cost and expected score
                paragraphs = [text]
        else:
            continue
        yield from ((node.lineno, " ".join(paragraph.split())) for paragraph in paragraphs if paragraph.strip())


def _decorated(node: ast.FunctionDef | ast.ClassDef, *names: str) -> bool:
    functions = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
    return any(isinstance(item, ast.Attribute) and item.attr in names for item in functions)


def _descriptions(parameters: str) -> Iterator[str]:
    """Parameter descriptions from a numpydoc section: names start in the first column, descriptions are indented."""
    lines: list[str] = []
    for line in [*parameters.splitlines(), "end"]:
        if line.startswith(" ") or not line:
            lines.append(line)
        else:
            yield " ".join(lines)
            lines = []


def updated(path: Path, template: Catalog) -> Catalog:
    """The catalogue in `path`, updated to `template`: obsolete messages are dropped, and there is no fuzzy matching."""
    with path.open("rb") as file:
        catalogue = pofile.read_po(file, locale=path.parents[1].name)
    begun = catalogue.creation_date
    catalogue.update(template, no_fuzzy_matching=True)
    catalogue.creation_date = begun  # otherwise every run would change the file
    catalogue.obsolete.clear()
    return catalogue


def as_text(catalogue: Catalog) -> bytes:
    """The catalogue as the bytes of a `.po` file."""
    buffer = io.BytesIO()
    pofile.write_po(buffer, catalogue, width=100, omit_header=False, sort_by_file=True, include_lineno=False)
    return buffer.getvalue()


def compiled(catalogue: Catalog) -> bytes:
    """The catalogue as the bytes of a `.mo` file."""
    buffer = io.BytesIO()
    mofile.write_mo(buffer, catalogue)
    return buffer.getvalue()


def catalogues() -> list[Path]:
    """The `.po` file of each language."""
    return sorted(FOLDER.glob("*/LC_MESSAGES/pati.po"))


def main() -> int:
    """Update and compile every catalogue; the exit status is 1 if a translation is missing."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules[__name__]))
    parser.add_argument("new", nargs="*", metavar="new LANGUAGE", help="begin a language, such as: new de")
    words = parser.parse_args().new
    template = messages()
    if words:
        path = FOLDER / words[-1] / "LC_MESSAGES" / "pati.po"
        path.parent.mkdir(parents=True)
        path.write_bytes(as_text(Catalog(locale=Locale.parse(words[-1]), charset="utf-8")))
    missing = 0
    for path in catalogues():
        catalogue = updated(path, template)
        path.write_bytes(as_text(catalogue))
        path.with_suffix(".mo").write_bytes(compiled(catalogue))
        lacking = [message for message in catalogue if message.id and not all(_texts(message.string))]
        print(f"{path.relative_to(ROOT)}: {len(catalogue)} sentences, {len(lacking)} without a translation")
        missing += len(lacking)
    return int(missing > 0)


def _texts(string: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (string,) if isinstance(string, str) else tuple(string or ("",))


if __name__ == "__main__":
    sys.exit(main())
