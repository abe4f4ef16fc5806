"""Train a new network on prepared data, without a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pati.events import TrainingEvent
from pati.models import Net
from pati.system import clock, machine, threads
from pati.system.threads import Threads
from pati.training import plan
from pati.training.budget import Budget
from pati.training.loop import State
from pati.training.loop import train as train_net
from pati.training.plan import Plan
from pati.workflows.prepare import Prepared


@clock.watched()
def fit(
    ready: Prepared,
    checkpoints: Path,
    *,
    owner: str,
    seconds: float | None,
    stopped: Callable[[], bool],
    log: Callable[[TrainingEvent], None],
) -> tuple[Net, State]:
    """Train a new network for `seconds`, or for the recipe's epochs if None; returns it and its state.

    Resumes from a checkpoint of `owner`. Raises `Interrupted`, `Diverged`.
    """
    net = ready.net()
    paced = plan.make(
        ready.recipe, photos=len(ready.training), classes=len(ready.manifest.classes),
        validation=len(ready.validation), minimum_size=net.minimum_size,
        speed=ready.speed, budget=None if seconds is None else Budget(seconds),
    )  # fmt: skip
    with threads.restored(), machine.enough_memory(paced.batch):
        state = train_net(
            net, ready.training, ready.validation, ready.preprocess, ready.recipe, paced, checkpoints,
            owner=owner, device=ready.device, threads=following_threads(ready, paced), stopped=stopped, log=log,
        )  # fmt: skip
    return net, state


def following_threads(ready: Prepared, paced: Plan) -> Threads | None:
    """Adapts the number of threads in a run by budget; None for epochs, whose result must not depend on the load."""
    return Threads() if paced.budget is not None and ready.device.type == "cpu" else None
