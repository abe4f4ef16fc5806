"""What a request may cost, and where it may come from. ASGI apps around the routes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pati.locale import catalogues
from pati.locale.messages import N_, Message
from pati.serve.service import Workers
from pati.serve.settings import Limits
from pati.system.network import Hosts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Event


class Rejected(Exception):
    """A request that is not answered: the HTTP status, why, and for 429 after how many seconds to try again."""

    def __init__(self, status: int, reason: Message, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.retry_after = status, reason, retry_after


class Allowed:
    """Answers requests to the server's own names that no page of another origin sent, and rejects all others with 403.

    `origins`: of pages that may use the server as well, such as https://app.example. See `app.guard` for the reasons.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts, origins: Collection[str]) -> None:
        self._app, self._hosts, self._origins = app, hosts, set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        reason = self._reason(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await respond(send, Rejected(403, reason), language_of(",".join(_values(scope, b"accept-language"))))

    def _reason(self, scope: Scope) -> Message | None:
        """Why the request is rejected, or None."""
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        found = self._hosts.foreign(hosts, origins, scope["server"][0], self._origins)
        if found is None:
            return None
        header, value = found[0], found[1][:200]
        if header == "origin":
            return N_(
                "the request comes from a page of {shown!r}. If it may use this server, start it with: "
                "pati serve --origin {origin}",
                shown=value, origin=value,
            )  # fmt: skip
        return N_(
            "{shown!r} is not a name of this server. If it should be one, start it with: "
            "pati serve --host {host} --host {name}",
            shown=value, host=self._hosts.listens, name=value,
        )  # fmt: skip


class Limited:
    """Raises `Rejected` where the app reads a body that is too large (413) or comes too slowly (408), and `Full` where
    the bodies of all requests are.

    What is left of a body when the response has been sent is read and discarded, within the same time: a client that
    still sends when the connection is closed may never see the response.
    """

    def __init__(self, app: ASGIApp, limits: Limits, workers: Workers) -> None:
        self._app, self._limits, self._workers = app, limits, workers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limits, received, complete = self._limits, 0, False
        deadline = asyncio.get_running_loop().time() + limits.seconds
        stated = max((int(value) for value in _values(scope, b"content-length") if value.isdecimal()), default=0)

        async def next_part() -> Event:
            nonlocal received, complete
            async with asyncio.timeout_at(deadline):
                event = await receive()
            received += len(event.get("body", b""))
            complete = not event.get("more_body", False)
            return event

        with self._workers.memory() as take:

            async def limited() -> Event:
                if complete:  # the app waits for the client to go
                    return await receive()
                too_large = Rejected(413, N_("a request may have {most:,} bytes", most=limits.request_bytes))
                if stated > limits.request_bytes:
                    raise too_large
                try:
                    event = await next_part()
                except TimeoutError:
                    reason = N_("the request was not complete after {seconds:g} s", seconds=limits.seconds)
                    raise Rejected(408, reason) from None
                if received > limits.request_bytes:
                    raise too_large
                take(len(event.get("body", b"")))
                return event

            async def lingering(event: Event) -> None:
                if event["type"] == "http.response.body" and not event.get("more_body", False) and not complete:
                    await send({**event, "more_body": True})
                    with contextlib.suppress(TimeoutError):
                        while not complete:
                            await next_part()
                    event = {"type": "http.response.body"}
                await send(event)

            await self._app(scope, limited, lingering)


def _values(scope: Scope, wanted: bytes) -> Sequence[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def language_of(accepted: str) -> str:
    """The first language of a header Accept-Language that there is a catalogue for; English if there is none."""
    names = (part.partition(";")[0].strip() for part in accepted.split(","))
    return next((code for name in names if (code := catalogues.known(name)) is not None), catalogues.SOURCE)


def problem(reason: str) -> bytes:
    """The body of a rejection."""
    return json.dumps({"error": reason}).encode()


def headers(rejected: Rejected) -> dict[str, str]:
    """The headers of a rejection. After one that may leave a part of the body unread, the connection is closed."""
    found = {} if rejected.retry_after is None else {"retry-after": str(rejected.retry_after)}
    return found | ({"connection": "close"} if rejected.status in (403, 408, 413, 429) else {})


async def respond(send: Send, rejected: Rejected, language: str) -> None:
    """Answer a request with a rejection."""
    body = problem(rejected.reason.shown(language))
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers(rejected)}
    encoded = [(name.encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": rejected.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
