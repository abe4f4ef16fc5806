"""`pati app`: open the page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pati.cli.entry import program


@program.command(name="app")
def app_(
    where: Path | None = None,
    /,
    *,
    host: str = "localhost",
    port: int | None = None,
    root: Path | None = None,
    lang: Literal["en", "tr"] | None = None,
    browser: bool = True,
) -> None:
    """Open a page in the browser: try a model, train one, look at results, clean the photos.

    Parameters
    ----------
    where
        A model file or a run's folder to try first, or a folder of runs. If left out: the model of cats and dogs that
        comes with pati, and runs/.
    host
        The address to listen on; others than this machine's let everybody in who can reach it.
    port
        The port; the first free one from 8501 on if left out.
    root
        The folder below which photos may be chosen; where you are if left out.
    lang
        The language shown first; the browser's if left out. The page has a switch.
    browser
        Open it.
    """
    from pati.app.launch import launch
    from pati.app.settings import Settings

    launch(Settings.of(where, root, lang), host=host, port=port, browser=browser)
