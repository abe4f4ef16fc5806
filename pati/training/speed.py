"""How fast this machine is, measured in a second before anything is read, so that a plan can be made.

Knows nets, photos' bytes, and the cost that plans count in.
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

LOOP_SHARE = 0.85  # of a step is forward and backward; the rest goes to augmentation and the optimiser (bench cost)
READ_SHARE = 0.52  # of reading a photo is decoding and shrinking; the rest goes to its hash and thumbnail (bench cost)
_BATCH, _REPEATS = 32, 3
_TRAINING = 0.4  # seconds of steps, and at least so many: a moment's disturbance must not decide
_HELD = 0.85  # of the threads' processor time: with less, another program holds a core
_PATIENCE = 0.5  # seconds
_PYTHON = 100_000  # numbers to add


def of_training(model: str | None, precision: str, device: torch.device) -> float:
    """Photos of standard cost that are trained on in a second: width 1, `STANDARD` px.

    By as many threads as are fastest now: where another program holds a core, training will leave it that core.
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

    step()  # the first one is slower
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
    """Seconds that a small piece of Python work takes now: about two thousandths of a second."""
    started = time.perf_counter()
    sum(range(_PYTHON))
    return time.perf_counter() - started


def of_reading(photos: Sequence[bytes]) -> float:
    """Seconds that this machine needs for one of these photos when all its cores read, by the first few of them."""
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
