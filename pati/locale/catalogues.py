"""The translation catalogues, and the language of this process."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import gettext

FOLDER = Path(__file__).parent
SOURCE = "en"  # the language of the code
VARIABLE = "PATI_LANG"

_chosen: str | None = None
_default = SOURCE


@functools.cache
def languages() -> tuple[str, ...]:
    """Codes of the available languages: English, then those with a catalogue in this folder."""
    return (SOURCE, *sorted(path.parent.parent.name for path in FOLDER.glob("*/LC_MESSAGES/pati.mo")))


def choose(language: str | None) -> None:
    """Set the language of this process. None: `PATI_LANG`, else the system's after `follow_system`, else English."""
    global _chosen
    _chosen = language


def follow_system() -> None:
    """Default to the system's language instead of English when no language is requested."""
    global _default
    _default = system_language()


def requested() -> str | None:
    """The language set by `choose` or by `PATI_LANG`; None if neither is set."""
    return _chosen or known(os.environ.get(VARIABLE, ""))


def current() -> str:
    """The language of this process."""
    return requested() or _default


def known(name: str) -> str | None:
    """The language code for a locale name such as tr, tr_TR.UTF-8 or tr-TR; None without a catalogue for it."""
    code = name.partition(".")[0].partition("@")[0].replace("-", "_")
    if code in ("C", "POSIX"):
        return SOURCE
    return next((one for one in (code, code.partition("_")[0].lower()) if one in languages()), None)


def system_language() -> str:
    """The language of the operating system's settings; English if there is no catalogue for it."""
    names = [os.environ.get(name, "") for name in ("LC_ALL", "LC_MESSAGES", "LANG")]
    name = next(filter(None, names), "")
    if not name and sys.platform == "win32":
        import ctypes
        import locale

        name = locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")
    return known(name) or SOURCE


@functools.cache
def catalogue(language: str) -> gettext.NullTranslations:
    """The translations into `language`. English, and messages missing from the catalogue, are returned unchanged."""
    import gettext  # here, as English help does without it

    if language == SOURCE:
        return gettext.NullTranslations()
    with (FOLDER / language / "LC_MESSAGES" / "pati.mo").open("rb") as file:
        return gettext.GNUTranslations(file)
