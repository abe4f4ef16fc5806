"""Messages: a sentence with its arguments, translated when it is displayed.

Errors, notes, logs and manifests store messages rather than text: a report contains all languages, and each visitor of
the web app chooses one. `N_`, `NP_` and `NC_` mark messages for `make messages`, which extracts them into the
catalogues.
"""

from __future__ import annotations

import functools
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict, Union, cast

from pati.locale import catalogues, formats

Argument: TypeAlias = Union[str, int, float, "Message", list["Argument"]]
Json: TypeAlias = Union[str, int, float, "MessageDocument", list["Json"]]


NESTED = 8  # levels of messages within messages that are read from files


class MessageDocument(TypedDict, total=False):
    """A message in JSON."""

    text: str
    arguments: dict[str, Json]
    plural: str
    context: str


@dataclass(frozen=True)
class Message:
    """A sentence with `{names}` of its arguments. The English text is also the key in the catalogues.

    `plural`: the sentence to use when the argument `n` is not 1. `context`: distinguishes messages that are identical
    in English but not in other languages. A format spec is one of Python's or a key of `FORMATS`. Lists are joined with
    commas.
    """

    text: str
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    plural: str | None = None
    context: str | None = None

    def __hash__(self) -> int:
        values = (pair for pair in sorted(self.arguments.items()) if not isinstance(pair[1], (list, tuple)))
        return hash((self.text, self.plural, self.context, *values))

    def shown(self, language: str) -> str:
        """The message in `language`."""
        text = self._translated(language)
        return _field().sub(lambda match: self._filled(match, language), text) if "{" in text or "}" in text else text

    def _translated(self, language: str) -> str:
        if language == catalogues.SOURCE:
            return self.text if self.plural is None or self.arguments["n"] == 1 else self.plural
        words = catalogues.catalogue(language)
        if self.plural is not None:
            return words.ngettext(self.text, self.plural, cast(int, self.arguments["n"]))
        if self.context is not None:
            return words.pgettext(self.context, self.text)
        return words.gettext(self.text)

    def _filled(self, match: re.Match[str], language: str) -> str:
        name, quoted, form = match.groups()
        if name is None:  # a doubled brace
            return match[0][0]
        if name not in self.arguments:  # a message from a file that has been edited
            return match[0]
        value = self.arguments[name]
        return _shown(repr(value) if quoted else value, form or "", language)

    def __str__(self) -> str:
        return self.shown(catalogues.current())

    def to_json(self) -> MessageDocument:
        """The message as stored in files."""
        document: MessageDocument = {"text": self.text}
        if self.arguments:
            document["arguments"] = {name: _to_json(value) for name, value in self.arguments.items()}
        if self.plural is not None:
            document["plural"] = self.plural
        if self.context is not None:
            document["context"] = self.context
        return document

    @classmethod
    def from_json(cls, document: MessageDocument | str) -> Message:
        """Read a message from a file; a `str` is a finished sentence of an older version and is shown as it is.

        Raises `ValueError` for anything but a `MessageDocument` that can be shown.
        """
        return _read(document, NESTED)


def N_(text: str, /, **arguments: object) -> Message:  # noqa: N802  (gettext's name)
    """A message."""
    return Message(text, _plain(arguments))


def NP_(text: str, plural: str, /, n: int, **arguments: object) -> Message:  # noqa: N802
    """A message that depends on the number `n`.

    `plural` is the English text for any `n` but 1; other languages may have more forms.
    """
    return Message(text, _plain({"n": n, **arguments}), plural)


def NC_(context: str, text: str, /, **arguments: object) -> Message:  # noqa: N802
    """A message whose translation depends on the context, such as a word that is both a noun and a verb."""
    return Message(text, _plain(arguments), context=context)


def as_is(text: str) -> Message:
    """A message that is never translated.

    For text from elsewhere, such as the operating system, and for language-independent text.
    """
    return Message("{text}", {"text": text})


def either(names: Sequence[str]) -> Message:
    """Alternatives: "a", "a or b", "a, b or c"."""
    *others, last = names
    return N_("{others} or {last}", others=others, last=last) if others else as_is(last)


def _plain(arguments: Mapping[str, object]) -> dict[str, Argument]:
    """Arguments as they can be stored in a file: everything but messages, numbers and lists of these becomes text."""
    return {name: _plain_one(value) for name, value in arguments.items()}


def _plain_one(value: object) -> Argument:
    if isinstance(value, list | tuple | dict):
        return [_plain_one(item) for item in value]
    if isinstance(value, Message | str | int | float):
        return value
    if isinstance(value, numbers.Integral):  # NumPy's
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else str(value)


def _to_json(value: Argument) -> Json:
    if isinstance(value, Message):
        return value.to_json()
    if isinstance(value, str | int | float):
        return value
    return [_to_json(item) for item in value]


def _read(document: object, nested: int) -> Message:
    """A message with at most `nested` levels of messages and lists in its arguments."""
    if isinstance(document, str):
        return as_is(document)
    if not isinstance(document, dict):
        raise ValueError(f"expected a message, got {type(document).__name__}")
    text, plural, context = document.get("text"), document.get("plural"), document.get("context")
    arguments = document.get("arguments", {})
    if not isinstance(text, str) or not isinstance(plural, str | None) or not isinstance(context, str | None):
        raise ValueError("expected the text, plural and context of a message to be text")
    if not isinstance(arguments, dict):
        raise ValueError("expected the arguments of a message to be an object")
    arguments = {name: _read_argument(value, nested - 1) for name, value in arguments.items()}
    if plural is not None and not isinstance(arguments.get("n"), int):
        raise ValueError("expected a message with a plural to have an integer n")
    for sentence in (text, plural or ""):
        names = [field[1] for field in _field().finditer(sentence) if field[1]]
        if len(names) > len(set(names)):  # the text could grow exponentially with the levels
            raise ValueError("expected every argument of a message to be used once")
    message = Message(text, arguments, plural, context)
    try:
        message.shown(catalogues.SOURCE)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return message


def _read_argument(value: object, nested: int) -> Argument:
    if nested < 0:
        raise ValueError(f"messages are nested more than {NESTED} levels deep")
    if isinstance(value, list):
        return [_read_argument(item, nested - 1) for item in value]
    return value if isinstance(value, str | int | float) else _read(value, nested)


FORMATS: dict[str, Callable[[float, str], str]] = {
    "percent": formats.percent,
    "percent0": lambda share, language: formats.percent(share, language, 0),
    "percent_number": formats.percent_number,
    "rate": formats.rate,
    "duration": formats.duration,
}


@functools.cache
def _field() -> re.Pattern[str]:
    """A field of a sentence, or a doubled brace.

    Not `str.format`: messages also come from files, and its fields could access attributes and exhaust memory.
    """
    return re.compile(r"\{\{|\}\}|\{(\w+)(!r)?(?::([+,]*(?:\.\d)?[dfg]?|" + "|".join(FORMATS) + r"))?\}")


def _shown(value: Argument, form: str, language: str) -> str:
    """An argument formatted for `language`."""
    if isinstance(value, Message):
        return value.shown(language)
    if isinstance(value, str):
        return formats.printable(value.replace("\n", " "))
    if isinstance(value, int | float):
        return FORMATS[form](value, language) if form in FORMATS else formats.marked(format(value, form), language)
    return ", ".join(_shown(item, form, language) for item in value)
