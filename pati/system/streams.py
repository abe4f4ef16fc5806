"""Standard input and output for any name of a file, whatever their encoding."""

from __future__ import annotations

import codecs
import io
import sys

# Typography for encodings that lack it.
_PLAIN = str.maketrans(
    {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "·": "-", "±": "+-", "≥": ">=", "≤": "<=", "→": "->",
     "≠": "!=", "‘": "'", "’": "'", "“": '"', "”": '"', "━": "-", "─": "-", "╸": "-", "╺": "-",
     "\u00a0": " ", "\u2060": ""}
)  # fmt: skip


def any_names() -> None:
    """Let this process write any text, and read names that are not valid in the encoding of its standard input.

    What the output's encoding lacks is written as its escape, such as \\u011f; a name that is read keeps its bytes, as
    names of files do in Python.
    """
    codecs.register_error("pati", _written_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="pati")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")


def _written_out(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end
