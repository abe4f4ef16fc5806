"""What a workflow tells while it is going on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Listen = Callable[[dict[str, Any]], None]


def silent(event: dict[str, Any]) -> None:
    """Listens to nothing."""
