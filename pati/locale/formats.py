"""Format numbers and names for a language; rounding never turns a value into exactly 0 % or 100 %.

The decimal mark and other marks are entries of the catalogues, so a new language needs no code.
"""

from __future__ import annotations

import re

from pati.locale.catalogues import catalogue

_JOINERS = "\u200c\u200d"  # between letters of Persian and Indian languages, and in emoji


def printable(name: str) -> str:
    r"""A name for display: what a terminal could take for a command, or a reader for other letters, is written out.

    Control characters become \x1b, marks that change the direction of text \u202e, and bytes of a file name that are no
    UTF-8 \xff.
    """
    return name if name.isprintable() else "".join(map(_escaped, name))


def _escaped(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS:
        return letter
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte, as Python keeps it in names
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def careful_round(value: float, whole: int, digits: int) -> tuple[str, str]:
    """`value` times `whole`, rounded to `digits`, as (prefix, number).

    The prefix holds a minus sign if needed, and "<" or ">" where rounding alone would give 0 or `whole`: 0.9996 with
    `whole` 100 and 1 digit is ("> ", "99.9").
    """
    size, step, sign = abs(value), 10.0**-digits, ""
    number = round(whole * size, digits)
    if size > 1e-9 and not number:
        number, sign = step, "< " if value > 0 else "> "
    if size < 1 - 1e-9 and number == whole:
        number, sign = whole - step, "> " if value > 0 else "< "
    return sign + "-" * (value < 0 and number > 0), f"{number:.{digits}f}"


def marked(number: str, language: str) -> str:
    """`number` with the language's decimal mark and thousands separator instead of the English ones."""
    words = catalogue(language)
    point, comma = words.pgettext("decimal mark", "."), words.pgettext("thousands separator", ",")
    return number.translate({ord("."): point, ord(","): comma})


def signed(number: str, language: str) -> str:
    """`number` with the language's marks and percent sign: 99.9 %, in Turkish %99,9."""
    return catalogue(language).pgettext("percentage", "{number} %").format(number=marked(number, language))


def percent(share: float, language: str, digits: int = 1) -> str:
    """A fraction as a percentage: 0.9996 is "> 99.9 %"."""
    sign, number = careful_round(share, 100, digits)
    return sign + signed(number, language)


def percent_number(share: float, language: str, digits: int = 1) -> str:
    """A percentage without the percent sign, for columns headed %: 0.9996 is "> 99.9"."""
    return marked("".join(careful_round(share, 100, digits)), language)


def rate(share: float, language: str) -> str:
    """A fraction with three decimals: 0.9996 is "> 0.999"."""
    return marked("".join(careful_round(share, 1, 3)), language)


def with_point(text: str) -> str | None:
    """A number that was typed with a decimal comma, with a point instead; None for any other text."""
    found = re.search(r"(?<![\d,.])\d+,\d+(?![\d,.])", text)
    return None if found is None else found[0].replace(",", ".")


def duration(seconds: float, language: str) -> str:
    """A duration for display: 45 s, 5 min, 2 h 10 min."""
    words = catalogue(language)
    if seconds < 100:
        return words.pgettext("duration", "{seconds} s").format(seconds=f"{seconds:.0f}")
    if seconds < 5997:  # rounds to less than 100 minutes
        minutes = marked(f"{seconds / 60:.1f}".removesuffix(".0"), language)
        return words.pgettext("duration", "{minutes} min").format(minutes=minutes)
    hours, rest = divmod(round(seconds / 60), 60)
    if not rest:
        return words.pgettext("duration", "{hours} h").format(hours=hours)
    return words.pgettext("duration", "{hours} h {minutes} min").format(hours=hours, minutes=rest)
