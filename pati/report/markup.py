"""What templates write: text and numbers in all languages at once, of which a page shows one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import ParamSpec

from markupsafe import Markup, escape

from pati.locale import formats
from pati.locale.catalogues import languages
from pati.locale.messages import N_, NC_, NP_, Message
from pati.recipe import Value

P = ParamSpec("P")


def tag(language: str) -> str:
    """A language as HTML writes it: pt-BR."""
    return language.replace("_", "-")


def spoken(show: Callable[[str], str], kind: str = "") -> Markup:
    """A text in each language, in a `<span>` each, of a CSS class `kind`; one that is the same in all stands once."""
    texts = {language: escape(_unbroken(show(language))) for language in languages()}
    style = Markup(' class="{}"').format(kind) if kind else Markup()
    text, *others = dict.fromkeys(texts.values())
    if not others:
        return Markup("<span{}>{}</span>").format(style, text) if kind else text
    return Markup().join(
        Markup('<span{} lang="{}">{}</span>').format(style, tag(language), text) for language, text in texts.items()
    )


def _unbroken(text: str) -> str:
    """A number and its percent sign stay on one line."""
    return re.sub(r"(?<=\d) %(?!\d)", "\N{NO-BREAK SPACE}%", text)


def m(message: Message) -> Markup:
    """A message in all languages."""
    return spoken(message.shown)


def _in_all_languages(mark: Callable[P, Message]) -> Callable[P, Markup]:
    def text(*arguments: P.args, **named: P.kwargs) -> Markup:
        return m(mark(*arguments, **named))

    return text


t, tp, tc = _in_all_languages(N_), _in_all_languages(NP_), _in_all_languages(NC_)


def share(value: float) -> Markup:
    """A share in percent."""
    return spoken(lambda language: formats.percent(value, language))


def shares(ends: Sequence[float]) -> Markup:
    """An interval in percent."""
    return spoken(lambda language: interval(ends, language).replace(" –", "\N{NO-BREAK SPACE}–"), "shares")


def interval(ends: Sequence[float], language: str) -> str:
    """The same in one language."""
    return " – ".join("-" * (end < 0) + formats.signed(f"{100 * abs(end):.1f}", language) for end in ends)


def difference(value: float, language: str) -> str:
    """A difference of shares in percentage points, with a minus sign where it is negative: −3.6."""
    return _with_minus("".join(formats.careful_round(value, 100, 1)), language)


def differences(ends: Sequence[float], language: str) -> str:
    """An interval of them."""
    return " – ".join(_with_minus(f"{100 * end:z.1f}", language) for end in ends)


def _with_minus(number: str, language: str) -> str:
    return formats.marked(number, language).replace("-", "\N{MINUS SIGN}")


def points(value: float) -> Markup:
    """A difference of shares in percentage points, in all languages."""
    return spoken(lambda language: difference(value, language))


def point_span(ends: Sequence[float]) -> Markup:
    """An interval of them."""
    return spoken(lambda language: differences(ends, language).replace(" –", "\N{NO-BREAK SPACE}–"), "shares")


def rate(value: float | None) -> Markup:
    """A share as a number below 1."""
    return Markup("–") if value is None else spoken(lambda language: formats.rate(value, language))


def number(value: float, digits: int) -> Markup:
    """A number with so many decimals."""
    return spoken(lambda language: formats.marked(f"{value:.{digits}f}", language))


def span(ends: Sequence[float]) -> Markup:
    """An interval of numbers."""
    return spoken(lambda language: "–".join(formats.marked(f"{end:.3f}", language) for end in ends), "span")


def plain(value: Value) -> Markup:
    """A value of a recipe."""
    if value is None:
        return Markup("–")
    if isinstance(value, bool):
        return m(NC_("value", "yes") if value else NC_("value", "no"))
    text = f"{value:.3g}" if isinstance(value, float) else None
    return escape(value) if text is None else spoken(lambda language: formats.marked(text, language))


def duration(seconds: float) -> Markup:
    """Seconds, minutes or hours."""
    return spoken(lambda language: formats.duration(seconds, language))


def drawing(by_language: Mapping[str, str], heading: str) -> Markup:
    """A figure, an SVG in each language; `heading`: the id of what names it for those who can't see it.

    Where the figure could not be drawn, that is said.
    """
    if not by_language:
        failed = m(N_("This figure could not be drawn. To try again:"))
        return Markup('<p class="bad">{} <code>pati report {}</code></p>').format(failed, tc("placeholder", "RUN"))
    drawn = Markup().join(
        Markup('<div lang="{}" role="img" aria-labelledby="{}">{}</div>').format(
            tag(language), heading, Markup(by_language[language])
        )
        for language in languages()
    )
    return Markup('<div class="scroll">{}</div>').format(drawn)


GLOBALS = {
    "m": m, "t": t, "tp": tp, "tc": tc,
    "share": share, "shares": shares, "points": points, "point_span": point_span,
    "rate": rate, "number": number, "span": span, "plain": plain, "duration": duration, "drawing": drawing,
}  # fmt: skip
