"""What the other ranks of a training do: they train and score along, and leave all decisions and files to the first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pati.data import loader, pack
from pati.data.manifest import Manifest
from pati.data.preprocess import Preprocess
from pati.errors import Diverged, Interrupted
from pati.inference.splits import SplitPredictor
from pati.recipe import SettledRecipe
from pati.system import machine, threads
from pati.system.ranks import LostRank, Ranks
from pati.training.loop import train as train_net
from pati.training.plan import Plan
from pati.workflows.prepare import Prepared, near_device
from pati.workflows.stopping import stoppable


@dataclass(frozen=True)
class Assignment:
    """What the first rank has settled."""

    manifest: Manifest
    recipe: SettledRecipe
    preprocess: Preprocess
    plan: Plan


def follow(ranks: Ranks) -> None:
    """Train along with the first rank, as one of the others. Says nothing: the first rank tells what happens."""
    try:
        with threads.restored():
            _follow(ranks)
    except (Interrupted, Diverged):
        pass  # on all ranks
    except LostRank:
        pass  # the first rank had nothing to train, has failed and told why, or was killed, which the launcher tells


def _follow(ranks: Ranks) -> None:
    ready, plan = _prepared(ranks)
    net = ready.net()
    with stoppable() as stopped, machine.enough_memory(plan.batch):
        train_net(
            net, ready.training, ready.validation, ready.preprocess, ready.recipe, plan, Path(), owner="",
            device=ready.device, stopped=stopped, ranks=ranks,
        )  # fmt: skip
    answering = SplitPredictor(ready.classifier(net), None, 0.0, ranks)
    if ready.manifest.folds:
        answering.moments(answering.some(ready.training))
        return
    answering.answers(ready.validation)
    answering.moments(answering.some(ready.training))
    testing = loader.samples(ready.packed, ready.manifest, ready.manifest.of_split("test"))
    if ranks.decided(0):  # whether the first rank has the predictions already
        answering.moments(testing)
    else:
        answering.answers(testing)


def _prepared(ranks: Ranks) -> tuple[Prepared, Plan]:
    """The data of the first rank, from this machine's cache; on a machine without it, one rank reads the photos."""
    assigned: Assignment = ranks.shared()
    manifest, recipe, preprocess = assigned.manifest, assigned.recipe, assigned.preprocess
    if ranks.local:
        ranks.wait()
    packed = pack.of_manifest(manifest, preprocess)
    if not ranks.local:
        ranks.wait()
    training, validation = (
        loader.samples(packed, manifest, manifest.of_split(name)) for name in ("train", "validation")
    )
    device = machine.device()
    ready = Prepared(recipe, manifest, packed, preprocess, near_device(training, device), validation, device, speed=0.0)
    return ready, assigned.plan
