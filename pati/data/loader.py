"""Batches out of a pack: gathers rows, never decodes.

Which photos make a batch follows from (seed, epoch, position) alone, so a run can stop and
go on anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pati.data.manifest import Entry, Manifest
from pati.data.pack import Pack

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Samples:
    """The photos of one split: `pixels[rows]` are theirs, `targets` `(N, K)` probabilities."""

    pixels: torch.Tensor
    rows: torch.Tensor
    targets: torch.Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def on(self, device: torch.device) -> Samples:
        """The same with pixels and targets in the memory of `device`, so that no batch has to travel."""
        pixels = self.pixels[self.rows].to(device)
        return Samples(pixels, torch.arange(len(self), device=device), self.targets.to(device))

    def at(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels `uint8 (B, H, H, 3)` and targets `(B, K)` of the samples `numbers` `(B,)`."""
        numbers = numbers.to(self.rows.device)
        return self.pixels[self.rows[numbers]], self.targets[numbers]

    def some(self, count: int) -> Samples:
        """Itself, or `count` of its samples drawn once and for all."""
        if count >= len(self):
            return self
        return self.take(order(0, 0, len(self))[:count].sort().values)

    def take(self, numbers: torch.Tensor) -> Samples:
        """The samples `numbers` `(B,)` alone."""
        numbers = numbers.to(self.rows.device)
        return Samples(self.pixels, self.rows[numbers], self.targets[numbers])

    def in_order(self, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All samples once, in order."""
        for start in range(0, len(self), batch):
            yield self.at(torch.arange(start, min(start + batch, len(self))))


def samples(pack: Pack, manifest: Manifest, entries: Sequence[Entry]) -> Samples:
    """The samples of some of a manifest's entries."""
    labels = torch.tensor(manifest.targets(entries), dtype=torch.int64)
    targets = torch.nn.functional.one_hot(labels, len(manifest.classes)).float()
    return Samples(torch.from_numpy(np.asarray(pack.pixels)), torch.from_numpy(pack.of(entries)), targets)


def order(seed: int, epoch: int, count: int, chances: torch.Tensor | None = None) -> torch.Tensor:
    """Keys `int64 (count,)` of the samples in the order in which an epoch takes them: each one once, or by `chances`.

    A sample's key is its number, 0..count-1, plus `count` for every time that it has been drawn before in the epoch:
    what is random about a photo is drawn by its key, so that no two of its appearances are the same. `chances`
    `(count,)`, 0 or more: each sample is drawn as often as they say on average, in one epoch that number rounded up
    or down.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(count, generator=generator)
    return shuffled if chances is None else _resampled(chances, generator)[shuffled]


_PARTS = 2**30  # of one appearance: whole numbers add up exactly


def _resampled(chances: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Keys in order of the samples' numbers, by systematic resampling (Kitagawa, 1996).

    The samples lie along a line, each as long as its chance; one is drawn at every whole number from a random start.
    """
    count = len(chances)
    # Samples of the same chance lie beside each other, so that together they too are drawn as often as they should,
    # and in random order, so that which of them meet in an epoch does not depend on their names.
    line = torch.randperm(count, generator=generator)
    line = line[chances[line].argsort(stable=True)]
    sums = chances[line].double().cumsum(0)
    ends = (sums / sums[-1] * count * _PARTS).round().long()
    start = torch.randint(_PARTS, (1,), generator=generator)
    last = (ends + start) // _PARTS
    times = last.diff(prepend=torch.zeros(1, dtype=torch.int64))
    numbers = line.repeat_interleave(times)
    before = torch.arange(count) - (last - times).repeat_interleave(times)
    return (numbers + before * count)[numbers.argsort(stable=True)]


def colour_statistics(data: Samples, limit: int = 2000) -> tuple[RGB, RGB]:
    """Mean and deviation of each channel, for values in 0..1, over up to `limit` evenly spaced samples."""
    step = max(1, len(data) // limit)
    total, squares, count = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 0
    for start in range(0, len(data), 256 * step):
        numbers = torch.arange(start, min(start + 256 * step, len(data)), step)
        pixels = data.at(numbers)[0].reshape(-1, 3).double() / 255
        total += pixels.sum(0)
        squares += (pixels**2).sum(0)
        count += len(pixels)
    mean = total / count
    deviation = (squares / count - mean**2).clamp_min(1e-4).sqrt()
    return _rounded(mean), _rounded(deviation)


def _rounded(values: torch.Tensor) -> RGB:
    red, green, blue = (round(value, 4) for value in values.tolist())
    return red, green, blue
