"""The machine: its cores and memory, the number format it computes fastest in, and glibc's allocator for tensors.

By default glibc maps fresh pages for every large block and gives them back at once; the
kernel then clears the same pages again and again. Keeping freed blocks made a training
step 10 to 40 % faster and prediction half as fast again on the machine in LOG.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pati.errors import PatiError

if TYPE_CHECKING:
    import torch

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8


def keep_blocks() -> None:
    """Ask glibc to keep all freed memory in the process; does nothing where there is no glibc.

    It can't be taken back: for processes that are pati's own, and for training, which it makes much faster.
    """
    _tune((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
    # One arena: others are limited to 64 MB, and backward runs in a thread of its own.
    _tune((_ARENA_MAX, 1))


def keep_small_blocks() -> None:
    """The same for blocks up to 4 MB, those of ordinary photos: a huge one's memory goes back at once."""
    _tune((_MMAP_THRESHOLD, 4 << 20), (_TRIM_THRESHOLD, 64 << 20))


def _tune(*settings: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in settings:
        mallopt(parameter, value)


@contextlib.contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turns torch's error for want of memory, on CPU or GPU, into a `PatiError`; `batch`: photos in one step."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        where = "GPU" if "CUDA" in str(error) else "machine"
        raise PatiError(
            f"the {where}'s memory is too small for this net and these photos, {batch} in one step",
            f"smaller photos (--size), a smaller net, or fewer in one step (--set batch={max(2, batch // 2)})",
        ) from error


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_seconds() -> float | None:
    """Seconds that the machine's cores have been idle, all of them together, since some moment; None where the
    operating system doesn't tell (all but Linux)."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = file.readline().split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")  # idle, and waiting for a disk
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def faster_precision(device: str = "cpu") -> str:
    """ "bfloat16" where convolutions are about twice as fast in it (see LOG.md), or else "float32".

    By what the processor can do, not by a measurement: two runs on one machine must not differ. CPUs without
    instructions for bfloat16 compute it, but more slowly than float32.
    """
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if able else "float32"
