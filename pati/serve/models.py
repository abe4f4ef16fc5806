"""The models of a server, by name. The default one is loaded at the start, the others when they are first asked for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pati import included
from pati.errors import PatiError
from pati.inference.load import included_model, is_run, load, model_of
from pati.locale.messages import N_
from pati.runs.overview import State, overview
from pati.serve.limits import Rejected
from pati.serve.service import Service, Workers

LOADED = 4  # models in memory


@dataclass(frozen=True)
class Sources:
    """The files of models, by name; the `default` one answers requests that name none."""

    files: Mapping[str, Path]
    default: str

    @classmethod
    def of(cls, where: Path | None) -> Sources:
        """The included model; the model in a file or in the folder of a run; or those of all finished runs in a folder.

        Of several runs, the default is the one that was begun last. Raises `PatiError`.
        """
        if where is None:
            return cls({included.NAME: included_model()}, included.NAME)
        expected = N_("expected a model file, the folder of a run, or a folder of runs")
        if not where.exists():
            raise PatiError(N_("{path} does not exist", path=where), expected)
        if where.is_file() or is_run(where):
            model = model_of(where) if where.is_dir() else where
            if not model.is_file():
                raise PatiError(
                    N_("{path} contains no model", path=where),
                    N_("resume the run first: pati train --resume {path}", path=where),
                )
            name = model.resolve().parent.name if model.stem == "model" else model.stem
            return cls({name: model}, name)
        runs = [row.folder for row in overview(where) if row.state is State.DONE]
        files = {run.name: model for run in runs if (model := model_of(run)).is_file()}
        if not files:
            raise PatiError(N_("{path} contains no finished run", path=where), expected)
        return cls(files, next(iter(files)))


class Models:
    """The models of `sources`, at most `LOADED` of them in memory."""

    def __init__(self, sources: Sources, workers: Workers) -> None:
        self.sources, self.workers = sources, workers
        self._services: OrderedDict[str, Service] = OrderedDict()
        self._services[sources.default] = self._loaded(sources.default)
        self._loading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def _loaded(self, name: str) -> Service:
        return Service(load(self.sources.files[name]), self.workers)

    def require(self, name: str | None) -> str:
        """The name of a model; None: that of the default one. Raises `Rejected`."""
        if name is None:
            return self.sources.default
        if name not in self.sources.files:
            reason = N_(
                "there is no model {name!r}; this server has {names}", name=name, names=list(self.sources.files)
            )
            raise Rejected(404, reason)
        return name

    async def service(self, name: str | None) -> Service:
        """A model, loaded. Raises `Rejected`."""
        name = self.require(name)
        async with self._loading[name]:
            service = self._services.get(name)
            if service is None:
                try:
                    service = await asyncio.to_thread(self._loaded, name)
                except PatiError as error:
                    raise Rejected(503, error.message) from None
                self._services[name] = service
            self._services.move_to_end(name)
        while len(self._services) > LOADED:
            self._services.popitem(last=False)
        return service
