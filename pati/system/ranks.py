"""`Ranks`: processes that work on one thing together, with PyTorch's distributed package.

`torchrun` starts the ranks, and ends all of them if one dies. Knows nothing of what they compute.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar, cast

import torch
from torch import nn

from pati.errors import PatiError
from pati.locale.messages import N_
from pati.system import clock, machine

T = TypeVar("T")
P = ParamSpec("P")

LONGEST_WAIT = datetime.timedelta(days=7)  # for another rank, such as while it reads the photos; a dead one is noticed
_LOOK, _GRACE = 1.0, 8.0  # seconds between looks at whether the parent is there, and to end once it is not


class LostRank(PatiError):
    """Another process of the training has ended."""


def _noticed(work: Callable[P, T]) -> Callable[P, T]:
    """Raise `LostRank` where the connection to another rank breaks."""

    @functools.wraps(work)
    def attempt(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return work(*arguments, **options)
        except RuntimeError as error:
            # Backends raise bare RuntimeErrors; nothing else that may fail is computed in here.
            raise LostRank(
                N_("another process of this training has ended"), N_("its own message, if it had one, is above")
            ) from error

    return attempt


@dataclass(frozen=True)
class Ranks:
    """This process among those that train a network together: number `rank` of `size`; by default, it is alone.

    Without others, every method returns what it was given.
    """

    rank: int = 0
    size: int = 1
    local: int = 0  # the number among the ranks of this machine

    @property
    def first(self) -> bool:
        """Whether this is the rank that keeps the clock, the log and the run."""
        return self.rank == 0

    def part(self, count: int) -> slice:  # type: ignore[explicit-any]
        """This rank's part of `count` rows: the parts of all ranks cover them, and differ by one row at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    @_noticed
    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their sums over all ranks."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.sum(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, summed in zip(gradients, _cut(flat, gradients), strict=True):
            gradient.copy_(summed)

    def total(self, *values: float) -> tuple[float, ...]:
        """The sum of each number over all ranks."""
        if self.size == 1:
            return values
        return tuple(self.sum(torch.tensor(values, dtype=torch.float64)).tolist())

    def decided(self, value: float) -> float:
        """The first rank's value."""
        (chosen,) = self.total(value if self.first else 0.0)
        return chosen

    def any(self, value: bool) -> bool:
        """Whether it is true on any rank."""
        (count,) = self.total(float(value))
        return count > 0

    @_noticed
    def copy_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Overwrite the tensors by those of the first rank."""
        if self.size > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    @_noticed
    def shared(self, value: T | None = None) -> T:
        """The first rank's object, which the others wait for."""
        if self.size > 1:
            holder: list[T | None] = [value]
            torch.distributed.broadcast_object_list(holder, 0)
            value = holder[0]
        return cast(T, value)

    @_noticed
    def stacked(self, values: torch.Tensor) -> torch.Tensor:
        """The tensors of all ranks, of one shape, in order of rank: `(size, …)`."""
        if self.size == 1:
            return values[None]
        parts = [torch.empty_like(values) for _ in range(self.size)]
        torch.distributed.all_gather(parts, values)
        return torch.stack(parts)

    def gathered(self, rows: torch.Tensor) -> torch.Tensor:
        """The rows `(n, …)` of all ranks, in order of rank; their numbers may differ."""
        if self.size == 1:
            return rows
        counts: list[int] = self.stacked(torch.tensor(len(rows))).tolist()
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(self.stacked(padded), counts, strict=True)])

    def each(
        self, work: Sequence[Callable[[], torch.Tensor]], *, costs: Sequence[float], like: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        """The results of all pieces of work, each done by one rank; they have the shapes of `like`."""
        if self.size == 1:
            return [do() for do in work]
        ours = [rank == self.rank for rank in shares(costs, self.size)]
        done = [do() if own else torch.zeros_like(one) for do, own, one in zip(work, ours, like, strict=True)]
        return _cut(self.sum(torch.cat([one.reshape(-1) for one in done])), like)

    @_noticed
    def wait(self) -> None:
        """Wait until all ranks are here."""
        if self.size > 1:
            torch.distributed.barrier()


ALONE = Ranks()


def _cut(flat: torch.Tensor, like: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The parts of a flat tensor, in the shapes of `like`."""
    parts = torch.split(flat, [one.numel() for one in like])
    return [part.view_as(one) for part, one in zip(parts, like, strict=True)]


def started() -> bool:
    """Whether this process was started as one of several, as by torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Context manager that joins the ranks that torchrun has started, with this rank's share of the cores, or its GPU.

    A process that was started alone stays `ALONE`. Raises `PatiError` if the others cannot be reached.
    """
    if not started():
        yield ALONE
        return
    rank, size, local, local_size = (
        int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    torch.set_num_threads(max(1, machine.cores() // max(1, local_size)))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with ending_with_parent():
        try:
            torch.distributed.init_process_group(backend, timeout=LONGEST_WAIT)
        except (RuntimeError, ValueError) as error:
            raise PatiError(
                N_("the processes of the training cannot reach each other: {error}", error=str(error).splitlines()[0]),
                N_("start all of them with torchrun, and let the machines reach each other's ports"),
            ) from error
        try:
            yield Ranks(rank, size, local)
        finally:
            # An orderly end would wait for the others, which a failure does not reach.
            with contextlib.suppress(RuntimeError):
                torch.distributed.destroy_process_group()


@contextlib.contextmanager
def ending_with_parent() -> Iterator[None]:
    """Context manager in which this process ends if its parent, the launcher, does: as by SIGTERM, then at once."""
    parent, missed = os.getppid(), list[float]()

    def look() -> None:
        if os.getppid() == parent:
            return
        if not missed:
            os.kill(os.getpid(), signal.SIGTERM)
        missed.append(clock.now())
        if missed[-1] - missed[0] > _GRACE:
            os._exit(1)

    with clock.repeated(_LOOK, look, name="launcher"):
        yield


def shares(costs: Sequence[float], size: int) -> list[int]:
    """The rank that does each piece of work, so that all take about as long: the largest pieces are dealt first."""
    loads, result = [0.0] * size, [0] * len(costs)
    for number in sorted(range(len(costs)), key=lambda one: (-costs[one], one)):
        rank = loads.index(min(loads))
        loads[rank] += costs[number]
        result[number] = rank
    return result
