"""What is known about the requests: a line of JSON for each, and figures for Prometheus."""

from __future__ import annotations

import contextlib
import datetime
import json
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pati.serve.service import Workers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Event

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)  # bounds of the histogram
LINES = 10_000  # that wait to be written, if the reader of stdout is slow; further ones are dropped


class Metrics:
    """Counts of requests and photos, and how long requests took."""

    def __init__(self, workers: Workers) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "pati_requests", "Requests, by path and HTTP status.", ["path", "status"], registry=self._registry
        )
        self._photos = Counter("pati_photos", "Photos in requests.", registry=self._registry)
        self._seconds = Histogram(
            "pati_request_seconds", "From the head of a request to the end of its response.", ["path"],
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        waiting = Gauge("pati_photos_waiting", "Photos that wait or are computed.", registry=self._registry)
        waiting.set_function(lambda: workers.waiting)

    def count(self, path: str, status: int, seconds: float, photos: int) -> None:
        """Add a request."""
        self._requests.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)
        self._photos.inc(photos)

    def text(self) -> bytes:
        """All figures, in the text format of Prometheus."""
        return generate_latest(self._registry)


class Log:
    """Lines on stdout, written by a thread: a reader that is slow, or has gone, must not make requests wait or fail."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | None] = queue.Queue(LINES)
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()

    def line(self, text: str) -> None:
        """Write a line soon."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(text)

    def close(self) -> None:
        """Write what waits."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._writer.join(1.0)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            while (text := self._lines.get()) is not None:
                print(text, file=sys.stdout, flush=True)


class Access:
    """Counts each request, and writes a line of JSON about it to the log.

    While the server is `ending`, connections are closed after their response.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log: Log | None) -> None:
        self._app, self._metrics, self._log = app, metrics, log
        self.ending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, received = time.perf_counter(), 0, 0

        async def counted() -> Event:
            nonlocal received
            event = await receive()
            received += len(event.get("body", b""))
            return event

        async def sent(event: Event) -> None:
            nonlocal status
            if event["type"] == "http.response.start":
                status = event["status"]
                if self.ending:
                    event = {**event, "headers": [*event.get("headers", []), (b"connection", b"close")]}
            await send(event)

        try:
            await self._app(scope, counted, sent)
        finally:
            seconds = time.perf_counter() - begun
            photos = scope.get("state", {}).get("photos", 0)
            # Not the path that was asked for: there would be a figure for each that does not exist.
            self._metrics.count(getattr(scope.get("route"), "path", "other"), status, seconds, photos)
            if self._log is not None:
                self._log.line(_line(scope, status, seconds, received, photos))


def _line(scope: Scope, status: int, seconds: float, received: int, photos: int) -> str:
    return json.dumps(
        {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "seconds": round(seconds, 4),
            "bytes": received,
            "photos": photos,
        }
    )
