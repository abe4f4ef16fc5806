"""The parts of the server that need no process: who may ask, how much, and how long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from pati.errors import PatiError
from pati.serve.limits import Allowed, Limited, Rejected, language_of
from pati.serve.service import Full, Workers
from pati.serve.settings import Limits
from pati.system.network import Hosts, listening, origin

App = Callable[..., Awaitable[None]]
LIMITS = Limits(request_bytes=100, photos=2, queue=4, seconds=0.2)


def called(app: App, parts: Sequence[bytes | float], headers: Sequence[tuple[bytes, bytes]] = ()) -> list[Any]:
    """What an ASGI app sends for a request whose body comes in parts; a number is a pause in seconds."""
    sent: list[Any] = []
    left = list(parts)

    async def receive() -> Any:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))  # type: ignore[arg-type]
        if not left:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": list(headers), "server": ("127.0.0.1", 8000)}
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body, or with the status of a rejection."""
    size, status, more = 0, 200, True
    try:
        while more:
            event = await receive()
            size, more = size + len(event.get("body", b"")), event.get("more_body", False)
    except Rejected as error:
        status = error.status
    except Full:
        status = 429
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def workers() -> Workers:
    return Workers(LIMITS.queue, 150)


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ([b"x" * 100], (), 200),
        ([b"x" * 60, b"x" * 40], (), 200),
        ([b"x" * 60, b"x" * 41], (), 413),
        ([b"x"], ((b"content-length", b"101"),), 413),
        ([b"x", 1.0, b"x"], (), 408),
        ([b"x", 0.05, b"x"], (), 200),
    ],
)
def test_a_body_has_limits(parts: Sequence[bytes | float], headers: Sequence[tuple[bytes, bytes]], status: int) -> None:
    sent = called(Limited(echo, LIMITS, workers()), parts, headers)
    assert sent[0]["status"] == status
    assert sent[-1].get("more_body", False) is False


def test_the_bodies_of_all_requests_have_a_limit() -> None:
    both = workers()
    with both.memory() as take:
        take(100)
        assert called(Limited(echo, LIMITS, both), [b"x" * 51])[0]["status"] == 429
        assert called(Limited(echo, LIMITS, both), [b"x" * 50])[0]["status"] == 200
    assert called(Limited(echo, LIMITS, both), [b"x" * 100])[0]["status"] == 200


def test_places() -> None:
    both = workers()
    with both.place(3):
        with pytest.raises(Full), both.place(2):
            pass
        with both.place(1):
            assert both.waiting == 4
    assert both.waiting == 0


@pytest.mark.parametrize(
    ("host", "sender", "status"),
    [
        ("localhost:8000", None, 200),
        ("127.0.0.1:8000", "http://127.0.0.1:8000", 200),
        ("photos.example", "https://photos.example", 200),
        ("localhost:8000", "https://app.example", 200),
        ("localhost:8000", "https://other.example", 403),
        ("other.example", None, 403),
        ("localhost:1", None, 403),
    ],
)
def test_who_may_ask(host: str, sender: str | None, status: int) -> None:
    headers = [(b"host", host.encode()), *([(b"origin", sender.encode())] if sender else [])]
    app = Allowed(echo, Hosts(["localhost", "photos.example"], 8000), ["https://app.example"])
    assert called(app, [b""], headers)[0]["status"] == status


def test_origins() -> None:
    assert origin("HTTPS://App.example/") == "https://app.example"
    for text in ("app.example", "ftp://app.example", "https://", "https://app.example/path"):
        with pytest.raises(PatiError, match="--origin"):
            origin(text)


@pytest.mark.parametrize("port", [0, -1, 65536, 99999])
def test_ports(port: int) -> None:
    with pytest.raises(PatiError, match="--port"):
        listening("localhost", [port])


def test_languages() -> None:
    assert language_of("tr-TR,tr;q=0.9,en;q=0.5") == "tr"
    assert language_of("de, en;q=0.5") == "en"
    assert language_of("") == "en"
