"""A server of `pati serve` in a process of its own, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.browser import free_port

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """The response to a request."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Server:
    """A running server; `said`: what it wrote."""

    port: int
    said: Path
    process: subprocess.Popen[bytes]

    def ask(
        self, path: str = "/", body: bytes | None = None, kind: str | None = None, method: str | None = None,
        **headers: str,
    ) -> Answer:  # fmt: skip
        """Send a request, by default POST if it has a body; `kind`: of the body."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            fields = headers | ({} if kind is None else {"Content-Type": kind})
            connection.request(method or ("GET" if body is None else "POST"), path, body, fields)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read(), found)

    def log(self) -> list[dict[str, Any]]:
        """The lines about requests."""
        lines = self.said.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@contextlib.contextmanager
def serving(
    folder: Path, *words: object, start: Sequence[str] = ("-m", "pati"), env: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Context manager for `pati serve` with these words; at the end, it must end by itself on SIGTERM."""
    port, said = free_port(), folder / f"said-{uuid.uuid4().hex}.txt"
    command = [sys.executable, *start, "serve", *map(str, words), "--port", str(port)]
    with said.open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env=env or os.environ | {"PYTHONPATH": str(ROOT)}
        )
    server = Server(port, said, process)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if server.ask("/readyz").status == 200:
                    break
            assert process.poll() is None, said.read_text()
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            assert process.wait(30) == 0, said.read_text()
        finally:
            process.kill()


def form(files: Sequence[tuple[str, bytes]], field: str = "photos") -> tuple[bytes, str]:
    """A form with files (name, contents): its bytes, and its content type."""
    border = uuid.uuid4().hex
    parts = [
        f'--{border}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    return b"".join([*parts, f"--{border}--\r\n".encode()]), f"multipart/form-data; boundary={border}"
