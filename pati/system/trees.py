"""Folders of any depth: the standard library's functions call themselves for each level, which Python limits."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder with everything in it, as far as possible; links are not followed."""
    folders = list(_folders(folder))
    for path in folders:
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        os.unlink(entry)
    for path in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(path)


def _folders(top: Path) -> Iterator[str]:
    """The folder and those in it, each before its own."""
    waiting = [os.fspath(top)]
    while waiting:
        folder = waiting.pop()
        yield folder
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
