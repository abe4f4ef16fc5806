"""The machine: cores that may be used, and glibc's allocator set up for tensors.

By default glibc maps fresh pages for every large block and gives them back at once; the
kernel then clears the same pages again and again. Keeping freed blocks made a training
step 10 to 40 % faster and prediction half as fast again on the machine in LOG.md.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8  # from glibc's malloc.h


def keep_blocks() -> None:
    """Ask glibc to keep freed memory in the process; does nothing where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 << 20)
    # One arena: others are limited to 64 MB, and backward runs in a thread of its own.
    mallopt(_ARENA_MAX, 1)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
