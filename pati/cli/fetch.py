"""`pati fetch`: get a built-in dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.locale.formats import printable
from pati.locale.messages import N_


@program.command
def fetch(
    name: str, /, *, from_: Annotated[Path | None, Parameter(name="--from")] = None, timeout: float = 30.0
) -> None:
    """Download a built-in dataset, and print where it is.

    Parameters
    ----------
    name
        A name from `pati list datasets`.
    from_
        A zip file or folder that you downloaded yourself.
    timeout
        Seconds to wait for an answer from the network.
    """
    from pati.data.sources.fetch import fetch as bring
    from pati.terminal.console import bar

    with bar(N_("downloading"), unit="bytes") as progress:
        path = bring(name, from_, timeout=timeout, progress=progress)
    print(printable(str(path)))
