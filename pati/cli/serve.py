"""`pati serve`: answer requests over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pati.cli.entry import program
from pati.errors import PatiError
from pati.locale.messages import N_
from pati.serve.settings import Limits

Names = Annotated[list[str] | None, Parameter(negative="")]


@program.command
def serve(
    where: Path | None = None,
    /,
    *,
    host: Names = None,
    port: int = 8000,
    origin: Names = None,
    max_bytes: int = Limits.request_bytes,
    max_photos: int = Limits.photos,
    queue: int = Limits.queue,
    timeout: float = Limits.seconds,
    log: bool = True,
) -> None:
    """Serve models over HTTP: predictions and explanations for programs, and a page for people.

    The API is described at /docs, and each model's page is that of `pati export --to web`. Nothing is loaded from the
    internet or sent there.

    Parameters
    ----------
    where
        A model file, the folder of a run, or a folder of runs, of which all finished ones are served. Default: the
        included model of cats and dogs.
    host
        The address to listen on. Any other than the default, localhost, lets everyone in who can reach it. Can be given
        several times: further ones are names by which the server is reached as well, with a port if it is another one,
        as behind a proxy. The server does not answer to any other name.
    port
        The port.
    origin
        An origin, such as https://app.example, whose web pages may use the server; can be given several times.
    max_bytes
        The largest request.
    max_photos
        The most photos in a request.
    queue
        The most photos that wait at once; further requests are refused with status 429.
    timeout
        Seconds that a client may take to send a request.
    log
        Write a line of JSON about each request to stdout.
    """
    from pati.serve.server import serve as run

    for name, value in (("--max-bytes", max_bytes), ("--max-photos", max_photos), ("--timeout", timeout)):
        if not value > 0:
            raise PatiError(N_("{name} is {value}", name=name, value=str(value)), N_("expected a positive number"))
    if queue < max_photos:
        raise PatiError(
            N_("--queue is {queue}, --max-photos is {photos}", queue=queue, photos=max_photos),
            N_("the queue must have room for the photos of a request"),
        )
    limits = Limits(max_bytes, max_photos, queue, timeout)
    run(where, limits, hosts=host or ["localhost"], port=port, origins=origin or [], log=log)
