"""Batches from a pack: gathers rows, never decodes.

The photos of a batch depend only on (seed, epoch, position), so a run can stop and resume at any step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pati.data.entries import Entry
from pati.data.manifest import Manifest
from pati.data.mapped import Mapped
from pati.data.pack import Pack

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Samples:
    """The photos of one split: rows `rows` `int64 (N,)` of `pixels`, with class indices `labels` `int64 (N,)`."""

    pixels: torch.Tensor | Mapped
    rows: torch.Tensor
    labels: torch.Tensor
    classes: int

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> list[int]:
        """Number of samples of each class."""
        found: list[int] = self.labels.bincount(minlength=self.classes).tolist()
        return found

    def on(self, device: torch.device) -> Samples:
        """A copy with pixels and labels in the memory of `device`, which avoids a transfer per batch."""
        pixels = self._pixels(self.rows).to(device)
        return Samples(pixels, torch.arange(len(self), device=device), self.labels.to(device), self.classes)

    def at(self, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels `uint8 (B, H, H, 3)` and one-hot targets `float32 (B, K)` of the samples `numbers` `(B,)`."""
        numbers = numbers.to(self.rows.device)
        targets = torch.nn.functional.one_hot(self.labels[numbers], self.classes).float()
        return self._pixels(self.rows[numbers]), targets

    def _pixels(self, rows: torch.Tensor) -> torch.Tensor:
        if isinstance(self.pixels, Mapped):
            return torch.from_numpy(self.pixels.take(rows.numpy()))
        return self.pixels[rows]

    def some(self, count: int) -> Samples:
        """A fixed random subset of `count` samples; all of them if there are no more than that."""
        if count >= len(self):
            return self
        return self.take(order(0, 0, len(self))[:count].sort().values)

    def take(self, numbers: torch.Tensor) -> Samples:
        """The subset of samples `numbers` `(B,)`."""
        numbers = numbers.to(self.rows.device)
        return Samples(self.pixels, self.rows[numbers], self.labels[numbers], self.classes)

    def in_order(self, batch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches of all samples, once each, in order."""
        for start in range(0, len(self), batch):
            yield self.at(torch.arange(start, min(start + batch, len(self))))


def samples(pack: Pack, manifest: Manifest, entries: Sequence[Entry]) -> Samples:
    """The samples of the given manifest entries."""
    labels = torch.from_numpy(manifest.targets(entries))
    return Samples(pack.pixels, torch.from_numpy(pack.of(entries)), labels, len(manifest.classes))


def order(seed: int, epoch: int, count: int, sampling_weights: torch.Tensor | None = None) -> torch.Tensor:
    """Keys `int64 (count,)` of the samples in the order in which an epoch visits them.

    Without `sampling_weights`, each sample occurs once. A sample's key is its number, 0..count-1, plus `count` for each
    time it was already drawn in the epoch. Augmentation draws its random numbers by key, so repeated samples are
    augmented differently. `sampling_weights` `(count,)`, 0 or more: expected number of draws in proportion; in one
    epoch, that number is rounded up or down.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    shuffled = torch.randperm(count, generator=generator)
    return shuffled if sampling_weights is None else _resampled(sampling_weights, generator)[shuffled]


_PARTS = 2**30  # fixed-point units per draw: integers add up exactly


def _resampled(sampling_weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Keys in order of the samples' numbers, by systematic resampling (Kitagawa, 1996).

    The samples are laid out along a line, each as long as its weight; a sample is drawn at every integer offset from a
    random start.
    """
    count = len(sampling_weights)
    # Samples of equal weight are adjacent, so that as a group, too, they are drawn as often as they should be. Their
    # order is random, so that which of them occur in the same epoch does not depend on their names.
    line = torch.randperm(count, generator=generator)
    line = line[sampling_weights[line].argsort(stable=True)]
    sums = sampling_weights[line].double().cumsum(0)
    ends = (sums / sums[-1] * count * _PARTS).round().long()
    start = torch.randint(_PARTS, (1,), generator=generator)
    last = (ends + start) // _PARTS
    times = last.diff(prepend=torch.zeros(1, dtype=torch.int64))
    numbers = line.repeat_interleave(times)
    before = torch.arange(count) - (last - times).repeat_interleave(times)
    return (numbers + before * count)[numbers.argsort(stable=True)]


def colour_statistics(data: Samples, limit: int = 2000) -> tuple[RGB, RGB]:
    """Mean and standard deviation of each channel, for values in 0..1, over up to `limit` evenly spaced samples."""
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
