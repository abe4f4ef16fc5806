"""The HTML page of each model, as `pati export --to web` writes it, made when it is first asked for."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pathlib import Path

from pati import plugins
from pati.errors import PatiError
from pati.inference.export import web
from pati.inference.load import SUFFIX, exported_beside
from pati.locale.messages import N_
from pati.serve.limits import Rejected

PAGES = 4  # in memory
SECONDS = 600  # for making one


class Pages:
    """The pages of the models in `files`, at most `PAGES` of them in memory."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files
        self._pages: OrderedDict[str, bytes | None] = OrderedDict()  # None: there can be none
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def page(self, name: str) -> bytes:
        """The page of a model. Raises `Rejected` if there can be none, as for a network that ONNX can't express."""
        async with self._making[name]:
            if name not in self._pages:
                self._pages[name] = await asyncio.to_thread(_made, self._files[name])
            self._pages.move_to_end(name)
            page = self._pages[name]
        while len(self._pages) > PAGES:
            self._pages.popitem(last=False)
        if page is None:
            raise Rejected(503, N_("there is no page of this model: the server's log says why"))
        return page


def _made(model: Path) -> bytes | None:
    exported = model.suffix.lower() == SUFFIX or exported_beside(model) is not None
    try:
        if exported:
            return web.from_onnx(model.with_suffix(SUFFIX).read_bytes())
        # In another process: the exporter takes much memory, and would make the requests of others wait.
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.html"
            words = ["export", str(model), "--to", "web", "--out", str(file)]
            command = [sys.executable, "-m", "pati", *plugins.options(), *words]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, timeout=SECONDS)
            return file.read_bytes()
    except (PatiError, OSError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return None
