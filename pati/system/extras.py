"""Packages that only some commands need: what is installed, and how to install the rest."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator

from pati.errors import PatiError
from pati.locale.messages import N_

# What `pip install pati` leaves out, by the extra that brings it.
EXTRAS = {
    "train": ("torch", "safetensors", "scipy", "sklearn", "matplotlib", "jinja2", "onnx", "onnxscript"),
    "app": ("streamlit", "uvicorn"),
    "tune": ("optuna", "sqlalchemy"),
    "timm": ("timm",),
    "fetch": ("kagglehub",),
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}  # where it has another name than the package


def installed(package: str) -> bool:
    """Whether a package can be imported, unless its installation is damaged."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None  # without one, it is a folder that happens to have this name


def missing(package: str, what: str = "pati") -> PatiError | None:
    """That `what`, such as a command, requires a package; None if no extra brings it."""
    top = package.partition(".")[0]
    extra = next((name for name, packages in EXTRAS.items() if top in packages), None)
    if extra is None:
        return None
    hint = N_("install it: pip install 'pati[{extra}]'", extra=extra)
    if extra == "train":
        hint = N_(
            "install it: pip install 'pati[train]'. Without an NVIDIA card, the CPU build saves gigabytes: "
            "uv pip install --torch-backend=auto 'pati[train]', or install torch first as pytorch.org says"
        )
    name = _DISTRIBUTIONS.get(top, top)
    return PatiError(N_("{what} requires {package}, which is not installed", what=what, package=name), hint)


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
