"""Names by which a server is reached, and sockets that listen."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from pati.errors import PatiError, os_reason
from pati.locale.messages import N_

LOCAL = ("localhost", "127.0.0.1", "::1")
ANYWHERE = ("", "0.0.0.0", "::")  # addresses to listen on, which are no names
PORTS = {"http": 80, "https": 443}


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


def origin(text: str) -> str:
    """An origin as browsers write it, such as https://app.example. Raises `PatiError`."""
    scheme, mark, place = text.lower().rstrip("/").partition("://")
    if scheme not in PORTS or not mark or split_host(place) is None:
        raise PatiError(
            N_("--origin is {origin!r}", origin=text),
            N_("expected http or https and a name, such as https://app.example"),
        )
    return f"{scheme}://{place}"


def named(text: str) -> tuple[str, int | None]:
    """Name and port, if it has one, of what the user calls a host: also an IPv6 address without brackets."""
    address = _address(text)
    host = (str(address), None) if address is not None else split_host(text)
    if host is None:
        raise PatiError(N_("--host is {host!r}", host=text), N_("expected a name or an address, such as localhost"))
    return host


class Hosts:
    """The names of a server. `listens`: the address that it listens on.

    `hosts`: this address, then further names; without a port, a name is allowed with `port`, the server's own, and the
    usual ports of the web.
    """

    def __init__(self, hosts: Sequence[str], port: int) -> None:
        self._port = port
        self.listens, self._everywhere = hosts[0], hosts[0] in ANYWHERE
        own = [socket.gethostname(), f"{socket.gethostname()}.local"] if self._everywhere else []
        self._allowed = {(named(name)[0], port) for name in (*LOCAL, *own, hosts[0])}
        for name, other in map(named, hosts[1:]):
            self._allowed |= {(name, place) for place in ((other,) if other else (port, *PORTS.values()))}

    def include(self, host: str, server: str) -> bool:
        """Whether the header Host of a request, which came to the address `server` of this machine, is a name of it."""
        split = split_host(host)
        if split is None:
            return False
        name, port = split
        if any((name, port or default) in self._allowed for default in PORTS.values()):
            return True
        # Listening on all addresses: by the one that the request came to.
        address = _address(name) if self._everywhere else None
        return address is not None and address == _address(server) and port == self._port

    def foreign(
        self, hosts: Sequence[str], origins: Sequence[str], server: str, others: Collection[str] = ()
    ) -> tuple[str, str] | None:
        """What makes a request one of a stranger: the name and value of a header; None for one that may be answered.

        `hosts`, `origins`: the values of the headers Host and Origin; `others`: origins that are allowed as well.
        """
        if len(hosts) != 1 or not self.include(hosts[0], server):
            return "host", hosts[0] if hosts else ""
        strange = (one for one in origins if one not in others and not same_origin(one, hosts[0]))
        return next((("origin", one) for one in strange), None)


def same_origin(origin: str, host: str) -> bool:
    """Whether the header Origin of a request names the page of its header Host."""
    scheme, _, place = origin.partition("://")
    return scheme in PORTS and _sent_to(place, scheme) == _sent_to(host, scheme)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _sent_to(place: str, scheme: str) -> tuple[str, int] | None:
    host = split_host(place)
    return None if host is None else (host[0], host[1] or PORTS[scheme])


def display(host: str) -> str:
    """The address of a page that listens there, as a browser takes it."""
    if host in ANYWHERE:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def listening(host: str, ports: Sequence[int]) -> tuple[list[socket.socket], int]:
    """Sockets that listen at all addresses of `host`, on the first port that is free. Raises `PatiError`."""
    for port in ports:
        if not 0 < port < 2**16:
            raise PatiError(N_("--port is {port}", port=port), N_("expected a number from 1 to 65535"))
        try:
            return _bound(host, port), port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PatiError(
                    N_("can't listen on {host}: {reason}", host=host, reason=os_reason(error)),
                    N_("expected a name or an address of this machine, such as localhost"),
                ) from None
    raise PatiError(
        N_("port {port} on {host} is in use", port=ports[0], host=host), N_("choose another one with --port")
    )


def _bound(host: str, port: int) -> list[socket.socket]:
    with contextlib.ExitStack() as opened:
        sockets, missing = [], OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                one = opened.enter_context(socket.socket(family))
                if os.name != "nt":  # where it would allow two servers on one port
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
                one.bind(address)
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error  # localhost may have an address of IPv6 where the machine has none
            else:
                one.listen(128)
                sockets.append(one)
        if not sockets:
            raise missing
        opened.pop_all()
        return sockets
