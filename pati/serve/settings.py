"""The limits of a server. Imports nothing, so that the command line knows the defaults."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`request_bytes`, `photos`: of a request; `queue`: photos waiting; `seconds`: a client may take to send."""

    request_bytes: int = 64_000_000
    photos: int = 64
    queue: int = 256
    seconds: float = 30.0
