"""Packages that only some commands need: what is installed, and how to install the rest."""

from __future__ import annotations

import importlib.util
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
    "app": Extra(("streamlit", "uvicorn", "skimage"), N_("the web app")),
    "tune": Extra(("optuna", "sqlalchemy"), N_("hyperparameter search")),
    "timm": Extra(("timm",), N_("models of timm")),
    "fetch": Extra(("kagglehub",), N_("datasets from Kaggle")),
}


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def missing(package: str, what: str = "pati") -> PatiError | None:
    """That `what`, such as a command, requires a package; None if no extra brings it."""
    top = package.partition(".")[0]
    name = next((name for name, extra in EXTRAS.items() if top in extra.packages), None)
    if name is None:
        return None
    return PatiError(N_("{what} requires {package}, which is not installed", what=what, package=top), how_to(name))


def how_to(extra: str) -> Message:
    """How to install an extra. In double quotes, which the shells of all systems understand."""
    if extra != "train":
        return N_('install it: pip install "pati[{extra}]"', extra=extra)
    return N_(
        'install it: pip install "pati[train]". Without an NVIDIA card, the CPU build saves gigabytes: '
        'uv pip install --torch-backend=auto "pati[train]", or install torch first as pytorch.org says'
    )
