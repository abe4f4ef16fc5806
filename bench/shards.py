"""Tars and Parquet read in place: the index of a million members, and real photos in all forms."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from pati.data.sources.builtin_datasets import mirror
from pati.recipe import Recipe
from pati.workflows.check import check
from tests import test_shards

MEMBERS, BYTES = 1_000_000, 300
PHOTOS = 1000
INDEX = """
import json, sys, time
from pathlib import Path
from pati.data.sources import shards, tars


def peak():
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1])  # kB; the one of getrusage counts the process before its start too


idle = peak()
started, worked = time.monotonic(), time.process_time()
index = tars.read_index(shards.single(Path(sys.argv[1])))
seconds, worked = time.monotonic() - started, time.process_time() - worked
print(json.dumps({
    "members": len(index), "seconds": round(seconds, 1), "processor_seconds": round(worked, 1),
    "bytes_a_member": round(index.nbytes / len(index)),
    "peak_mb": round(peak() / 1e3), "idle_mb": round(idle / 1e3),
}))
"""


def shards() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as base:
        return {
            "ustar": _index(Path(base) / "ustar.tar", tarfile.USTAR_FORMAT),
            "pax": _index(Path(base) / "pax.tar", tarfile.PAX_FORMAT),
            "forms": _forms(Path(base)),
        }


def _index(path: Path, format: int) -> dict[str, Any]:
    """Time and memory of the index of a tar; pax: with an extended header for each member, as of WebDataset."""
    member = tarfile.TarInfo()
    member.size = BYTES
    if format == tarfile.PAX_FORMAT:
        member.mtime = 1.5  # type: ignore[assignment]  # tarfile takes floats
    with path.open("wb") as file:
        for number in range(MEMBERS):
            member.name = f"class{number % 100:03}/{number:08}.jpg"
            file.write(member.tobuf(format) + bytes(-(-BYTES // 512) * 512))
        file.write(bytes(1024))
    done = subprocess.run([sys.executable, "-c", INDEX, str(path)], capture_output=True, text=True, check=True)
    path.unlink()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _forms(folder: Path) -> dict[str, Any]:
    """Real photos in all forms: the hash of the manifest, and seconds of the audit."""
    base = mirror()
    assert base is not None
    with zipfile.ZipFile(base / "cats-vs-dogs.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")]
        photos = {
            f"{('circle', 'square')[kind == 'Dog']}/{name.rpartition('/')[2]}": archive.read(name)
            for kind in ("Cat", "Dog")
            for name in [name for name in names if f"/{kind}/" in name][: PHOTOS // 2]
        }
    found = {}
    for form, write in test_shards.FORMS.items():
        place = write(photos, folder / form)
        started = time.monotonic()
        manifest = check(place, Recipe())
        found[form] = {
            "hash": manifest.hash(),
            "photos": len(manifest.kept),
            "seconds": round(time.monotonic() - started, 1),
        }
    return found
