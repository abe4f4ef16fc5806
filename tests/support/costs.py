"""What decoding a file costs."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pati.data.audit import pool
from tests.support.bad_files import FILES, KINDS


def cost(name: str, base: Path) -> tuple[float, int]:
    """Seconds of the slowest file of a kind, and the highest memory of the process that decoded them."""
    folder = base / "data" / name
    folder.mkdir(parents=True)
    process = pool._Process(base / "data", None)
    try:
        slowest = 0.0
        for number in range(FILES):
            path = KINDS[name].write(folder, number)
            started = time.monotonic()
            process.inspect([(0, os.path.relpath(path, base / "data"))])
            slowest = max(slowest, time.monotonic() - started)
        status = Path(f"/proc/{process._process.pid}/status")
        peak = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return slowest, int(peak[0].split()[1]) * 1024
    finally:
        process.close()
