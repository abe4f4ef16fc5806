"""`pati app`: open the page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.locale import catalogues


@program.command(name="app")
def app_(
    where: Path | None = None,
    /,
    *,
    host: Annotated[list[str] | None, Parameter(negative="")] = None,
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
        The address to listen on. Any other than the default, localhost, lets everyone in who can reach it. Can be given
        several times: further ones are names by which the page is reached as well, with a port if it is another one, as
        behind a proxy or a forwarded port. The page does not answer to any other name.
    port
        The port. Default: the first free one from 8501.
    root
        The folder below which photos may be chosen. Default: the current folder.
    browser
        Open the browser.
    """
    from pati.app.launch import launch
    from pati.app.settings import Settings

    launch(Settings.of(where, root, catalogues.requested()), hosts=host or ["localhost"], port=port, browser=browser)
