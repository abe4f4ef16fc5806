"""Download a file: resumable, verified, and moved into place only when complete.

Knows nothing of datasets.
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

from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message, as_is
from pati.system.files import move, sha256_file, sync_folder
from pati.system.locks import locked

Progress = Callable[[int, int], None]
Answer = http.client.HTTPResponse | urllib.error.HTTPError

ATTEMPTS = 5
PAUSE = 1.0  # seconds before the next attempt, doubled each time
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
    """Download `address` to `target`. Returns `target`.

    Gives up after `attempts` attempts without a new byte; an attempt fails after `timeout` seconds of silence. Partial
    data is kept in a file next to the target, from which another call, also in another process, resumes. Raises
    `PatiError`: no network, no disk space, or an unexpected file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with locked(part.with_name(f"{part.name}.lock"), N_("another process is downloading {name}", name=target.name)):
        if target.exists():
            return target
        try:
            _bring(address, part, timeout, attempts, progress)
            if sha256 is not None and (found := sha256_file(part)) != sha256:
                _forget(part)
                raise PatiError(
                    N_(
                        "unexpected file from {address}: its SHA-256 is {found}, expected {sha256}",
                        address=address,
                        found=found,
                        sha256=sha256,
                    ),
                    N_("try again; if this persists, the publisher has changed the file"),
                )
            _settle(part, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise PatiError(
                    N_("not enough disk space for {target}", target=target),
                    N_("free some space, or set PATI_CACHE to a folder on a larger disk; the downloaded part is kept"),
                ) from None
            raise PatiError(N_("can't write {target}: {reason}", target=target, reason=os_reason(error))) from None
    return target


def _bring(address: str, part: Path, timeout: float, attempts: int, progress: Progress | None) -> None:
    """Fill `part`, retrying as long as there is progress."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            missing = _attempt(address, part, timeout, progress)
            if not missing:
                return
            why: Message = N_("the connection closed {missing:,} bytes too early", missing=missing)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            why = as_is(str(getattr(error, "reason", None) or error or type(error).__name__))
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                failures = attempts  # a client error: retrying won't help
        failures = 0 if failures < attempts and part.exists() and part.stat().st_size > before else failures + 1
        if failures >= attempts:
            kept = part.stat().st_size if part.exists() else 0
            raise PatiError(
                N_("can't download {address}: {reason}", address=address, reason=why),
                N_("check the network and try again: the {kept:,} bytes downloaded so far are kept", kept=kept)
                if kept
                else N_("check the network and try again"),
            )
        time.sleep(PAUSE * 2 ** max(0, failures - 1))


def _attempt(address: str, part: Path, timeout: float, progress: Progress | None) -> int:
    """Make one request for the missing bytes; returns how many are missing afterwards."""
    have = part.stat().st_size if part.exists() else 0
    mark = _mark_file(part)
    request = urllib.request.Request(address)
    if have and mark.exists():
        # The server sends the rest of the same file, or all of the file if it has changed.
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", json.loads(mark.read_text())["mark"])
    else:
        have = 0
    with _asked(request, timeout) as answer:
        start = _range_start(answer) if answer.status == 206 else 0
        if answer.status == 416 and (answer.headers.get("Content-Range") or "").endswith(f"*/{have}"):
            return 0  # nothing left: our file is complete
        if answer.status == 416 or start not in (0, have):
            _forget(part)  # our file is longer than the server's, or it sent another range
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
    """Open the response; HTTP 416 (range not satisfiable) is returned rather than raised."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)
        return answer
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        return error


def _received(answer: Answer) -> bytes:
    """The next bytes; a read error is raised as `ConnectionError`, to tell it from a disk error."""
    try:
        block: bytes = answer.read(_BLOCK)
    except OSError as error:
        raise ConnectionError(str(error)) from error
    return block


def _range_start(answer: Answer) -> int:
    """Start of the range in `Content-Range: bytes 100-199/200`; -1 if it is missing."""
    text = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").split("-")[0]
    return int(text) if text.isdecimal() else -1


def _mark_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _mark_file(part).unlink(missing_ok=True)


def _settle(part: Path, target: Path) -> None:
    move(part, target)
    _mark_file(part).unlink(missing_ok=True)
    sync_folder(target.parent)
