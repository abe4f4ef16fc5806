"""A file brought from an address: resumed after a break, checked, and in place only when it is whole.

Knows nothing of data sets.
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from pati.errors import PatiError
from pati.system.files import sha256_file, sync_folder
from pati.system.locks import locked

Progress = Callable[[int, int], None]
Answer = http.client.HTTPResponse | urllib.error.HTTPError

ATTEMPTS = 5
PAUSE = 1.0  # seconds before the next attempt, twice as long each time
_BLOCK = 1 << 20


def download(
    address: str,
    target: Path,
    *,
    sha256: str | None = None,
    timeout: float = 30.0,
    attempts: int = ATTEMPTS,
    progress: Progress | None = None,
) -> Path:
    """Bring `address` to `target`; gives up after `timeout` seconds of silence, `attempts` times without a new byte.

    What has come stays in a file beside the target, so that another try goes on from there, also by
    another process. Raises `PatiError`: no network, no room, or not the file that was expected.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with locked(part.with_name(f"{part.name}.lock"), f"another process is downloading {target.name}"):
        if target.exists():
            return target
        try:
            _bring(address, part, timeout, attempts, progress)
            if sha256 is not None and (found := sha256_file(part)) != sha256:
                _forget(part)
                raise PatiError(
                    f"{address} gave another file than expected: its SHA-256 is {found}, expected {sha256}",
                    "try again; if it stays so, the publisher changed the file",
                )
            _settle(part, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PatiError(
                    f"no room for {target} on its disk",
                    "make room, or set PATI_CACHE to a folder on a larger disk; what has come is kept",
                ) from None
            raise PatiError(f"can't write {target}: {os.strerror(error.errno or 0)}") from None
    return target


def _bring(address: str, part: Path, timeout: float, attempts: int, progress: Progress | None) -> None:
    """Fill `part`, in as many attempts as it takes while there is progress."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            missing = _attempt(address, part, timeout, progress)
            if not missing:
                return
            why = f"it ended {missing:,} bytes too early"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            why = str(getattr(error, "reason", None) or error or type(error).__name__)
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                failures = attempts  # the server knows what it says
        failures = 0 if failures < attempts and part.exists() and part.stat().st_size > before else failures + 1
        if failures >= attempts:
            kept = part.stat().st_size if part.exists() else 0
            raise PatiError(
                f"can't download {address}: {why}",
                f"look at the network and try again{f': the {kept:,} bytes that have come are kept' if kept else ''}",
            )
        time.sleep(PAUSE * 2 ** max(0, failures - 1))


def _attempt(address: str, part: Path, timeout: float, progress: Progress | None) -> int:
    """One request, for what is still missing; the bytes that are missing after it."""
    have = part.stat().st_size if part.exists() else 0
    mark = _mark_file(part)
    request = urllib.request.Request(address)
    if have and mark.exists():
        # The server must send the rest of the same file, or all of the new one.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", json.loads(mark.read_text())["mark"])
    else:
        have = 0
    with _asked(request, timeout) as answer:
        start = _range_start(answer) if answer.status == 206 else 0
        if answer.status == 416 and (answer.headers.get("Content-Range") or "").endswith(f"*/{have}"):
            return 0  # there is no more: ours is whole already
        if answer.status == 416 or start not in (0, have):
            _forget(part)  # ours is longer than theirs, or they send what was not asked for
            return 1
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else 0
        if start == 0:
            validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
            _forget(part)
            if validator and not validator.startswith("W/"):
                mark.write_text(json.dumps({"mark": validator}))
        with part.open("ab") as file:
            done = start
            while block := _received(answer):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    return max(0, total - done)


def _asked(request: urllib.request.Request, timeout: float) -> Answer:
    """The open answer; also one that says that there is nothing in the range asked for."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
        return answer
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        return error


def _received(answer: Answer) -> bytes:
    """The next bytes, in which any break is one of the network's, not of the disk's."""
    try:
        block: bytes = answer.read(_BLOCK)
    except OSError as error:
        raise ConnectionError(str(error)) from error
    return block


def _range_start(answer: Answer) -> int:
    """Where the sent part begins, by `Content-Range: bytes 100-199/200`; -1 if it is not said."""
    text = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").split("-")[0]
    return int(text) if text.isdecimal() else -1


def _mark_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _mark_file(part).unlink(missing_ok=True)


def _settle(part: Path, target: Path) -> None:
    part.replace(target)
    _mark_file(part).unlink(missing_ok=True)
    sync_folder(target.parent)
