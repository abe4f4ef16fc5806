"""`pati app`: Streamlit with our settings, in this process."""

from __future__ import annotations

import gc
import socket
from pathlib import Path

from pati.app.settings import Settings
from pati.errors import PatiError
from pati.locale.messages import N_

PORTS = range(8501, 8521)  # tried in this order where none is asked for


def launch(settings: Settings, *, host: str, port: int | None, browser: bool) -> None:
    """Serve the page until Ctrl-C. Raises `PatiError` where Streamlit is missing or the port is taken."""
    try:
        from streamlit.web import bootstrap
    except ImportError:
        raise PatiError(
            N_("the page needs Streamlit"), N_("install it in pati's checkout: pip install -e '.[app]'")
        ) from None
    from pati.app.parts import UPLOAD_MB
    from pati.app.style import THEME

    port = port or next((free for free in PORTS if _free(host, free)), PORTS[0])
    if not _free(host, port):
        raise PatiError(
            N_("port {port} on {host} is in use", port=port, host=host), N_("choose another one with --port")
        )
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": not browser,
        "server.showEmailPrompt": False,
        "server.fileWatcherType": "none",
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,
        "server.maxUploadSize": UPLOAD_MB,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": host,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        **THEME,
    }
    bootstrap.load_config_options(options)
    # Streamlit collects garbage after every rerun. Looking through all of torch's objects, which stay anyway, would
    # take it longer than an answer takes: what was imported so far is never looked at again.
    gc.collect()
    gc.freeze()
    page = Path(__file__).parent / "page.py"
    bootstrap.run(str(page), False, [settings.to_text()], options)


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((host, port))
        except OSError:
            return False
        return True
