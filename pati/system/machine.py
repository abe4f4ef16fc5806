"""The machine: its cores and memory, its fastest number format, and glibc's allocator for tensors.

By default, glibc maps fresh pages for every large block and returns them at once; the kernel then clears the same pages
again and again. Keeping freed blocks made a training step 10 to 40 % faster and prediction half as fast again on the
machine in LOG.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import os
import platform
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pati.errors import PatiError
from pati.locale.messages import N_
from pati.system import cgroups

if TYPE_CHECKING:
    import torch

DEVICE = "PATI_DEVICE"

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8


def keep_blocks() -> None:
    """Ask glibc to keep all freed memory in the process; no-op without glibc.

    Can't be undone: for processes that belong to pati, and for training, which becomes much faster.
    """
    _tune((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
    # A single arena: others are limited to 64 MB, and the backward pass runs in its own thread.
    _tune((_ARENA_MAX, 1))


def keep_small_blocks() -> None:
    """The same for blocks up to 4 MB, as for ordinary photos: the memory of larger ones is returned at once."""
    _tune((_MMAP_THRESHOLD, 4 << 20), (_TRIM_THRESHOLD, 64 << 20))


def return_large_blocks() -> None:
    """After `keep_blocks`: return the memory of blocks of 8 MB and more at once, and give threads memory of their own.

    For servers: photos of all sizes, in several threads, would fragment memory that is never returned.
    """
    _tune((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 8 << 20), (_ARENA_MAX, 0))


def return_free_memory() -> None:
    """Return all memory that is free at the moment; no-op without glibc."""
    if sys.platform.startswith("linux"):
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _tune(*settings: tuple[int, int]) -> None:
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in settings:
        mallopt(parameter, value)


def bound_memory(more: int) -> None:
    """Limit this process to `more` bytes above its current use, so that decoders fail, not the machine (Linux only)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])  # data and stack
    except (ImportError, OSError):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + more, hard))


@contextlib.contextmanager
def enough_memory(batch: int) -> Iterator[None]:
    """Turn torch's out-of-memory errors, on CPU or GPU, into `PatiError`; `batch`: photos per step."""
    try:
        yield
    except RuntimeError as error:
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        raise PatiError(
            N_("not enough GPU memory for this model and a batch of {batch} photos", batch=batch)
            if "CUDA" in str(error) or "MPS" in str(error)
            else N_("not enough memory for this model and a batch of {batch} photos", batch=batch),
            N_(
                "use smaller photos (--size), a smaller model, or a smaller batch (--set batch={batch})",
                batch=max(2, batch // 2),
            ),
        ) from error


def lacks_operation(error: Exception) -> PatiError | None:
    """That the device lacks an operation or float64, which Apple's GPU does; None for any other error of torch."""
    if "MPS" not in str(error):
        return None
    return PatiError(
        N_("this can't run on Apple's GPU: {reason}", reason=str(error).partition(". ")[0]),
        N_("run it on the CPU: unset {variable}", variable=DEVICE),
    )


def cores() -> int:
    """Number of cores that this process may use: of the machine, or of its container's share of it, rounded up."""
    here = _processors()
    return max(1, min(here, math.ceil(min(_limits().cores, here))))


def memory() -> int:
    """Bytes of memory that this process may use: of the machine, or of its container."""
    return int(min(_limits().memory, _memory()))


def _memory() -> int:
    if sys.platform == "win32":
        # MEMORYSTATUSEX: its own length and the load, then the bytes that there are.
        status = ctypes.create_string_buffer(struct.pack("<II56x", 64, 0), 64)
        if ctypes.windll.kernel32.GlobalMemoryStatusEx(status):
            return int.from_bytes(status[8:16], "little")
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 62


def limit_threads() -> None:
    """Limit the threads of numerical libraries that are loaded later, and of child processes, to `cores`.

    They go by the number of processors, of which a container may have a share only: more threads than its share would
    be stopped together, again and again.
    """
    if cores() < _processors():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _limits() -> cgroups.Limits:
    return cgroups.limits()


def idle_seconds() -> float | None:
    """Idle time in seconds, summed over the machine's cores, since some fixed moment; None except on Linux."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = file.readline().split()
        return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")  # idle, and waiting for a disk
    except (OSError, ValueError, IndexError, AttributeError):
        return None


def device() -> torch.device:
    """What `PATI_DEVICE` names: cuda, mps (Apple's GPU) or cpu; by default cuda if there is one, else the CPU.

    Raises `PatiError` for a device that this machine does not have.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen = os.environ.get(DEVICE) or ("cuda" if here["cuda"] else "cpu")
    if not here.get(chosen):
        raise PatiError(
            N_("{variable} is {name}, which torch does not have here", variable=DEVICE, name=chosen),
            N_("here are: {names}", names=[name for name in here if here[name]]),
        )
    return torch.device(chosen)


def faster_precision(device: str = "cpu") -> str:
    """The number format for convolutions: "bfloat16" if training is faster in it (see LOG.md), otherwise "float32".

    Determined by the processor's features, not by a measurement: two runs on one machine must not differ. CPUs without
    bfloat16 instructions support it, but more slowly than float32.
    """
    import torch

    if device == "mps":
        return "float32"
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if torch.cpu._is_amx_tile_supported():
        return "bfloat16"
    # Intel's cores execute half as many bfloat16 as float32 instructions: without AMX, or where a hypervisor hides it,
    # training takes 1.4 times as long.
    able = torch.cpu._is_avx512_bf16_supported() and processor_vendor() != "GenuineIntel"
    return "bfloat16" if able else "float32"


@functools.cache
def processor_vendor() -> str:
    """The vendor as the processor names itself, such as GenuineIntel or AuthenticAMD; empty if unknown."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        found = re.search(r"^vendor_id\s*:\s*(\S+)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if found:
            return found[1]
    described = platform.processor()  # on Windows, "Intel64 Family 6 Model 143 Stepping 8, GenuineIntel"
    return described.rpartition(", ")[2] if ", " in described else ""
