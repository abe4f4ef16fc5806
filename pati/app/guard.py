"""Which requests the page answers: those that a browser sends to one of the page's own names, from the page itself.

A web page of a stranger can let a visitor's browser send requests to this machine: through a name that leads here (DNS
rebinding; the header Host tells it), or from another page (Origin tells it), such as one on another local port. Neither
is answered. Pages are also told to load nothing from elsewhere, and not to be shown inside another site's page.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from pati.locale.messages import N_, Message
from pati.system.network import Hosts

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Sent

POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob: {sockets}; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
# Paths that are no pages: Streamlit's endpoints and files.
_FILES = {"_stcore", "static", "media", "component", "app", "oauth2callback", "auth", "favicon.png", "manifest.json"}


class Guard:
    """Answers requests to the page's own names, and refuses all others with status 403 and a sentence; an ASGI app.

    `hosts`, `port`: see `Hosts`. `pages`: the paths of the pages but the first one, to which all other paths lead.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], port: int, pages: Collection[str]) -> None:
        self._app, self._hosts, self._pages = app, Hosts(hosts, port), pages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason is not None:
            await _refuse(scope, send, reason)
        elif self._leads_nowhere(scope):
            await _respond(send, 307, b"", (b"location", b"/"))
        else:
            # Streamlit would look up the machine's address on the internet for some origins; this one has been checked.
            headers = [(name, value) for name, value in scope["headers"] if name != b"origin"]
            await self._app({**scope, "headers": headers}, receive, _with_policy(send, _values(scope, b"host")[0]))

    def _refusal(self, scope: Scope) -> Message | None:
        """Why the request is refused, or None."""
        found = self._hosts.foreign(_values(scope, b"host"), _values(scope, b"origin"), scope["server"][0])
        if found is None:
            return None
        header, value = found[0], found[1][:200]
        if header == "origin":
            return N_("Refused: the request comes from another page, {origin!r}", origin=value)
        return N_(
            "Refused: {shown!r} is not a name of this page. If it should be one, start the page with: "
            "pati app --host {host} --host {name}",
            shown=value,
            host=self._hosts.listens,
            name=value,
        )

    def _leads_nowhere(self, scope: Scope) -> bool:
        """Whether a browser asks for a page that there is not."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return False
        parts = [part for part in scope["path"].split("/") if part]
        if not parts or not _FILES.isdisjoint(parts):  # Streamlit looks for its endpoints below every path
            return False
        return len(parts) > 1 or parts[0] not in self._pages


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]


def _with_policy(send: Send, host: str) -> Send:
    policy = POLICY.format(sockets=f"ws://{host} wss://{host}").encode()  # not every browser counts them to 'self'

    async def sent(message: Sent) -> None:
        if message["type"] == "http.response.start":
            added = [(b"content-security-policy", policy), (b"referrer-policy", b"no-referrer")]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sent


async def _refuse(scope: Scope, send: Send, reason: Message) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})  # before it is accepted: status 403
    else:
        await _respond(send, 403, f"{reason}\n".encode(), (b"content-type", b"text/plain; charset=utf-8"))


async def _respond(send: Send, status: int, body: bytes, header: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [header, length]})
    await send({"type": "http.response.body", "body": body})
