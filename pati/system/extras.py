"""Packages that only some commands need: what is installed, and how to install the rest."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from pati.errors import PatiError
from pati.locale.messages import N_, Message


@dataclass(frozen=True)
class Extra:
    """`packages`: the names under which they are imported."""

    packages: tuple[str, ...]
    purpose: Message


# What `pip install pati` leaves out, by the extra that brings it.
EXTRAS = {
    "train": Extra(
        ("torch", "safetensors", "scipy", "sklearn", "matplotlib", "jinja2", "markupsafe", "onnx", "onnxscript"),
        N_("training, evaluation, reports, export"),
    ),
    "app": Extra(("streamlit", "uvicorn"), N_("the web app")),
    "serve": Extra(("fastapi", "uvicorn", "h11", "multipart", "prometheus_client", "onnx"), N_("the HTTP server")),
    "tune": Extra(("optuna", "sqlalchemy"), N_("hyperparameter search")),
    "postgresql": Extra(("psycopg",), N_("hyperparameter search on several machines")),
    "timm": Extra(("timm",), N_("models of timm")),
    "parquet": Extra(("pyarrow",), N_("photos in Parquet files")),
    "fetch": Extra(("kagglehub",), N_("datasets from Kaggle")),
}
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "multipart": "python-multipart",
    "prometheus_client": "prometheus-client",
}  # where it has another name than the package


def installed(package: str) -> bool:
    """Whether a package can be imported, unless its installation is damaged."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # without one, it is a folder that happens to have this name


def missing(package: str, what: str = "pati") -> PatiError | None:
    """That `what`, such as a command, requires a package; None if no extra brings it."""
    top = package.partition(".")[0]
    name = next((name for name, extra in EXTRAS.items() if top in extra.packages), None)
    if name is None:
        return None
    return PatiError(
        N_("{what} requires {package}, which is not installed", what=what, package=_DISTRIBUTIONS.get(top, top)),
        how_to(name),
    )


def how_to(extra: str) -> Message:
    """How to install an extra. In double quotes, which the shells of all systems understand."""
    if extra != "train":
        return N_('install it: pip install "pati[{extra}]"', extra=extra)
    return N_(
        'install it: pip install "pati[train]". Without an NVIDIA card, the CPU build saves gigabytes: '
        'uv pip install --torch-backend=auto "pati[train]", or install torch first as pytorch.org says'
    )


@contextlib.contextmanager
def required(what: str) -> Iterator[None]:
    """Turn the failed import of a package into what `explained` says."""
    try:
        yield
    except ImportError as error:
        told = explained(error, what)
        if told is None:
            raise
        raise told from error


def explained(error: ImportError, what: str) -> PatiError | None:
    """That `what` requires a package, and how to install it; None if the fault is pati's.

    A package that is there and can't be imported is not missing: then the error says that it is damaged.
    """
    top = (error.name or "").partition(".")[0]
    if top == "pati":
        return None
    if isinstance(error, ModuleNotFoundError) and top and not installed(top):
        told = missing(top, what)
        if told is not None:
            return told
    first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return PatiError(
        N_("{what} cannot import a package that it requires: {error}", what=what, error=first_line),
        N_("the installation of this package is incomplete or damaged: install it again"),
    )
