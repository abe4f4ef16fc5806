"""The loop: exact resume, averaging, budgets, and losses that are no numbers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pati import models
from pati.data.loader import Samples, order
from pati.data.preprocess import Preprocess
from pati.errors import Interrupted, PatiError
from pati.evaluation.metrics import macro_f1
from pati.events import EpochDone, StepDone, TrainingBegan
from pati.inference.forward import logits_of
from pati.locale.messages import N_
from pati.runs import checkpoint
from pati.system.threads import Threads
from pati.training import batch_norm, loop, plan
from pati.training.budget import Pace
from tests.support.trainings import CPU, RECIPE, TRAINING, VALIDATION, epochs, run, same


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [1, 3, 6, 11])
@pytest.mark.parametrize("averaging", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_resume_is_bit_exact(tmp_path: Path, stop_after: int, averaging: float, optimizer: str) -> None:
    rate = 0.08 if optimizer == "muon" else 0.001
    recipe = dataclasses.replace(RECIPE, averaging=averaging, optimizer=optimizer, learning_rate=rate)
    whole, told = run(tmp_path / "whole", recipe)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", recipe, stop_after=stop_after)
    resumed, later = run(tmp_path / "cut", recipe)
    assert same(whole, resumed)
    begun = (stop_after - 1) // (len(TRAINING) // 16)
    assert later[0] == TrainingBegan(stop_after, begun, ())
    again = epochs(later)
    for one, two in zip(epochs(told)[-len(again) :], again, strict=True):
        for name in ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert getattr(one, name) == getattr(two, name)


def test_mixed_photos_are_trained_on_and_resumed_exactly(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, mixup=0.4, cutmix=1.0, policy="randaugment", erase=0.3)
    plain, _ = run(tmp_path / "plain")
    whole, told = run(tmp_path / "whole", recipe)
    assert not same(plain, whole)
    assert all(0 <= epoch.train_accuracy <= 1 for epoch in epochs(told))
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", recipe, stop_after=4)
    resumed, _ = run(tmp_path / "cut", recipe)
    assert same(whole, resumed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg11", "resnet18", "efficientnet-b0", "mobilenetv3-small", "convnext-atto"])
def test_resume_is_bit_exact_in_every_family(tmp_path: Path, name: str) -> None:
    recipe = dataclasses.replace(RECIPE, model=name, epochs=2, drop_path=0.4)
    whole, _ = run(tmp_path / "whole", recipe)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", recipe, stop_after=2)
    resumed, _ = run(tmp_path / "cut", recipe)
    assert same(whole, resumed)


def test_a_state_is_kept_and_read() -> None:
    state = loop.State(step=7, seconds=3.5, pace=Pace(spent=9.0, steps=(1.0, 2.0), passes=(0.3,), time=4.0, work=2.0))
    assert loop.State.from_json(state.to_json()) == state
    document = json.loads(state.to_json())["state"]
    document["pace"] = {"spent": 9.0, "slower_then": 1.0}  # as it was measured for a while
    assert loop.State.from_json(json.dumps({"state": document})).pace == Pace(spent=9.0)
    older = {
        "progress": 0.5, "step": 7, "epoch": 1, "position": 2, "size": 32, "seconds": 3.5, "pace": 0.004,
        "best_pace": 0.003, "loss_sum": 1.5, "hits": 4.0, "seen": 8, "epoch_seconds": 1.0, "least": 0.7, "no_better": 0,
    }  # fmt: skip
    found = loop.State.from_json(json.dumps({"state": older}))
    assert (found.progress, found.position, found.least, found.pace) == (0.5, 2, 0.7, Pace(spent=3.5))
    assert not found.recomputed
    assert loop.State.from_json(json.dumps({"state": older | {"progress": 1.0}})).recomputed


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop_after=6)
    newest = sorted((tmp_path / "cut").iterdir())[-1]
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    resumed, told = run(tmp_path / "cut")
    assert isinstance(told[0], TrainingBegan)
    assert told[0].skipped == (N_("the checkpoint {name} is damaged", name=newest.name),)
    assert same(whole, resumed)


def test_only_two_checkpoints_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop, "CHECKPOINT_SHARE", float("inf"))
    run(tmp_path)
    assert len(list(tmp_path.iterdir())) == checkpoint.KEEP


def test_seeds_vary_the_training(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "a")
    second, _ = run(tmp_path / "b", dataclasses.replace(RECIPE, seed=1))
    assert not same(first, second)


def test_averaged_weights_are_the_final_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, torch.Tensor] = {}

    def recompute(*_: object) -> None:  # leaves the weights as they are, and notes what the checkpoint holds
        newest = max(tmp_path.iterdir(), key=lambda folder: folder.name)
        kept.update(checkpoint.newest(newest, owner="test").tensors)

    monkeypatch.setattr(batch_norm, "recompute", recompute)
    plain, rows = run(tmp_path / "a")
    averaged, averaged_rows = run(tmp_path / "b", dataclasses.replace(RECIPE, averaging=0.2))
    assert not same(plain, averaged)
    net = models.build(RECIPE.model or "", 3, models.Options(width=0.25, dropout=0.3, size=32))
    for weights, told in ((plain, rows), (averaged, averaged_rows)):  # what an epoch says is of what will be kept
        net.load_state_dict(weights)
        outputs = logits_of(net, VALIDATION, Preprocess(size=32), device=CPU, size=32)
        assert torch.nn.functional.cross_entropy(outputs, VALIDATION.labels).item() == pytest.approx(
            epochs(told)[-1].validation_loss, rel=1e-5
        )
    assert same(averaged, loop._part(kept, "average"))
    assert same(plain, loop._part(kept, "net"))  # averaging watches, it doesn't steer
    assert [epoch.train_loss for epoch in epochs(rows)] == [epoch.train_loss for epoch in epochs(averaged_rows)]


@pytest.mark.parametrize("averaging", [0.0, 0.2])
def test_a_run_interrupted_after_training_ends_the_same(tmp_path: Path, averaging: float) -> None:
    recipe = dataclasses.replace(RECIPE, averaging=averaging)
    first, _ = run(tmp_path, recipe)
    again, told = run(tmp_path, recipe)
    assert same(first, again)
    assert not epochs(told)
    assert loop.State.of(checkpoint.newest(tmp_path, owner="test")).recomputed


def test_a_loss_that_is_no_number_stops_the_run_with_advice(tmp_path: Path) -> None:
    endless = Preprocess(size=32, std=(1e-40, 1e-40, 1e-40))  # divides the pixels into infinities
    with pytest.raises(PatiError, match="loss became nan") as caught:
        run(tmp_path, preprocess=endless)
    assert "learning_rate" in str(caught.value.hint)


@pytest.mark.slow
def test_a_budget_ends_the_run_on_time(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=None, budget=60.0)
    _, told = run(tmp_path, recipe, seconds=3.0)
    assert isinstance(told[-1], EpochDone)
    last = epochs(told)[-1]
    assert last.progress == 1
    assert 2.8 <= last.seconds < 3.5
    assert {event.size for event in told if isinstance(event, StepDone)} == {16, 32}


def test_order_is_a_permutation_that_changes_with_seed_and_epoch() -> None:
    assert sorted(order(0, 0, 100).tolist()) == list(range(100))
    assert torch.equal(order(0, 3, 100), order(0, 3, 100))
    assert not torch.equal(order(0, 3, 100), order(0, 4, 100))
    assert not torch.equal(order(0, 3, 100), order(1, 3, 100))


def test_clipping_limits_the_gradient(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "a")
    clipped, _ = run(tmp_path / "b", dataclasses.replace(RECIPE, clip=1e-3))
    assert not same(plain, clipped)


def test_patience_ends_a_run_that_no_longer_gets_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The loss after each epoch is told: it falls twice, then stays.
    said = [0.9, 0.8, 0.8, 0.85, 0.7, 0.6]
    answers = iter(said)

    def told(net: Any, data: Samples, *rest: Any, **more: Any) -> torch.Tensor:
        surprise = np.exp(next(answers)) - 1  # the cross-entropy of (0, log(surprise/2) twice) is what is told
        return torch.tensor([[0.0, np.log(surprise / 2), np.log(surprise / 2)]]).expand(len(data), 3)

    monkeypatch.setattr(loop, "logits_of", told)
    watched = Samples(VALIDATION.pixels, VALIDATION.rows, torch.zeros(len(VALIDATION), dtype=torch.long), 3)
    recipe = dataclasses.replace(RECIPE, epochs=6, patience=2)
    state = loop.train(
        models.build("scratch", 3, models.Options(width=0.25)), TRAINING, watched, Preprocess(size=32), recipe,
        plan.Plan(batch=16, sizes=(32,), costs=(1.0,), validated=15, epochs=6), tmp_path, owner="test", device=CPU,
    )  # fmt: skip
    assert state.epoch == 4
    assert state.least == pytest.approx(0.8)
    assert state.no_better == 2
    assert state.progress < 1


def test_patience_watches_macro_f1_where_classes_are_balanced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # After each epoch a surer net: its answers get better once, while its loss rises all the time.
    labels = torch.arange(len(VALIDATION)) % 3
    said = iter([(0, 1.0), (1, 5.0), (1, 20.0), (1, 80.0), (3, 1.0)])

    def told(net: Any, data: Samples, *rest: Any, **more: Any) -> torch.Tensor:
        right, sureness = next(said)
        return sureness * torch.eye(3)[torch.where(labels < right, labels, (labels + 1) % 3)]

    monkeypatch.setattr(loop, "logits_of", told)
    watched = Samples(VALIDATION.pixels, VALIDATION.rows, labels, 3)
    recipe = dataclasses.replace(RECIPE, epochs=6, patience=2, balance="sampling")
    state = loop.train(
        models.build("scratch", 3, models.Options(width=0.25)), TRAINING, watched, Preprocess(size=32), recipe,
        plan.Plan(batch=16, sizes=(32,), costs=(1.0,), validated=15, epochs=6), tmp_path, owner="test", device=CPU,
    )  # fmt: skip
    assert (state.epoch, state.no_better) == (4, 2)
    assert state.least == pytest.approx(
        1 - macro_f1(torch.eye(3)[torch.where(labels < 1, labels, (labels + 1) % 3)], labels)
    )


@pytest.mark.parametrize("averaging", [0.0, 0.1])
def test_a_run_that_patience_ended_resumes_exactly(tmp_path: Path, averaging: float) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=30, patience=1, learning_rate=0.5, averaging=averaging)
    whole, told = run(tmp_path / "whole", recipe)
    losses = [epoch.validation_loss for epoch in epochs(told)]
    assert len(losses) < 30
    assert losses[-1] >= losses[-2]  # ends with the last weights, though those before were better
    steps = epochs(told)[-1].step
    for stop_after in (steps - 4, steps):
        folder = tmp_path / f"cut-{stop_after}"
        with pytest.raises(Interrupted):
            run(folder, recipe, stop_after=stop_after)
        assert same(run(folder, recipe)[0], whole)
    again, later = run(tmp_path / "whole", recipe)  # it does not go on
    assert same(again, whole)
    assert [type(event) for event in later] == [TrainingBegan]


def test_samples_on_a_device_are_the_same() -> None:
    some = TRAINING.some(7)
    for one, two in zip(some.at(torch.arange(7)), some.on(CPU).at(torch.arange(7)), strict=True):
        assert torch.equal(one, two)
    assert len(some) == 7
    assert TRAINING.some(10**6) is TRAINING


def test_few_validation_photos_are_looked_at_if_the_plan_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    before = loop.logits_of

    def counted(net: Any, data: Samples, *rest: Any, **more: Any) -> torch.Tensor:
        looked.append(len(data))
        return before(net, data, *rest, **more)

    monkeypatch.setattr(loop, "logits_of", counted)
    net = models.build("scratch", 3, models.Options(width=0.25))
    paced = plan.Plan(batch=16, sizes=(32,), costs=(1.0,), validated=4, epochs=2)
    loop.train(net, TRAINING, VALIDATION, Preprocess(size=32), RECIPE, paced, tmp_path, owner="test", device=CPU)
    assert looked == [4, 4]


def test_threads_follow_every_step_where_they_are_given(tmp_path: Path) -> None:
    followed: list[float] = []

    class Follower(Threads):
        def follow(self, pace: float, taken: float) -> None:
            followed.append(taken)

    _, told = run(tmp_path, dataclasses.replace(RECIPE, epochs=1), threads=Follower())
    assert len(followed) == sum(isinstance(event, StepDone) for event in told) > 0


def test_training_leaves_the_global_generator_as_it_is(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    run(tmp_path, dataclasses.replace(RECIPE, epochs=1, dropout=0.5))
    assert torch.equal(torch.get_rng_state(), before)
