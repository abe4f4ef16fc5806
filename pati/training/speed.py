"""Benchmark this machine for a second or two before the data is read, as input to the plan.

Knows networks, the bytes of photos, and the unit of cost that plans use.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from pati import models
from pati.data import decode
from pati.data.preprocess import Preprocess
from pati.system import machine
from pati.training.plan import STANDARD, standard

LOOP_SHARE = 0.85  # fraction of a step for forward and backward; the rest is augmentation, optimiser (bench cost)
READ_SHARE = 0.52  # fraction of reading a photo for decoding and resizing; the rest is hash, thumbnail (bench cost)
_BATCH, _REPEATS = 32, 3
_TRAINING = 0.4  # seconds of steps at least, so that a short disturbance doesn't distort the result
_HELD = 0.85  # of the threads' processor time: below it, another program is using a core
_PATIENCE = 0.5  # seconds
_PYTHON = 100_000  # integers to add


def of_training(model: str | None, precision: str, device: torch.device) -> float:
    """Training throughput in photos/s at standard cost: width 1, `STANDARD` px.

    With the number of threads that is fastest now: if another program is using a core, training will leave it that
    core.
    """
    net = models.build(standard(model), 2, models.Options(size=STANDARD)).to(device)
    size = max(STANDARD, net.minimum_size)
    images = torch.zeros(_BATCH, 3, size, size, device=device).to(memory_format=torch.channels_last)
    targets = torch.zeros(_BATCH, dtype=torch.int64, device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(net(images).float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()

    step()  # warm-up
    threads, computed, started = torch.get_num_threads(), time.process_time(), time.perf_counter()
    least = _least(step)
    computed, taken = time.process_time() - computed, time.perf_counter() - started
    if device.type == "cpu" and threads > 1 and computed < _HELD * threads * taken:
        torch.set_num_threads(threads - 1)
        try:
            least = min(least, _least(step))
        finally:
            torch.set_num_threads(threads)
    return LOOP_SHARE * _BATCH / least * (size / STANDARD) ** 2


def _least(step: Callable[[], None]) -> float:
    times: list[float] = []
    while len(times) < _REPEATS or sum(times) < _TRAINING:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return min(times)


def of_python() -> float:
    """Seconds that a small piece of Python work takes now, about 2 ms."""
    started = time.perf_counter()
    sum(range(_PYTHON))
    return time.perf_counter() - started


def of_reading(photos: Sequence[bytes]) -> float:
    """Seconds per photo when all cores read, extrapolated from the first few of `photos`."""
    preprocess = Preprocess(size=STANDARD)
    started, done = time.perf_counter(), 0
    for data in photos:
        try:
            preprocess(data)
        except decode.Unreadable:
            continue
        done += 1
        if time.perf_counter() - started > _PATIENCE:
            break
    return (time.perf_counter() - started) / max(1, done) / READ_SHARE / machine.cores()
