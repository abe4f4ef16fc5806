"""The training loop.

One function, to be read from top to bottom; next to it, the forward pass from a batch to the loss. Knows samples, a
network, a recipe and a plan; the caller decides what to do with its events.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F

from pati.data import loader
from pati.data.loader import Samples
from pati.data.preprocess import Preprocess
from pati.errors import Diverged, Interrupted
from pati.evaluation.metrics import macro_f1
from pati.events import EpochDone, StepDone, TrainingBegan, TrainingEvent, silent
from pati.inference.forward import logits_of
from pati.locale.messages import N_
from pati.models import Net
from pati.recipe import SettledRecipe
from pati.runs import checkpoint
from pati.runs.checkpoint import Newest
from pati.runs.history import Epoch
from pati.system import clock
from pati.system.ranks import ALONE, Ranks
from pati.system.threads import Threads
from pati.training import balance, batch_norm, losses, speed
from pati.training.augment import Draws, augment
from pati.training.balance import Balance
from pati.training.budget import Pace, after_other_work, after_pass, after_python_timing
from pati.training.distributed import synchronised
from pati.training.mixing import blended, drawn_mix
from pati.training.optim import Optimizers
from pati.training.plan import Plan

FIRST_CHECKPOINT_SECONDS = 2.0  # of a session; each interval is twice as long as the one before, up to
CHECKPOINT_SECONDS = 30.0  # between checkpoints, or longer if saving is slow:
CHECKPOINT_SHARE = 0.02  # maximum fraction of the time spent on saving
PYTHON_TIMING_SECONDS = 1.0  # between timings of Python work

Log = Callable[[TrainingEvent], None]


@dataclass
class State:
    """Progress of a run. `seconds` counts active training only, accumulated over all sessions."""

    progress: float = 0.0  # 0 to 1
    step: int = 0
    epoch: int = 0
    position: int = 0
    size: int = 0  # training size of the last step, in px
    seconds: float = 0.0
    pace: Pace = field(default_factory=Pace)
    loss_sum: float = 0.0
    hits: float = 0.0
    seen: int = 0
    epoch_seconds: float = 0.0
    least: float | None = None  # lowest value of the validation quantity that early stopping monitors,
    best_epoch: int = 0  # the epoch with that value,
    no_better: int = 0  # and the number of epochs since
    recomputed: bool = False  # whether the batch norm statistics are those for predictions, after training

    @classmethod
    def of(cls, kept: Newest) -> State:
        """The state in a checkpoint; the initial state without one."""
        return cls() if kept.facts is None else cls.from_json(kept.facts)

    @classmethod
    def from_json(cls, text: str) -> State:
        """Inverse of `to_json`. States of older versions, which measured less, provide only the time spent."""
        document = json.loads(text)["state"]
        document.setdefault("recomputed", document["progress"] >= 1)  # older versions did not: they stay as scored
        pace = document["pace"]
        measured = {item.name for item in fields(Pace)}
        if not isinstance(pace, dict) or pace.keys() != measured:
            known = {item.name for item in fields(cls)}
            older = {name: value for name, value in document.items() if name in known}
            best = document["epoch"] - document["no_better"]
            spent = pace["spent"] if isinstance(pace, dict) else document["seconds"]
            return cls(**{"best_epoch": best} | older | {"pace": Pace(spent=spent)})
        pace = Pace(**pace | {name: tuple(pace[name]) for name in ("steps", "passes", "python")})
        return cls(**document | {"pace": pace})

    def to_json(self) -> str:
        """As JSON."""
        return json.dumps({"state": asdict(self)})

    def out_of_patience(self, recipe: SettledRecipe) -> bool:
        """Whether early stopping ends the run."""
        return 0 < recipe.patience <= self.no_better


def train(
    net: Net,
    training: Samples,
    validation: Samples,
    preprocess: Preprocess,
    recipe: SettledRecipe,
    plan: Plan,
    checkpoints: Path,
    *,
    owner: str,
    device: torch.device,
    threads: Threads | None = None,
    spent: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
    log: Log = silent,
    kept: Newest | None = None,
    ranks: Ranks = ALONE,
) -> State:
    """Train `net` in place to the end of the plan, resuming from the newest checkpoint of `owner` if there is one.

    Ends with the final weights, or with their moving average if the recipe uses averaging; also after early stopping.
    Their batch norm statistics are computed anew for predictions (see `batch_norm`).
    `validation` may be empty; the epochs then have no validation values, and there is no early stopping. `threads`:
    adapts the number of threads to the machine; None for runs by epochs, whose result must not depend on
    other programs. `spent`: seconds of the budget already used; None: only training counts. `log` receives the start,
    each step and each epoch. `kept`: the newest checkpoint, if the caller has already read it. `ranks`: the processes
    that train the network together; the first one decides, and keeps checkpoints and log. Raises `Interrupted` after
    saving a checkpoint when `stopped()` returns true, and `Diverged` when the loss is not finite.
    """
    net.to(device)
    ranks.copy_first(net.state_dict().values())
    balanced = balance.of(recipe, training.labels, training.counts(), device)
    optimizers = Optimizers(net, recipe, ranks)
    average = {name: value.clone() for name, value in net.state_dict().items()} if recipe.averaging else {}
    kept = ranks.shared(kept or checkpoint.newest(checkpoints, owner=owner) if ranks.first else None)
    state, tensors = State.of(kept), kept.tensors
    if tensors:
        net.load_state_dict(_part(tensors, "net"))
        optimizers.restore(_part(tensors, "optimizer"))
        average = {name: value.to(device) for name, value in _part(tensors, "average").items()}
    if spent is not None:
        state.pace = replace(state.pace, spent=max(spent, state.pace.spent))
    log(TrainingBegan(state.step, state.epoch, tuple(kept.skipped)))

    def save() -> None:
        if not ranks.first:
            return
        tensors = {
            **{f"net/{name}": value for name, value in net.state_dict().items()},
            **{f"optimizer/{name}": value for name, value in optimizers.state().items()},
            **{f"average/{name}": value for name, value in average.items()},
        }
        checkpoint.save(checkpoints, state.step, tensors, state.to_json(), owner=owner)

    steps_per_epoch = len(training) // plan.batch
    watched = validation.some(plan.validated)
    truth = watched.labels.cpu()
    own = watched.take(torch.arange(len(watched))[ranks.part(len(watched))])
    saved = last = looked = clock.now()
    interval, saving = min(FIRST_CHECKPOINT_SECONDS, CHECKPOINT_SECONDS), 0.0
    while state.seen or (state.progress < 1 and not state.out_of_patience(recipe)):
        net.train()
        order = loader.order(recipe.seed, state.epoch, len(training), balanced.sampling_weights)
        while state.position < steps_per_epoch and state.progress < 1:
            keys = order[state.position * plan.batch : (state.position + 1) * plan.batch]
            state.size = plan.size_at(state.progress)
            loss, logits, targets = forward(
                net, training, keys, balanced, preprocess, recipe,
                epoch=state.epoch, step=state.step, size=state.size, device=device, ranks=ranks,
            )  # fmt: skip
            loss.backward()  # type: ignore[no-untyped-call]
            ranks.sum_gradients(net.parameters())
            if recipe.clip:
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip)
            # A mixed photo counts as the class with the largest target: by its original label, even a perfect network
            # would be right only half of the time.
            value, hits = ranks.total(loss.item(), (logits.argmax(1) == targets.argmax(1)).sum().item())
            if not math.isfinite(value):
                raise Diverged(
                    N_(
                        "the loss became {value} at step {step} (epoch {epoch})",
                        value=value,
                        step=state.step,
                        epoch=state.epoch + 1,
                    ),
                    N_(
                        "lower the learning rate, for example --set learning_rate={learning_rate:g}, or clip the "
                        "gradient with --set clip=1",
                        learning_rate=recipe.learning_rate / 4,
                    ),
                )
            optimizers.step(state.progress)

            state.step += 1
            state.position += 1
            state.loss_sum += value * len(keys)
            state.hits += hits
            state.seen += len(keys)
            now = clock.now()
            taken, last = now - last, now
            state.seconds += taken
            state.epoch_seconds += taken
            before = state.progress
            state.pace, state.progress = plan.after_step(
                state.pace, before, taken=taken, photos=len(keys), size=state.size, steps=state.step,
                steps_per_epoch=steps_per_epoch,
            )  # fmt: skip
            if threads:
                threads.follow(state.pace.steps[-1], taken)
            if plan.budget is not None and now - looked >= PYTHON_TIMING_SECONDS:
                state.pace, looked = after_python_timing(state.pace, speed.of_python()), now
            state.progress = ranks.decided(state.progress)
            if average:
                _move_average(average, net, (state.progress - before) / min(recipe.averaging, state.progress))
            log(
                StepDone(
                    step=state.step, epoch=state.epoch, progress=state.progress, size=state.size,
                    loss=state.loss_sum / state.seen,
                    photos_per_second=state.seen / max(state.epoch_seconds, 1e-9),
                    seconds=state.seconds,
                    left=plan.left(state.progress, state.seconds, state.pace),
                )
            )  # fmt: skip
            if ranks.any(stopped()):
                save()
                raise Interrupted(N_("the state of the run is saved"))
            if now - saved + taken + saving >= interval:  # the next step would exceed the interval
                save()
                saved, last = now, clock.now()
                saving = last - now
                state.seconds += saving
                state.pace = after_other_work(state.pace, saving)
                interval = max(min(2 * interval, CHECKPOINT_SECONDS), saving / CHECKPOINT_SHARE)

        if not ranks.decided(plan.validates(state.pace, state.progress)):
            state.epoch, state.position = state.epoch + 1, 0
            continue
        validation_loss = validation_accuracy = validation_f1 = math.nan
        if len(watched):
            with _averaged(net, average):
                outputs = logits_of(
                    net, own, preprocess,
                    device=device, precision=recipe.precision, size=state.size, stopped=stopped,
                )  # fmt: skip
            if ranks.any(stopped()):
                save()
                raise Interrupted(N_("stopped while scoring"))
            outputs = ranks.gathered(outputs)
            now = clock.now()
            taken, last = now - last, now
            state.seconds += taken
            state.pace = after_pass(state.pace, taken=taken, photos=len(watched))
            validation_loss = F.cross_entropy(outputs, truth).item()
            validation_accuracy = (outputs.argmax(1) == truth).float().mean().item()
            validation_f1 = macro_f1(outputs, truth)
            # With balancing, the network predicts rare classes more often than they occur, so its loss says little.
            judged = validation_loss if recipe.balance == "none" else 1 - validation_f1
            better = state.least is None or judged < state.least
            state.least, state.best_epoch = (judged, state.epoch + 1) if better else (state.least, state.best_epoch)
            state.no_better = state.epoch + 1 - state.best_epoch
        else:
            state.pace = replace(state.pace, validated_at=state.pace.spent)
        log(
            EpochDone(
                Epoch(
                    epoch=state.epoch + 1,
                    step=state.step,
                    progress=state.progress,
                    size=state.size,
                    train_loss=state.loss_sum / state.seen,
                    train_accuracy=state.hits / state.seen,
                    validation_loss=validation_loss,
                    validation_accuracy=validation_accuracy,
                    validation_macro_f1=validation_f1,
                    learning_rate=optimizers.rate(state.progress),
                    photos_per_second=state.seen / max(state.epoch_seconds, 1e-9),
                    seconds=state.seconds,
                    left=plan.left(state.progress, state.seconds, state.pace),
                )
            )
        )
        state.epoch, state.position = state.epoch + 1, 0
        state.loss_sum = state.hits = state.epoch_seconds = 0.0
        state.seen = 0
    save()  # from here on, an interruption loses no training
    if average:
        net.load_state_dict(average)
    if not state.recomputed:
        last = clock.now()
        batch_norm.recompute(net, training, preprocess, recipe, device, ranks)
        state.recomputed, average = True, {}
        taken = clock.now() - last
        state.seconds += taken
        state.pace = after_other_work(state.pace, taken)
        save()  # computed again with another number of threads, they would differ by rounding
    return state


def forward(
    net: Net,
    training: Samples,
    keys: torch.Tensor,
    balanced: Balance,
    preprocess: Preprocess,
    recipe: SettledRecipe,
    *,
    epoch: int,
    step: int,
    size: int,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Forward pass of a training step, from photos to the loss: loss, logits and targets, both `(B, K)`.

    `keys` `(B,)`: see `loader.order`. `size`: training size in px; `epoch` and `step` determine the random numbers. Of
    several ranks, each computes a part of the batch; the losses of all add up to that of the batch.
    """
    numbers = keys % len(training)
    whole = Draws(recipe.seed, epoch, keys, balanced.strength[numbers])
    part = ranks.part(len(keys))

    def augmented(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, Draws]:
        """These photos of the batch and their targets, and what has been drawn for them."""
        pixels, targets = training.at(numbers[rows])
        draws = whole.of(rows)
        return augment(pixels.to(device), draws, recipe, preprocess, size), targets.to(device), draws

    images, targets, draws = augmented(torch.arange(len(keys))[part])
    if recipe.mixup or recipe.cutmix:
        weights = balanced.partners(training.labels[numbers.to(training.labels.device)])
        mixed = drawn_mix(whole.after(draws), recipe, (images.shape[2], images.shape[3]), weights)
        # The partners may be in the parts of other ranks.
        others = (images[mixed.partner], targets[mixed.partner]) if ranks.size == 1 else augmented(mixed.partner[part])
        images = blended(images, others[0], mixed.share[part])
        targets = blended(targets, others[1], mixed.whole[part])

    with (
        synchronised(net, ranks if recipe.sync_batch_norm else ALONE),
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"),
    ):
        torch.manual_seed(recipe.seed * 1_000_003 + step + ranks.rank * 1_000_000_007)  # dropout's masks
        logits = net(images)
    logits = logits.float() if logits.dtype != torch.float64 else logits
    loss = losses.loss(
        logits,
        targets.to(logits.dtype),
        label_smoothing=recipe.label_smoothing,
        weights=balanced.weights,
        gamma=balanced.gamma,
        adjustment=balanced.adjustment,
    )
    if ranks.size > 1:
        loss = loss * (len(images) / len(keys))
    return loss, logits, targets


@torch.no_grad()
def _move_average(average: dict[str, torch.Tensor], net: Net, horizons: float) -> None:
    """Update the exponential moving average of the weights over `horizons` times its time constant."""
    share = 1 - math.exp(-horizons)
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
        else:
            average[name].copy_(value)


@contextlib.contextmanager
def _averaged(net: Net, average: dict[str, torch.Tensor]) -> Iterator[None]:
    """Context manager in which the network has the averaged weights, if there are any: they are the final ones."""
    own = {name: value.clone() for name, value in net.state_dict().items()} if average else {}
    if average:
        net.load_state_dict(average)
    try:
        yield
    finally:
        if average:
            net.load_state_dict(own)


def _part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
