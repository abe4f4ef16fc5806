"""Which requests the page answers: those that a browser sends to one of the page's own names, from the page itself.

A web page of a stranger can let a visitor's browser send requests to this machine: through a name that leads here (DNS
rebinding; the header Host tells it), or from another page (Origin tells it), such as one on another local port. Neither
is answered. Pages are also told to load nothing from elsewhere, and not to be shown inside another site's page.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pati.errors import PatiError
from pati.locale.messages import N_, Message

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Sent

LOCAL = ("localhost", "127.0.0.1", "::1")
ANYWHERE = ("", "0.0.0.0", "::")  # addresses to listen on, which are no names
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob: {sockets}; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
_PORTS = {"http": 80, "https": 443}
# Paths that are no pages: Streamlit's endpoints and files.
_FILES = {"_stcore", "static", "media", "component", "app", "oauth2callback", "auth", "favicon.png", "manifest.json"}


def split_host(text: str) -> tuple[str, int | None] | None:
    """Name and port of `name:port` or `[address]:port`, in lower case; None if it is not of this form."""
    try:
        parts = urlsplit(f"//{text}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if not name or parts.path or parts.query or parts.fragment or "@" in text or text != text.strip():
        return None
    return name.rstrip("."), port


def named(text: str) -> tuple[str, int | None]:
    """Name and port, if it has one, of what the user calls a host: also an IPv6 address without brackets."""
    address = _address(text)
    host = (str(address), None) if address is not None else split_host(text)
    if host is None:
        raise PatiError(N_("--host is {host!r}", host=text), N_("expected a name or an address, such as localhost"))
    return host


class Guard:
    """Answers requests to the page's own names, and refuses all others with status 403 and a sentence; an ASGI app.

    `hosts`: the address to listen on, then further names of the page; without a port, a name is allowed with `port`,
    the page's own, and the usual ports of the web. `pages`: the paths of the pages but the first one, to which all
    other paths lead.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], port: int, pages: Collection[str]) -> None:
        self._app, self._port, self._pages = app, port, pages
        self._listens, self._everywhere = hosts[0], hosts[0] in ANYWHERE
        own = [socket.gethostname(), f"{socket.gethostname()}.local"] if self._everywhere else []
        self._allowed = {(named(name)[0], port) for name in (*LOCAL, *own, hosts[0])}
        for name, other in map(named, hosts[1:]):
            self._allowed |= {(name, place) for place in ((other,) if other else (port, *_PORTS.values()))}

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
        hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
        host = split_host(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._is_own(host, scope):
            shown = hosts[0][:200] if hosts else ""
            return N_(
                "Refused: {shown!r} is not a name of this page. If it should be one, start the page with: "
                "pati app --host {host} --host {name}",
                shown=shown,
                host=self._listens,
                name=shown,
            )
        for origin in origins:
            scheme, _, place = origin.partition("://")
            if scheme not in _PORTS or _sent_to(place, scheme) != _sent_to(hosts[0], scheme):
                return N_("Refused: the request comes from another page, {origin!r}", origin=origin[:200])
        return None

    def _is_own(self, host: tuple[str, int | None], scope: Scope) -> bool:
        name, port = host
        if any((name, port or default) in self._allowed for default in _PORTS.values()):
            return True
        # Listening on all addresses: by the one that the request came to.
        address = _address(name) if self._everywhere else None
        return address is not None and address == _address(scope["server"][0]) and port == self._port

    def _leads_nowhere(self, scope: Scope) -> bool:
        """Whether a browser asks for a page that there is not."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return False
        parts = [part for part in scope["path"].split("/") if part]
        if not parts or not _FILES.isdisjoint(parts):  # Streamlit looks for its endpoints below every path
            return False
        return len(parts) > 1 or parts[0] not in self._pages


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _sent_to(place: str, scheme: str) -> tuple[str, int] | None:
    host = split_host(place)
    return None if host is None else (host[0], host[1] or _PORTS[scheme])


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
