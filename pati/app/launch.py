"""`pati app`: Streamlit with our settings, in this process."""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from pati.app import guard, jobs
from pati.app.settings import Settings
from pati.data.sources import allowed
from pati.locale.messages import N_, Message
from pati.system import extras, network
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

    host, _ = network.named(hosts[0])
    sockets, port = network.listening(host, PORTS if port is None else [port])
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
    address = f"http://{network.display(host)}:{port}"
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
