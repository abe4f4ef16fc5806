"""`pati app`: Streamlit with our settings, in this process."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from pati.app import guard, jobs
from pati.app.settings import Settings
from pati.data.sources import allowed
from pati.errors import PatiError, os_reason
from pati.locale.messages import N_, Message
from pati.system import extras
from pati.terminal.console import say

PORTS = range(8501, 8521)  # tried in this order where none is asked for


def launch(settings: Settings, *, hosts: Sequence[str], port: int | None, browser: bool) -> None:
    """Serve the page until Ctrl-C. Raises `PatiError` where Streamlit is missing or the port is taken.

    `hosts`: the address to listen on, then further names of the page, see `guard.Guard`.
    """
    with extras.required("pati app"):
        import streamlit
        import uvicorn
        from streamlit.web import bootstrap

    from pati.app.parts import TABS, UPLOAD_MB, tell_of
    from pati.app.style import THEME

    host, _ = guard.named(hosts[0])
    sockets, port = _listening(host, PORTS if port is None else [port])
    bootstrap.load_config_options(
        {
            "server.address": host,
            "server.port": port,
            "server.headless": True,  # no advertisement, and nothing that a visitor could have installed
            "server.showEmailPrompt": False,
            "server.fileWatcherType": "none",
            "server.enableXsrfProtection": True,
            "server.enableCORS": True,
            "server.maxUploadSize": UPLOAD_MB,
            "browser.gatherUsageStats": False,
            "browser.serverAddress": host,
            "client.toolbarMode": "minimal",
            "client.showErrorDetails": "none",
            "client.showErrorLinks": False,
            "logger.hideWelcomeMessage": True,
            "logger.level": "critical",  # `tell_of` keeps the details of errors
            "logger.enableRich": False,
            **THEME,
        }
    )
    allowed.restrict(settings.readable())
    for tab in TABS:
        with contextlib.suppress(ImportError):  # `page.shown` says so
            importlib.import_module(f"pati.app.{tab}_page")
    # Streamlit collects garbage after every rerun. Looking through all of torch's objects, which stay anyway, would
    # take it longer than an answer takes: what was imported so far is never looked at again.
    gc.collect()
    gc.freeze()
    script = Path(__file__).parent / "page.py"
    sys.argv = [str(script), settings.to_text()]
    app = streamlit.App(script, on_script_error=tell_of)
    guarded = guard.Guard(app, hosts=hosts, port=port, pages=list(TABS)[1:])
    config = uvicorn.Config(
        guarded, ws="websockets-sansio", log_level="warning", timeout_graceful_shutdown=1, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    address = f"http://{_display(host)}:{port}"
    say(N_("Ctrl-C ends the page at {address}", address=address))
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets)
    current = jobs.running(settings.runs)
    if current is not None:
        say(_goes_on(current))


def _goes_on(job: jobs.Job) -> Message:
    """That a process outlives the page, and how to stop it."""
    stop = jobs.job_folder(job.folder, cleaning=job.cleaning) / jobs.STOP
    if job.cleaning:
        what = N_("the check of the photos of {run} goes on", run=job.folder)
    elif job.measuring:
        what = N_("the measurement of {folder} goes on", folder=job.folder)
    else:
        what = N_("the training of {run} goes on", run=job.folder)
    return N_("{what}. To follow or stop it: pati app; or, to stop it, create the file {stop}", what=what, stop=stop)


def _display(host: str) -> str:
    if host in guard.ANYWHERE:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _listening(host: str, ports: Sequence[int]) -> tuple[list[socket.socket], int]:
    """Sockets that listen at all addresses of `host`, on the first port that is free. Raises `PatiError`."""
    for port in ports:
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
