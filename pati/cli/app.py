"""`pati app`: open the page."""

from __future__ import annotations

from pathlib import Path

from pati.cli.entry import program
from pati.locale import catalogues


@program.command(name="app")
def app_(
    where: Path | None = None,
    /,
    *,
    host: str = "localhost",
    port: int | None = None,
    root: Path | None = None,
    browser: bool = True,
) -> None:
    """Open a page in the browser: try a model, train one, inspect results, clean the data.

    Parameters
    ----------
    where
        A model file or the folder of a run to open first, or a folder of runs. Default: the included model of cats and
        dogs, and runs/.
    host
        The address to listen on. Any other than the default lets everyone in who can reach it.
    port
        The port. Default: the first free one from 8501.
    root
        The folder below which photos may be chosen. Default: the current folder.
    browser
        Open the browser.
    """
    from pati.app.launch import launch
    from pati.app.settings import Settings

    launch(Settings.of(where, root, catalogues.requested()), host=host, port=port, browser=browser)
