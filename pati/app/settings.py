"""What `pati app` was started with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pati.errors import PatiError
from pati.inference.load import included_model, is_run, model_of
from pati.locale.messages import N_
from pati.system.files import cache_folder


@dataclass(frozen=True)
class Settings:
    """`model`: the one shown first; `runs`: the folder of runs; `root`: what the page may read.

    `language`: one of `catalogues.languages()`; None means the browser's. All paths are absolute.
    """

    model: Path
    runs: Path
    root: Path
    language: str | None = None

    @classmethod
    def of(cls, where: Path | None, root: Path | None, language: str | None = None) -> Settings:
        """`where`: a model file, a run's folder, or a folder of runs (default: runs/). Raises `PatiError`."""
        model, runs = included_model(), Path("runs")
        if where is not None:
            if not where.exists():
                raise PatiError(
                    N_("{path} does not exist", path=where),
                    N_("expected a model file, the folder of a run, or a folder of runs"),
                )
            if where.is_file() or is_run(where):
                model = model_of(where) if where.is_dir() else where
                runs = where.parent if where.is_dir() else runs
                if not model.is_file():
                    raise PatiError(
                        N_("{path} contains no model", path=where),
                        N_("resume the run first: pati train --resume {path}", path=where),
                    )
            else:
                runs = where
        root = root or Path()
        if not root.is_dir():
            raise PatiError(N_("--root {root} is not a folder", root=root), N_("choose the folder with the photos"))
        return cls(model.resolve(), runs.resolve(), root.resolve(), language)

    def readable(self) -> list[Path]:
        """The folders that the web app may read: the root, the runs, the cache and the built-in datasets."""
        from pati.data.sources.builtin_datasets import datasets, locate

        known = [place for name in datasets if (place := locate(name)) is not None]
        return [self.root, self.runs, cache_folder(), *known]

    def to_text(self) -> str:
        """For the page's command line."""
        return json.dumps({name: str(value) if value else None for name, value in asdict(self).items()})

    @classmethod
    def from_text(cls, text: str) -> Settings:
        """Inverse of `to_text`."""
        values = json.loads(text)
        return cls(Path(values["model"]), Path(values["runs"]), Path(values["root"]), values["language"])
