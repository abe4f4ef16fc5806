"""Packages that only some commands need: what is installed, and how to install the rest."""

from __future__ import annotations

import importlib.util

from pati.errors import PatiError
from pati.locale.messages import N_

# What `pip install pati` leaves out, by the extra that brings it.
EXTRAS = {
    "train": ("torch", "safetensors", "scipy", "sklearn", "matplotlib", "jinja2", "onnx", "onnxscript"),
    "app": ("streamlit", "uvicorn", "skimage"),
    "tune": ("optuna",),
    "timm": ("timm",),
    "fetch": ("kagglehub",),
}


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


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
    return PatiError(N_("{what} requires {package}, which is not installed", what=what, package=top), hint)
