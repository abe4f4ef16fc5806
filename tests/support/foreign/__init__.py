"""Commands on other systems, as far as they can be simulated: see `sitecustomize.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def environment(system: str, root: Path, encoding: str = "utf-8") -> dict[str, str]:
    """The environment of a process on a system, whose files are below `root`."""
    path = os.pathsep.join(map(str, (HERE, HERE.parents[2])))
    return os.environ | {
        "PYTHONPATH": path, "FOREIGN": system, "FOREIGN_ROOT": str(root), "PYTHONIOENCODING": encoding,
        "PATI_CACHE": str(root / "cache"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip


def python(*words: object, system: str, root: Path, encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """Python on a system, in its folder."""
    return subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, cwd=root, timeout=300,
        env=environment(system, root, encoding),
    )  # fmt: skip
