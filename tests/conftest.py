"""Fixtures: drawn pictures that need no download, a cache of our own, and the real photos."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from pati.data import split
from pati.data.sources.builtin_datasets import mirror
from pati.recipe import Recipe
from tests.support import commands, kills
from tests.support.photos import write_shapes

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs so; the commands that tests start and stop would be deaf to Ctrl-C too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ["PATI_LANG"] = "en"  # whatever the machine speaks

settings.register_profile("pati", deadline=None)  # a busy machine is slow at times
settings.load_profile("pati")


LONGEST = [
    f"test_{name}.py"
    for name in (
        "app", "results", "starved", "pipeline", "models", "cats_vs_dogs", "tune", "comparison", "plugins", "cleaning",
        "notebooks", "cli", "pages", "killed", "report_numbers",
    )
]  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before those are left out that are not asked for
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a training or real photos is slow. The longest files begin first: the last one is waited for."""
    for item in items:
        if {"trained", "undisturbed", "photos"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("slow")
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test shares a fresh cache; nothing outside the test run is read or written."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["PATI_CACHE"] = str(folder)
    return folder


FEWEST_TESTED, split.FEWEST_TESTED = split.FEWEST_TESTED, 0  # most tests are about test splits, on very few photos


@pytest.fixture
def folded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default for few photos: cross-validation."""
    monkeypatch.setattr(split, "FEWEST_TESTED", FEWEST_TESTED)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_shapes(tmp_path / "shapes")


@pytest.fixture(scope="session")
def photos() -> Callable[[str], Path]:
    """Finds a dataset's archive in $PATI_MIRROR; skips the test where it is absent."""

    def find(name: str) -> Path:
        base = mirror()
        if base is None or not (base / f"{name}.zip").is_file():
            pytest.skip(f"{name}.zip is not in PATI_MIRROR ({base}): these tests need the real photos")
        return base / f"{name}.zip"

    return find


@pytest.fixture
def undrawn() -> Iterator[None]:
    """See `commands.undrawn`; shared trainings, of a wider scope, have their figures."""
    with commands.undrawn():
        yield


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, bytes]:
    """A folder of drawn pictures, and the weights of an undisturbed training on them with `kills.OPTIONS`."""
    base = tmp_path_factory.mktemp("undisturbed")
    data = write_shapes(base / "shapes", per_class=40)
    done = kills.pati("train", data, *kills.OPTIONS, "--out", base / "run")
    assert done.returncode == 0, done.stderr
    return data, kills.weights(base / "run")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished run on drawn pictures; read it, don't change it."""
    from pati.workflows.train import train

    base = tmp_path_factory.mktemp("trained")
    data = write_shapes(base / "shapes", per_class=60)
    recipe = Recipe(epochs=6, size=32, growth=(1.0,), width=0.5, split_seed=1)
    return train(data, recipe, out=base / "run").run.folder
