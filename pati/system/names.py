"""Names of files as systems other than the one that gave them allow and compare them."""

from __future__ import annotations

import ntpath
import os
import re
import unicodedata

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)")
_LONGEST = 247  # letters of a path on Windows, of a folder's as well


def same_file(name: str) -> str:
    """A key that is equal for names of one file on any system: without case (NTFS, APFS) and Unicode form (APFS)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def on_windows(name: str) -> str:
    """A name that Windows can store, most like `name`: without colons and the like, or a device's name such as CON."""
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]|[. ]$', "_", name)
    return f"_{name}" if _DEVICES.match(name) else name


def here(name: str) -> str:
    """A name that this system can store, most like `name`."""
    return on_windows(name) if os.name == "nt" else name


def openable(path: str) -> str:
    """The same path in the form in which Windows opens paths of over 260 letters; unchanged on other systems."""
    return extended(path) if os.name == "nt" else path


def extended(path: str) -> str:
    r"""A long path of Windows, absolute, behind \\?\; of a network's folder, behind \\?\UNC\."""
    path = ntpath.abspath(path)
    if len(path) <= _LONGEST or path.startswith(("\\\\?\\", "\\\\.\\")):
        return path
    return f"\\\\?\\UNC\\{path[2:]}" if path.startswith("\\\\") else f"\\\\?\\{path}"
