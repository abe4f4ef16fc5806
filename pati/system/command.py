"""How this installation of pati is called in a shell."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path


def own() -> Path | None:
    """The program `pati` of this installation; None where it runs without being installed."""
    found = shutil.which("pati", path=sysconfig.get_path("scripts"))
    return None if found is None else Path(found)


def on_path() -> bool:
    """Whether a shell finds this installation by its name."""
    here, found = own(), shutil.which("pati")
    return here is not None and found is not None and os.path.samefile(found, here)


def shown() -> str:
    """What to type for `pati`: its name only where that is what a shell finds."""
    if on_path():
        return "pati"
    path = own()
    if path is None:
        return f"{shlex.quote(sys.executable)} -m pati"
    with contextlib.suppress(OSError, ValueError):  # the current folder has been deleted, or is another one
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path))
