"""The memory of this process."""

from __future__ import annotations

import sys

import pytest


def peak() -> int:
    """The most kilobytes that this process has had. Skips the test where the system does not tell."""
    resource = pytest.importorskip("resource")
    most: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most // 1024 if sys.platform == "darwin" else most  # macOS counts bytes
