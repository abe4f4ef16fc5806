"""Run the server until it is asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import h11
import uvicorn
from starlette.middleware.cors import CORSMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol

from pati.locale.messages import N_
from pati.serve.access import Access, Log, Metrics
from pati.serve.limits import Allowed, Limited
from pati.serve.models import Models, Sources
from pati.serve.page import Pages
from pati.serve.routes import application
from pati.serve.service import Workers
from pati.serve.settings import Limits
from pati.system import machine, network
from pati.terminal.console import say

REQUESTS = 16  # of the largest size whose bodies are in memory at once
GRACE = 3.0  # seconds for the next request of an open connection at the end, after which it is closed
KEEP_ALIVE = 30  # seconds for it otherwise
END = 60  # seconds after which requests that are not answered yet are given up
TICK = 0.05  # seconds
TRIM = 50  # ticks of uvicorn, until free memory is returned: it is fragmented, and would grow for hours


def serve(
    where: Path | None, limits: Limits, *, hosts: Sequence[str], port: int, origins: Sequence[str], log: bool = True
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; those that were accepted are answered before the end.

    `where`: see `Sources.of`; `hosts`, `port`: see `network.Hosts`; `origins`: see `Allowed`. Raises `PatiError`.
    """
    machine.return_large_blocks()
    host, _ = network.named(hosts[0])
    pages = [network.origin(one) for one in origins]
    sources = Sources.of(where)
    sockets, port = network.listening(host, [port])
    workers = Workers(limits.queue, REQUESTS * limits.request_bytes)
    lines = Log() if log else None
    with contextlib.closing(workers), contextlib.closing(lines) if lines else contextlib.nullcontext():
        models, metrics = Models(sources, workers), Metrics(workers)
        routes = application(models, limits, metrics, Pages(sources.files), lambda: not access.ending)
        if pages:
            routes.add_middleware(CORSMiddleware, allow_origins=pages, allow_methods=["GET", "POST"])
        access = Access(Limited(Allowed(routes, network.Hosts(hosts, port), pages), limits, workers), metrics, lines)
        protocol = _protocol(limits.seconds)
        config = uvicorn.Config(
            access, http=protocol, ws="none", loop="asyncio", lifespan="off", log_config=None,
            access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=END,
        )  # fmt: skip
        address = f"http://{network.display(host)}:{port}"
        say(N_("{names} at {address}; /docs describes the API; Ctrl-C ends the server",
               names=list(sources.files), address=address))  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, protocol, access).run(sockets)


class _Server(uvicorn.Server):
    """Ends without losing a request: uvicorn alone drops connections that it has not accepted yet, and those that are
    open while their next request is on its way."""

    def __init__(self, config: uvicorn.Config, protocol: type[H11Protocol], access: Access) -> None:
        super().__init__(config)
        self._protocol, self._access = protocol, access

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Also the end of a terminal, which uvicorn does not know."""
        with contextlib.ExitStack() as after, super().capture_signals():
            hangup = getattr(signal, "SIGHUP", None)
            if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
                after.callback(signal.signal, hangup, signal.signal(hangup, self.handle_exit))
            yield

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn: called ten times a second."""
        if counter % TRIM == 0:
            await asyncio.to_thread(machine.return_free_memory)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted, then end."""
        self._access.ending = True  # connections are closed after their next response
        loop, accepted = asyncio.get_running_loop(), []
        for listener in sockets or []:
            with contextlib.suppress(OSError):  # as soon as none is waiting
                while True:
                    accepted.append(listener.accept()[0])
        for server in self.servers:
            server.close()
        for one in accepted:
            await loop.connect_accepted_socket(self._connection, one)
        end = loop.time() + GRACE
        while self.server_state.connections and loop.time() < end and not self.force_exit:
            await asyncio.sleep(TICK)
        await super().shutdown(sockets)

    def _connection(self) -> H11Protocol:
        return self._protocol(config=self.config, server_state=self.server_state, app_state={})


def _protocol(seconds: float) -> type[H11Protocol]:
    """uvicorn's protocol, with a limit on the time that a client takes to send the head of a request, and to read what
    is buffered of a response."""

    class Protocol(H11Protocol):
        _late: asyncio.TimerHandle | None = None
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            self._watch()
            self.resume_writing()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

        def send_400_response(self, message: str) -> None:
            if self.conn.our_state is h11.SEND_BODY:  # a response is on its way
                self.transport.close()
            else:
                super().send_400_response(message)

        def _watch(self) -> None:
            """Let the time run while a head is incomplete."""
            waiting = self.conn.their_state is h11.IDLE and (self.cycle is None or bool(self.conn.trailing_data[0]))
            incomplete = waiting and not self.transport.is_closing()
            if incomplete and self._late is None:
                self._late = self.loop.call_later(seconds, self.transport.close)
            elif not incomplete and self._late is not None:
                self._late.cancel()
                self._late = None

    return Protocol
