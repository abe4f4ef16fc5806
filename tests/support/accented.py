"""A made-up language, accented English: what it shows without accents was not translated."""

from __future__ import annotations

import contextlib
import html.parser
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from unittest import mock

from babel.messages import Catalog, mofile

from pati.locale import catalogues
from tests.support.catalogues import messages

CODE = "xa"
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ACCENTS = str.maketrans(_PLAIN, "áḅçđéƒğĥíĵķłṁñóṗʠřšŧúṽŵẋýžÁḄÇĐÉƑĞĤÍĴĶŁṀÑÓṖɊŘŠŦÚṼŴẊÝŽ")


def accented(text: str) -> str:
    """English with accents on its letters, but for placeholders and tags."""
    parts = re.split(r"(\{\{|\}\}|\{[^{}]*\}|<[^<>]*>)", text)
    return "".join(part if number % 2 else part.translate(_ACCENTS) for number, part in enumerate(parts))


def write(folder: Path) -> None:
    """A catalogue of the language, as `tools/messages.py` would compile it from its `.po`, below `folder`."""
    catalogue = Catalog(charset="utf-8", header_comment="")
    for message in messages():
        if message.id:
            string = tuple(map(accented, message.id)) if isinstance(message.id, tuple) else accented(message.id)
            catalogue.add(message.id, string, context=message.context)
    buffer = io.BytesIO()
    mofile.write_mo(buffer, catalogue)
    path = folder / CODE / "LC_MESSAGES" / "pati.mo"
    path.parent.mkdir(parents=True)
    path.write_bytes(buffer.getvalue())


@contextlib.contextmanager
def spoken(folder: Path) -> Iterator[None]:
    """This process speaks the language inside, from a catalogue in `folder`."""
    write(folder)
    for cached in (catalogues.languages, catalogues.catalogue):
        cached.cache_clear()
    try:
        with mock.patch.object(catalogues, "FOLDER", folder), mock.patch.dict("os.environ", PATI_LANG=CODE):
            yield
    finally:
        for cached in (catalogues.languages, catalogues.catalogue):
            cached.cache_clear()


def escaped(text: str, known: Iterable[str] = ()) -> list[str]:
    """Words of the text that have no accents: nothing of the catalogue. Left out are those `known`, and whatever has
    the form of a path, an option, an identifier or a number."""
    known = {word.lower() for word in known}
    found = []
    for token in re.split(r"[\s,;:()\[\]|│╭╮╰╯─━╸·…“”\"'’=→]+", text):
        word = token.strip(".!?*<>≥≤±×–-%$#&`")
        coded = re.search(r"[/\\_@{}]|\d|\.\w|^--|-\w+-", token) or token.startswith("--")
        if not coded and re.fullmatch(r"[A-Za-z]{2,}", word) and word.lower() not in known:
            found.append(word)
    return found


class Visible(html.parser.HTMLParser):
    """The text of a page, and of its labels, that readers of one language see."""

    def __init__(self, language: str) -> None:
        super().__init__()
        self._language, self._open, self.parts = language, [("", True)], [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        shown = self._open[-1][1] and tag not in ("script", "style", "code", "metadata")
        if tag != "html" and named.get("lang") not in (None, self._language):
            shown = False
        if tag not in ("meta", "img", "br", "input", "link", "path", "use", "rect", "hr"):
            self._open.append((tag, shown))
        if shown:
            self.parts += [named.get(name) or "" for name in ("aria-label", "title", "placeholder")]

    def handle_endtag(self, tag: str) -> None:
        if any(tag == one for one, _ in self._open):
            while self._open.pop()[0] != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open[-1][1]:
            self.parts.append(data)


def visible(page: str, language: str = CODE) -> str:
    """The words of an HTML page that readers of a language see."""
    reader = Visible(language)
    reader.feed(page)
    return "\n".join(reader.parts)
